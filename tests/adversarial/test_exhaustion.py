"""Questions that are short to ask cost the gateway a bounded part of what it could do instead."""

import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.unit.clocks import ManualClock

from securellm.audit import Wanted, search
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness

REQUESTS = 4_000


def busy(path: Path) -> None:
    """A log of one tenant's ordinary requests: each is begun, and ended by a record that does not say whose it was."""
    clock = ManualClock()
    ids = Ids(clock, SystemRandomness())
    entries = []
    late: list[dict[str, object]] = []
    for number in range(REQUESTS):
        clock.advance(0.002)
        request_id = ids.new("req")
        entries.append({"type": "INTENT", "at": clock.us, "request_id": request_id, "tenant": "busy"})
        end: dict[str, object] = {"type": "OUTCOME", "at": clock.us + 1, "request_id": request_id}
        # Some end long after they began.
        late, entries = ([*late, end], entries) if number % 50 == 0 else (late, [*entries, end])
    entries += late
    # One whose beginning nobody finds.
    entries.append({"type": "OUTCOME", "at": clock.us + 2, "request_id": ids.new("req")})
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, entry BLOB, leaf BLOB)")
        rows = ((seq, json.dumps({**entry, "seq": seq}).encode()) for seq, entry in enumerate(entries, start=1))
        connection.executemany("INSERT INTO records (seq, entry) VALUES (?, ?)", rows)
    connection.close()


@pytest.mark.requirement("AU-1", "ID-4")
def test_to_ask_for_ones_own_records_on_a_busy_log_reads_each_record_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.db"
    busy(path)
    module = sys.modules["securellm.audit.search"]
    read: Counter[str] = Counter()
    decode = module.__dict__["_head"]

    def counted(entry: bytes) -> object:
        read["records"] += 1
        return decode(entry)

    monkeypatch.setattr(module, "_head", counted)
    assert search(path, Wanted(tenant="quiet"), limit=50).records == ()
    assert read["records"] < 6 * 2 * REQUESTS
    found = search(path, Wanted(tenant="busy", types=frozenset({"OUTCOME"})), limit=REQUESTS * 2).records
    assert len(found) == REQUESTS, "of each its tenant is known all the same"
