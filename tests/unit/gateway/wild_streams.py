"""Random streams of each dialect, as wildly written as their grammars allow, beside what must come out of them."""

import base64
import json
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from securellm.core.surfaces import Surface

SURFACES = (
    Surface.CHAT,
    Surface.RESPONSES,
    Surface.MESSAGES,
    Surface.GENERATE_CONTENT,
    Surface.OLLAMA_CHAT,
    Surface.OLLAMA_GENERATE,
)
_WORDS = (
    *("olá", "naïve", "日本語", "🎉🎉", "tab\there", 'quo"te', "back\\slash", "a/b", "\u2028", " ", "plain words"),
    *("<p>", "{}", "42", "\u200d", "ação", "null", ": x", "data: y", "[DONE]", "\u0001"),
)
_NUMBERS = ("0", "-0", "1.0", "1E2", "1e-7", "0.1000", "-1.5e+300", "42")


class Wild(NamedTuple):
    """One stream: the bytes the upstream sends, and those that the client is due."""

    sent: bytes
    due: bytes
    injected_usage: bool


class _Raw(str):
    """A number as it is to be written."""

    __slots__ = ()


def wild(surface: Surface, rng: random.Random) -> Wild:
    """A whole stream of `surface`; of chat half are asked for usage that the client did not want."""
    injected = surface is Surface.CHAT and rng.random() < 0.5
    frame = _Frame(rng, lines=surface in (Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE), mended=injected)
    _WRITERS[surface](rng, frame, injected)
    return Wild(b"".join(frame.sent), b"".join(frame.due), injected)


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """The bytes, cut anywhere."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


class _Frame:
    """Writes events in one framing, with the whims of one server."""

    def __init__(self, rng: random.Random, *, lines: bool, mended: bool) -> None:
        self.rng = rng
        self.sent: list[bytes] = []
        self.due: list[bytes] = []
        self._lines = lines
        # A lone carriage return that ends a line of a mended event is completed by its line feed.
        ends = (b"\n", b"\n", b"\r\n") if lines or mended else (b"\n", b"\n", b"\r\n", b"\r")
        self._end = rng.choice(ends)
        self._colon = rng.choice((b": ", b": ", b":"))
        self._tight = rng.random() < 0.5
        if not lines and rng.random() < 0.1:
            self.both(b"\xef\xbb\xbf")

    def both(self, raw: bytes) -> None:
        self.sent.append(raw)
        self.due.append(raw)

    def event(self, value: object, *, name: str | None = None, ours: bool = False, last: bool = False) -> None:
        """One event; `ours` is there only because we asked for it, so the client is not due it."""
        raw = self.framed(value, name=name)
        self.sent.append(raw)
        if not ours:
            self.due.append(raw)
        if not (self._lines or last) and self.rng.random() < 0.05:
            self.both(b": keep-alive" + self._end * 2)

    def framed(self, value: object, *, name: str | None = None) -> bytes:
        data = value if isinstance(value, bytes) else self.spelled(value).encode("utf-8")
        if self._lines:
            return data + self._end
        head = b"event" + self._colon + name.encode("utf-8") + self._end if name is not None else b""
        return head + b"data" + self._colon + data + self._end * 2

    def twin(self, value: dict[str, Any], **asked: object) -> None:
        """An event that the client is due without the members `asked`."""
        spelled = self.spelled(value)
        extra = "".join(f",{json.dumps(key)}:{json.dumps(item)}" for key, item in asked.items())
        self.sent.append(self.framed((spelled[:-1] + extra + "}").encode("utf-8")))
        self.due.append(self.framed(spelled.encode("utf-8")))

    def spelled(self, value: object) -> str:
        if isinstance(value, _Raw):
            return str(value)
        if isinstance(value, str):
            return '"' + "".join(self._character(character) for character in value) + '"'
        if isinstance(value, Mapping):
            inside = ",".join(
                f"{self._space()}{self.spelled(name)}{self._space()}:{self._space()}{self.spelled(item)}"
                for name, item in value.items()
            )
            return "{" + inside + self._space() + "}"
        if isinstance(value, list):
            return "[" + ",".join(self._space() + self.spelled(item) for item in value) + self._space() + "]"
        return json.dumps(value)

    def _space(self) -> str:
        return "" if self._tight or self.rng.random() < 0.7 else self.rng.choice((" ", "  ", "\t"))

    def _character(self, character: str) -> str:
        spelled = json.dumps(character, ensure_ascii=self.rng.random() < 0.3)[1:-1]
        if character == "/" and self.rng.random() < 0.5:
            return "\\/"
        return spelled


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(_WORDS) for _ in range(rng.randrange(1, 5)))


def _oddities(rng: random.Random) -> dict[str, Any]:
    """Members that no documentation knows."""
    if rng.random() < 0.6:
        return {}
    return {f"x_{_WORDS[0]}{rng.randrange(9)}": rng.choice((None, True, _Raw(rng.choice(_NUMBERS)), [_text(rng)], {}))}


def _arguments(rng: random.Random) -> str:
    return json.dumps({"city": _text(rng), "days": rng.randrange(9)}, ensure_ascii=rng.random() < 0.5)


def _cut(rng: random.Random, text: str) -> list[str]:
    at = rng.randrange(len(text) + 1)
    return [text[:at], text[at:]]


def _chat(rng: random.Random, frame: _Frame, injected: bool) -> None:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "up"}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> None:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish, **_oddities(rng)}
        value = {**head, "choices": [choice], **more}
        if injected:
            frame.twin(value, usage=None)
        else:
            frame.event(value)

    chunk({"role": "assistant", "content": ""})
    for _ in range(rng.randrange(1, 6)):
        chunk({"content": _text(rng)}, **_oddities(rng))
    if rng.random() < 0.4:
        for index in range(rng.randrange(1, 3)):
            call = {"index": index, "id": f"call_{index}", "type": "function"}
            for number, piece in enumerate(_cut(rng, _arguments(rng))):
                named = {**call, "function": {"name": "forecast", "arguments": piece}}
                chunk({"tool_calls": [named if number == 0 else {"index": index, "function": {"arguments": piece}}]})
        chunk({}, "tool_calls")
    else:
        chunk({}, rng.choice(("stop", "length")))
    if injected or rng.random() < 0.5:
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        frame.event({**head, "choices": [], "usage": usage}, ours=injected)
    frame.event(b"[DONE]", last=True)


def _responses(rng: random.Random, frame: _Frame, injected: bool) -> None:
    del injected
    number = -1

    def event(kind: str, **members: Any) -> None:
        nonlocal number
        number += 1
        named = kind if rng.random() < 0.95 else None
        value = {"type": kind, "sequence_number": number, **members, **_oddities(rng)}
        frame.event(value, name=named, last=kind == "response.completed")

    response: dict[str, Any] = {"id": "resp_1", "object": "response", "model": "up", "status": "in_progress"}
    event("response.created", response={**response, "output": []})
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    event("response.output_item.added", output_index=0, item=item)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    said = [_text(rng) for _ in range(rng.randrange(1, 6))]
    for piece in said:
        event("response.output_text.delta", **place, delta=piece)
        if rng.random() < 0.1:
            event("response.something.new", note=_text(rng))
    event("response.output_text.done", **place, text="".join(said))
    part = {"type": "output_text", "text": "".join(said), "annotations": []}
    event("response.output_item.done", output_index=0, item={**item, "status": "completed", "content": [part]})
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    event("response.completed", response={**response, "status": "completed", "output": [], "usage": usage})


def _messages(rng: random.Random, frame: _Frame, injected: bool) -> None:
    del injected

    def event(kind: str, **members: Any) -> None:
        frame.event({"type": kind, **members, **_oddities(rng)}, name=kind, last=kind == "message_stop")

    usage = {"input_tokens": 7, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "usage": usage}
    event("message_start", message={**message, "stop_reason": None, "stop_sequence": None})
    index = 0
    if rng.random() < 0.4:
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": _text(rng)})
        signature = base64.b64encode(rng.randbytes(48)).decode()
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": signature})
        event("content_block_stop", index=0)
        index = 1
    event("content_block_start", index=index, content_block={"type": "text", "text": ""})
    for _ in range(rng.randrange(1, 6)):
        event("content_block_delta", index=index, delta={"type": "text_delta", "text": _text(rng)})
        if rng.random() < 0.1:
            event("ping")
    event("content_block_stop", index=index)
    tools = rng.random() < 0.4
    if tools:
        block = {"type": "tool_use", "id": "toolu_1", "name": "forecast", "input": {}}
        event("content_block_start", index=index + 1, content_block=block)
        for piece in _cut(rng, _arguments(rng)):
            event("content_block_delta", index=index + 1, delta={"type": "input_json_delta", "partial_json": piece})
        event("content_block_stop", index=index + 1)
    reason = {"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None}
    event("message_delta", delta=reason, usage={"output_tokens": 9})
    event("message_stop")


def _generate_content(rng: random.Random, frame: _Frame, injected: bool) -> None:
    del injected
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}

    def chunk(parts: list[dict[str, Any]], finish: str | None = None) -> None:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0, **_oddities(rng)}
        if finish is not None:
            candidate["finishReason"] = finish
        frame.event({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "up", "responseId": "r1"})

    if rng.random() < 0.3:
        chunk([{"text": _text(rng), "thought": True}])
    for _ in range(rng.randrange(1, 6)):
        chunk([{"text": _text(rng)}])
    if rng.random() < 0.4:
        signature = base64.b64encode(rng.randbytes(48)).decode()
        call = {"name": "forecast", "args": {"city": _text(rng), "days": _Raw(rng.choice(_NUMBERS))}}
        chunk([{"functionCall": call, "thoughtSignature": signature}])
    chunk([{"text": _text(rng)}], rng.choice(("STOP", "MAX_TOKENS")))


def _ollama_chat(rng: random.Random, frame: _Frame, injected: bool) -> None:
    del injected
    head = {"model": "up", "created_at": "2026-11-21T10:00:00.123456Z"}
    for _ in range(rng.randrange(1, 6)):
        message = {"role": "assistant", "content": _text(rng), **_oddities(rng)}
        frame.event({**head, "message": message, "done": False})
    if rng.random() < 0.4:
        call = {"function": {"name": "forecast", "arguments": {"city": _text(rng), "days": 3}}}
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        frame.event({**head, "message": message, "done": False})
    frame.event({**head, "message": {"role": "assistant", "content": ""}, **_LAST})


def _ollama_generate(rng: random.Random, frame: _Frame, injected: bool) -> None:
    del injected
    head = {"model": "up", "created_at": "2026-11-21T10:00:00.123456Z"}
    for _ in range(rng.randrange(1, 6)):
        frame.event({**head, "response": _text(rng), "done": False, **_oddities(rng)})
    frame.event({**head, "response": "", "context": [1, 2, 3], **_LAST})


_LAST = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 4_900_000_000,
    "load_duration": 5_000_000,
    "prompt_eval_count": 7,
    "prompt_eval_duration": 100_000_000,
    "eval_count": 3,
    "eval_duration": 4_700_000_000,
}

_WRITERS = {
    Surface.CHAT: _chat,
    Surface.RESPONSES: _responses,
    Surface.MESSAGES: _messages,
    Surface.GENERATE_CONTENT: _generate_content,
    Surface.OLLAMA_CHAT: _ollama_chat,
    Surface.OLLAMA_GENERATE: _ollama_generate,
}
