"""A provider inside the process, for the demo and for tests: an echo in the documented bytes of every surface.

The model's name says how it behaves: `echo` repeats the last user text, `tool` calls the first tool it is given,
`slow` does so slowly, `embed` makes vectors, `error-<status>` fails, `cut` breaks off its stream.
"""

import asyncio
import base64
import hashlib
import json
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.transport import Headers, OutboundRequest, Timeouts

_CREATED = 1_767_225_600
_DIMENSIONS = 64
_PAUSE = 0.25
_FAILURES = frozenset(str(status) for status in range(400, 600))
_JSON: Headers = ((b"content-type", b"application/json"),)
_STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))

Members = dict[str, Value]
Sleep = Callable[[float], Awaitable[None]]


class MockReply:
    """An answer that is made as it is read."""

    def __init__(self, status: int, headers: Headers, pieces: list[bytes], *, pause: float, sleep: Sleep) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces
        self._pause = pause
        self._sleep = sleep

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._pieces:
            if self._pause:
                await self._sleep(self._pause)
            if self._pieces:
                yield self._pieces.pop(0)

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamFailure(REPLY_TOO_LARGE) beyond `limit` bytes."""
        body = b"".join([piece async for piece in self])
        if len(body) > limit:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"the provider's reply exceeds {limit} bytes")
        return body

    async def aclose(self) -> None:
        """Drop the rest."""
        self._pieces.clear()


class MockSender:
    """Stands where a connection pool stands. `sleep` is awaited between the pieces of a slow answer."""

    def __init__(self, *, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep

    async def send(self, request: OutboundRequest, *, timeouts: Timeouts) -> MockReply:  # noqa: ARG002 - never waits
        """The answer of the mock."""
        surface = request.path.partition("?")[0].rpartition("/")[2]
        try:
            asked = Document(request.body).members()
        except Refusal as refusal:
            return self._answer(400, _JSON, [_error(surface, 400, refusal.reason)])
        model = asked.get("model")
        if not isinstance(model, str) or surface not in _SURFACES:
            return self._answer(400, _JSON, [_error(surface, 400, "model is missing, or the path is unknown")])
        if model.startswith("error-"):
            status = int(model[6:]) if model[6:] in _FAILURES else 500
            waiting: Headers = ((b"retry-after", b"1"),) if status in {429, 503, 529} else ()
            return self._answer(status, _JSON + waiting, [_error(surface, status, f"asked to fail with {status}")])
        pause = _PAUSE if model == "slow" else 0.0
        if pause:
            await self._sleep(pause)
        if surface == "embeddings":
            return self._answer(200, _JSON, [_dump(_embeddings(asked, model))], pause=pause)
        plan = _plan(surface, asked, model)
        if asked.get("stream") is not True:
            return self._answer(200, _JSON, [_dump(_WHOLE[surface](plan))], pause=pause)
        pieces = list(_STREAMED[surface](plan))
        if model == "cut":
            pieces = pieces[: max(1, len(pieces) - 3)]
        return self._answer(200, _STREAM, pieces, pause=pause)

    def _answer(self, status: int, headers: Headers, pieces: list[bytes], *, pause: float = 0.0) -> MockReply:
        return MockReply(status, headers, pieces, pause=pause, sleep=self._sleep)


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be said."""

    id: str
    model: str
    words: tuple[str, ...]
    tool: str | None
    arguments: str
    capped: bool
    prompt_tokens: int
    usage_in_stream: bool

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def completion_tokens(self) -> int:
        return tokens(self.arguments if self.tool else self.text)


def tokens(text: str) -> int:
    """About one for four characters, as language models count."""
    return math.ceil(len(text) / 4)


def _plan(surface: str, asked: Members, model: str) -> _Plan:
    said = _texts(surface, asked)
    heard = said[-1] if said else ""
    cap = next((asked[name] for name in _CAPS if type(asked.get(name)) is int), None)
    words = _words(heard)
    capped = False
    if isinstance(cap, int) and tokens(heard) > cap:
        words, capped = _words(heard[: 4 * cap]), True
    tool = _tool(asked) if model == "tool" else None
    options = asked.get("stream_options")
    return _Plan(
        id=hashlib.sha256(_dump(asked)).hexdigest()[:24],
        model=model,
        words=words,
        tool=tool,
        arguments=json.dumps({"text": heard}, ensure_ascii=False, separators=(",", ":")) if tool else "",
        capped=capped and tool is None,
        prompt_tokens=max(1, sum(map(tokens, said))),
        usage_in_stream=isinstance(options, dict) and options.get("include_usage") is True,
    )


