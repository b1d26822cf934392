"""Every error in every dialect, before and after the first byte: shape, retry advice, ids, and no made-up end."""

import asyncio
import json
from typing import Any

import pytest
from tests.unit.clocks import ManualClock

from securellm.core.clock import Clock
from securellm.core.errors import Code, Family, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.ingress.errors import error_event
from securellm.ingress.exchange import RawHeaders
from securellm.ingress.reply import HttpReply

_FAMILIES: dict[Family, type[GatewayError]] = {
    Family.REFUSAL: Refusal,
    Family.UPSTREAM: UpstreamFailure,
    Family.FAULT: Fault,
}
_STREAMED = (
    Surface.CHAT,
    Surface.RESPONSES,
    Surface.MESSAGES,
    Surface.GENERATE_CONTENT,
    Surface.OLLAMA_CHAT,
    Surface.OLLAMA_GENERATE,
)
_NEVER_AFTER_AN_ERROR = (
    "[DONE]",
    "message_stop",
    "response.completed",
    "finish_reason",
    "finishReason",
    "stop_reason",
    "done",
)
_GOOGLE = "type.googleapis.com/google.rpc."
_GOOGLE_NAMES = {
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
}
_HEARTBEATS = {
    Manner.OPENAI: b": heartbeat\n\n",
    Manner.ANTHROPIC: b": heartbeat\n\n",
    Manner.GOOGLE: b"\n",
    Manner.OLLAMA: b" ",
}
REQUEST = "req_0123456789"


class Recorded:
    """An exchange that only remembers."""

    def __init__(self) -> None:
        self.status = 0
        self.sent: dict[str, str] = {}
        self.body = b""
        self.ended = False

    async def answer(self, status: int, headers: RawHeaders, body: bytes) -> None:
        await Recorded.head(self, status, headers)
        await self.write(body, last=True)

    async def head(self, status: int, headers: RawHeaders) -> None:
        assert self.status == 0
        self.status = status
        self.sent = {name.decode(): value.decode() for name, value in headers}
        assert len(self.sent) == len(headers), "a header is sent twice"

    async def write(self, data: bytes, *, last: bool) -> None:
        assert not self.ended
        self.body += data
        self.ended = last

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"an error needs no {name}")


def error_of(code: Code, **more: Any) -> GatewayError:
    return _FAMILIES[code.spec.family](code, "the reason", **more)


def reply_on(
    exchange: Recorded, surface: Surface | None, *, heartbeat: float = 10, clock: Clock | None = None
) -> HttpReply:
    return HttpReply(
        exchange,  # type: ignore[arg-type]
        manner_of(surface),
        surface=surface,
        request_id=REQUEST,
        heartbeat=heartbeat,
        clock=clock or ManualClock(),
    )


def refuse(error: GatewayError, surface: Surface | None, *, begun: bool, portuguese: bool = False) -> Recorded:
    exchange = Recorded()

    async def scenario() -> None:
        reply = reply_on(exchange, surface)
        reply.speak_portuguese(portuguese)
        if begun:
            await reply.begin(((b"x-securellm-decision-id", b"dec_1"),))
            reply.sequence = 41
        await reply.refuse(error)
        await reply.refuse(error)
        reply.close()

    asyncio.run(scenario())
    assert exchange.ended
    return exchange


def assert_body(body: Any, code: Code, surface: Surface | None, *, param: str | None, wait: str | None = None) -> None:
    text = f"the reason. {code.spec.remedy}"
    match manner_of(surface):
        case Manner.OPENAI:
            assert body["error"].keys() == {"message", "type", "param", "code"}
            assert body["error"]["param"] == param
            assert (body["error"]["message"], body["error"]["code"]) == (text, code.value)
            assert body["error"]["type"]
        case Manner.ANTHROPIC:
            assert body.keys() == {"type", "error", "request_id"}
            assert (body["type"], body["request_id"]) == ("error", REQUEST)
            assert (body["error"]["message"], body["error"]["code"]) == (text, code.value)
            assert body["error"]["type"]
        case Manner.GOOGLE:
            assert list(body) == ["error"], "first and alone: their SDKs look for it there"
            assert body["error"].keys() == {"code", "message", "status", "details"}
            assert body["error"]["code"] == code.spec.status
            assert 400 <= body["error"]["code"] <= 599
            assert body["error"]["message"] == text
            assert body["error"]["status"] in _GOOGLE_NAMES
            details = {each["@type"].removeprefix(_GOOGLE): each for each in body["error"]["details"]}
            assert details["ErrorInfo"]["reason"] == code.value.upper()
            assert details["ErrorInfo"]["metadata"]["code"] == code.value
            assert details["RequestInfo"]["requestId"] == REQUEST
            assert details.get("RetryInfo", {}).get("retryDelay") == wait
            named = [field["field"] for field in details.get("BadRequest", {}).get("fieldViolations", [])]
            assert named == ([param] if param and code is not Code.METHOD_NOT_ALLOWED else [])
        case Manner.OLLAMA:
            assert body == {"error": text, "code": code.value}, "a text: anything else breaks their SDKs"


