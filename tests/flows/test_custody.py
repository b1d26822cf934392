"""What a provider keeps for a tenant: found by that tenant, there and nowhere else, after a restart too."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, RESPONSES, Call, World, asking, world
from tests.flows.inprocess import application
from tests.harness import GatewayProcess, Site, UpstreamProcess
from tests.upstream import FakeUpstream

from securellm.audit import verify
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, journal_observers


class House:
    """One data folder before one upstream: each `opening` is a process of its own as far as memory goes."""

    def __init__(self, directory: Path, upstream: FakeUpstream, prepare: Callable[[Site], object] | None) -> None:
        self.directory = directory
        self.upstream = upstream
        self.site = Site(upstream.root)
        self.key = self.site.key()
        if prepare is not None:
            prepare(self.site)

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[World]:
        with application(self.directory, self.site) as app:
            opened = World(app, self.upstream, self.key)
            try:
                yield opened
            finally:
                await app.drain()
            opened.assert_balanced()


@asynccontextmanager
async def house(directory: Path, prepare: Callable[[Site], object] | None = None) -> AsyncIterator[House]:
    async with FakeUpstream() as upstream:
        yield House(directory, upstream, prepare)


def id_of(call: Call) -> str:
    """The id that the provider gave to this answer, whole or streamed."""
    assert call.status == 200, call.body
    start = call.body.index(b'"resp_') + 1
    return call.body[start : call.body.index(b'"', start)].decode("ascii")


def following(name: str, **members: Any) -> dict[str, Any]:
    return asking(RESPONSES, "and then", previous_response_id=name, **members)


def told(call: Call) -> tuple[int, str]:
    return call.status, call.code


NOT_FOUND = (404, "not_found")


@pytest.mark.requirement("GW-6", "ID-4")
def test_after_a_restart_a_response_is_still_its_tenants_and_nobody_elses(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")
        keys["second"] = site.key("acme")

    async def scenario() -> None:
        async with house(tmp_path, prepare) as home:
            async with home.opening() as opened:
                names = [
                    id_of(await opened.ask(RESPONSES, asking(RESPONSES, stream=stream))) for stream in (False, True)
                ]
                for name, record in zip(names, opened.records("OUTCOME"), strict=True):
                    assert record["kept"][0] == {"kind": "response", "id": name}
                    assert {thing["kind"] for thing in record["kept"][1:]} == {"item"}
            async with home.opening() as opened:
                for name in names:
                    assert told(await opened.ask(RESPONSES, following(name), key=keys["other"])) == NOT_FOUND
                    for key in (home.key, keys["second"]):
                        assert (await opened.ask(RESPONSES, following(name), key=key)).status == 200
                    foreign = await opened.ask(RESPONSES, following(name), key=keys["other"])
                    unknown = await opened.ask(RESPONSES, following("resp_never"), key=keys["other"])
                    assert told(foreign) == told(unknown) == NOT_FOUND
                    assert foreign.json() == unknown.json()

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6", "ID-4")
def test_an_id_nobody_was_given_here_is_not_found_for_a_single_tenant_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for body in (
                following("resp_made_elsewhere"),
                asking(RESPONSES, conversation="conv_1"),
                asking(RESPONSES, conversation={"id": "conv_1"}),
                following("a b"),
                following("x" * 300),
            ):
                call = await opened.ask(RESPONSES, body)
                assert told(call) == NOT_FOUND
                assert opened.record_of(call)["code"] == "not_found"
            assert opened.reached() == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6")
def test_what_a_request_continues_decides_where_it_goes(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        site.model("chat", "openai", "compatible")
        site.model("lonely", "openai")

    async def scenario() -> None:
        async with house(tmp_path, prepare) as home:
            async with home.opening() as opened:
                there = {"x-provider": "compatible"}
                name = id_of(await opened.ask(RESPONSES, asking(RESPONSES), headers=there))
            async with home.opening() as opened:
                for _ in range(2):
                    call = await opened.ask(RESPONSES, following(name))
                    assert call.headers["x-securellm-provider"] == "compatible"
                assert (await opened.ask(RESPONSES, asking(RESPONSES))).headers["x-securellm-provider"] == "openai"
                elsewhere = await opened.ask(RESPONSES, following(name), headers={"x-provider": "openai"})
                assert told(elsewhere) == NOT_FOUND
                other_model = await opened.ask(RESPONSES, following(name, model="lonely"))
                assert other_model.code == "no_route"
                opened.behave(status=503, times=None)
                before = len(opened.reached())
                assert (await opened.ask(RESPONSES, following(name))).status >= 500
                assert {entry.face for entry in opened.reached()[before:]} == {"compatible"}, "no way round it"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6")
def test_an_id_that_the_client_has_seen_is_kept_however_its_stream_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            opened.behave(cut_event=4)
            cut = await opened.ask(RESPONSES, asking(RESPONSES, stream=True))
            assert b"truncated" in cut.body
            assert (await opened.ask(RESPONSES, following(id_of(cut)))).status == 200
            opened.behave(hang_event=4)
            left = opened.call(RESPONSES, asking(RESPONSES, stream=True))
            await left.begun()
            left.leave()
            await left.done()
            await opened.recorded("OUTCOME", count=3)
            assert opened.records("OUTCOME")[-1]["status"] == "client_disconnected"
            assert (await opened.ask(RESPONSES, following(id_of(left)))).status == 200

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6", "ID-4")
def test_a_part_of_an_answer_can_be_referred_to_by_its_tenant_alone(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for stream in (False, True):
                made = await opened.ask(RESPONSES, asking(RESPONSES, stream=stream))
                (name,) = [kept["id"] for kept in opened.record_of(made)["kept"] if kept["kind"] == "item"]
                assert name.encode() in made.body
                said = [{"type": "item_reference", "id": name}, {"role": "user", "content": "and then"}]
                body = {"model": "chat", "input": said}
                assert told(await opened.ask(RESPONSES, body, key=keys["other"])) == NOT_FOUND
                assert (await opened.ask(RESPONSES, body)).status == 200

    asyncio.run(scenario())


def test_what_the_provider_does_not_keep_is_not_said_to_be_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for stream in (False, True):
                call = await opened.ask(RESPONSES, asking(RESPONSES, store=False, stream=stream))
                assert opened.record_of(call)["kept"] == []
                assert told(await opened.ask(RESPONSES, following(id_of(call)))) == NOT_FOUND
            chat = await opened.ask(CHAT, asking(CHAT))
            assert opened.record_of(chat)["kept"] == []

    asyncio.run(scenario())


@pytest.mark.requirement("GD-6")
@pytest.mark.parametrize("how", ["raises", "hangs", "returns another type"])
def test_a_dead_custody_refuses(tmp_path: Path, how: str) -> None:
    def prepare(site: Site) -> None:
        site.server["gate_timeout"] = "100ms"

    async def dead(*arguments: Any, **named: Any) -> Any:
        if how == "hangs":
            await asyncio.Event().wait()
        if how == "raises":
            raise KeyError("a defect")
        return None

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            name = id_of(await opened.ask(RESPONSES, asking(RESPONSES)))
            opened.app.gates.custody.keeper = dead  # type: ignore[method-assign]
            before = len(opened.reached())
            call = await opened.ask(RESPONSES, following(name))
            assert call.status == 503
            assert call.code in ("gate_failed", "gate_timeout")
            assert len(opened.reached()) == before
            assert (await opened.ask(RESPONSES, asking(RESPONSES))).status == 200, "who names nothing is not asked"

    asyncio.run(scenario())


def past_the_triggers(path: Path, table: str, change: str) -> None:
    """What an intruder with the file would do: afterwards the schema is byte for byte what it was."""
    connection = sqlite3.connect(path, isolation_level=None)
    query = "SELECT rowid, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?"
    triggers = connection.execute(query, (table,)).fetchall()
    assert len(triggers) == 2
    (cookie,) = connection.execute("PRAGMA schema_version").fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    for rowid, sql in triggers:
        idle = sql.replace("BEFORE UPDATE", "BEFORE INSERT").replace("BEFORE DELETE", "BEFORE INSERT")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE rowid = ?", (idle, rowid))
    connection.execute(f"PRAGMA schema_version = {cookie + 1}")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as fresh:
        fresh.execute(change)
    for rowid, sql in triggers:
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE rowid = ?", (sql, rowid))
    connection.execute(f"PRAGMA schema_version = {cookie}")
    connection.close()


@pytest.mark.requirement("AU-4", "ID-4")
@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("custody", "UPDATE custody SET tenant = 'other'"),
        ("custody", "UPDATE custody SET provider = 'compatible'"),
        ("custody", "DELETE FROM custody"),
        ("idempotency", "UPDATE idempotency SET event = 'freed'"),
        ("idempotency", "UPDATE idempotency SET expires_us = 1"),
        ("idempotency", "DELETE FROM idempotency"),
    ],
)
def test_a_changed_row_is_found_by_audit_verify(tmp_path: Path, table: str, change: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            call = await opened.ask(RESPONSES, asking(RESPONSES), headers={"idempotency-key": "k"})
            assert call.status == 200
            live = verify(tmp_path / "data" / "audit.db", schema=JOURNAL_SCHEMA, observers=journal_observers())
            assert live.problems == ()

    asyncio.run(scenario())
    path = tmp_path / "data" / "audit.db"
    past_the_triggers(path, table, change)
    report = verify(path, schema=JOURNAL_SCHEMA, observers=journal_observers())
    assert not report.intact
    assert any(problem.startswith(f"{table}: ") for problem in report.problems), report.problems


@pytest.mark.requirement("GW-6", "AU-4")
def test_a_killed_gateway_still_knows_whose_what_is(tmp_path: Path) -> None:
    with UpstreamProcess(tmp_path / "upstream.jsonl") as upstream:
        site = Site(upstream.root)
        site.tenant("other")
        mine, theirs = site.key(), site.key("other")
        gateway = GatewayProcess(site, tmp_path)
        gateway.start()
        made = gateway.post(RESPONSES, asking(RESPONSES), key=mine)
        name = made.json()["id"]
        gateway.kill9()
        with gateway:
            assert gateway.post(RESPONSES, following(name), key=mine).status == 200
            assert gateway.post(RESPONSES, following(name), key=theirs).status == 404
            gateway.verify()
        gateway.verify()