_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def _words(text: str) -> tuple[str, ...]:
    """The text cut before each word, so that it can be spoken word by word."""
    words: list[str] = []
    for character in text:
        if words and not (character == " " and not words[-1].endswith(" ")):
            words[-1] += character
        else:
            words.append(character)
    return tuple(words)


def _texts(surface: str, asked: Members) -> list[str]:
    """What was said to the model, the last user's text last."""
    turns = asked.get("input" if surface == "responses" else "messages")
    system = asked.get("instructions" if surface == "responses" else "system")
    texts = [_flat(system)] if system else []
    if isinstance(turns, str):
        return [*texts, turns]
    last = ""
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict):
            text = _flat(turn.get("content"))
            if turn.get("role") == "user" and text:
                texts += [last] if last else []
                last = text
            elif text:
                texts.append(text)
    return [*texts, last]


def _flat(content: Value) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    found = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(text for text in found if isinstance(text, str))


def _tool(asked: Members) -> str | None:
    offered = asked.get("tools")
    for tool in offered if isinstance(offered, list) else ():
        if isinstance(tool, dict):
            function = tool.get("function")
            name = tool.get("name") or (function.get("name") if isinstance(function, dict) else None)
            if isinstance(name, str):
                return name
    return None


# Chat


def _chat_usage(plan: _Plan) -> Members:
    return {
        "prompt_tokens": plan.prompt_tokens,
        "completion_tokens": plan.completion_tokens,
        "total_tokens": plan.prompt_tokens + plan.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _chat_finish(plan: _Plan) -> str:
    return "tool_calls" if plan.tool else "length" if plan.capped else "stop"


def _chat_whole(plan: _Plan) -> Members:
    message: Members = {"role": "assistant", "content": None if plan.tool else plan.text, "refusal": None}
    if plan.tool:
        call: Value = {"name": plan.tool, "arguments": plan.arguments}
        message["tool_calls"] = [{"id": f"call_{plan.id}", "type": "function", "function": call}]
    return {
        "id": f"chatcmpl-{plan.id}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": plan.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _chat_finish(plan)}],
        "usage": _chat_usage(plan),
    }


