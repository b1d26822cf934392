"""What a replica knows follows the store: by deltas that equal a full compile, revocations first, at any failure."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.bootstrap.stored import ALL, BOOK, FILE, PROVIDER, SECRETS, loaded, stored
from tests.unit.clocks import ManualClock

from securellm.bootstrap import following as module
from securellm.bootstrap.compiling import declared_keys
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.effective import SHELVES, Document, Effective, Kind, Name, name_of
from securellm.bootstrap.following import Follower
from securellm.bootstrap.standby import Standby
from securellm.core.clock import SystemClock
from securellm.core.errors import Code, Fault
from securellm.core.randomness import SystemRandomness
from securellm.gateway.running import Running
from securellm.gateway.snapshot import Snapshot, Snapshots
from securellm.identity import KeyConflict, Keyring, VirtualKey
from securellm.settings import ConfigError
from securellm.storage import Changes, ControlStore, Session
from securellm.storage import control as storage

T = TypeVar("T")
PEPPER = bytes(32)
RING = Keyring(PEPPER, SystemClock(), SystemRandomness())


class Severed:
    """A control store whose line can be cut, or can fall silent."""

    def __init__(self, store: ControlStore) -> None:
        self._store = store
        self.cut = False
        self.silence: threading.Event | None = None
        self.reads = 0

    def changes(self, after: int, *, stamp: str | None = None) -> Changes:
        self._wait()
        return self._store.changes(after, stamp=stamp)

    def read(self, query: Callable[[Session], T]) -> T:
        self._wait()
        self.reads += 1
        return self._store.read(query)

    def listen(self, _: Callable[[int], None]) -> Callable[[], None]:
        return lambda: None

    def close(self) -> None:
        """Closed by the test."""

    def _wait(self) -> None:
        if self.silence is not None:
            self.silence.wait(20)
        if self.cut:
            raise Fault(Code.STORAGE_UNAVAILABLE, "the line is cut")


class Replica:
    """A follower and what it feeds."""

    def __init__(self, file: Loaded, store: ControlStore, folder: Path | None = None, *, cut: bool = False) -> None:
        self.clock = ManualClock()
        self.line = Severed(store)
        self.line.cut = cut
        self.put: list[Effective] = []
        self.standby = None if folder is None else Standby(folder, secret=bytes(32), pepper=b"p", clock=self.clock)
        self.follower = Follower(
            file,
            declared=lambda file: declared_keys(file, pepper=PEPPER),
            open_store=self._open,
            book=BOOK,
            clock=self.clock,
            standby=self.standby,
        )

    def _open(self) -> Any:
        self.line._wait()
        return self.line

    def begin(self) -> "Replica":
        snapshot, confirmed = self.follower.begin()
        age = self.clock.monotonic() - confirmed
        self.snapshots = Snapshots(snapshot, clock=self.clock, fence=60.0, age=age)
        self.follower.attach(self.snapshots, Running(self.snapshots, self.clock), self._prepare)
        return self

    def _prepare(self, effective: Effective) -> Callable[[], None]:
        return lambda: self.put.append(effective)

    @property
    def now(self) -> Snapshot:
        return self.snapshots.current


def parts(snapshot: Snapshot) -> dict[str, Any]:
    members = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__ if name != "keys"}
    return {**members, "by_digest": dict(snapshot.keys.by_digest), "by_id": dict(snapshot.keys.by_id)}


@contextmanager
def control(folder: Path) -> Iterator[ControlStore]:
    store = ControlStore.open(folder / "control.db", migrate=True)
    try:
        yield store
    finally:
        store.close()


def issue(store: ControlStore, tenant: str = "acme") -> VirtualKey:
    return store.write(lambda session: RING.issue(session, tenant=tenant, name="", models=("*",))).key


def revoke(store: ControlStore, key: VirtualKey) -> None:
    store.write(lambda session: RING.revoke(session, key.id))


def put(store: ControlStore, kind: Kind, document: Document, tenant: str = "") -> None:
    name = name_of(kind, document, tenant=tenant)

    def change(session: Session) -> None:
        shelf = SHELVES[kind]
        if shelf.get(session, name.id, tenant=name.tenant) is None:
            shelf.create(session, dict(document), id=name.id, tenant=name.tenant, now_us=0)
        else:
            shelf.replace(session, dict(document), id=name.id, tenant=name.tenant, etag=None, now_us=0)

    store.write(change)


def remove(store: ControlStore, name: Name) -> None:
    store.write(lambda session: SHELVES[name.kind].delete(session, id=name.id, tenant=name.tenant, etag=None))


STEP = st.sampled_from(["issue", "revoke", "rotate", "globex", "loose", "no globex", "limits", "look", "user"])


@given(st.lists(STEP, min_size=1, max_size=12), st.sampled_from([3, 10_000]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_followed_by_deltas_ends_where_a_fresh_start_begins(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], remembered: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    file = loaded(folder)
    globex: Document = {"id": "globex", "models": ["small"]}

    async def scenario(store: ControlStore) -> None:
        replica = Replica(file, store, folder).begin()
        keys: list[VirtualKey] = [issue(store)]
        for step in steps:
            match step:
                case "issue":
                    keys.append(issue(store, "globex"))
                case "revoke":
                    revoke(store, keys[len(keys) // 2])
                case "rotate":
                    rotate(store, standing(keys, store))
                case "globex":
                    put(store, "tenant", globex)
                case "loose":
                    put(store, "tenant", {**globex, "guard": "observe"})
                case "no globex":
                    if store.read(lambda session: SHELVES["tenant"].get(session, "globex")) is not None:
                        remove(store, Name("tenant", "", "globex"))
                case "limits":
                    put(store, "limits", {"scope": "key", "target": keys[0].id, "parallel": len(keys)}, "acme")
                case "look":
                    await replica.follower.refresh()
                case _:
                    store.write(lambda session: session.note("user", tenant="", name="u"))
        await replica.follower.refresh()
        fresh = Replica(file, store).begin()
        assert parts(replica.now) == parts(fresh.now)
        assert replica.follower.effective.stored == fresh.follower.effective.stored
        unreached = Replica(file, store, folder, cut=True)
        unreached.begin()
        assert parts(unreached.now) == parts(fresh.now)

    with remembering(remembered), control(folder) as store:
        asyncio.run(scenario(store))


def standing(keys: list[VirtualKey], store: ControlStore) -> VirtualKey:
    """A key that may be rotated."""
    now = [store.read(lambda session, key=key: RING.get(session, key.id)) for key in keys]  # type: ignore[misc]
    return next((key for key in now if key.revoked_us is None), None) or issue(store)


def rotate(store: ControlStore, key: VirtualKey) -> None:
    store.write(lambda session: RING.rotate(session, key.id, overlap=60.0))


@contextmanager
def remembering(versions: int) -> Iterator[None]:
    """The store tells only so many versions back what changed."""
    before, storage.KEPT = storage.KEPT, versions
    try:
        yield
    finally:
        storage.KEPT = before


def test_a_change_of_keys_touches_nothing_else_and_a_change_of_all_else_reads_no_key(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        first = issue(store)
        replica = Replica(loaded(tmp_path), store).begin()
        before = replica.now
        revoke(store, first)
        await replica.follower.refresh()
        assert replica.now.tenants is before.tenants
        assert replica.now.models is before.models
        assert replica.put == []
        key = replica.now.keys.get(first.id)
        assert key is not None
        assert key.revoked_us is not None
        keys = replica.now.keys
        put(store, "provider", PROVIDER)
        await replica.follower.refresh()
        assert replica.now.keys is keys
        assert [provider.id for provider in replica.put[0].config.providers] == ["near", "far"]

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


def test_nothing_new_is_confirmed_without_reading_anything(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        replica = Replica(loaded(tmp_path), store).begin()
        reads = replica.line.reads
        replica.clock.advance(50)
        await replica.follower.refresh()
        assert (replica.snapshots.age, replica.line.reads) == (0, reads)

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


@pytest.mark.requirement("ID-2")
def test_a_server_that_took_over_without_the_last_writes_is_followed_from_where_it_really_is(tmp_path: Path) -> None:
    async def scenario(store: ControlStore, behind: ControlStore, kept: VirtualKey, revoked: VirtualKey) -> None:
        replica = Replica(loaded(tmp_path), store).begin()
        lost = issue(store)
        await replica.follower.refresh()
        assert replica.now.keys.get(lost.id) == lost
        # The revocation has the number here that the lost key had there, and more has happened since.
        revoke(behind, revoked)
        later = issue(behind)
        replica.line._store = behind
        await replica.follower.refresh()
        known = replica.now.keys.get(revoked.id)
        assert known is not None
        assert known.revoked_us is not None
        assert replica.now.keys.get(lost.id) is None
        assert (replica.now.keys.get(kept.id), replica.now.keys.get(later.id)) == (kept, later)

    with control(tmp_path) as store:
        kept, revoked = issue(store), issue(store)
    shutil.copy(tmp_path / "control.db", tmp_path / "behind.db")
    behind = ControlStore.open(tmp_path / "behind.db", migrate=False)
    with control(tmp_path) as store, closing(behind):
        asyncio.run(scenario(store, behind, kept, revoked))


def test_a_cut_line_confirms_nothing_and_is_followed_again_once_it_is_back(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        replica = Replica(loaded(tmp_path), store).begin()
        replica.line.cut = True
        key = issue(store)
        replica.clock.advance(30)
        with pytest.raises(Fault, match="cut"):
            await replica.follower.refresh()
        assert replica.snapshots.age == 30
        replica.line.cut = False
        await replica.follower.refresh()
        assert (replica.snapshots.age, replica.now.keys.get(key.id)) == (0, key)

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


def test_an_answer_counts_from_its_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was frozen and comes back may answer with what was true when it froze."""
    monkeypatch.setattr(module, "QUESTION", 20.0)

    async def scenario(store: ControlStore) -> None:
        replica = Replica(loaded(tmp_path), store).begin()
        replica.line.silence = threading.Event()
        look = asyncio.create_task(replica.follower.refresh())
        await asyncio.sleep(0.01)
        replica.clock.advance(45)
        replica.line.silence.set()
        await look
        assert replica.snapshots.age == 45

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


