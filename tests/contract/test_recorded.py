"""Changes and their records under every interruption: neither is ever there without the other once it is settled."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from sqlalchemy import select
from tests.postgres import ROLES, Database
from tests.unit.clocks import ManualClock

from securellm.admin import made_among, note_made
from securellm.audit import SCHEMA, AdminChange, AuditLog, Record, Wanted, search
from securellm.bootstrap.desk import KeyDesk
from securellm.bootstrap.recorded import Recorded
from securellm.core.errors import Code, Fault
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.identity import Keyring
from securellm.identity.tenants import TENANTS
from securellm.storage import CommitUncertain, ControlStore, GroupCommitWriter, Session

T = TypeVar("T")

ENDINGS = (
    "well",
    "no record",
    "a record whose answer is lost",
    "no commit",
    "no commit and then silence",
    "a commit whose answer is lost",
    "a commit whose answer is lost, and then silence",
    "a commit that comes later",
    "death before the record",
    "death before the commit",
    "death after the commit",
)


class Died(BaseException):
    """The process ends here."""


class Journal:
    """A real log whose answers can be lost."""

    def __init__(self, folder: Path) -> None:
        self.path, self.clock = folder / "audit.db", ManualClock()
        self._writer = GroupCommitWriter.open(self.path, SCHEMA)
        self._log = AuditLog.open(
            self._writer, writer_id="test", seed=bytes(32), clock=self.clock, randomness=SystemRandomness()
        )
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None

    def record(self, records: tuple[Record, ...]) -> None:
        _once(self, "before")
        self._writer.perform(*(self._log.appending(record) for record in records))
        _once(self, "after")

    def told(self) -> dict[tuple[str, str], list[bool]]:
        """By the kind and name of the thing, whether each of its records says `undone`; oldest first."""
        told: dict[tuple[str, str], list[bool]] = {}
        for record in reversed(search(self.path, Wanted(types=frozenset({"ADMIN"})), limit=1000).records):
            told.setdefault((record["resource"], record["resource_id"]), []).append(record["undone"])
        return told

    def close(self) -> None:
        self._writer.close()


class Line(ControlStore):
    """The way to the control database, which ends a write as it is told to."""

    def __init__(self, real: ControlStore) -> None:
        self._real = real
        self.ending = "well"
        self.silent = False
        self.dead = False
        self.late: threading.Thread | None = None
        self._let_go = threading.Event()

    def read(self, query: Any, **options: Any) -> Any:
        self._speak()
        found = self._real.read(query, **options)
        self._let_go.set()
        return found

    def write(self, change: Any, *, before_commit: Any = None, **options: Any) -> Any:
        self._speak()
        if before_commit is None:
            return self._real.write(change, **options)
        ending, self.ending = self.ending, "well"
        self.silent = "silence" in ending

        def last(result: Any) -> None:
            if ending == "death before the record":
                self._die()
            before_commit(result)
            if ending == "death before the commit":
                self._die()
            if ending.startswith("no commit"):
                raise Fault(Code.STORAGE_UNAVAILABLE, "the disk is full")

        if ending == "a commit that comes later":
            self._commit_later(change, before_commit, options)
            raise CommitUncertain("it")
        result = self._real.write(change, before_commit=last, **options)
        if ending.startswith("a commit whose answer is lost"):
            raise CommitUncertain("it")
        if ending == "death after the commit":
            self._die()
        return result

    def _commit_later(self, change: Any, before_commit: Any, options: Any) -> None:
        recorded = threading.Event()
        self._let_go.clear()

        def last(result: Any) -> None:
            before_commit(result)
            recorded.set()
            # Whoever asks whether it was made hears that it was not, and then it is.
            self._let_go.wait(20)

        self.late = threading.Thread(target=lambda: self._real.write(change, before_commit=last, **options))
        self.late.start()
        assert recorded.wait(20)

    def _die(self) -> None:
        self.dead = True
        raise Died

    def _speak(self) -> None:
        if self.dead:
            raise Died
        if self.silent:
            raise Fault(Code.STORAGE_UNAVAILABLE, "nobody answers")


def _once(holder: Any, name: str) -> None:
    fails = getattr(holder, name)
    setattr(holder, name, None)
    if fails is not None:
        fails()


def unavailable() -> None:
    raise Fault(Code.AUDIT_UNAVAILABLE, "the disk is full")


class World:
    """A gateway that dies and starts again, over a database and a journal that stay."""

    def __init__(self, open_store: Callable[[], ControlStore], folder: Path) -> None:
        self.journal = Journal(folder)
        # The server's end of a connection outlives its process, so the late commit has a store of its own.
        self.store = open_store()
        self.start()

    def start(self) -> None:
        self.line = Line(self.store)
        self.recorded = Recorded(lambda: self.line, record=self.journal.record)

    def make(self, name: str) -> str:
        def work(session: Session) -> str:
            TENANTS.create(session, {"id": name}, id=name, now_us=1)
            note_made(session, request_id=f"req_{name}", tenant=None, claim=None, now_us=self.journal.clock.now_us())
            return name

        def records(made: str) -> tuple[Record, ...]:
            first = AdminChange(
                action="create",
                resource="tenants",
                resource_id=made,
                tenant=None,
                actor="service:host",
                request_id=f"req_{made}",
            )
            # As an approval is recorded beside what it executes.
            return first, msgspec.structs.replace(first, action="approve", resource="proposals")

        return self.recorded.write(work, records)

    def there(self) -> set[str]:
        return {row[0] for row in self.store.read(lambda session: session.rows(select(TENANTS.table.c.id)))}

    def demand_truth(self) -> None:
        there, told = self.there(), self.journal.told()
        assert {("tenants", name) for name in there} <= told.keys(), "a change without a record"
        for (_, name), undone in told.items():
            assert undone == ([False] if name in there else [False, True]), name

    def close(self) -> None:
        self.store.close()
        self.journal.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    def opened() -> ControlStore:
        if request.param == "sqlite":
            return ControlStore.open(tmp_path / "control.db", migrate=True)
        database: Database = request.getfixturevalue("postgres")
        return ControlStore.open(database.url(), migrate=False, password=lambda: ROLES["gateway"])

    made = World(opened, tmp_path)
    yield made
    made.close()


def attempt(world: World, name: str, ending: str) -> bool:
    """Whether the answer was that it is made."""
    world.line.ending = ending
    world.journal.before = unavailable if ending == "no record" else None
    world.journal.after = unavailable if ending == "a record whose answer is lost" else None
    try:
        world.make(name)
    except (Fault, Died):
        return False
    finally:
        world.journal.before = world.journal.after = None
        if world.line.late is not None:
            world.line.late.join(20)
    return True


@pytest.mark.requirement("AU-1", "AU-4", "ST-1")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_change_and_its_record_are_there_together_or_not_at_all_however_the_write_ends(
    world: World, ending: str
) -> None:
    answered = attempt(world, "acme", ending)
    if "death" not in ending:
        world.line.silent = False
        world.make("next")
    world.start()
    world.recorded.settle(world.journal.path, since_us=0)
    world.demand_truth()
    made = ending in ("well", "a commit that comes later", "death after the commit") or "answer is lost" in ending
    assert ("acme" in world.there()) is (made and "record" not in ending)
    assert answered <= ("acme" in world.there())
    assert answered is (ending in ("well", "a commit whose answer is lost", "a commit that comes later"))
    assert world.recorded.settle(world.journal.path, since_us=0) == 0, "once is enough"


@pytest.mark.requirement("AU-1", "AU-4", "ST-1")
@pytest.mark.parametrize("seed", range(6))
def test_no_order_of_interruptions_parts_changes_from_their_records(world: World, seed: int) -> None:
    chance = random.Random(seed)
    answered = set()
    for number in range(15):
        name, ending = f"t{number}", chance.choice(ENDINGS)
        if attempt(world, name, ending):
            answered.add(name)
        world.line.silent = world.line.silent and chance.random() < 0.5
        if "death" in ending or chance.random() < 0.1:
            world.start()
            world.line.silent = chance.random() < 0.3
            try:
                world.recorded.settle(world.journal.path, since_us=0)
            except Fault:
                assert world.line.silent
    world.line.silent = False
    world.make("last")
    assert answered <= world.there()
    world.start()
    world.recorded.settle(world.journal.path, since_us=0)
    world.demand_truth()


@pytest.mark.requirement("AU-1")
def test_many_who_find_the_same_doubts_settle_each_once(world: World) -> None:
    for name in ("a", "b", "c"):
        attempt(world, name, "death before the commit")
        world.start()
    world.line.silent = True
    with pytest.raises(Fault):
        world.recorded.settle(world.journal.path, since_us=0)
    with pytest.raises(Fault):
        world.make("refused")
    world.line.silent = False
    threads = [threading.Thread(target=world.make, args=(f"n{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    world.demand_truth()
    assert world.there() == {f"n{number}" for number in range(4)}


@pytest.mark.requirement("AU-1")
@pytest.mark.parametrize("ending", ["no record", "no commit", "death before the commit", "death after the commit"])
def test_a_key_that_a_command_makes_is_on_record_before_it_is_there(world: World, ending: str) -> None:
    def desk() -> KeyDesk:
        clock, randomness = world.journal.clock, SystemRandomness()
        keyring = Keyring(bytes(32), clock, randomness)
        return KeyDesk(world.recorded, keyring, clock=clock, ids=Ids(clock, randomness))

    world.line.ending = ending
    world.journal.before = unavailable if ending == "no record" else None
    with pytest.raises((Fault, Died)):
        desk().create(tenant="acme", name="", models=("*",), surfaces=(), expires_us=None)
    world.start()
    world.recorded.settle(world.journal.path, since_us=0)
    there = [("keys", key.id) for key in desk().keys(tenant=None, project=None)]
    assert len(there) == (ending == "death after the commit")
    assert [thing for thing, undone in world.journal.told().items() if not any(undone)] == there


def test_a_change_is_known_to_have_been_made_for_as_long_as_a_gateway_may_be_away(world: World) -> None:
    world.make("acme")
    world.journal.clock.advance(29 * 24 * 3600)
    world.make("globex")
    made = world.store.read(lambda session: made_among(session, ["req_acme", "req_globex", "req_x"]))
    assert made == {"req_acme", "req_globex"}
    world.journal.clock.advance(2 * 24 * 3600)
    world.make("initech")
    assert world.store.read(lambda session: made_among(session, ["req_acme", "req_globex"])) == {"req_globex"}
