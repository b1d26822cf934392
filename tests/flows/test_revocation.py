"""Who loses the right to run is stopped: new requests and running ones, in the caller's dialect, paid and recorded."""

import asyncio
import gc
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import (
    CHAT,
    EMBEDDINGS,
    FINISHES,
    MESSAGES,
    RESPONSES,
    TERMINAL,
    Call,
    World,
    asking,
    eventually,
    world,
)
from tests.harness import Site

from securellm.bootstrap.admin import build_ports, plane_of
from securellm.bootstrap.effective import SHELVES, Kind, name_of
from securellm.core.errors import Code, Fault
from securellm.core.randomness import SystemRandomness
from securellm.identity import Credential, IssuedKey, Keyring, VirtualKey
from securellm.preferences import Person
from securellm.storage import ControlStore

GEMINI = "/v1beta/models/chat:streamGenerateContent"
OLLAMA = "/api/chat"
STREAMS: dict[str, tuple[dict[str, Any], str]] = {
    CHAT: (asking(CHAT, stream=True), ""),
    RESPONSES: (asking(RESPONSES, stream=True), ""),
    MESSAGES: (asking(MESSAGES, stream=True), ""),
    GEMINI: ({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}, "alt=sse"),
    OLLAMA: ({"model": "chat", "messages": [{"role": "user", "content": "hello"}]}, ""),
}
"""A stream of each dialect: its body and query."""


def budgeted(site: Site) -> None:
    site.tenant("acme", budget="100.00 USD")


class Keys:
    """Virtual keys of an open application, made and changed in its control store as any replica would."""

    def __init__(self, opened: World) -> None:
        self.app = opened.app
        self._ring = Keyring(self.app.keys.pepper, self.app.clock, self.app._randomness)

    async def make(self, tenant: str = "acme", *, expires_us: int | None = None) -> IssuedKey:
        made = self.app.control.write(
            lambda session: self._ring.issue(session, tenant=tenant, name="", models=("*",), expires_us=expires_us)
        )
        await self.app.refresh()
        return made

    async def revoke(self, key: VirtualKey) -> None:
        self.app.control.write(lambda session: self._ring.revoke(session, key.id))
        await self.app.refresh()


def store(opened: World, kind: Kind, document: dict[str, Any], tenant: str = "") -> None:
    name = name_of(kind, document, tenant=tenant)
    opened.app.control.write(
        lambda session: SHELVES[kind].create(session, document, id=name.id, tenant=name.tenant, now_us=0)
    )


def remove(opened: World, kind: Kind, name: str) -> None:
    opened.app.control.write(lambda session: SHELVES[kind].delete(session, id=name, etag=None))


def begin(opened: World, path: str, key: str) -> Call:
    body, query = STREAMS[path]
    return opened.call(path, body, key=key, query=query)


def assert_told(call: Call, path: str, code: str) -> None:
    """The stream ended in an error event of its dialect, and says nothing of an end."""
    assert call.status == 200
    assert call.finished
    assert not any(mark in call.body for mark in (*TERMINAL, *FINISHES, b'"done":true', b'"finishReason"')), call.body
    block = call.body.strip().split(b"\n\n")[-1] if path != OLLAMA else call.body.strip().split(b"\n")[-1]
    told = json.loads(block.split(b"data: ")[-1])
    error = told["error"]
    if path == OLLAMA:
        assert told["code"] == code
    elif path == GEMINI:
        assert error["details"][0]["metadata"]["code"] == code
    else:
        assert error["code"] == code
    if path == MESSAGES:
        assert block.startswith(b"event: error\n")


