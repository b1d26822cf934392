"""Damage to a write-ahead log, which SQLite itself takes for a crash, is told from one."""

import random
import shutil
from pathlib import Path

import pytest

from securellm.storage import Connection, GroupCommitWriter, Operation, StorageDamaged, lost_frames, open_readonly

SCHEMA = ("CREATE TABLE facts (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",)
TRANSACTIONS = 12
FRAME = 24 + 4096


def stating(number: int) -> Operation:
    def state(connection: Connection) -> None:
        connection.execute("INSERT INTO facts VALUES (?, ?)", (number, "x" * 200))

    return state


def killed(folder: Path) -> Path:
    """A database whose log holds an older generation's frames behind its own."""
    live = folder / "live"
    live.mkdir()
    writer = GroupCommitWriter.open(live / "audit.db", SCHEMA)
    for number in range(3 * TRANSACTIONS):
        writer.perform(stating(number))

    def restart(connection: Connection) -> None:
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        connection.execute("BEGIN IMMEDIATE")

    writer.perform(restart)
    for number in range(100, 100 + TRANSACTIONS):
        writer.perform(stating(number))
    shutil.copytree(live, folder / "killed")
    writer.close()
    return folder / "killed" / "audit.db"


def facts(path: Path) -> list[tuple[int, str]]:
    with open_readonly(path) as connection:
        return connection.execute("SELECT number, text FROM facts ORDER BY number").fetchall()


def test_a_sound_log_has_lost_nothing(tmp_path: Path) -> None:
    path = killed(tmp_path)
    assert lost_frames(path) == []
    assert lost_frames(tmp_path / "nothing.db") == []
    assert len(facts(path)) == 4 * TRANSACTIONS


def test_a_live_log_has_lost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)
    for number in range(20):
        writer.perform(stating(number))
        assert lost_frames(path) == []
    writer.close()
    assert lost_frames(path) == []


@pytest.mark.requirement("AU-4")
@pytest.mark.parametrize("index", ["kept", "gone"])
def test_a_changed_byte_is_damage_whenever_a_record_is_lost_by_it(tmp_path: Path, index: str) -> None:
    """Without the index, damage to the last two transactions looks like a crash, and only that."""
    path = killed(tmp_path)
    pristine = path.parent.rename(tmp_path / "pristine")
    shutil.copytree(pristine, path.parent)
    before = facts(path)
    shutil.rmtree(path.parent)
    wal = (pristine / "audit.db-wal").read_bytes()
    chosen = random.Random(6962)
    positions = [*range(32), *(chosen.randrange(len(wal)) for _ in range(150))]
    positions += [32 + FRAME * frame + offset for frame in range(len(wal) // FRAME) for offset in (0, 5, 9, 17, 23)]
    lost, found = 0, 0
    for position in positions:
        shutil.copytree(pristine, path.parent)
        damaged = bytearray(wal)
        damaged[position] ^= 1 << chosen.randrange(8)
        path.with_name("audit.db-wal").write_bytes(damaged)
        if index == "gone":
            path.with_name("audit.db-shm").unlink()
        problems = lost_frames(path)
        try:
            after = facts(path)
        except StorageDamaged:
            after = []
        if after != before:
            lost += 1
            found += bool(problems)
            assert problems or (index == "gone" and after in (before[:-1], before[:-2])), f"byte {position}"
        shutil.rmtree(path.parent)
    assert lost > 50
    assert found > 50


@pytest.mark.parametrize("cut", [1, 10, 24, 4000, FRAME - 1])
def test_a_last_frame_that_a_crash_cut_short_is_no_damage(tmp_path: Path, cut: int) -> None:
    path = killed(tmp_path)
    wal = path.with_name("audit.db-wal")
    own = next(
        frame for frame in range(wal.stat().st_size // FRAME) if _salt(wal, frame) != _salt(wal, 0)
    )  # the first frame of the older generation
    wal.write_bytes(wal.read_bytes()[: 32 + own * FRAME - cut])
    path.with_name("audit.db-shm").unlink()
    assert lost_frames(path) == []
    assert len(facts(path)) == 4 * TRANSACTIONS - 1


def _salt(wal: Path, frame: int) -> bytes:
    at = 32 + frame * FRAME + 8
    return wal.read_bytes()[at : at + 8]


@pytest.mark.parametrize("content", [b"", b"\0" * 32, b"\0" * 5000])
def test_an_empty_or_unwritten_log_is_no_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.db"
    GroupCommitWriter.open(path, SCHEMA).close()
    path.with_name("audit.db-wal").write_bytes(content)
    assert lost_frames(path) == []


def test_a_log_that_is_not_one_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    GroupCommitWriter.open(path, SCHEMA).close()
    path.with_name("audit.db-wal").write_bytes(b"garbage")
    assert lost_frames(path)
