"""Search in the audit log: newest first, whole over its steps, by tenant and by person."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.clocks import ManualClock

from securellm.audit import SCHEMA, AdminChange, AuditLog, Boot, KeyChange, Wanted, born_us, search, story
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.storage import GroupCommitWriter


class Log:
    """A log that a test writes to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.db"
        self.clock = ManualClock()
        self.ids = Ids(self.clock, SystemRandomness())
        self._writer = GroupCommitWriter.open(self.path, SCHEMA)
        self._log = AuditLog.open(
            self._writer, writer_id="test", seed=bytes(32), clock=self.clock, randomness=SystemRandomness()
        )

    def change(self, tenant: str, *, actor: str = "user:ann", seconds: float = 1.0) -> str:
        self.clock.advance(seconds)
        request_id = self.ids.new("req")
        record = AdminChange(
            action="create", resource="keys", resource_id="k", tenant=tenant, actor=actor, request_id=request_id
        )
        key = KeyChange(action="create", key_id="k", tenant=tenant, actor=actor)
        self._writer.perform(self._log.appending(key), self._log.appending(record))
        return request_id

    def boot(self) -> None:
        self._writer.perform(self._log.appending(Boot(version="1", config_digest="", snapshot="")))

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path)
    yield opened
    opened.close()


def every(log: Log, wanted: Wanted, *, limit: int) -> list[int]:
    """The positions of all that is found, step by step."""
    found: list[int] = []
    before = None
    while True:
        step = search(log.path, wanted, before=before, limit=limit)
        found += [record["seq"] for record in step.records]
        if step.before is None:
            return found
        assert before is None or step.before < before, "each step ends further back"
        before = step.before


@pytest.mark.requirement("AU-1")
def test_steps_of_any_size_find_everything_once_newest_first(log: Log) -> None:
    for number in range(7):
        log.change("acme" if number % 2 else "globex")
    for limit in (1, 2, 3, 14, 50):
        assert every(log, Wanted(), limit=limit) == list(range(14, 0, -1))
        acme = every(log, Wanted(tenant="acme"), limit=limit)
        assert acme == [12, 11, 8, 7, 4, 3]
        assert every(log, Wanted(tenant="acme", types=frozenset({"ADMIN"})), limit=limit) == [12, 8, 4]
    assert every(log, Wanted(tenant="nobody"), limit=5) == []


def test_a_search_by_time_and_by_person_is_exact(log: Log) -> None:
    start = log.clock.now_us()
    for number in range(6):
        log.change("acme", actor=f"user:{number % 2}")
    later = Wanted(since_us=start + 3_000_000, until_us=start + 5_000_000)
    assert every(log, later, limit=10) == [8, 7, 6, 5]
    assert every(log, Wanted(principal="user:1"), limit=10) == [12, 11, 8, 7, 4, 3]


def test_what_belongs_to_no_tenant_is_found_by_nobody_who_belongs_to_one(log: Log) -> None:
    log.boot()
    log.change("acme")
    assert every(log, Wanted(tenant="acme"), limit=10) == [3, 2]
    assert every(log, Wanted(), limit=10) == [3, 2, 1]


def test_the_story_of_a_request_is_found_by_the_time_in_its_id(log: Log) -> None:
    made = [log.change("acme", seconds=100) for _ in range(5)]
    for request_id in made:
        (record,) = story(log.path, request_id, Wanted())
        assert record["request_id"] == request_id
        assert story(log.path, request_id, Wanted(tenant="globex")) == ()
    assert story(log.path, log.ids.new("req"), Wanted()) == ()


def test_an_id_says_when_it_was_made_and_nothing_else_does(log: Log) -> None:
    made = log.ids.new("req")
    assert born_us(made) == log.clock.now_us() // 1_000 * 1_000
    for text in ("", "req_", "req_short", "req_" + "!" * 26, "req_" + "é" * 26, made + "x"):
        assert born_us(text) is None
