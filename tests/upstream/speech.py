"""What the fake says and what it costs, before any dialect gives it a shape."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from tests.upstream.behaviour import Behaviour

SENTENCE = ("Olá", "! The ", "fake ", "provider ", "answers", ": ação ", "✓ 🎉", ".")
THOUGHT = ("Let me ", "think.")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call, its arguments in the pieces a stream sends."""

    name: str
    arguments: tuple[str, ...]

    @property
    def written(self) -> str:
        return "".join(self.arguments)


class Speech(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one answer and its bill."""

    pieces: tuple[str, ...]
    calls: tuple[Call, ...]
    thought: tuple[str, ...]
    cut: bool
    """The output cap ended it."""
    stopped: str | None
    """The stop sequence that ended it."""
    input_tokens: int
    """The whole prompt, cached tokens included."""
    cached: int
    cache_write_5m: int
    cache_write_1h: int
    output_tokens: int
    """Visible output."""
    reasoning: int
    tool_use: int
    """What the provider's own tools put in, beside `input_tokens`."""
    audio_input: int
    image_input: int
    audio_output: int
    """Beside `output_tokens`."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def fresh(self) -> int:
        """Tokens of the prompt that no cache knew, sound and pictures included."""
        return self.input_tokens - self.cached - self.cache_write_5m - self.cache_write_1h

    def bill(self, *, output: int | None = None) -> dict[str, int]:
        """The cost in disjoint buckets, with so much of the output when it was not finished."""
        rare = {
            "audio_input": self.audio_input,
            "image_input": self.image_input,
            "audio_output": self.audio_output,
        }
        return {
            "input": self.fresh - self.audio_input - self.image_input + self.tool_use,
            "cache_read": self.cached,
            "cache_write_5m": self.cache_write_5m,
            "cache_write_1h": self.cache_write_1h,
            "output": self.output_tokens if output is None else min(output, self.output_tokens),
            "reasoning": self.reasoning,
            **{name: count for name, count in rare.items() if count},
        }


def tokens(text: str) -> int:
    """Four characters are one token."""
    return -(-len(text) // 4)


def texts(value: object) -> Iterable[str]:
    """Every string in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def speak(
    behaviour: Behaviour,
    prompt: Sequence[object],
    *,
    cap: int | None,
    tools: Sequence[tuple[str, object]] = (),
    schema: object = None,
    said: Sequence[str] | None = None,
    choices: int = 1,
    stops: Sequence[str] = (),
) -> Speech:
    """Decide the answer: a tool call where tools are offered, else an instance of the schema, else text."""
    calls: tuple[Call, ...] = ()
    pieces: tuple[str, ...] = ()
    if tools and not behaviour.no_tools:
        calls = tuple(_call(behaviour, index, *tool) for index, tool in enumerate(tools))
    elif behaviour.reply is not None:
        pieces = behaviour.reply
    elif behaviour.echo:
        pieces = tuple(f"{text}\n" for text in (said if said is not None else list(texts(list(prompt)))))
    elif behaviour.words is not None:
        pieces = tuple(f"word{index} " for index in range(behaviour.words))
    elif schema is not None:
        pieces = tuple(_split(json.dumps(instance(schema), ensure_ascii=False)))
    else:
        pieces = SENTENCE
    pieces, stopped = _stopped(pieces, stops)
    pieces, cut = _capped(pieces, cap)
    output = sum(tokens(piece) for piece in pieces) + sum(tokens(call.name) + tokens(call.written) for call in calls)
    thought = THOUGHT if behaviour.thinking else ()
    reasoning = behaviour.reasoning + sum(tokens(piece) for piece in thought)
    prompt_tokens = sum(tokens(text) for text in texts(list(prompt))) + 3
    written = behaviour.cache_write_5m + behaviour.cache_write_1h
    return Speech(
        pieces=pieces,
        calls=calls,
        thought=thought,
        cut=cut,
        stopped=None if cut else stopped,
        input_tokens=max(
            behaviour.input_tokens or prompt_tokens,
            behaviour.cached + written + behaviour.audio_input + behaviour.image_input,
        ),
        cached=behaviour.cached,
        cache_write_5m=behaviour.cache_write_5m,
        cache_write_1h=behaviour.cache_write_1h,
        output_tokens=(output if behaviour.output_tokens is None else behaviour.output_tokens) * choices,
        reasoning=reasoning,
        tool_use=behaviour.tool_use,
        audio_input=behaviour.audio_input,
        image_input=behaviour.image_input,
        audio_output=behaviour.audio_output,
    )


def instance(schema: object) -> Any:
    """A small value that a JSON Schema accepts: every declared property, the first of every choice."""
    if not isinstance(schema, Mapping):
        return None
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(word), list) and schema[word]:
            return instance(schema[word][0])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            properties = schema.get("properties")
            items = properties.items() if isinstance(properties, Mapping) else ()
            return {name: instance(below) for name, below in items}
        case "array":
            return [instance(schema["items"])] if "items" in schema else []
        case "integer":
            return 3
        case "number":
            return 1.5
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "São Paulo"


_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "audio/mpeg": b"ID3", "audio/wav": b"RIFF", "audio/ogg": b"OggS"}


def media(kind: str, size: int) -> bytes:
    """So many bytes that begin like a file of this kind and hold every byte there is."""
    head = _MAGIC.get(kind, b"")
    return (head + bytes(range(256)) * (size // 256 + 1))[:size]


def write(value: object, *, escape: bool = False) -> bytes:
    """Compact JSON as providers write it; with `escape`, every character of every string value as an escape."""
    return (_escaped(value) if escape else json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def _escaped(value: object) -> str:
    if isinstance(value, str):
        units = value.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2)) + '"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{_escaped(below)}" for name, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_escaped(below) for below in value) + "]"
    return json.dumps(value)


def _call(behaviour: Behaviour, index: int, name: str, schema: object) -> Call:
    if behaviour.empty_arguments is not None:
        return Call(name=name, arguments=(behaviour.empty_arguments,) if behaviour.empty_arguments else ())
    if behaviour.tool_arguments is not None and index == 0:
        return Call(name=name, arguments=behaviour.tool_arguments)
    arguments = instance(schema)
    return Call(name=name, arguments=tuple(_split(json.dumps(arguments if isinstance(arguments, dict) else {}))))


def _split(text: str) -> Iterable[str]:
    return (text[at : at + 7] for at in range(0, len(text), 7))


def _stopped(pieces: tuple[str, ...], stops: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """The pieces before the first stop sequence, and which one it was."""
    text = "".join(pieces)
    ends = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not ends:
        return pieces, None
    left, stop = min(ends)
    kept: list[str] = []
    for piece in pieces:
        if left > 0:
            kept.append(piece[:left])
        left -= len(piece)
    return tuple(kept), stop


def _capped(pieces: tuple[str, ...], cap: int | None) -> tuple[tuple[str, ...], bool]:
    """The pieces that fit under an output cap, and whether it cut anything."""
    if cap is None or sum(tokens(piece) for piece in pieces) <= cap:
        return pieces, False
    kept: list[str] = []
    left = cap
    for piece in pieces:
        room = piece[: left * 4]
        if room:
            kept.append(room)
        left -= tokens(room)
        if left <= 0:
            break
    return tuple(kept), True
