"""The mock answers in the documented bytes of every surface, as the official clients read them."""

import asyncio
import base64
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import anthropic.types
import openai.types.chat
import openai.types.responses
import pydantic
import pytest

from securellm.core.document import Document
from securellm.core.errors import Code
from securellm.core.surfaces import Surface
from securellm.providers import DEMO_KIND, DIALECTS, EventView, MockSender, SseParser
from securellm.transport import OutboundRequest, Timeouts

TIMEOUTS = Timeouts(connect=1, first_byte=1, idle=1, total=1)
TOOL = {"name": "lookup", "type": "function", "function": {"name": "lookup"}}
SAID = "Olá, big world"

ASK: dict[Surface, Callable[[str], dict[str, Any]]] = {
    Surface.CHAT: lambda text: {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": text}]},
    Surface.RESPONSES: lambda text: {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}],
        "instructions": "s",
    },
    Surface.MESSAGES: lambda text: {
        "system": "s",
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}],
    },
}
CAP = {Surface.CHAT: "max_completion_tokens", Surface.RESPONSES: "max_output_tokens", Surface.MESSAGES: "max_tokens"}
CAPPED = {Surface.CHAT: "length", Surface.RESPONSES: "max_output_tokens", Surface.MESSAGES: "max_tokens"}
TALKING = list(ASK)


def send(surface: Surface, body: dict[str, Any], sender: MockSender | None = None) -> tuple[int, list[bytes]]:
    async def ask() -> tuple[int, list[bytes]]:
        path = "/v1" + DEMO_KIND.surfaces[surface] + "?beta=true"
        request = OutboundRequest(method="POST", path=path, body=json.dumps(body).encode())
        reply = await (sender or MockSender()).send(request, timeouts=TIMEOUTS)
        return reply.status, [piece async for piece in reply]

    return asyncio.run(ask())


def whole(surface: Surface, body: dict[str, Any]) -> Any:
    status, pieces = send(surface, body)
    assert status == 200
    return json.loads(b"".join(pieces))


def stream(surface: Surface, body: dict[str, Any]) -> tuple[list[Any], list[EventView], str | None]:
    open_stream = DIALECTS[surface].open_stream
    assert open_stream is not None
    reader = open_stream()
    parser = SseParser()
    events = [event for piece in send(surface, {**body, "stream": True})[1] for event in parser.feed(piece)]
    views = [reader.read(event) for event in events]
    assert not any(view.failure for view in views)
    end = reader.eof()
    bodies = [json.loads(event.data) for event in events if event.data != b"[DONE]"]
    return bodies, views, end.code if end is not None else None


def spoken(views: list[EventView]) -> str:
    return "".join(fragment.text for view in views for fragment in view.fragments if not fragment.whole)


@pytest.mark.parametrize("surface", TALKING)
@pytest.mark.parametrize("model", ["echo", "tool", "slow"])
def test_a_whole_answer_is_what_the_official_client_expects(surface: Surface, model: str) -> None:
    sender = MockSender(sleep=_no_sleep)
    body = {"model": model, "tools": [TOOL], **ASK[surface](SAID)}
    answer = json.loads(b"".join(send(surface, body, sender)[1]))
    if surface is Surface.CHAT:
        openai.types.chat.ChatCompletion.model_validate(answer)
    elif surface is Surface.RESPONSES:
        openai.types.responses.Response.model_validate(answer)
    else:
        anthropic.types.Message.model_validate(answer)
    facts = DIALECTS[surface].read_reply(Document(json.dumps(answer).encode()))
    assert facts.failure is None
    assert facts.model == model
    assert facts.usage is not None
    assert facts.usage.prompt_tokens == 5
    if model != "tool":
        assert facts.text == SAID
        assert facts.usage.completion_tokens == 4


async def _no_sleep(seconds: float) -> None:
    assert seconds > 0