def _chat_stream(plan: _Plan) -> Iterator[bytes]:
    def chunk(choices: list[Value], usage: Value = None) -> bytes:
        body: Members = {
            "id": f"chatcmpl-{plan.id}",
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": plan.model,
            "choices": choices,
        }
        if plan.usage_in_stream:
            body["usage"] = usage
        return b"data: " + _dump(body) + b"\n\n"

    def choice(delta: Members, finish: str | None = None) -> bytes:
        return chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])

    yield choice({"role": "assistant", "content": None if plan.tool else ""})
    if plan.tool:
        opened: Value = {"name": plan.tool, "arguments": ""}
        yield choice({"tool_calls": [{"index": 0, "id": f"call_{plan.id}", "type": "function", "function": opened}]})
        for piece in _words(plan.arguments):
            yield choice({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        for word in plan.words:
            yield choice({"content": word})
    yield choice({}, _chat_finish(plan))
    if plan.usage_in_stream:
        yield chunk([], _chat_usage(plan))
    yield b"data: [DONE]\n\n"


# Responses


def _responses_whole(plan: _Plan, *, status: str = "", output: list[Value] | None = None) -> Members:
    done = output is None
    status = status or ("incomplete" if plan.capped else "completed")
    return {
        "id": f"resp_{plan.id}",
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if done and plan.capped else None,
        "instructions": None,
        "metadata": {},
        "model": plan.model,
        "output": [_responses_item(plan)] if output is None else output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": plan.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": plan.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": plan.prompt_tokens + plan.completion_tokens,
        }
        if done
        else None,
    }


def _responses_item(plan: _Plan, *, begun: bool = False) -> Members:
    status = "in_progress" if begun else "completed"
    if plan.tool:
        return {
            "id": f"fc_{plan.id}",
            "type": "function_call",
            "status": status,
            "call_id": f"call_{plan.id}",
            "name": plan.tool,
            "arguments": "" if begun else plan.arguments,
        }
    return {
        "id": f"msg_{plan.id}",
        "type": "message",
        "status": "incomplete" if plan.capped and not begun else status,
        "role": "assistant",
        "content": [] if begun else [_responses_part(plan.text)],
    }


def _responses_part(text: str) -> Members:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _responses_stream(plan: _Plan) -> Iterator[bytes]:
    sequence = iter(range(1_000_000_000))

    def event(name: str, **members: Value) -> bytes:
        body: Members = {"type": f"response.{name}", "sequence_number": next(sequence), **members}
        return b"event: response." + name.encode() + b"\ndata: " + _dump(body) + b"\n\n"

    begun: Value = _responses_whole(plan, status="in_progress", output=[])
    yield event("created", response=begun)
    yield event("in_progress", response=begun)
    yield event("output_item.added", output_index=0, item=_responses_item(plan, begun=True))
    item: Value = _responses_item(plan)
    if plan.tool:
        at: Members = {"item_id": f"fc_{plan.id}", "output_index": 0}
        for piece in _words(plan.arguments):
            yield event("function_call_arguments.delta", **at, delta=piece)
        yield event("function_call_arguments.done", **at, arguments=plan.arguments)
    else:
        at = {"item_id": f"msg_{plan.id}", "output_index": 0, "content_index": 0}
        yield event("content_part.added", **at, part=_responses_part(""))
        for word in plan.words:
            yield event("output_text.delta", **at, delta=word, logprobs=[])
        yield event("output_text.done", **at, text=plan.text, logprobs=[])
        yield event("content_part.done", **at, part=_responses_part(plan.text))
    yield event("output_item.done", output_index=0, item=item)
    whole = _responses_whole(plan)
    yield event(str(whole["status"]), response=whole)


# Messages


def _messages_stop(plan: _Plan) -> str:
    return "tool_use" if plan.tool else "max_tokens" if plan.capped else "end_turn"


def _messages_usage(plan: _Plan, output: int) -> Members:
    return {
        "input_tokens": plan.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    }


def _messages_whole(plan: _Plan) -> Members:
    block: Members = {"type": "text", "text": plan.text}
    if plan.tool:
        block = {"type": "tool_use", "id": f"toolu_{plan.id}", "name": plan.tool, "input": json.loads(plan.arguments)}
    return {
        "id": f"msg_{plan.id}",
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": [block],
        "stop_reason": _messages_stop(plan),
        "stop_sequence": None,
        "usage": _messages_usage(plan, plan.completion_tokens),
    }


def _messages_stream(plan: _Plan) -> Iterator[bytes]:
    def event(name: str, **members: Value) -> bytes:
        return b"event: " + name.encode() + b"\ndata: " + _dump({"type": name, **members}) + b"\n\n"

    message: Members = {
        **_messages_whole(plan),
        "content": [],
        "stop_reason": None,
        "usage": _messages_usage(plan, 1),
    }
    yield event("message_start", message=message)
    block: Members = {"type": "text", "text": ""}
    if plan.tool:
        block = {"type": "tool_use", "id": f"toolu_{plan.id}", "name": plan.tool, "input": {}}
    yield event("content_block_start", index=0, content_block=block)
    yield event("ping")
    if plan.tool:
        for piece in _words(plan.arguments):
            yield event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
    else:
        for word in plan.words:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    yield event("content_block_stop", index=0)
    stop: Value = {"stop_reason": _messages_stop(plan), "stop_sequence": None}
    yield event("message_delta", delta=stop, usage={"output_tokens": plan.completion_tokens})
    yield event("message_stop")


# Embeddings


def _embeddings(asked: Members, model: str) -> Members:
    given = asked.get("input")
    texts = given if isinstance(given, list) and all(isinstance(one, str) for one in given) else [given]
    spelled = [one if isinstance(one, str) else json.dumps(one) for one in texts]
    packed = asked.get("encoding_format") == "base64"
    prompt = sum(map(tokens, spelled))
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(text, packed=packed)}
            for index, text in enumerate(spelled)
        ],
        "model": model,
        "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
    }


def _vector(text: str, *, packed: bool) -> Value:
    """A unit vector that depends on the text alone."""
    noise = hashlib.shake_256(text.encode()).digest(2 * _DIMENSIONS)
    raw = [number / 32_768 for number in struct.unpack(f"<{_DIMENSIONS}h", noise)]
    length = math.sqrt(sum(number * number for number in raw)) or 1.0
    vector = [number / length for number in raw]
    if packed:
        return base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode("ascii")
    return [round(number, 8) for number in vector]


def _error(surface: str, status: int, message: str) -> bytes:
    kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    if surface == "messages":
        return _dump({"type": "error", "error": {"type": kind, "message": message}})
    return _dump({"error": {"message": message, "type": kind, "param": None, "code": None}})


def _dump(body: Value) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 529: "overloaded_error"}
_WHOLE: dict[str, Callable[[_Plan], Members]] = {
    "completions": _chat_whole,
    "responses": _responses_whole,
    "messages": _messages_whole,
}
_STREAMED: dict[str, Callable[[_Plan], Iterator[bytes]]] = {
    "completions": _chat_stream,
    "responses": _responses_stream,
    "messages": _messages_stream,
}
_SURFACES = frozenset({*_WHOLE, "embeddings"})
