"""What of a log is shipped: records that follow one another, each with the tenant it belongs to."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.unit.audit.logs import Counted, ManualClock, every_kind, intent, opened, outcome, write

from securellm.audit import LogSource, Record, export
from securellm.audit import shipping as module
from securellm.core.clock import Clock
from securellm.core.ids import Ids
from securellm.storage import StorageDamaged


def test_batches_are_the_exported_lines_and_begin_after_the_entry_they_follow(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, every_kind())
    source = LogSource(path)
    lines = [line.removesuffix(b"\n") for line in export(path)]
    taken: list[bytes] = []
    while True:
        last, records = source.since(len(taken), limit=5)
        assert last == (taken[-1] if taken else b"")
        if not records:
            break
        assert [record.seq for record in records] == list(range(len(taken) + 1, len(taken) + 1 + len(records)))
        taken += [record.entry for record in records]
    assert taken == lines
    assert source.since(len(lines) + 1, limit=5) == (None, ())


def test_a_batch_of_long_records_has_fewer_but_never_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent(number) for number in range(4)])
    monkeypatch.setattr(module, "_LARGEST", 1)
    assert [record.seq for record in LogSource(path).since(1, limit=10)[1]] == [2]


def test_each_log_has_a_name_of_its_own_that_it_keeps(tmp_path: Path) -> None:
    one, two = tmp_path / "one.db", tmp_path / "two.db"
    write(one, [intent()])
    write(two, [intent()], randomness=Counted(7))
    named = LogSource(one).writer
    write(one, [intent(2)])
    assert LogSource(one).writer == named != LogSource(two).writer


class Requests:
    """Intents and outcomes of requests whose ids carry the time they were made at."""

    def __init__(self, clock: Clock) -> None:
        self._ids = Ids(clock, Counted())

    def begun(self, tenant: str) -> tuple[Record, Record]:
        made = self._ids.new("req")
        begin = msgspec.structs.replace(intent(), request_id=made, tenant=tenant)
        return begin, msgspec.structs.replace(outcome(), request_id=made)


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize("remembered", [20_000, 1])
def test_an_outcome_belongs_to_the_tenant_of_its_intent_however_long_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", remembered)
    path, clock = tmp_path / "audit.db", ManualClock()
    requests = Requests(clock)
    pairs = [requests.begun(tenant) for tenant in ("acme", "globex", "acme")]
    with opened(path, clock=clock) as (writer, log):
        for record in [begin for begin, _ in pairs] + [end for _, end in pairs] + [outcome(99)]:
            writer.perform(log.appending(record))
    for source in (LogSource(path), LogSource(path)):
        tenants: list[str] = []
        while records := source.since(len(tenants), limit=2)[1]:
            tenants += [record.tenant for record in records]
        assert tenants == ["acme", "globex", "acme"] * 2 + [""], "what cannot be placed is the installation's"
    assert [record.tenant for record in LogSource(path).since(3, limit=9)[1]] == ["acme", "globex", "acme", ""]


def test_how_far_behind_counts_what_follows_and_says_since_when(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent(number) for number in range(3)])
    source = LogSource(path)
    first = source.since(0, limit=3)[1]
    assert source.behind(0) == (3, first[0].at_us)
    assert source.behind(2) == (1, first[2].at_us)
    assert source.behind(3) == (0, None)
    assert source.behind(9) == (0, None)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE records SET entry = CAST(replace(entry, 'acme', 'evil') AS BLOB) WHERE seq = 2",
        "UPDATE records SET entry = x'00ff' WHERE seq = 3",
        "UPDATE records SET entry = (SELECT entry FROM records WHERE seq = 1) WHERE seq = 3",
        "DELETE FROM records WHERE seq = 2",
    ],
)
@pytest.mark.requirement("AU-4")
def test_a_record_that_does_not_follow_the_one_before_it_is_not_shipped(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent(number) for number in range(4)])
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(harm)
        raw.commit()
    with pytest.raises(StorageDamaged):
        LogSource(path).since(0, limit=10)
