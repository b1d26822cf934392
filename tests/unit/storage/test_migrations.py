"""The numbered steps: one line of them, and what they make is what the slices declare, on both engines."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine
from tests.postgres import ROLES, Database, migrate
from tests.unit.storage.declared import declared

from securellm.storage import METADATA, ControlStore
from securellm.storage.migrating import FOLDER, REVISIONS, VERSION_TABLE

_CATALOG = (
    """SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
    FROM information_schema.columns WHERE table_schema = 'public'""",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
)

ARCHIVE = ("audit_records", "audit_shipped")
"""Tables that no slice declares, because a file has none: what journals are shipped to, and its partitions."""


@pytest.fixture(scope="module", autouse=True)
def every_table() -> MetaData:
    return declared()


def test_the_steps_are_one_line_forwards_in_the_order_of_their_numbers() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    steps = list(reversed(list(ScriptDirectory.from_config(config).walk_revisions())))
    assert tuple(step.revision for step in steps) == REVISIONS
    assert [step.down_revision for step in steps] == [None, *REVISIONS[:-1]]
    for step in steps:
        assert Path(step.path).name == f"v{step.revision}.py"
        assert not hasattr(step.module, "downgrade")


def test_every_table_says_whether_its_rows_belong_to_tenants() -> None:
    for table in METADATA.tables.values():
        scoped = table.info["tenant_scoped"]
        assert not scoped or not table.c.tenant.nullable, table.name
        assert table.dialect_options["sqlite"]["strict"], table.name
        for column in table.columns:
            home = type(column.type).__module__
            known = home == "securellm.storage.columns" or column.type._variant_mapping or str(column.type) == "BLOB"
            assert known, f"{table.name}.{column.name} has a type of its own"


def differences(connection: Connection) -> list[Any]:
    def ours(_item: object, name: str | None, kind: str, _reflected: bool, _compare: object) -> bool:
        return not (kind == "table" and name is not None and (name == VERSION_TABLE or name.startswith(ARCHIVE)))

    options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


@pytest.mark.requirement("ST-1")
def test_the_steps_make_in_a_file_what_the_slices_declare(tmp_path: Path) -> None:
    ControlStore.open(tmp_path / "control.db", migrate=True).close()
    found = []
    for name in ("control.db", "declared.db"):
        engine = create_engine(f"sqlite:///{tmp_path / name}")
        with engine.begin() as connection:
            if name == "declared.db":
                METADATA.create_all(connection)
            else:
                assert differences(connection) == []
            rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_schema")
            found.append(sorted(str(row) for row in rows if VERSION_TABLE not in row.name))
        engine.dispose()
    assert found[0] == found[1]


@pytest.mark.requirement("ST-1")
def test_the_steps_make_in_postgresql_what_the_slices_declare(postgres: Database, empty_postgres: Database) -> None:
    found = []
    for database in (postgres, empty_postgres):
        engine = create_engine(
            database.url("keeper").replace("postgresql:", "postgresql+psycopg:"),
            connect_args={"password": ROLES["keeper"]},
        )
        with engine.begin() as connection:
            if database is empty_postgres:
                METADATA.create_all(connection)
            else:
                assert differences(connection) == []
            rows = [row for query in _CATALOG for row in connection.exec_driver_sql(query).all()]
            declared_ones = [row for row in rows if VERSION_TABLE not in row[0] and not row[0].startswith(ARCHIVE)]
            found.append(sorted(str(row) for row in declared_ones))
        engine.dispose()
    assert found[0] == found[1]


def test_migrating_again_changes_nothing(postgres: Database) -> None:
    migrate(postgres)
    with postgres.connect() as connection:
        assert connection.execute("SELECT version, one FROM data_version").fetchall() == [(0, 1)]


def test_the_archive_of_journals_is_in_postgresql_alone_in_partitions_with_their_indexes(
    postgres: Database, tmp_path: Path
) -> None:
    assert not {name for name in declared().tables if name.startswith(ARCHIVE)}
    ControlStore.open(tmp_path / "control.db", migrate=True).close()
    engine = create_engine(f"sqlite:///{tmp_path / 'control.db'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT name FROM sqlite_schema WHERE name LIKE 'audit%'").all() == []
    engine.dispose()
    with postgres.connect() as connection:
        strategy = connection.execute(
            "SELECT pg_get_partkeydef(oid) FROM pg_class WHERE relname = 'audit_records'"
        ).fetchall()
        indexes = connection.execute(
            "SELECT substring(indexdef FROM 'USING.*') FROM pg_indexes WHERE tablename = 'audit_records' ORDER BY 1"
        ).fetchall()
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_name IN ('audit_records', 'audit_shipped') ORDER BY table_name, ordinal_position"
        ).fetchall()
    assert strategy == [("RANGE (at_us)",)]
    assert indexes == [
        ("USING brin (at_us)",),
        ("USING btree (tenant, at_us)",),
        ("USING btree (writer, seq, at_us)",),
    ]
    assert columns == [
        ("audit_records", "tenant", "text", "NO"),
        ("audit_records", "writer", "text", "NO"),
        ("audit_records", "seq", "bigint", "NO"),
        ("audit_records", "at_us", "bigint", "NO"),
        ("audit_records", "type", "text", "NO"),
        ("audit_records", "request_id", "text", "YES"),
        ("audit_records", "entry", "bytea", "NO"),
        ("audit_records", "record", "jsonb", "NO"),
        ("audit_shipped", "writer", "text", "NO"),
        ("audit_shipped", "seq", "bigint", "NO"),
        ("audit_shipped", "head", "bytea", "NO"),
    ]
