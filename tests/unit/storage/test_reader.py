"""Read-only views: they see everything durable, and leave nothing behind."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from securellm.storage import Connection, GroupCommitWriter, Operation, StorageChanged, StorageDamaged, open_readonly

SCHEMA = ("CREATE TABLE facts (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",)


def stating(number: int) -> Operation:
    def state(connection: Connection) -> None:
        connection.execute("INSERT INTO facts VALUES (?, ?)", (number, "x" * 50))

    return state


def count(path: Path) -> int:
    with open_readonly(path) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM facts").fetchone()
        return int(rows)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def written(folder: Path, *, killed: bool) -> Path:
    """A database of ten facts, closed, or as a killed process leaves it."""
    live = folder / "live"
    live.mkdir()
    writer = GroupCommitWriter.open(live / "audit.db", SCHEMA)
    for number in range(10):
        writer.perform(stating(number))
    target = folder / "target"
    if killed:
        shutil.copytree(live, target)
        writer.close()
    else:
        writer.close()
        shutil.copytree(live, target)
    return target / "audit.db"


def test_a_live_database_is_seen_whole_and_keeps_working(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)
    writer.perform(stating(1))
    with open_readonly(path) as connection:
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (1,)
        writer.perform(stating(2))
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (1,), "one consistent view"
    assert count(path) == 2
    writer.close()


def test_a_closed_database_is_left_exactly_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, killed=False)
    before = files(path.parent)
    assert count(path) == 10
    assert files(path.parent) == before


def test_what_a_killed_process_left_is_read_with_its_log(tmp_path: Path) -> None:
    path = written(tmp_path, killed=True)
    assert count(path) == 10
    wal = path.with_name("audit.db-wal")
    assert wal.stat().st_size > 0


def test_a_log_that_cannot_be_recovered_in_place_is_recovered_in_a_copy(tmp_path: Path) -> None:
    path = written(tmp_path, killed=True)
    path.with_name("audit.db-shm").unlink()
    # A folder where the shared memory should be stands for a folder that cannot be written (root may write any).
    path.with_name("audit.db-shm").mkdir()
    before = files(path.parent)
    assert count(path) == 10
    assert files(path.parent) == before


def test_writing_through_a_view_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, killed=False)
    with pytest.raises(StorageDamaged), open_readonly(path) as connection:
        connection.execute("DELETE FROM facts")
    assert count(path) == 10


def test_every_error_of_looking_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path, killed=False)
    with pytest.raises(StorageDamaged), open_readonly(path) as connection:
        connection.execute("SELECT * FROM nowhere")
    for missing in (tmp_path / "nothing.db", tmp_path):
        with pytest.raises(StorageDamaged), open_readonly(missing):
            pytest.fail("opened")
    path.write_bytes(b"")
    with pytest.raises(StorageDamaged), open_readonly(path) as connection:
        connection.execute("SELECT * FROM facts")


def test_a_writer_that_came_meanwhile_is_told_from_damage(tmp_path: Path) -> None:
    path = written(tmp_path, killed=False)

    def another_process() -> None:
        writer = GroupCommitWriter.open(path, SCHEMA)
        writer.perform(stating(11))
        writer.close()

    with pytest.raises(StorageChanged), open_readonly(path):
        another_process()
    assert count(path) == 11


def test_text_that_is_not_utf8_is_read_without_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, killed=False)
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO facts VALUES (11, CAST(x'ff41' AS TEXT))")
    other.close()
    with open_readonly(path) as connection:
        assert connection.execute("SELECT text FROM facts WHERE number = 11").fetchone() == ("\\xffA",)