@pytest.mark.parametrize("surface", TALKING)
@pytest.mark.parametrize("model", ["echo", "tool"])
def test_a_streamed_answer_is_what_the_official_client_expects(surface: Surface, model: str) -> None:
    body = {"model": model, "tools": [TOOL], "stream_options": {"include_usage": True}, **ASK[surface](SAID)}
    bodies, views, end = stream(surface, body)
    events: Any = {
        Surface.CHAT: openai.types.chat.ChatCompletionChunk,
        Surface.RESPONSES: openai.types.responses.ResponseStreamEvent,
        Surface.MESSAGES: anthropic.types.RawMessageStreamEvent,
    }[surface]
    known = pydantic.TypeAdapter(events)
    for one in bodies:
        if one != {"type": "ping"}:
            known.validate_python(one)
    assert end is None
    assert views[-1].terminal
    assert spoken(views) == (
        json.dumps({"text": SAID}, ensure_ascii=False, separators=(",", ":")) if model == "tool" else SAID
    )
    usage = [view.usage for view in views if view.usage]
    assert usage[-1].completion_tokens == (7 if model == "tool" else 4)


def test_usage_is_streamed_in_chat_only_when_asked_for() -> None:
    bodies, _, _ = stream(Surface.CHAT, {"model": "echo", **ASK[Surface.CHAT](SAID)})
    assert not any("usage" in body for body in bodies)


@pytest.mark.parametrize("surface", TALKING)
def test_the_cap_is_honoured_and_said(surface: Surface) -> None:
    body = {"model": "echo", CAP[surface]: 2, **ASK[surface]("abcdefgh rest")}
    facts = DIALECTS[surface].read_reply(Document(json.dumps(whole(surface, body)).encode()))
    assert (facts.text, facts.finish) == ("abcdefgh", CAPPED[surface])
    _, views, end = stream(surface, body)
    assert end is None
    assert spoken(views) == "abcdefgh"
    assert next(view.finish for view in views if view.finish) == CAPPED[surface]


@pytest.mark.parametrize("surface", TALKING)
def test_a_cut_stream_has_no_end(surface: Surface) -> None:
    _, views, end = stream(surface, {"model": "cut", **ASK[surface](SAID)})
    assert end is Code.TRUNCATED
    assert not any(view.terminal for view in views)


@pytest.mark.parametrize("surface", DEMO_KIND.surfaces)
@pytest.mark.parametrize(("model", "status"), [("error-401", 401), ("error-429", 429), ("error-500", 500)])
def test_errors_come_on_demand(surface: Surface, model: str, status: int) -> None:
    answered, pieces = send(surface, {"model": model})
    assert answered == status
    assert json.loads(b"".join(pieces))["error"]["message"]


@pytest.mark.parametrize("body", [{}, {"model": 7}])
def test_a_request_without_a_model_is_refused(body: dict[str, Any]) -> None:
    assert send(Surface.CHAT, body)[0] == 400


def test_answers_are_the_same_every_time() -> None:
    body = {"model": "echo", **ASK[Surface.CHAT](SAID)}
    assert send(Surface.CHAT, body) == send(Surface.CHAT, body)


def test_vectors_are_of_unit_length_and_the_same_in_either_encoding() -> None:
    plain = whole(Surface.EMBEDDINGS, {"model": "embed", "input": ["a", "b"]})
    openai.types.CreateEmbeddingResponse.model_validate(plain)
    first, second = (row["embedding"] for row in plain["data"])
    assert first != second
    assert len(first) == 64
    assert math.isclose(sum(number * number for number in first), 1.0, rel_tol=1e-6)
    packed = whole(Surface.EMBEDDINGS, {"model": "embed", "input": "a", "encoding_format": "base64"})
    unpacked = struct.unpack("<64f", base64.b64decode(packed["data"][0]["embedding"]))
    assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(first, unpacked, strict=True))
    assert plain["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


def test_an_answer_that_is_dropped_says_no_more() -> None:
    async def drop() -> list[bytes]:
        body = json.dumps({"model": "echo", "stream": True, **ASK[Surface.CHAT](SAID)}).encode()
        reply = await MockSender().send(
            OutboundRequest(method="POST", path="/v1/chat/completions", body=body), timeouts=TIMEOUTS
        )
        pieces = []
        async for piece in reply:
            pieces.append(piece)
            await reply.aclose()
        return pieces

    assert len(asyncio.run(drop())) == 1