def said(body: Any, surface: Surface | None) -> str:
    """What a person is told."""
    return str(body["error"] if manner_of(surface) is Manner.OLLAMA else body["error"]["message"])


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("surface", [*Surface, None])
@pytest.mark.parametrize("code", list(Code))
def test_before_the_first_byte_an_error_is_a_status_in_the_callers_dialect(code: Code, surface: Surface | None) -> None:
    given = refuse(error_of(code, param="a.b", retry_after=1.25), surface, begun=False)
    assert given.status == code.spec.status
    assert_body(json.loads(given.body), code, surface, param="a.b", wait="2s")
    assert given.sent["content-type"] == "application/json"
    assert given.sent["content-length"] == str(len(given.body))
    assert given.sent["x-request-id"] == REQUEST
    assert given.sent.get("request-id") == (REQUEST if manner_of(surface) is Manner.ANTHROPIC else None)
    assert given.sent["x-should-retry"] == ("true" if code.spec.retryable else "false")
    assert given.sent["retry-after"] == "2", "whole seconds, never sooner"
    assert given.sent["retry-after-ms"] == "1250"
    assert given.sent["x-securellm-code"] == code.value
    assert "retry-after" not in refuse(error_of(code), surface, begun=False).sent


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("surface", _STREAMED)
@pytest.mark.parametrize("code", list(Code))
def test_after_the_first_byte_an_error_is_the_dialects_last_event(code: Code, surface: Surface) -> None:
    given = refuse(error_of(code, param="a.b"), surface, begun=True)
    assert given.status == 200
    assert given.sent["x-request-id"] == REQUEST
    text = given.body.decode()
    assert not any(word in text for word in _NEVER_AFTER_AN_ERROR)
    if manner_of(surface) is Manner.OLLAMA:
        assert given.sent["content-type"] == "application/x-ndjson"
        assert text.count("\n") == 1, "one line"
        assert text.endswith("\n")
        assert_body(json.loads(text), code, surface, param="a.b")
        return
    assert given.sent["content-type"] == "text/event-stream; charset=utf-8"
    assert text.endswith("\n\n")
    assert text.count("\n\n") == 1, "one event"
    name, _, data = text.strip().rpartition("data: ")
    body = json.loads(data)
    if surface is Surface.RESPONSES:
        assert name == "event: error\n"
        assert body["type"] == "error"
        assert body["sequence_number"] == 42
        assert body["code"] == code.value
        assert body["message"] == f"the reason. {code.spec.remedy}"
        assert body["param"] == "a.b"
        assert_body({"error": body["error"]}, code, surface, param="a.b")
    else:
        assert name == ("event: error\n" if surface is Surface.MESSAGES else "")
        assert_body(body, code, surface, param="a.b")


@pytest.mark.parametrize("surface", list(Surface))
@pytest.mark.parametrize("code", list(Code))
def test_every_error_speaks_portuguese_to_whom_asks_for_it(code: Code, surface: Surface) -> None:
    given = json.loads(refuse(error_of(code), surface, begun=False, portuguese=True).body)
    assert said(given, surface) == f"the reason. {code.spec.remedy_pt}"
    if surface in _STREAMED:
        event = error_event(error_of(code), surface, request_id=REQUEST, sequence=0, portuguese=True)
        assert code.spec.remedy_pt in event.decode()


def test_a_decision_and_a_providers_own_code_are_headers() -> None:
    refusal = Refusal(Code.GUARD_BLOCKED, "the reason", decision_id="dec_1")
    assert refuse(refusal, Surface.CHAT, begun=False).sent["x-securellm-decision-id"] == "dec_1"
    failure = UpstreamFailure(Code.BAD_REQUEST, "the reason", provider_code="odd\r\ncode é", provider_status=400)
    assert refuse(failure, Surface.CHAT, begun=False).sent["x-securellm-provider-code"] == "odd??code ?"


def test_a_head_that_could_not_leave_in_time_gives_way_to_the_errors_own() -> None:
    """The client reads nothing, so the heartbeat's head waits; then the answer turns out to be an error."""

    class Slow(Recorded):
        blocked = True

        async def head(self, status: int, headers: RawHeaders) -> None:
            if self.blocked:
                self.blocked = False
                await asyncio.Event().wait()
            await super().head(status, headers)

    exchange = Slow()

    async def scenario() -> None:
        clock = ManualClock()
        reply = reply_on(exchange, Surface.CHAT, heartbeat=0.01, clock=clock)
        await reply.expect_stream(())
        clock.advance(1)
        async with asyncio.timeout(20):
            while not reply.started:  # noqa: ASYNC110 - nothing tells that it waits
                await asyncio.sleep(0.005)
        await reply.refuse(error_of(Code.TIMEOUT))

    asyncio.run(scenario())
    assert exchange.status == 504
    assert json.loads(exchange.body)["error"]["code"] == "timeout"


@pytest.mark.requirement("GW-10")
@pytest.mark.parametrize("surface", _STREAMED)
def test_a_silent_stream_begins_by_itself_and_its_error_is_then_an_event(surface: Surface) -> None:
    """What is said in the silence is what the SDKs of each family were seen to ignore, between whole events only."""
    exchange = Recorded()
    heartbeat = _HEARTBEATS[manner_of(surface)]

    async def beats(reply: HttpReply, clock: ManualClock, body: bytes) -> None:
        clock.advance(1)
        async with asyncio.timeout(20):
            while exchange.body != body:  # noqa: ASYNC110 - a heartbeat wakes nobody
                await asyncio.sleep(0.005)

    async def scenario() -> None:
        clock = ManualClock()
        reply = reply_on(exchange, surface, heartbeat=0.01, clock=clock)
        await reply.expect_stream(())
        await asyncio.sleep(0)
        assert not reply.started
        await beats(reply, clock, heartbeat)
        await beats(reply, clock, 2 * heartbeat)
        await reply.refuse(error_of(Code.TIMEOUT))

    asyncio.run(scenario())
    assert exchange.status == 200
    event = error_event(error_of(Code.TIMEOUT), surface, request_id=REQUEST, sequence=-1)
    assert exchange.body == 2 * heartbeat + event
    if manner_of(surface) is Manner.OLLAMA:
        assert json.loads(exchange.body)["code"] == "timeout"
