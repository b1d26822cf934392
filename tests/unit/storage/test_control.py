"""The control database: whole writes, one version that every writer moves, refusals that name a remedy."""

import sqlite3
import threading
from pathlib import Path

import pytest

from securellm.core.errors import Code, Fault
from securellm.storage import Connection, ControlStore, StorageConflict, StorageDamaged, StorageRefused

SCHEMA = ("CREATE TABLE names (name TEXT PRIMARY KEY) STRICT",)


def adding(store: ControlStore, name: str) -> None:
    def add(connection: Connection) -> None:
        connection.execute("INSERT INTO names VALUES (?)", (name,))

    store.write(add)


def names(store: ControlStore) -> list[str]:
    return store.read(lambda connection: [name for (name,) in connection.execute("SELECT name FROM names")])


def test_every_write_moves_the_version_for_every_process_and_reads_do_not(tmp_path: Path) -> None:
    store = ControlStore.open(tmp_path / "control.db", SCHEMA)
    other = ControlStore.open(tmp_path / "control.db", SCHEMA)
    assert store.version == other.version == 0
    adding(store, "one")
    adding(other, "two")
    assert store.version == other.version == 2
    assert sorted(names(store)) == ["one", "two"]
    assert store.version == 2
    store.close()
    other.close()
    assert [file.name for file in tmp_path.iterdir()] == ["control.db"]
    again = ControlStore.open(tmp_path / "control.db", SCHEMA)
    assert again.version == 2
    again.close()


def test_a_write_that_raises_changes_nothing(tmp_path: Path) -> None:
    store = ControlStore.open(tmp_path / "control.db", SCHEMA)

    def half(connection: Connection) -> None:
        connection.execute("INSERT INTO names VALUES ('half')")
        raise LookupError("no such tenant")

    with pytest.raises(LookupError):
        store.write(half)
    assert names(store) == []
    assert store.version == 0
    store.close()


def test_a_name_taken_twice_is_a_conflict(tmp_path: Path) -> None:
    store = ControlStore.open(tmp_path / "control.db", SCHEMA)
    adding(store, "one")
    with pytest.raises(StorageConflict):
        adding(store, "one")
    assert store.version == 1
    store.close()


def test_an_error_of_the_database_is_a_fault(tmp_path: Path) -> None:
    store = ControlStore.open(tmp_path / "control.db", SCHEMA)
    with pytest.raises(Fault) as fault:
        store.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert fault.value.code is Code.STORAGE_UNAVAILABLE
    store.close()
    with pytest.raises(Fault):
        names(store)


def test_threads_share_one_store(tmp_path: Path) -> None:
    store = ControlStore.open(tmp_path / "control.db", SCHEMA)

    def add_twenty(part: int) -> None:
        for number in range(20):
            adding(store, f"{part} {number}")

    threads = [threading.Thread(target=add_twenty, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert store.version == 80
    assert len(names(store)) == 80
    store.close()


@pytest.mark.requirement("ST-1")
def test_an_unknown_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    ControlStore.open(path, SCHEMA).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StorageRefused) as refused:
        ControlStore.open(path, SCHEMA)
    assert "99" in refused.value.reason


def test_a_file_that_is_not_a_database_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    path.write_bytes(b"?" * 8192)
    with pytest.raises(StorageDamaged):
        ControlStore.open(path, SCHEMA)
