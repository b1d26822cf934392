"""What is kept of people in the control database: each their own, across restarts, on record before it is there."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import ROLES, Database
from tests.unit.clocks import ManualClock

from securellm.audit import AdminChange, Record
from securellm.bootstrap.personal import PersonalControl
from securellm.bootstrap.recorded import Recorded
from securellm.core.errors import Code, Fault, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.preferences import Origin, Person, PreferenceBook, Preferences
from securellm.preferences.store import people
from securellm.storage import ControlStore, Scope

ANA = Person("acme", "user:ana")
BOB = Person("acme", "user:bob")
FOREIGN = Person("other", "user:ana")
FORMAL = Preferences(tone="formal")

Opened = Callable[[], ControlStore]


def origin(request_id: str = "req_1") -> Origin:
    return Origin("key:k1", request_id, "10.0.0.1")


class World:
    """A book over a control database; `records` is what the journal was given."""

    def __init__(self, store: ControlStore) -> None:
        self.store = store
        self.clock = ManualClock()
        self.records: list[AdminChange] = []
        self.failing = False
        self._count = 0
        control = PersonalControl(Recorded(lambda: self.store, record=self._record), clock=self.clock)
        self.book = PreferenceBook(control, clock=self.clock, ids=Ids(self.clock, SystemRandomness()))

    def _record(self, records: tuple[Record, ...]) -> None:
        (record,) = records
        if self.failing:
            raise Fault(Code.AUDIT_UNAVAILABLE, "the disk is full")
        assert isinstance(record, AdminChange)
        self.records.append(record)

    def state(self, person: Person, preferences: Preferences, *, etag: int | None = None) -> int:
        self._count += 1
        stating = self.book.state(person, lambda _: preferences, etag=etag, origin=origin(f"req_{self._count}"))
        return asyncio.run(stating).etag

    def stated(self, person: Person) -> Preferences:
        return asyncio.run(self.book.stated(person)).preferences

    def remember(self, person: Person, text: str) -> str:
        self._count += 1
        remembering = self.book.remember(person, text, offered_in=None, origin=origin(f"req_m{self._count}"))
        return asyncio.run(remembering).id

    def memories(self, person: Person) -> list[str]:
        return [memory.text for memory in asyncio.run(self.book.memories(person))]

    def refused(self, work: Coroutine[Any, Any, object]) -> Code:
        with pytest.raises(Refusal) as error:
            asyncio.run(work)
        return error.value.code


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """A store on one and the same database, each time."""
    if request.param == "sqlite":
        return lambda: ControlStore.open(tmp_path / "control.db", migrate=True)
    database: Database = request.getfixturevalue("postgres")
    return lambda: ControlStore.open(database.url(), migrate=False, password=lambda: ROLES["gateway"])


@pytest.fixture
def world(opened: Opened) -> Iterator[World]:
    world = World(opened())
    yield world
    world.store.close()


@pytest.mark.requirement("PV-3")
def test_each_person_has_their_own_within_their_tenant(world: World) -> None:
    world.state(ANA, FORMAL)
    world.remember(ANA, "I live in Recife")
    assert world.stated(ANA) == FORMAL
    for other in (BOB, FOREIGN):
        assert world.stated(other) == Preferences()
        assert world.memories(other) == []


@pytest.mark.requirement("PV-3")
def test_what_is_kept_survives_a_restart(world: World, opened: Opened) -> None:
    world.state(ANA, Preferences(tone="formal", format="listas", language="pt-BR"))
    world.remember(ANA, "moro em Recife")
    world.store.close()
    again = World(opened())
    assert again.stated(ANA) == Preferences(tone="formal", format="listas", language="pt-BR")
    assert again.memories(ANA) == ["moro em Recife"]
    again.store.close()


def test_a_change_of_what_has_changed_meanwhile_is_refused(world: World) -> None:
    first = world.state(ANA, FORMAL)
    second = world.state(ANA, Preferences(tone="terse"), etag=first)
    assert second > first
    stale = world.book.state(ANA, lambda _: FORMAL, etag=first, origin=origin("req_s"))
    assert world.refused(stale) is Code.PRECONDITION_FAILED
    assert world.refused(world.book.withdraw(ANA, etag=first, origin=origin("req_s"))) is Code.PRECONDITION_FAILED
    asyncio.run(world.book.withdraw(ANA, etag=second, origin=origin("req_d")))
    world.clock.advance(1)
    assert world.state(ANA, FORMAL) > second, "no revision ever comes back"


@pytest.mark.requirement("PV-3", "AU-1")
def test_each_change_is_on_record_without_what_was_said(world: World) -> None:
    world.state(ANA, Preferences(tone="canary-tone"))
    memory_id = world.remember(ANA, "canary-memory")
    asyncio.run(world.book.forget(ANA, memory_id, origin=origin("req_f")))
    asyncio.run(world.book.withdraw(ANA, etag=None, origin=origin("req_w")))
    assert [(record.action, record.resource) for record in world.records] == [
        ("replace", "preferences"),
        ("remember", "memories"),
        ("forget", "memories"),
        ("delete", "preferences"),
    ]
    for record in world.records:
        assert (record.actor, record.tenant, record.resource_id) == ("key:k1", "acme", "user:ana")
        assert "canary" not in repr(record)
    assert (world.records[0].before, world.records[-1].after) == (None, None)
    assert world.records[0].after == world.records[-1].before


def test_what_changes_nothing_is_not_on_record(world: World) -> None:
    world.state(ANA, FORMAL)
    world.state(ANA, FORMAL)
    first = world.remember(ANA, "x")
    assert world.remember(ANA, "x") == first
    asyncio.run(world.book.withdraw(BOB, etag=None, origin=origin("req_b")))
    asyncio.run(world.book.forget(BOB, None, origin=origin("req_c")))
    assert len(world.records) == 2


@pytest.mark.requirement("PV-3")
def test_without_a_record_nothing_changes(world: World) -> None:
    world.state(ANA, FORMAL)
    world.failing = True
    with pytest.raises(Fault):
        world.state(ANA, Preferences(tone="terse"))
    with pytest.raises(Fault):
        world.remember(ANA, "x")
    with pytest.raises(Fault):
        asyncio.run(world.book.withdraw(ANA, etag=None, origin=origin("req_w")))
    assert world.stated(ANA) == FORMAL
    assert world.memories(ANA) == []


def test_memories_are_in_the_order_of_consent_and_forgotten_one_by_one_or_all(world: World) -> None:
    kept = []
    for number in range(3):
        kept.append(world.remember(ANA, f"memory {number}"))
        world.clock.advance(1)
    asyncio.run(world.book.forget(ANA, kept[1], origin=origin("req_1f")))
    assert world.memories(ANA) == ["memory 0", "memory 2"]
    assert world.refused(world.book.forget(ANA, kept[1], origin=origin("req_2f"))) is Code.NOT_FOUND
    assert world.refused(world.book.forget(BOB, kept[0], origin=origin("req_3f"))) is Code.NOT_FOUND
    asyncio.run(world.book.forget(ANA, None, origin=origin("req_4f")))
    assert world.memories(ANA) == []


def test_there_is_a_bound_to_what_is_remembered(world: World) -> None:
    for number in range(50):
        world.remember(ANA, f"memory {number}")
    too_many = world.book.remember(ANA, "one more", offered_in=None, origin=origin("req_x"))
    assert world.refused(too_many) is Code.CONFLICT
    world.remember(BOB, "one more")


@pytest.mark.requirement("PV-3")
def test_a_database_that_is_away_is_named() -> None:
    def away() -> ControlStore:
        raise Fault(Code.STORAGE_UNAVAILABLE, "the control database could not be reached")

    clock = ManualClock()
    control = PersonalControl(Recorded(away, record=lambda _: None), clock=clock)
    book = PreferenceBook(control, clock=clock, ids=Ids(clock, SystemRandomness()))
    for work in (
        book.stated(ANA),
        book.known(ANA),
        book.memories(ANA),
        book.state(ANA, lambda before: before, etag=None, origin=origin()),
    ):
        with pytest.raises(Fault) as fault:
            asyncio.run(work)
        assert fault.value.code is Code.STORAGE_UNAVAILABLE


def test_a_tenants_scope_is_what_every_question_is_asked_in(world: World) -> None:
    world.state(ANA, FORMAL)

    def rows(tenant: str) -> int:
        return len(world.store.read(lambda session: people(session, "acme", after=None, limit=9), scope=Scope(tenant)))

    assert (rows("acme"), rows("other")) == (1, 0)