@pytest.mark.requirement("ID-2")
def test_an_answer_that_the_machine_slept_over_confirms_nothing(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        replica = Replica(loaded(tmp_path), store).begin()
        replica.clock.advance(10)

        class Sleepy(Severed):
            def changes(self, after: int, *, stamp: str | None = None) -> Changes:
                answer = super().changes(after, stamp=stamp)
                # Asleep, the monotonic clock stands still.
                replica.clock.us += 3_600_000_000
                return answer

        awake, replica.follower.store = replica.follower.store, Sleepy(store)  # type: ignore[assignment]
        with pytest.raises(Fault, match="clock jumped"):
            await replica.follower.refresh()
        with pytest.raises(Fault, match="clock has jumped"):
            replica.snapshots.read()
        replica.follower.store = awake
        await replica.follower.refresh()
        assert replica.snapshots.read() is replica.now

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


def test_a_silent_line_is_given_up_while_everything_else_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUESTION", 0.05)

    async def scenario(store: ControlStore) -> None:
        replica = Replica(loaded(tmp_path), store).begin()
        silence = replica.line.silence = threading.Event()
        for match in ("did not answer", "has not answered", "has not answered"):
            with pytest.raises(Fault, match=match):
                await replica.follower.refresh()
        replica.line.silence = None
        silence.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    await replica.follower.refresh()
                    break
                except Fault:
                    await asyncio.sleep(0.001)

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


@pytest.mark.parametrize("remembered", [1, 10_000])
def test_revocations_come_through_while_what_else_changed_cannot_be_put_in_force(
    tmp_path: Path, remembered: int
) -> None:
    async def scenario(store: ControlStore) -> None:
        key = issue(store)
        replica = Replica(loaded(tmp_path), store).begin()
        replica.clock.us = SystemClock().now_us()
        put(store, "provider", {**PROVIDER, "credential": "env:NOT_HERE_API_KEY"})
        revoke(store, key)
        issue(store)
        replica.clock.advance(5)
        with pytest.raises(ConfigError, match="NOT_HERE"):
            await replica.follower.refresh()
        known = replica.now.keys.get(key.id)
        assert known is not None
        assert known.revoked_us is not None
        assert replica.snapshots.age == 5

    with remembering(remembered), control(tmp_path) as store:
        asyncio.run(scenario(store))


def test_another_file_is_put_in_force_with_what_is_stored_or_not_at_all(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        for kind, tenant, document in ALL:
            put(store, kind, document, tenant)
        key = issue(store, "globex")
        replica = Replica(loaded(tmp_path), store).begin()
        told: list[str] = []

        async def record(snapshot: Snapshot) -> None:
            told.append(snapshot.version)

        text = FILE.replace('secret = "env:ACME_KEY"', 'secret = "env:OTHER_KEY"')
        environ = {**SECRETS, "OTHER_KEY": "another-key-of-the-file-4567"}
        await replica.follower.reload(loaded(tmp_path, text, environ=environ), record)
        assert told == [replica.now.version]
        assert {one.id for one in replica.now.keys.by_id.values() if one.managed_by == "api"} == {key.id}
        assert len([one for one in replica.now.keys.by_id.values() if one.managed_by == "file"]) == 1
        assert replica.put[-1].stored == stored(*ALL)
        before = replica.now
        for wrong in (text.replace('id = "plain"', 'id = "globex"'), text.replace('name = "small"', 'name = "big"')):
            with pytest.raises(ConfigError):
                await replica.follower.reload(loaded(tmp_path, wrong, environ=environ), record)
        assert replica.now is before
        await replica.follower.refresh()
        assert parts(replica.now) == parts(before)

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


@pytest.mark.requirement("ID-2")
def test_a_key_whose_secret_was_exchanged_below_its_reference_ends_when_the_file_is_read_again(tmp_path: Path) -> None:
    secret = tmp_path / "acme-key"
    text = FILE.replace('secret = "env:ACME_KEY"', 'secret = "file:acme-key"')

    def written(token: str) -> Loaded:
        secret.write_text(token, encoding="ascii")
        secret.chmod(0o600)
        return loaded(tmp_path, text)

    async def scenario(store: ControlStore) -> None:
        replica = Replica(written("the-former-key-of-the-file"), store).begin()
        (former,) = replica.now.keys.by_id.values()
        again = written("the-present-key-of-the-file")
        assert replica.follower.declared == (former,)

        async def record(_: Snapshot) -> None:
            pass

        await replica.follower.reload(again, record)
        (present,) = replica.now.keys.by_id.values()
        assert present.digest != former.digest
        assert replica.now.keys.find(former.digest) is None
        assert replica.follower.declared == (present,)

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


def test_the_same_token_in_file_and_store_refuses_to_begin(tmp_path: Path) -> None:
    with control(tmp_path) as store:
        file = loaded(tmp_path)
        key = issue(store)
        twin = msgspec.structs.replace(key, id="key_file_x", managed_by="file")
        replica = Replica(file, store)
        replica.follower._declare = lambda _: (twin,)
        with pytest.raises(KeyConflict):
            replica.begin()


def test_without_the_store_a_start_needs_what_was_kept_and_catches_up_later(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        key = issue(store)
        file = loaded(tmp_path)
        with pytest.raises(Fault, match=r"cut; nothing is kept"):
            Replica(file, store, tmp_path, cut=True).begin()
        Replica(file, store, tmp_path).begin()
        first = Replica(file, store, tmp_path).begin()
        await first.follower.refresh()
        revoke(store, key)
        late = Replica(file, store, tmp_path, cut=True)
        late.clock.advance(40)
        late.begin()
        assert late.snapshots.age == 40
        assert late.now.keys.get(key.id) == key
        assert late.follower.store is None
        with pytest.raises(Fault, match="cut"):
            await late.follower.refresh()
        late.line.cut = False
        await late.follower.refresh()
        known = late.now.keys.get(key.id)
        assert known is not None
        assert known.revoked_us is not None
        assert late.snapshots.age == 0

    with control(tmp_path) as store:
        asyncio.run(scenario(store))


def test_what_cannot_be_kept_is_no_reason_to_stop(tmp_path: Path) -> None:
    async def scenario(store: ControlStore) -> None:
        replica = Replica(loaded(tmp_path), store, tmp_path).begin()
        kept = tmp_path / "last-known"
        kept.unlink()
        kept.mkdir()
        issue(store)
        await replica.follower.refresh()
        assert replica.snapshots.age == 0
        kept.rmdir()
        replica.clock.advance(module.CONFIRM_EVERY)
        await replica.follower.refresh()
        again = Replica(loaded(tmp_path), store, tmp_path, cut=True)
        again.clock.advance(module.CONFIRM_EVERY)
        assert parts(again.begin().now) == parts(replica.now)

    with control(tmp_path) as store:
        asyncio.run(scenario(store))
