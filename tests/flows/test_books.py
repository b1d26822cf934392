"""Whatever happens to clients, providers and the journal: records pair up, sums agree, nothing is left held."""

import asyncio
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, EMBEDDINGS, PATHS, STREAMED, TERMINAL, Call, World, asking, world
from tests.flows.inprocess import application
from tests.harness import Site
from tests.upstream import FakeUpstream

_TROUBLE: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"first_byte": 0.01},
    {"between": 0.002},
    {"hang": True},
    {"hang_event": 2},
    {"cut_event": 2},
    {"status": 500},
    {"status": 429, "retry_after": "0"},
    {"status": 400},
    {"close_unanswered": True},
    {"usage": "none"},
    {"garbage": True},
    {"error_event": 1},
    {"reply": ("CPF 529.982", ".247-25")},
)


def several_routes(site: Site) -> None:
    site.tenant("acme", budget="0.05 USD")
    for provider in ("openai", "compatible", "anthropic"):
        short = {"connect": "1s", "first_byte": "1s", "idle": "1s", "total": "5s"}
        site.provider(provider, timeouts=short)
    site.model("chat", "openai", "compatible", retries=2)
    site.extra = '[finops]\nreservation_wait = "300ms"'


@pytest.mark.parametrize("seed", range(3))
def test_the_books_balance_whenever_clients_leave_and_whatever_providers_do(tmp_path: Path, seed: int) -> None:
    """Three hundred requests, forty at a time, against a budget that is too small for all of them at once."""
    rng = random.Random(seed)

    async def one(opened: World, places: asyncio.Semaphore) -> Call:
        async with places:
            path = rng.choice(PATHS)
            how: dict[str, Any] = {"stream": True} if path != EMBEDDINGS and rng.random() < 0.6 else {}
            if path != EMBEDDINGS and rng.random() < 0.3:
                how["temperature"] = 0
            call = opened.call(path, asking(path, rng.choice(("hello", "CPF 529.982.247-25")), **how))
            if rng.random() < 0.4:
                await asyncio.sleep(rng.random() * 0.03)
                call.leave()
            return await call.done()

    async def scenario() -> None:
        async with world(tmp_path, several_routes) as opened:
            for _ in range(2_000):
                opened.behave(**rng.choice(_TROUBLE))
            places = asyncio.Semaphore(40)
            calls = await asyncio.gather(*(one(opened, places) for _ in range(300)))
            await opened.app.gates.journal.drain()
            assert_paired(opened)
            ended = {r["request_id"]: r for r in opened.records("OUTCOME", "DENY") if "request_id" in r}
            statuses = Counter(call.status for call in calls)
            assert statuses[200] > 20, statuses
            for call in calls:
                if call.status and call.finished:
                    record = ended[call.request_id]
                    delivered = call.status == 200 and b'"error":{' not in call.body
                    assert not delivered or record.get("status") in ("ok", "cached"), (record, call.body)
            intents = {record["request_id"] for record in opened.records("INTENT")}
            served = len(opened.reached())
            attempts = len(intents) + len(opened.records("ATTEMPT"))
            assert served <= attempts
            settled, presumed = opened.money()
            assert settled + presumed <= 50_000_000, "the budget"

    asyncio.run(scenario())


def assert_paired(opened: World) -> None:
    """Every INTENT has one OUTCOME, every OUTCOME its INTENT, and no request has a DENY as well."""
    intents = Counter(record["request_id"] for record in opened.records("INTENT"))
    outcomes = Counter(record["request_id"] for record in opened.records("OUTCOME"))
    denials = Counter(record["request_id"] for record in opened.records("DENY") if "request_id" in record)
    assert intents == outcomes
    assert set(intents.values()) <= {1}
    assert set(denials.values()) <= {1}
    assert not intents.keys() & denials.keys()


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("commit", [1, 2])
def test_when_the_journal_dies_nothing_finishes_and_a_restart_closes_what_was_open(
    tmp_path: Path, path: str, commit: int
) -> None:
    """The disk fails at the INTENT (1) or at the OUTCOME (2) of each kind of request."""

    async def scenario(streamed: bool, directory: Path) -> None:
        async with FakeUpstream() as upstream:
            site = Site(upstream.root)
            key = site.key()
            site.tenant("acme", budget="100.00 USD")
            with application(directory, site) as app:
                left = commit

                def fail(_: object) -> None:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        raise sqlite3.OperationalError("disk I/O error")

                app._writer.before_commit.append(fail)
                opened = World(app, upstream, key)
                call = await opened.ask(path, asking(path, stream=streamed))
                assert b"audit_unavailable" in call.body
                assert not any(mark in call.body for mark in TERMINAL)
                assert len(opened.reached()) == commit - 1
                assert not app.ready()
                after = await opened.ask(path, asking(path))
                assert (after.status, after.code) == (503, "audit_unavailable")
                assert len(opened.reached()) == commit - 1
                await app.drain()
            with application(directory, site) as again:
                reopened = World(again, upstream, key)
                assert_paired(reopened)
                unknown = [record["status"] for record in reopened.records("OUTCOME")]
                assert unknown == ["unknown"] * (commit - 1)
                reopened.assert_balanced()
                assert (reopened.money()[1] > 0) == (commit == 2)
                assert (await reopened.ask(path, asking(path))).status == 200
                await again.drain()

    for streamed in (False, True):
        directory = tmp_path / str(streamed)
        directory.mkdir()
        asyncio.run(scenario(streamed, directory))


def test_a_defect_in_the_story_is_our_fault_and_is_accounted_for(tmp_path: Path) -> None:
    """An exception nobody expects, after the money is held: an error, an OUTCOME that says so, no hold."""

    async def scenario() -> None:
        async with world(tmp_path, several_routes) as opened:
            limits: Any = opened.app.gates.limits

            def broken(*_: object, **__: object) -> float:
                raise RuntimeError("a defect")

            opened.behave(status=500)
            real = limits.provider
            limits.provider = lambda *given: broken() if opened.held else real(*given)
            call = await opened.ask(CHAT, asking(CHAT))
            assert (call.status, call.code) == (500, "internal")
            [outcome] = await opened.recorded("OUTCOME")
            assert (outcome["status"], outcome["code"]) == ("refused", "internal")
            del limits.provider
            assert (await opened.ask(CHAT, asking(CHAT))).status == 200

    asyncio.run(scenario())