@pytest.mark.requirement("ID-2")
@pytest.mark.parametrize("path", STREAMS)
def test_a_revoked_key_cuts_its_streams_which_are_paid_and_recorded(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            keys = Keys(opened)
            lost, kept = await keys.make(), await keys.make()
            opened.behave(hang_event=4, times=2)
            calls = [begin(opened, path, issued.token) for issued in (lost, kept)]
            for call in calls:
                await call.begun()
            await keys.revoke(lost.key)
            cut = await calls[0].done()
            assert_told(cut, path, "revoked_key")
            (outcome,) = await opened.recorded("OUTCOME")
            assert (outcome["request_id"], outcome["status"], outcome["code"]) == (
                cut.request_id,
                "refused",
                "revoked_key",
            )
            assert outcome["settled"] + outcome["presumed"] > 0
            assert (await begin(opened, path, lost.token).done()).status == 401
            assert not calls[1].finished
            calls[1].leave()
            await calls[1].done()

    asyncio.run(scenario())


@pytest.mark.requirement("ID-2")
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES, EMBEDDINGS])
def test_a_revoked_key_is_refused_while_its_answer_is_awaited(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            keys = Keys(opened)
            issued = await keys.make()
            opened.behave(hang=True)
            call = opened.call(path, asking(path), key=issued.token)
            await opened.reaching(1)
            await keys.revoke(issued.key)
            await call.done()
            assert (call.status, call.headers["x-securellm-code"]) == (401, "revoked_key")
            assert opened.record_of(call)["presumed"] > 0

    asyncio.run(scenario())


def test_a_key_revoked_while_its_request_waits_for_money_reaches_no_provider(tmp_path: Path) -> None:
    def poor(site: Site) -> None:
        site.tenant("acme", budget="0.0021 USD")

    async def scenario() -> None:
        async with world(tmp_path, poor) as opened:
            keys = Keys(opened)
            issued = await keys.make()
            opened.behave(hang=True)
            holding = opened.call(CHAT, asking(CHAT, max_tokens=1000))
            await opened.reaching(1)
            waiting = opened.call(CHAT, asking(CHAT, max_tokens=1000), key=issued.token)
            await eventually(lambda: len(opened.app.gates.running) == 2)
            await keys.revoke(issued.key)
            await waiting.done()
            assert (waiting.status, waiting.code) == (401, "revoked_key")
            assert opened.record_of(waiting)["type"] == "DENY"
            assert len(opened.reached()) == 1
            holding.leave()
            await holding.done()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", STREAMS)
def test_a_key_that_expires_cuts_its_streams(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, budgeted) as opened:
            app = opened.app
            issued = await Keys(opened).make(expires_us=app.clock.now_us() + 1_500_000)
            opened.behave(hang_event=4)
            call = begin(opened, path, issued.token)
            await call.begun()
            following = asyncio.create_task(app.follow())
            await call.done()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            assert_told(call, path, "expired_key")
            assert opened.record_of(call)["code"] == "expired_key"

    asyncio.run(scenario())


@pytest.mark.parametrize("fence", [None, "2s"])
def test_beyond_the_fence_of_its_tenant_nothing_runs_and_nothing_begins(tmp_path: Path, fence: str | None) -> None:
    def fenced(site: Site) -> None:
        site.tenant("acme", **({} if fence is None else {"stale_policy_fence": fence}))
        site.tenant("other")

    async def scenario() -> None:
        async with world(tmp_path, fenced) as opened:
            app, keys = opened.app, Keys(opened)
            other = await keys.make("other")
            opened.behave(hang_event=4, times=2)
            calls = [begin(opened, CHAT, opened.key), begin(opened, CHAT, other.token)]
            for call in calls:
                await call.begun()
            app.gates.snapshots._confirmed -= 61 if fence is None else 3
            app.gates.snapshots._wall -= 61_000_000 if fence is None else 3_000_000
            app.gates.running.watch()
            assert_told(await calls[0].done(), CHAT, "stale_policy")
            refused = await opened.ask(CHAT, asking(CHAT))
            assert (refused.status, refused.code) == (503, "stale_policy")
            listed = await opened.ask("/v1/models", b"", method="GET")
            assert (listed.status, listed.code) == (503, "stale_policy")
            empty = await opened.ask("/v1/files", b"", method="GET")
            assert (empty.status, empty.code) == (503, "stale_policy")
            if fence is None:
                await calls[1].done()
            assert calls[1].finished is (fence is None)
            calls[1].leave()
            await app.refresh()
            assert (await opened.ask(CHAT, asking(CHAT))).status == 200

    asyncio.run(scenario())


@pytest.mark.requirement("ID-2", "ST-1")
def test_however_many_wait_for_a_frozen_database_no_request_waits_for_them(tmp_path: Path) -> None:
    thaw = threading.Event()

    class Frozen(ControlStore):
        def __init__(self) -> None:
            """Nothing is opened."""

        def read(self, query: Any, **options: Any) -> Any:
            thaw.wait(30)
            raise Fault(Code.STORAGE_UNAVAILABLE, "frozen")

        def close(self) -> None:
            """Nothing is open."""

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            app, real = opened.app, opened.app.follower.store
            assert real is not None
            app.follower.store = Frozen()
            recognise = build_ports(app, plane_of(app), randomness=SystemRandomness()).callers.recognise
            waiting = [
                *(asyncio.create_task(app.gates.preferences.stated(Person("acme", "user:ann"))) for _ in range(20)),
                *(asyncio.create_task(plane_of(app).read(lambda _: 0)) for _ in range(20)),
                *(
                    asyncio.create_task(recognise(Credential(bearer=f"slt_{number}"), client_ip="10.0.0.1"))
                    for number in range(20)
                ),
            ]
            await asyncio.sleep(0)
            try:
                # Long enough to be looked at in a thread.
                call = await opened.ask(CHAT, asking(CHAT, "hello " * 60_000))
                assert call.status == 200
            finally:
                thaw.set()
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
                app.follower.store = real
            assert all(isinstance(outcome, Fault) for outcome in outcomes)

    asyncio.run(scenario())


def test_a_stored_tenant_is_served_with_its_own_model_and_cut_when_it_is_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            app, keys = opened.app, Keys(opened)
            base = opened.app.loaded.document["providers"][0]["base_url"]
            rows: list[tuple[Kind, dict[str, Any]]] = [
                (
                    "provider",
                    {
                        "id": "fresh",
                        "kind": "openai-compatible",
                        "base_url": base,
                        "credential": "env:FAKE_OPENAI_CREDENTIAL",
                        "limits": {"requests_per_minute": 1000},
                    },
                ),
                ("model", {"name": "late", "route": [{"provider": "fresh", "model": "fake-small"}]}),
                ("tenant", {"id": "globex", "models": ["late"]}),
            ]
            issued = await keys.make("globex")
            late = {**asking(CHAT, stream=True), "model": "late"}
            assert (await opened.ask(CHAT, late, key=issued.token)).code == "invalid_key"
            for kind, document in rows:
                store(opened, kind, document)
            await app.refresh()
            opened.behave(hang_event=4)
            call = opened.call(CHAT, late, key=issued.token)
            await call.begun()
            assert (await opened.ask(CHAT, late)).status == 200
            carriers = len(app._carriers)
            remove(opened, "tenant", "globex")
            await app.refresh()
            assert_told(await call.done(), CHAT, "revoked_key")
            gone: list[tuple[Kind, str]] = [("model", "late"), ("provider", "fresh")]
            for kind, name in gone:
                remove(opened, kind, name)
            await app.refresh()
            assert "late" not in app.gates.snapshots.current.models
            gc.collect()
            await app._carriers.sweep()
            assert len(app._carriers) < carriers

    asyncio.run(scenario())


def test_what_cannot_be_put_in_force_confirms_nothing_and_still_lets_revocations_through(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            app, keys = opened.app, Keys(opened)
            issued = await keys.make()
            wrong = {"id": "broken", "kind": "openai", "credential": "env:NOT_THERE_API_KEY"}
            store(opened, "provider", wrong)
            confirmed = app.gates.snapshots._confirmed
            for _ in range(2):
                with pytest.raises(Exception, match="broken"):
                    await app.refresh()
            with pytest.raises(Exception, match="broken"):
                await keys.revoke(issued.key)
            assert app.gates.snapshots._confirmed == confirmed
            refused = await opened.ask(CHAT, asking(CHAT), key=issued.token)
            assert (refused.status, refused.code) == (401, "revoked_key")
            remove(opened, "provider", "broken")
            await app.refresh()
            assert app.gates.snapshots._confirmed > confirmed

    asyncio.run(scenario())


def test_a_key_may_have_limits_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            keys = Keys(opened)
            slow, free = await keys.make(), await keys.make()
            store(opened, "limits", {"scope": "key", "target": slow.key.id, "requests_per_minute": 1}, "acme")
            await opened.app.refresh()
            first = await opened.ask(CHAT, asking(CHAT), key=slow.token)
            assert (first.status, first.headers["x-ratelimit-remaining-requests"]) == (200, "0")
            assert (await opened.ask(CHAT, asking(CHAT), key=slow.token)).code == "rate_limited"
            assert (await opened.ask(CHAT, asking(CHAT), key=free.token)).status == 200

    asyncio.run(scenario())
