"""Decisions out of the log: newest first, whole over their steps, of one tenant, and damage counted, never believed."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.clocks import ManualClock

from securellm.audit import (
    SCHEMA,
    AdminChange,
    AuditLog,
    Boot,
    Decision,
    Denied,
    DeniedAggregate,
    PolicyQuestion,
    Record,
    ScreeningFacts,
    Wanted,
    decisions,
    search,
)
from securellm.audit.decisions import PIECE
from securellm.audit.tree import leaf_hash
from securellm.core.errors import Code
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.storage import GroupCommitWriter, StorageDamaged

pytestmark = pytest.mark.requirement("PO-1", "AU-1")

ASKED = PolicyQuestion(needs=("tools",), screened=ScreeningFacts(injection=143, findings=("cpf",)))


class Log:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.db"
        self.clock = ManualClock()
        self.ids = Ids(self.clock, SystemRandomness())
        self._writer = GroupCommitWriter.open(self.path, SCHEMA)
        self._log = AuditLog.open(
            self._writer, writer_id="test", seed=bytes(32), clock=self.clock, randomness=SystemRandomness()
        )

    def write(self, *records: Record) -> None:
        self._writer.perform(*(self._log.appending(record) for record in records))

    def deny(self, tenant: str | None = "acme", **members: Any) -> Denied:
        self.clock.advance(1)
        told: dict[str, Any] = {"code": Code.POLICY_DENIED, "rules": ("no",), "asked": (ASKED,), "model": "gpt"}
        record = Denied(
            request_id=self.ids.new("req"),
            tenant=tenant,
            key_id="k",
            principal="key:k",
            surface=Surface.CHAT,
            reason="no",
            policy_version="lists-1 cedar-1",
            client_ip=None,
            **{**told, **members},
        )
        self.write(record)
        return record

    def spoil(self, statement: str, *values: object) -> None:
        """Change the file as somebody would who is not the gateway."""
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(statement, values)
        connection.close()

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path)
    yield opened
    opened.close()


def every(log: Log, *, limit: int = 100, **wanted: Any) -> tuple[list[Decision], int]:
    """All decisions, step by step, and how many records are damaged."""
    found: list[Decision] = []
    damaged, before = 0, None
    while True:
        step = decisions(
            log.path, tenant=wanted.get("tenant"), since_us=wanted.get("since_us"), before=before, limit=limit
        )
        assert len(step.decisions) <= limit
        found += step.decisions
        damaged += step.damaged
        if step.before is None:
            return found, damaged
        assert before is None or step.before < before, "each step ends further back"
        before = step.before


def test_decisions_come_newest_first_with_all_that_was_asked_in_steps_of_any_size(log: Log) -> None:
    log.write(Boot(version="1", config_digest="", snapshot=""))
    denied = [log.deny() for _ in range(7)]
    log.write(AdminChange(action="a", resource="r", resource_id="i", tenant="acme", actor="user:a", request_id="req_x"))
    for limit in (1, 2, 7, 100):
        found, damaged = every(log, limit=limit)
        assert [decision.request_id for decision in found] == [record.request_id for record in reversed(denied)]
        assert damaged == 0
    first = found[0]
    assert (first.asked, first.rules, first.code) == ((ASKED,), ("no",), Code.POLICY_DENIED)
    assert first.from_us is not None
    assert 0 <= first.until_us - first.from_us < 1_000, "an id knows its millisecond"


def test_only_the_tenants_own_are_found_and_callers_nobody_knows_are_counted(log: Log) -> None:
    ours = log.deny()
    log.deny("other")
    log.write(DeniedAggregate(count=7, network="10.0.0.0/24", code=Code.INVALID_KEY))
    log.write(DeniedAggregate(count=5, network="10.0.0.0/24", code=Code.ADMIN_REQUIRED, admin=True))
    assert [decision.request_id for decision in every(log, tenant="acme")[0]] == [ours.request_id]
    assert len(every(log)[0]) == 2
    assert decisions(log.path, tenant=None, limit=10).unknown_callers == 7


def test_nothing_older_than_asked_for_is_found_and_the_search_ends(log: Log) -> None:
    log.deny()
    middle = log.clock.now_us() + 500_000
    young = log.deny()
    assert [decision.request_id for decision in every(log, since_us=middle)[0]] == [young.request_id]
    assert every(log, since_us=log.clock.now_us() + 1)[0] == []


def test_a_long_log_is_left_behind_once_it_is_too_old(log: Log) -> None:
    log.write(*(Boot(version="1", config_digest="", snapshot="") for _ in range(2 * PIECE)))
    log.clock.advance(10)
    log.deny()
    step = decisions(log.path, tenant=None, since_us=log.clock.now_us() - 1, limit=10)
    assert (len(step.decisions), step.looked_at) == (1, PIECE)
    assert step.before is not None
    assert (
        decisions(log.path, tenant=None, since_us=log.clock.now_us() - 1, before=step.before, limit=10).before is None
    )


@pytest.mark.parametrize(
    ("statement", "damaged"),
    [
        ("UPDATE records SET entry = CAST(replace(CAST(entry AS TEXT), 'acme', 'evil') AS BLOB) WHERE seq = 2", 1),
        ("UPDATE records SET entry = x'00ff' WHERE seq = 2", 1),
        ("UPDATE records SET leaf = x'00' WHERE seq = 2", 1),
        ("DELETE FROM records WHERE seq = 2", 1),
        ("DELETE FROM records WHERE seq <= 2", 2),
    ],
)
def test_what_is_not_as_it_was_written_is_counted_and_not_believed(log: Log, statement: str, damaged: int) -> None:
    for _ in range(3):
        log.deny()
    log.spoil(statement)
    found, counted = every(log)
    assert (len(found) + counted, counted) == (3, damaged)


@pytest.mark.parametrize("entry", [b"\x00", b"[]", b'{"type": "DENY"}', b'{"type": "DENY", "at": 1, "asked": 5}'])
def test_an_entry_of_another_shape_is_damage_even_with_its_own_digest(log: Log, entry: bytes) -> None:
    log.deny()
    log.deny()
    log.spoil("UPDATE records SET entry = ?, leaf = ? WHERE seq = 1", entry, leaf_hash(entry))
    found, damaged = every(log)
    assert (len(found), damaged) == (1, 1)


def test_a_search_through_damage_is_refused_and_does_not_fall_over(log: Log) -> None:
    log.deny()
    log.spoil("UPDATE records SET entry = x'00ff'")
    with pytest.raises(StorageDamaged):
        search(log.path, Wanted(), limit=10)


def test_an_empty_log_holds_no_decisions(log: Log) -> None:
    assert every(log) == ([], 0)


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageDamaged):
        decisions(tmp_path / "audit.db", tenant=None, limit=1)
