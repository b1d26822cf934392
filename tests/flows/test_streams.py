"""Streams end well only when the provider's did and the outcome is durable; whatever happens, they are settled."""

import asyncio
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import pytest
from tests.flows.front import (
    CHAT,
    FINISHES,
    MESSAGES,
    RESPONSES,
    STREAMED,
    TERMINAL,
    Call,
    Sluice,
    World,
    asking,
    eventually,
    world,
)
from tests.harness import Site

from securellm.core.errors import Code, Fault

_LAST = {CHAT: b"data: [DONE]\n\n", MESSAGES: b'{"type":"message_stop"}\n\n', RESPONSES: b"response.completed"}
HEARTBEAT = b": heartbeat\n\n"


def budgeted(site: Site) -> None:
    site.tenant("acme", budget="100.00 USD")


def beating(site: Site) -> None:
    budgeted(site)
    site.server["heartbeat"] = "100ms"


def has_any(body: bytes, marks: Iterable[bytes]) -> bool:
    return any(mark in body for mark in marks)


def assert_broken(call: Call, code: str) -> None:
    """The stream ended in our error event: nothing that says finished, nothing after the error."""
    assert call.status == 200
    assert call.finished
    last = call.events[-1]
    assert b'"error"' in last, last
    assert code.encode() in last
    assert not has_any(call.body, TERMINAL), call.body
    assert not has_any(call.body, FINISHES), call.body


def data_of(call: Call) -> list[Any]:
    return [json.loads(line[6:]) for line in call.body.split(b"\n") if line.startswith(b"data: ")]


