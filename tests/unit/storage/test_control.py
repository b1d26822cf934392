"""The control database as a file: how it is made, recognised, refused, brought up to date and left behind."""

import sqlite3
import stat
import threading
from contextlib import closing
from operator import methodcaller
from pathlib import Path

import pytest
from sqlalchemy import Column, create_engine, select, text

from securellm.core.errors import Code, Fault
from securellm.storage import (
    METADATA,
    TEXT,
    ControlStore,
    StorageDamaged,
    StorageRefused,
    migrating,
    open_readonly,
    tenant_table,
)
from securellm.storage.schema import CONTROL_APPLICATION
from securellm.storage.tables import DATA_VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.db"


@pytest.fixture
def made(path: Path) -> Path:
    ControlStore.open(path, migrate=True).close()
    return path


def altered(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(path: Path, *, migrate: bool = True) -> StorageRefused:
    with pytest.raises(StorageRefused) as error:
        ControlStore.open(path, migrate=migrate)
    return error.value


def test_a_new_file_is_private_recognisable_and_the_only_one_left_behind(path: Path) -> None:
    store = ControlStore.open(path, migrate=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.version == 0
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["control.db"]
    with open_readonly(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (CONTROL_APPLICATION,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrating.REVISIONS),)
    assert path.read_bytes()[18:20] == b"\2\2", "a write-ahead log"


def test_every_table_of_the_control_plane_is_strict(made: Path) -> None:
    with open_readonly(made) as connection:
        strict = {name: strict for _, name, _, _, _, strict in connection.execute("PRAGMA table_list")}
    for table in METADATA.tables:
        assert strict[table] == 1, table


def test_connections_keep_the_profile_of_the_journal(made: Path) -> None:
    store = ControlStore.open(made, migrate=True)
    wanted = {"foreign_keys": 1, "synchronous": 2, "trusted_schema": 0, "cell_size_check": 1, "busy_timeout": 5000}
    for pragma, value in wanted.items():
        row = store.read(methodcaller("row", text(f"PRAGMA {pragma}")))
        assert row is not None
        assert row[0] == value, pragma
    store.close()


@pytest.mark.requirement("ST-1")
def test_a_schema_of_another_release_is_refused_before_anything_is_read(made: Path) -> None:
    altered(made, "UPDATE control_schema SET version_num = '9999'")
    assert "does not know" in refused(made).reason
    altered(made, "UPDATE control_schema SET version_num = '0001'", "PRAGMA user_version = 99")
    assert "does not know" in refused(made).reason
    altered(made, "PRAGMA user_version = 1", "DELETE FROM control_schema")
    assert "does not know" in refused(made).reason
    altered(made, "DROP TABLE control_schema")
    assert "does not know" in refused(made).reason


@pytest.mark.requirement("ST-1")
def test_somebody_elses_database_is_refused_and_not_written_to(path: Path) -> None:
    altered(path, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    for migrate in (True, False):
        assert "does not know" in refused(path, migrate=migrate).reason
    altered(path, f"PRAGMA application_id = {CONTROL_APPLICATION}")
    assert "does not know" in refused(path).reason
    with open_readonly(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


@pytest.mark.requirement("ST-1")
def test_a_table_that_is_gone_or_has_other_columns_is_refused(made: Path) -> None:
    altered(made, "ALTER TABLE changes ADD COLUMN more TEXT")
    assert "table changes" in refused(made).reason
    altered(made, "DROP TABLE changes")
    assert "table changes" in refused(made).reason


def test_a_file_that_is_not_a_database_is_damage(path: Path) -> None:
    path.write_bytes(b"?" * 8192)
    with pytest.raises(StorageDamaged):
        ControlStore.open(path, migrate=True)


def test_a_damaged_page_is_damage_or_a_fault_and_never_a_traceback_of_the_driver(made: Path) -> None:
    whole = made.read_bytes()
    codes: set[Code] = set()
    for page in range(len(whole) // 4096):
        broken = bytearray(whole)
        broken[page * 4096 + (100 if page == 0 else 0) : (page + 1) * 4096] = b"\xff" * (
            4096 - (100 if page == 0 else 0)
        )
        made.write_bytes(bytes(broken))
        try:
            store = ControlStore.open(made, migrate=True)
        except (StorageDamaged, StorageRefused):
            continue
        try:
            for table in METADATA.sorted_tables:
                store.read(methodcaller("rows", select(table)))
        except Fault as fault:
            codes.add(fault.code)
        store.close()
    assert codes == {Code.STORAGE_UNAVAILABLE}


def test_a_path_that_cannot_be_a_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(StorageDamaged):
        ControlStore.open(tmp_path, migrate=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageDamaged):
        ControlStore.open(tmp_path / "link", migrate=True)
    assert not (tmp_path / "elsewhere").exists()


def test_many_who_open_a_new_file_at_once_make_it_once(path: Path) -> None:
    opened: list[ControlStore] = []

    def open_it() -> None:
        opened.append(ControlStore.open(path, migrate=True))

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [store.version for store in opened] == [0] * 6
    for store in opened:
        store.close()


def test_a_closed_store_and_one_held_by_another_writer_fail_as_faults(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ControlStore.open(made, migrate=True)
    with closing(sqlite3.connect(made, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.read(lambda session: session.row(text("PRAGMA busy_timeout = 1")))
        with pytest.raises(Fault) as fault:
            store.write(lambda session: session.note("key", tenant="a", name="k"))
        assert fault.value.code is Code.STORAGE_UNAVAILABLE
        assert store.version == 0
    store.close()


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A release that has made one more step than ours, `0002`: it adds the table `later`."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    ours = Path(migrating.__file__).parent / "migrations"
    for name in ("env.py", "versions/v0001.py"):
        (folder / name).write_text((ours / name).read_text())
    (folder / "versions" / "v0002.py").write_text(
        'from alembic import op\nrevision = "0002"\ndown_revision = "0001"\n'
        "def upgrade():\n"
        "    op.execute('CREATE TABLE later (x TEXT) STRICT')\n"
        "    op.execute('INSERT INTO later SELECT name FROM changes')\n"
    )
    monkeypatch.setattr(migrating, "REVISIONS", ("0001", "0002"))
    monkeypatch.setattr(migrating, "FOLDER", folder)
    return folder


@pytest.mark.requirement("ST-1")
def test_an_older_file_is_refused_or_brought_up_to_date_with_what_it_holds(made: Path, two_steps: Path) -> None:
    altered(made, "INSERT INTO changes VALUES (1, 0, 'key', 'a', 'kept')")
    behind = refused(made, migrate=False)
    assert "not up to date" in behind.reason
    assert "securellm db migrate" in behind.remedy
    with open_readonly(made) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    ControlStore.open(made, migrate=True).close()
    with open_readonly(made) as connection:
        assert connection.execute("SELECT x FROM later").fetchall() == [("kept",)]
        assert connection.execute("SELECT version_num FROM control_schema").fetchall() == [("0002",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


@pytest.mark.requirement("ST-1")
def test_a_newer_file_is_refused(made: Path, two_steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ControlStore.open(made, migrate=True).close()
    monkeypatch.setattr(migrating, "REVISIONS", ("0001",))
    assert "does not know" in refused(made).reason


@pytest.mark.requirement("ST-1")
def test_a_step_that_fails_leaves_the_file_as_it_was(made: Path, two_steps: Path) -> None:
    step = two_steps / "versions" / "v0002.py"
    step.write_text(step.read_text() + "    op.execute('INSERT INTO nowhere VALUES (1)')\n")
    before = made.read_bytes()
    assert "nowhere" in refused(made).reason
    with open_readonly(made) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema WHERE name = 'later'").fetchall() == []
        assert connection.execute("SELECT version_num FROM control_schema").fetchall() == [("0001",)]
    assert len(made.read_bytes()) == len(before)


def test_a_table_whose_columns_do_not_fit_both_engines_is_noticed_at_once() -> None:
    from sqlalchemy import MetaData, String, exc

    metadata = MetaData()
    tenant_table("wrong", Column("id", String, primary_key=True), metadata=metadata)
    tenant_table("right", Column("id", TEXT, primary_key=True), metadata=metadata)
    engine = create_engine("sqlite://")
    metadata.tables["right"].create(engine)
    with pytest.raises(exc.DBAPIError, match="unknown datatype"):
        metadata.tables["wrong"].create(engine)
    engine.dispose()
    assert DATA_VERSION.name in METADATA.tables
