"""Retries and fallback: only what can pass, never after the first byte, and every attempt's money accounted for."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, Call, World, asking, eventually, world
from tests.harness import Site, free_ports


def two_routes(site: Site) -> None:
    """`chat` is served by openai, then by a compatible server; `far` by a closed port first."""
    site.tenant("acme", budget="100.00 USD")
    site.model("chat", "openai", "compatible", retries=1)
    site.model("alone", "openai", retries=1)
    site.provider("nowhere", kind="openai-compatible", base_url=f"http://127.0.0.1:{free_ports(1)[0]}/v1")
    site.model("far", "nowhere", "compatible", retries=1)
    short = {"connect": "1s", "first_byte": "1s", "idle": "5s", "total": "10s"}
    site.provider("openai", timeouts=short)


async def tried(opened: World, knobs: dict[str, Any], *, model: str = "chat", stream: bool = False) -> Call:
    """A request whose first attempt goes so; the next goes well."""
    opened.behave(**knobs)
    return await opened.ask(CHAT, asking(CHAT, model=model, stream=stream))


def faces(opened: World, since: int) -> list[str | None]:
    return [entry.face for entry in opened.reached()[since:]]


_REFUSED = {"status": 429}, {"status": 408}, {"status": 500}, {"status": 502}, {"status": 503}, {"status": 529}
_GAVE_UP = {"status": 504}
_LOST = _GAVE_UP, {"close_unanswered": True}, {"close_unanswered": True, "reset": True}, {"hang": True}


@pytest.mark.requirement("FN-2")
def test_every_attempt_is_bound_by_the_cap_its_hold_was_reckoned_with(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            opened.behave(status=503)
            call = await opened.ask(CHAT, asking(CHAT))
            assert call.status == 200
            first, second = (json.loads(entry.body) for entry in opened.reached())
            cap = opened.record_of(call, "INTENT")["output_cap"]
            assert (first["max_completion_tokens"], second["max_tokens"]) == (cap, cap)

    asyncio.run(scenario())


@pytest.mark.requirement("RS-1")
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_pass_is_tried_on_the_next_route_and_each_attempt_is_paid_for(tmp_path: Path, stream: bool) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            for knobs in (*_REFUSED, *_LOST):
                before = len(opened.reached())
                call = await tried(opened, knobs, stream=stream)
                assert call.status == 200, (knobs, call.body)
                assert faces(opened, before) == ["openai", "compatible"]
                intent, attempt = opened.record_of(call, "INTENT"), opened.record_of(call, "ATTEMPT")
                outcome = opened.record_of(call)
                assert (intent["provider"], attempt["provider"], outcome["provider"]) == (
                    "openai",
                    "compatible",
                    "compatible",
                )
                assert (attempt["number"], outcome["attempts"]) == (2, 2)
                assert attempt["hold"] == intent["hold"] > 0
                # A provider that said no has not billed; of one that said nothing the whole hold stays presumed.
                assert attempt["presumed"] == (0 if knobs in _REFUSED else intent["hold"])
                assert outcome["settled"] > 0
                assert outcome["presumed"] == 0
                assert intent["seq"] < attempt["seq"] < outcome["seq"]

    asyncio.run(scenario())


@pytest.mark.requirement("RS-1")
def test_a_refused_connection_costs_nothing_and_reuses_the_hold(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            call = await opened.ask(CHAT, asking(CHAT, model="far"))
            assert call.status == 200
            attempt = opened.record_of(call, "ATTEMPT")
            assert (attempt["reason"], attempt["presumed"]) == ("provider_unreachable", 0)
            assert opened.money()[1] == 0

    asyncio.run(scenario())


@pytest.mark.requirement("RS-1")
def test_what_cannot_pass_is_never_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            for status in (400, 401, 402, 403, 404, 413, 422):
                for stream in (False, True):
                    before = len(opened.reached())
                    call = await tried(opened, {"status": status}, stream=stream)
                    assert call.status >= 400
                    assert faces(opened, before) == ["openai"], status
                    outcome = opened.record_of(call)
                    assert (outcome["settled"], outcome["presumed"], outcome["attempts"]) == (0, 0, 1)
            assert opened.records("ATTEMPT") == []

    asyncio.run(scenario())


@pytest.mark.requirement("RS-1")
def test_nothing_is_tried_again_after_the_first_byte(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            for stream, knobs in (
                (True, {"cut_event": 1}),
                (True, {"cut_event": 3, "reset": True}),
                (True, {"error_event": 0}),
                (False, {"cut_byte": 700}),
                (False, {"garbage": True}),
                (False, {"gzip": True}),
                (True, {"html": True}),
            ):
                before = len(opened.reached())
                call = await tried(opened, knobs, stream=stream)
                assert b'"error"' in call.body
                assert faces(opened, before) == ["openai"], knobs
                outcome = opened.record_of(call)
                assert outcome["attempts"] == 1
                assert outcome["presumed"] > 0, "it may have billed what it began"

    asyncio.run(scenario())


@pytest.mark.requirement("RS-1")
def test_the_wait_a_provider_asks_for_is_kept_or_handed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            loop = asyncio.get_running_loop()
            began = loop.time()
            call = await tried(opened, {"status": 429, "retry_after": "1"}, model="alone")
            assert call.status == 200
            assert loop.time() - began >= 1.0
            # Longer than anyone waits here: the caller is told.
            call = await tried(opened, {"status": 429, "retry_after": "120"}, model="alone")
            assert (call.status, call.code) == (429, "provider_rate_limited")
            assert call.headers["retry-after"] == "120"
            assert call.headers["x-should-retry"] == "true"
            # Not within the caller's deadline.
            opened.behave(status=429, retry_after="5")
            call = await opened.ask(CHAT, asking(CHAT, model="alone"), headers={"x-request-deadline": "2"})
            assert call.status == 429

    asyncio.run(scenario())


@pytest.mark.requirement("RS-1")
def test_retries_end_when_the_budget_they_share_is_empty(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            opened.behave(status=500, times=None)
            for _ in range(60):
                call = await opened.ask(CHAT, asking(CHAT))
                assert call.status == 502
            seen = len(opened.reached())
            assert 60 + 30 <= seen < 60 + 30 + 12 + 10, "thirty saved, one for each five requests, a few by the second"

    asyncio.run(scenario())


def test_a_client_may_leave_between_two_attempts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, two_routes) as opened:
            opened.behave(status=429, retry_after="20")
            call = opened.call(CHAT, asking(CHAT, model="alone"))
            await eventually(lambda: opened.upstream.journal.entries("answer"))
            await asyncio.sleep(0.05)
            call.leave()
            await call.done()
            [outcome] = await opened.recorded("OUTCOME")
            assert outcome["status"] == "client_disconnected"
            assert (outcome["settled"], outcome["presumed"]) == (0, 0)

    asyncio.run(scenario())


@pytest.mark.requirement("PR-5")
def test_every_timeout_elapses_and_the_route_has_its_own(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        site.tenant("acme", budget="100.00 USD")
        patient = {"connect": "2s", "first_byte": "5s", "idle": "5s", "total": "30s"}
        site.provider("openai", timeouts=patient)
        for name, limits in (
            ("first", {"first_byte": "100ms"}),
            ("idle", {"idle": "100ms"}),
            ("total", {"total": "300ms"}),
        ):
            site.model(name, "openai", retries=0)
            row = next(row for row in site._models if row["name"] == name)
            row["route"] = [{"provider": "openai", "model": "fake-small", "timeouts": limits}]

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for model, knobs in (
                ("first", {"hang": True}),
                ("idle", {"hang_event": 2}),
                ("total", {"between": 0.09, "words": 50}),
            ):
                loop = asyncio.get_running_loop()
                began = loop.time()
                opened.behave(**knobs)
                call = await opened.ask(CHAT, asking(CHAT, model=model, stream=True))
                assert b'"timeout"' in call.body, call.body
                assert call.status == (504 if model == "first" else 200)
                assert loop.time() - began < 3
                outcome = opened.record_of(call)
                assert (outcome["status"], outcome["code"]) == ("failed", "timeout")
                assert outcome["presumed"] > 0
            opened.behave(first_byte=0.2)
            call = await opened.ask(CHAT, asking(CHAT, model="idle"))
            assert call.status == 200

    asyncio.run(scenario())