async def events_of(opened: World, path: str) -> int:
    """How many events a whole stream of the upstream has."""
    await opened.ask(path, asking(path, stream=True))
    await opened.upstream.quiet()
    return opened.upstream.journal.entries("answer")[-1].events


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_cut_at_any_event_ends_in_an_error_and_is_recorded_as_truncated(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            count = await events_of(opened, path)
            for clean in (False, True):
                for index in range(1, count):
                    opened.behave(cut_event=index, clean_cut=clean)
                    call = await opened.ask(path, asking(path, stream=True))
                    assert_broken(call, "truncated")
                    outcome = opened.record_of(call)
                    assert (outcome["status"], outcome["code"]) == ("truncated", "truncated")
                    if path == RESPONSES:
                        numbers = [event["sequence_number"] for event in data_of(call)]
                        assert numbers == list(range(len(numbers))), "the error's too"
            opened.behave(cut_event=count, clean_cut=True)
            whole = await opened.ask(path, asking(path, stream=True))
            assert whole.events[-1].endswith(_LAST[path]) or _LAST[path] in whole.events[-1]

    asyncio.run(scenario())


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_without_its_terminal_event_or_with_garbage_never_looks_finished(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            for knobs, code in (
                ({"no_done": True}, "truncated"),
                ({"garbage": True}, "bad_reply"),
                ({"error_event": 2}, ""),
                ({"error_event": 0}, ""),
            ):
                opened.behave(**knobs)
                call = await opened.ask(path, asking(path, stream=True))
                assert_broken(call, code)
                assert opened.record_of(call)["status"] in ("truncated", "failed")

    asyncio.run(scenario())


@pytest.mark.parametrize("path", STREAMED)
def test_what_follows_the_terminal_event_is_no_part_of_the_answer(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            for write_size in (None, 7):
                opened.behave(after_done=True, write_size=write_size)
                call = await opened.ask(path, asking(path, stream=True))
                assert _LAST[path] in call.events[-1]
                assert opened.record_of(call)["status"] == "ok"

    asyncio.run(scenario())


@pytest.mark.parametrize("path", STREAMED)
def test_the_finish_leaves_only_after_the_outcome_is_durable(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, beating) as opened:
            with Sluice(opened, "outcome") as sluice:
                call = opened.call(path, asking(path, stream=True))
                await sluice.waiting.wait()
                # The text is out, and heartbeats go on, but nothing says that it is finished.
                await call.until(lambda: call.body.count(HEARTBEAT) >= 2)
                assert b"provider" in call.body
                assert not has_any(call.body, TERMINAL)
                assert not has_any(call.body, FINISHES)
                assert opened.records("OUTCOME") == []
                sluice.let_through()
                await call.done()
                assert _LAST[path] in call.events[-1]
                assert opened.record_of(call)["status"] == "ok"

    asyncio.run(scenario())


@pytest.mark.parametrize("path", STREAMED)
def test_a_failed_outcome_ends_the_stream_in_an_error_without_a_finish(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted, balanced=False) as opened:
            journal: Any = opened.app.gates.journal

            async def fail(*_: object, **__: object) -> object:
                raise Fault(Code.AUDIT_UNAVAILABLE, "the disk is gone")

            journal.outcome = fail
            call = await opened.ask(path, asking(path, stream=True))
            assert_broken(call, "audit_unavailable")
            whole = await opened.ask(path, asking(path))
            assert (whole.status, whole.code) == (503, "audit_unavailable")
            assert opened.open_holds == 2, "what is not recorded is not given back"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-10")
@pytest.mark.parametrize("path", STREAMED)
def test_heartbeats_flow_before_the_first_byte_and_between_events(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, beating) as opened:
            opened.behave(first_byte=0.35)
            call = await opened.ask(path, asking(path, stream=True))
            assert call.writes[:2] == [HEARTBEAT, HEARTBEAT]
            assert call.headers["content-type"].startswith("text/event-stream")
            opened.behave(reply=("a ", "b "), between=0.15)
            call = await opened.ask(path, asking(path, stream=True))
            assert call.writes[0] != HEARTBEAT
            assert call.writes.count(HEARTBEAT) >= 4
            for piece in call.writes:
                assert piece == HEARTBEAT or b"heartbeat" not in piece, "inside of events there are none"
            # An error after the silence is an event, since a head has left; before, it is a status.
            opened.behave(first_byte=0.25, status=400)
            call = await opened.ask(path, asking(path, stream=True))
            assert_broken(call, "bad_request")
            opened.behave(status=400)
            call = await opened.ask(path, asking(path, stream=True))
            assert (call.status, call.code) == (400, "bad_request")

    asyncio.run(scenario())


async def gone(opened: World, since: float) -> float:
    """Wait until the upstream has noticed that its client left; the seconds from `since`."""
    await opened.upstream.quiet()
    answer = opened.upstream.journal.entries("answer")[-1]
    assert answer.gone_after is not None
    return time.monotonic() - since


@pytest.mark.requirement("GW-10")
@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_cancels_the_upstream_and_is_accounted_for(
    tmp_path: Path, path: str, streamed: bool
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            for knobs in ({"hang": True}, {"hang_event": 3} if streamed else {"queued": 30.0}):
                opened.behave(**knobs)
                call = opened.call(path, asking(path, stream=streamed))
                await opened.reaching(1 + ("hang" not in knobs))
                if streamed and "hang_event" in knobs:
                    await call.begun()
                left = time.monotonic()
                call.leave()
                await call.done()
                assert await gone(opened, left) < 1.0
                outcomes = await opened.recorded("OUTCOME", count=1 + ("hang" not in knobs))
                assert outcomes[-1]["status"] == "client_disconnected"
                assert opened.held == 0
                assert outcomes[-1]["presumed"] > 0, "its bytes were sent and no usage came back"

    asyncio.run(scenario())


def test_what_a_client_that_left_had_used_is_settled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            opened.behave(hang_event=5)
            call = opened.call(MESSAGES, asking(MESSAGES, stream=True))
            await call.until(lambda: b"content_block_delta" in call.body)
            call.leave()
            await call.done()
            [outcome] = await opened.recorded("OUTCOME")
            assert outcome["settled"] > 0
            assert outcome["presumed"] > 0
            assert outcome["usage"]["input"] > 0

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["intent", "outcome"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_may_leave_while_a_record_is_on_its_way_and_no_hold_is_left(
    tmp_path: Path, method: str, streamed: bool
) -> None:
    """The record is submitted, its commit is held back, the client leaves, the commit goes through."""

    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            with StuckDisk(opened) as disk:
                call = opened.call(CHAT, asking(CHAT, stream=streamed))
                if method == "outcome":
                    await disk.stuck()
                    disk.let_one_through()
                    await eventually(lambda: opened.upstream.journal.entries("answer"))
                await disk.stuck()
                call.leave()
                await call.done()
                assert opened.open_holds == 1
            await opened.app.gates.journal.drain()
            [outcome] = opened.records("OUTCOME")
            assert outcome["status"] == ("client_disconnected" if method == "intent" else "ok")
            assert opened.held == 0
            assert len(opened.reached()) == (0 if method == "intent" else 1)
            again = await opened.ask(CHAT, asking(CHAT))
            assert again.status == 200

    asyncio.run(scenario())


class StuckDisk:
    """Commits of the journal that wait until they are let through, one by one."""

    def __init__(self, opened: World) -> None:
        self._writer: Any = opened.app._writer
        self._arrived = threading.Event()
        self._tickets = threading.Semaphore(0)
        self._off = False

    def _before(self, _: object) -> None:
        if not self._off:
            self._arrived.set()
            self._tickets.acquire()

    def __enter__(self) -> Self:
        self._writer.before_commit.append(self._before)
        return self

    def __exit__(self, *_: object) -> None:
        self._off = True
        self._tickets.release(1000)

    async def stuck(self) -> None:
        """Wait until a commit waits."""
        assert await asyncio.to_thread(self._arrived.wait, 10)
        self._arrived.clear()

    def let_one_through(self) -> None:
        self._tickets.release()


@pytest.mark.parametrize("streamed", [True, False])
def test_a_journal_slower_than_its_bound_refuses_and_still_leaves_no_hold(tmp_path: Path, streamed: bool) -> None:
    """Whether the record became durable is not known at the time of the refusal; in the end the books agree."""

    def impatient(site: Site) -> None:
        budgeted(site)
        site.server["gate_timeout"] = "80ms"

    async def scenario() -> None:
        async with world(tmp_path, impatient) as opened:
            for through in (0, 1):
                with StuckDisk(opened) as disk:
                    call = opened.call(CHAT, asking(CHAT, stream=streamed))
                    for _ in range(through):
                        await disk.stuck()
                        disk.let_one_through()
                    await call.done()
                    assert b"audit_unavailable" in call.body
                    assert not has_any(call.body, TERMINAL)
                    assert opened.open_holds == 1
                await opened.app.gates.journal.drain()
                assert opened.held == 0
                assert len(opened.reached()) == through
                intents = [record["request_id"] for record in opened.records("INTENT")]
                outcomes = [record["request_id"] for record in opened.records("OUTCOME", "DENY")]
                assert intents == outcomes

    asyncio.run(scenario())


def test_a_client_may_leave_before_its_intent_and_that_is_recorded(tmp_path: Path) -> None:
    def tight(site: Site) -> None:
        site.tenant("acme", budget="0.003 USD")

    async def scenario() -> None:
        async with world(tmp_path, tight) as opened:
            opened.behave(hang=True)
            first = opened.call(CHAT, asking(CHAT, max_tokens=1000))
            await eventually(lambda: opened.held > 0)
            waiting = opened.call(CHAT, asking(CHAT, max_tokens=1000))
            sending = opened.call(CHAT, [b'{"model": "chat", '])
            await asyncio.sleep(0.05)
            assert opened.open_holds == 1
            for call in (waiting, sending):
                call.leave()
                await call.done()
            denials = await opened.recorded("DENY", count=2)
            assert {denial["code"] for denial in denials} == {"client_disconnected"}
            assert {denial["tenant"] for denial in denials} == {"acme"}
            assert opened.open_holds == 1
            first.leave()
            await first.done()
            assert len(opened.reached()) == 1

    asyncio.run(scenario())


@pytest.mark.requirement("PR-5")
def test_the_callers_deadline_bounds_every_part_of_the_request(tmp_path: Path) -> None:
    def tight(site: Site) -> None:
        site.tenant("acme", budget="0.003 USD")

    async def scenario() -> None:
        async with world(tmp_path, tight) as opened:
            late = {"x-request-deadline": "0"}
            call = await opened.ask(CHAT, asking(CHAT), headers=late)
            assert (call.status, call.code) == (408, "deadline_exceeded")
            assert opened.records("INTENT") == []
            soon = {"x-request-deadline": "0.2"}
            opened.behave(hang=True)
            call = await opened.ask(CHAT, asking(CHAT, max_tokens=500), headers=soon)
            assert (call.status, call.code) == (408, "deadline_exceeded")
            opened.behave(hang_event=2)
            # Long enough for the first event to come on a busy machine too.
            later = {"x-request-deadline": "3"}
            call = await opened.ask(CHAT, asking(CHAT, max_tokens=500, stream=True), headers=later)
            assert_broken(call, "deadline_exceeded")
            # What stays presumed leaves no room; a wait for it ends with the deadline too.
            opened.behave(hang=True)
            holding = opened.call(CHAT, asking(CHAT, max_tokens=400))
            await eventually(lambda: opened.held > 0)
            began = time.monotonic()
            call = await opened.ask(CHAT, asking(CHAT, max_tokens=400), headers=soon)
            assert call.status == 429 or call.status == 402, call.body
            assert time.monotonic() - began < 5
            holding.leave()
            await holding.done()
            for wrong in ("soon", "1e9", "-1", "1.2.3", "."):
                call = await opened.ask(CHAT, asking(CHAT), headers={"x-request-deadline": wrong})
                assert (call.status, call.code) == (400, "invalid_header")

    asyncio.run(scenario())


def test_a_slow_client_slows_the_provider_and_memory_stays_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            opened.behave(reply=tuple("x" * 20_000 + " " for _ in range(2_000)))
            call = opened.call(CHAT, asking(CHAT, stream=True))
            await call.begun()
            call.stop_reading()
            await asyncio.sleep(0.5)
            assert opened.upstream.journal.entries("answer") == [], "40 MB have not been taken from it"
            call.read_on()
            await call.done()
            assert len(call.body) > 40_000_000
            assert opened.record_of(call)["status"] == "ok"

    asyncio.run(scenario())


def test_an_upstream_that_answers_a_stream_with_something_else_is_a_bad_reply(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: site.model("chat", "openai", retries=0)) as opened:
            opened.behave(html=True)
            for path in (CHAT, RESPONSES):
                call = await opened.ask(path, asking(path, stream=True))
                opened.behave(html=True)
                assert (call.status, call.code) == (502, "bad_reply")
                assert b"<html" not in call.body
            opened.upstream.forget_scripts()
            opened.behave(gzip=True)
            call = await opened.ask(CHAT, asking(CHAT))
            assert (call.status, call.code) == (502, "bad_reply")

    asyncio.run(scenario())
