"""Every error in every dialect, before and after the first byte: shape, retry advice, ids, and no made-up end."""

import asyncio
import json
from typing import Any

import pytest
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Family, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.ingress.errors import error_event
from securellm.ingress.exchange import RawHeaders
from securellm.ingress.reply import HttpReply

_FAMILIES: dict[Family, type[GatewayError]] = {
    Family.REFUSAL: Refusal,
    Family.UPSTREAM: UpstreamFailure,
    Family.FAULT: Fault,
}
_STREAMED = (Surface.CHAT, Surface.RESPONSES, Surface.MESSAGES)
_NEVER_AFTER_AN_ERROR = ("[DONE]", "message_stop", "response.completed", "finish_reason", "stop_reason")
REQUEST = "req_0123456789"


class Recorded:
    """An exchange that only remembers."""

    def __init__(self) -> None:
        self.status = 0
        self.sent: dict[str, str] = {}
        self.body = b""
        self.ended = False

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


def refuse(error: GatewayError, surface: Surface | None, *, begun: bool, portuguese: bool = False) -> Recorded:
    exchange = Recorded()

    async def scenario() -> None:
        reply = HttpReply(exchange, surface, request_id=REQUEST, heartbeat=10, clock=ManualClock())  # type: ignore[arg-type]
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


def assert_body(body: Any, code: Code, surface: Surface | None, *, param: str | None) -> None:
    if surface is Surface.MESSAGES:
        assert body.keys() == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert body["request_id"] == REQUEST
        assert body["error"].keys() >= {"type", "message"}
    else:
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert body["error"]["param"] == param
    assert body["error"]["code"] == code.value
    assert body["error"]["type"]
    assert body["error"]["message"] == f"the reason. {code.spec.remedy}"


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("surface", [*Surface, None])
@pytest.mark.parametrize("code", list(Code))
def test_before_the_first_byte_an_error_is_a_status_in_the_callers_dialect(code: Code, surface: Surface | None) -> None:
    given = refuse(error_of(code, param="a.b", retry_after=1.25), surface, begun=False)
    assert given.status == code.spec.status
    assert_body(json.loads(given.body), code, surface, param="a.b")
    assert given.sent["content-type"] == "application/json"
    assert given.sent["content-length"] == str(len(given.body))
    assert given.sent["x-request-id"] == REQUEST
    assert given.sent.get("request-id") == (REQUEST if surface is Surface.MESSAGES else None)
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
    assert text.endswith("\n\n")
    assert text.count("\n\n") == 1, "one event"
    assert not any(word in text for word in _NEVER_AFTER_AN_ERROR)
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
    assert given["error"]["message"] == f"the reason. {code.spec.remedy_pt}"
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
        reply = HttpReply(exchange, Surface.CHAT, request_id=REQUEST, heartbeat=0.01, clock=clock)  # type: ignore[arg-type]
        await reply.expect_stream(())
        clock.advance(1)
        async with asyncio.timeout(5):
            while not reply.started:  # noqa: ASYNC110 - nothing tells that it waits
                await asyncio.sleep(0.005)
        await reply.refuse(error_of(Code.TIMEOUT))

    asyncio.run(scenario())
    assert exchange.status == 504
    assert json.loads(exchange.body)["error"]["code"] == "timeout"


def test_a_silent_stream_begins_by_itself_and_its_error_is_then_an_event() -> None:
    exchange = Recorded()

    async def scenario() -> None:
        clock = ManualClock()
        reply = HttpReply(exchange, Surface.CHAT, request_id=REQUEST, heartbeat=0.01, clock=clock)  # type: ignore[arg-type]
        await reply.expect_stream(())
        await asyncio.sleep(0)
        assert not reply.started
        clock.advance(1)
        async with asyncio.timeout(5):
            while not exchange.body:  # noqa: ASYNC110 - a heartbeat wakes nobody
                await asyncio.sleep(0.005)
        assert exchange.body.startswith(b": heartbeat\n\n")
        await reply.refuse(error_of(Code.TIMEOUT))

    asyncio.run(scenario())
    assert exchange.status == 200
    assert b'data: {"error"' in exchange.body
