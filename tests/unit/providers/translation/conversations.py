"""Conversations and answers made up at random, in no dialect, within what a dialect can hold."""

import base64
import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.translation.model import (
    Answer,
    Ask,
    Audio,
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Choice,
    Counted,
    File,
    Finished,
    Format,
    Image,
    Part,
    Reasoning,
    Refused,
    Step,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.text("abcdefgh_-", min_size=1, max_size=12)
binary = st.binary(min_size=1, max_size=12).map(lambda data: base64.b64encode(data).decode())
signatures = st.binary(min_size=8, max_size=24).map(lambda data: base64.b64encode(data).decode())
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, json_values, max_size=4)


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    """An object as models write it: with or without spaces, escapes and line ends; now and then nothing at all."""
    if draw(st.integers(0, 6)) == 0:
        return ""
    value = draw(objects)
    return json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1, 2])))


def compact(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# Requests

schemas: st.SearchStrategy[dict[str, Any]] = objects.map(
    lambda properties: {"type": "object", "properties": {name: {} for name in properties}}
)
images = st.builds(
    Image,
    media_type=st.sampled_from(["image/png", "image/jpeg"]),
    data=binary,
    url=st.none(),
) | st.builds(Image, url=names.map(lambda name: f"https://pictures.example/{name}"))
pdfs = st.builds(File, media_type=st.just("application/pdf"), data=binary, name=names)
sounds = st.builds(Audio, media_type=st.sampled_from(["audio/wav", "audio/mpeg"]), data=binary)


@st.composite
def tools(draw: st.DrawFn) -> tuple[Tool, ...]:
    called = draw(st.lists(names, max_size=3, unique=True))
    return tuple(
        Tool(
            name=name,
            description=draw(st.none() | words),
            parameters=draw(schemas),
            strict=draw(st.none() | st.booleans()),
        )
        for name in called
    )


@st.composite
def choices_among(draw: st.DrawFn, offered: Sequence[Tool]) -> ToolChoice | None:
    if not offered:
        return None
    mode: Literal["auto", "none", "required", "named"] = draw(st.sampled_from(["auto", "none", "required", "named"]))
    return draw(st.none() | st.just(ToolChoice(mode=mode, names=(offered[0].name,) if mode == "named" else ())))


efforts = st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"])


@st.composite
def chat_asks(draw: st.DrawFn) -> Ask:
    """What chat completions can hold, as `read_ask` tells it."""
    turns: list[Turn] = []
    calls = iter(range(1000))
    for _ in range(draw(st.integers(1, 5))):
        match draw(st.sampled_from(["system", "user", "assistant"])):
            case "system":
                turns.append(Turn(role="system", parts=(Text(text=draw(words)),), name=draw(st.none() | names)))
            case "user":
                media = draw(st.lists(images | pdfs | sounds, max_size=2))
                said: list[Part] = [Text(text=draw(words)), *media]
                turns.append(Turn(role="user", parts=tuple(said), name=draw(st.none() | names)))
            case _:
                turns += draw(_spoken_in_chat(calls))
    offered = draw(tools())
    stream = draw(st.booleans())
    return Ask(
        model=draw(names),
        turns=tuple(turns),
        tools=offered,
        tool_choice=draw(choices_among(offered)),
        parallel_tools=draw(st.none() | st.booleans()) if offered else None,
        max_output=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(st.none() | st.floats(0, 2) | st.integers(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        stop=tuple(draw(st.lists(words, max_size=3))),
        seed=draw(st.none() | st.integers()),
        choices=draw(st.integers(1, 3)),
        presence_penalty=draw(st.none() | st.floats(-2, 2)),
        frequency_penalty=draw(st.none() | st.floats(-2, 2)),
        format=draw(
            st.none()
            | st.just(Format(kind="text"))
            | st.just(Format(kind="json"))
            | st.builds(
                Format,
                kind=st.just("schema"),
                name=names,
                description=st.none() | words,
                schema=schemas,
                strict=st.none() | st.booleans(),
            )
        ),
        thinking=draw(
            st.none() | st.builds(Thinking, effort=st.sampled_from(["none", "minimal", "low", "high", "max"]))
        ),
        user=draw(st.none() | names),
        stream=stream,
        include_usage=stream,
    )


@st.composite
def _spoken_in_chat(draw: st.DrawFn, ids: Any) -> list[Turn]:
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append(Reasoning(text=draw(words)))
    parts.append(Text(text=draw(words)))
    made: list[ToolCall] = []
    for _ in range(draw(st.integers(0, 3))):
        custom = draw(st.booleans())
        signature = None if custom else draw(st.none() | signatures)
        made.append(
            ToolCall(
                id=f"call_{next(ids)}",
                name=draw(names),
                arguments=draw(words | json_texts()),
                signature=signature,
                custom=custom,
            )
        )
    spoken = Turn(role="assistant", parts=(*parts, *made), name=draw(st.none() | names))
    if not made:
        return [spoken]
    results = (ToolResult(call_id=call.id, name=call.name, parts=(Text(text=draw(words)),)) for call in made)
    return [spoken, Turn(role="user", parts=tuple(results))]


@st.composite
def messages_asks(draw: st.DrawFn) -> Ask:
    """What messages can hold, as `read_ask` tells it."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn(role="system", parts=tuple(Text(text=text) for text in draw(st.lists(words, min_size=1)))))
    calls = iter(range(1000))
    for _ in range(draw(st.integers(1, 4))):
        said = draw(st.lists(st.builds(Text, text=words) | images | pdfs, min_size=1, max_size=3))
        turns.append(Turn(role="user", parts=tuple(said)))
        if draw(st.booleans()):
            turns.append(Turn(role="system", parts=(Text(text=draw(words)),)))
        turns += draw(_spoken_in_messages(calls))
    offered = draw(tools())
    temperature = draw(st.none() | st.floats(0, 0.99))
    return Ask(
        model=draw(names),
        turns=tuple(turns),
        tools=offered,
        tool_choice=(choice := draw(choices_among(offered))),
        parallel_tools=draw(st.none() | st.booleans()) if choice is not None and choice.mode != "none" else None,
        max_output=draw(st.integers(1, 10**6)),
        temperature=temperature,
        top_p=draw(st.none() | st.floats(0, 0.99)) if temperature is None else None,
        top_k=draw(st.none() | st.integers(1, 100)),
        stop=tuple(draw(st.lists(words, max_size=3))),
        format=draw(st.none() | st.builds(Format, kind=st.just("schema"), schema=schemas, strict=st.just(True))),
        thinking=draw(
            st.none()
            | st.just(Thinking(effort="none", budget=None))
            | st.builds(Thinking, budget=st.integers(1024, 10**5), show=st.none() | st.booleans())
            | st.builds(
                Thinking,
                budget=st.just(-1),
                effort=st.none() | efforts.filter(lambda effort: effort not in {"none", "minimal"}),
                show=st.none() | st.booleans(),
            )
        ),
        user=draw(st.none() | words),
        stream=draw(st.booleans()),
    )


@st.composite
def _spoken_in_messages(draw: st.DrawFn, ids: Any) -> list[Turn]:
    parts: list[Part] = []
    made: list[ToolCall] = []
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["text", "thought", "hidden", "call"])):
            case "text":
                parts.append(Text(text=draw(words)))
            case "thought":
                parts.append(Reasoning(text=draw(words), signature=draw(signatures)))
            case "hidden":
                parts.append(Reasoning(signature=draw(signatures), redacted=True))
            case _:
                made.append(ToolCall(id=f"toolu_{next(ids)}", name=draw(names), arguments=compact(draw(objects))))
                parts.append(made[-1])
    spoken = Turn(role="assistant", parts=tuple(parts))
    if not made:
        return [spoken]
    results: list[Part] = [
        ToolResult(
            call_id=call.id,
            name=call.name,
            parts=tuple(draw(st.lists(st.builds(Text, text=words) | images, max_size=2))),
            is_error=draw(st.booleans()),
        )
        for call in made
    ]
    return [spoken, Turn(role="user", parts=(*results, *draw(st.lists(st.builds(Text, text=words), max_size=1))))]


# Answers

counts = st.integers(0, 10_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Figures that every dialect has a place for."""
    return Usage(
        input=draw(counts), cache_read=draw(counts), output=draw(st.integers(1, 10_000)), reasoning=draw(counts)
    )


@st.composite
def answers(draw: st.DrawFn, *, of: Surface) -> Answer:
    """What an upstream of dialect `of` can answer, every dialect being able to say it."""
    parts: list[Part] = []
    if of is Surface.MESSAGES:
        kinds = draw(st.lists(st.sampled_from(["thought", "text"]), max_size=3))
    else:
        # The others have one place for each.
        kinds = [kind for kind in ("thought", "text") if draw(st.booleans())]
    for kind in kinds:
        if kind == "thought":
            signature = draw(signatures) if of in {Surface.MESSAGES, Surface.RESPONSES} else None
            parts.append(Reasoning(text=draw(words), signature=signature))
        else:
            parts.append(Text(text=draw(words)))
    made: list[Part] = []
    for place in range(draw(st.integers(0, 3))):
        arguments = draw(json_texts()) if of in {Surface.CHAT, Surface.RESPONSES} else compact(draw(objects))
        made.append(ToolCall(id=f"call_{place}", name=draw(names), arguments=arguments))
    finish: Any = "tools" if made else draw(st.sampled_from(["stop", "length"]))
    return Answer(
        id=draw(st.none() | names),
        model=draw(names),
        choices=(Choice(parts=(*parts, *made), finish=finish),),
        usage=draw(usages()),
    )


def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [piece for piece in pieces if piece]


@st.composite
def streamed(draw: st.DrawFn, answer: Answer, *, interleaved: bool) -> list[Step]:
    """The answer as it is streamed: its texts in pieces, tool calls one after the other or all at a time."""
    steps: list[Step] = [Began(id=answer.id, model=answer.model)]
    calls: list[list[Step]] = []
    for block, part in enumerate(answer.choices[0].parts):
        match part:
            case Text():
                began, text = BlockBegan(block=block, kind="text"), part.text
            case Reasoning():
                began, text = BlockBegan(block=block, kind="reasoning"), part.text
            case Refused():
                began, text = BlockBegan(block=block, kind="refusal"), part.text
            case ToolCall():
                began, text = BlockBegan(block=block, kind="tool", id=part.id, name=part.name), part.arguments
            case _:
                raise AssertionError(part)
        lane: list[Step] = [began]
        if isinstance(part, ToolCall) and part.signature is not None:
            lane.append(BlockSigned(block=block, signature=part.signature))
        lane += [BlockGrew(block=block, text=piece) for piece in _pieces(draw, text)]
        if isinstance(part, Reasoning) and part.signature is not None:
            lane.append(BlockSigned(block=block, signature=part.signature, redacted=part.redacted))
        lane.append(BlockEnded(block=block))
        if isinstance(part, ToolCall) and interleaved:
            calls.append(lane)
        else:
            steps += lane
    while calls:
        # Any that has begun, or the first that has not.
        begun = sum(1 for lane in calls if not isinstance(lane[0], BlockBegan))
        lane = calls[draw(st.integers(0, min(begun, len(calls) - 1)))]
        steps.append(lane.pop(0))
        calls = [rest for rest in calls if rest]
    steps.append(Finished(finish=answer.choices[0].finish, stop_sequence=answer.choices[0].stop_sequence))
    if answer.usage is not None:
        steps.append(Counted(usage=answer.usage))
    return steps


def joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts with neighbouring texts in one."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and found and isinstance(found[-1], Text):
            found[-1] = msgspec.structs.replace(part, text=found[-1].text + part.text)
        else:
            found.append(part)
    return tuple(found)
