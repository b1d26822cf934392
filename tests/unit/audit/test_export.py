"""Records taken out: the bytes that were hashed, in order, also while the log grows."""

from pathlib import Path

import pytest
from tests.unit.audit.logs import intent, looking, opened, write

from securellm.audit import export, tail
from securellm.storage import StorageDamaged


def test_each_line_is_the_entry_that_was_hashed(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent(number) for number in range(5)])
    lines = list(export(path))
    assert [line.removesuffix(b"\n") for line in lines] == [
        entry for (entry,) in looking(path, "SELECT entry FROM records ORDER BY seq")
    ]
    assert list(export(path, after=3)) == lines[3:]
    assert tail(path, 2) == lines[-2:]
    assert tail(path, 99) == lines


def test_a_growing_log_is_taken_out_without_holding_its_writer_back(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    with opened(path) as (writer, log):
        writer.perform(*(log.appending(intent(number)) for number in range(1_500)))
        reader = export(path)
        lines = [next(reader)]
        writer.perform(log.appending(intent(1_500)))
        lines += reader
        assert len(lines) == 1_501


def test_a_missing_log_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageDamaged, match="missing"):
        list(export(tmp_path / "audit.db"))
    with pytest.raises(StorageDamaged, match="missing"):
        tail(tmp_path / "audit.db", 1)
