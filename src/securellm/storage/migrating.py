"""Bring a schema up to date, one step after another under a lock; refuse one that is not ours to serve."""

import sqlite3
from pathlib import Path

import msgspec
from sqlalchemy import Connection, create_engine, exc, inspect, text
from sqlalchemy.pool import StaticPool

from securellm.storage.archive import ARCHIVE
from securellm.storage.errors import StorageDamaged, StorageRefused
from securellm.storage.schema import CONTROL_APPLICATION, PROFILE, UNREADABLE, connect, number, objects
from securellm.storage.tables import METADATA

REVISIONS = ("0001",)
"""Every schema there has been, oldest first. The last is the one this release serves."""

FOLDER = Path(__file__).with_name("migrations")
"""Where the steps are."""

VERSION_TABLE = "control_schema"
"""Where the revision of a database is written."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a schema is."""

    revision: str | None
    """None: there is nothing yet."""
    pending: tuple[str, ...]
    """The steps still to be made, in order."""


def prepare_sqlite(path: Path, *, migrate: bool) -> None:
    """Make the file at `path` the control database of this release, or refuse it.

    A file that is missing or empty is made; one of an older release is brought up to date when `migrate` is true.
    Raises `StorageRefused`, and `StorageDamaged` for a file that cannot be read.
    """
    try:
        raw = connect(path)
        try:
            _prepare(raw, path, migrate=migrate)
        finally:
            raw.close()
    except (*UNREADABLE, exc.DBAPIError) as error:
        raise StorageDamaged(
            f"the control database {path} cannot be opened: {error}", remedy="Restore it from a backup."
        ) from error


def standing(connection: Connection, name: str) -> Standing:
    """How far the schema is that `connection` sees. Raises `StorageRefused` when it is none of ours."""
    inspector = inspect(connection)
    if not inspector.has_table(VERSION_TABLE):
        if inspector.get_table_names():
            raise _unknown(name)
        return Standing(revision=None, pending=REVISIONS)
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()  # noqa: S608 - names of ours
    if len(found) != 1 or found[0] not in REVISIONS:
        raise _unknown(name)
    return Standing(revision=found[0], pending=REVISIONS[REVISIONS.index(found[0]) + 1 :])


def upgrade(connection: Connection, name: str) -> None:
    """Make every pending step inside the caller's transaction, which holds the lock. Raises `StorageRefused`."""
    # Imported here, because a start with nothing to do should not pay for it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, REVISIONS[-1])
    except exc.DBAPIError as error:
        # What PostgreSQL says beyond its first line may quote rows.
        said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or error.orig
        raise StorageRefused(
            f"a step of the migration of {name} failed: {said}",
            remedy="Nothing was changed. Try again when nobody uses it; report it when that does not help.",
        ) from error


def demand_current(connection: Connection, name: str) -> None:
    """Raise `StorageRefused` unless the schema is this release's: its revision, and every table with its columns."""
    if standing(connection, name).pending:
        raise StorageRefused(
            f"the schema of {name} is not up to date", remedy="Back it up, then run `securellm db migrate`."
        )
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    if connection.dialect.name == "postgresql" and not present.issuperset(ARCHIVE):
        raise StorageRefused(
            f"{name} has lost the tables that journals are shipped to", remedy="Restore it from a backup."
        )
    for table in METADATA.tables.values():
        columns = {column["name"] for column in inspector.get_columns(table.name)} if table.name in present else set()
        if columns != set(table.columns.keys()):
            raise StorageRefused(
                f"the table {table.name} of {name} is not the one this release uses",
                remedy="Use the release that wrote it, or restore it from a backup.",
            )


def _prepare(raw: sqlite3.Connection, path: Path, *, migrate: bool) -> None:
    for pragma in PROFILE:
        raw.execute(pragma)
    name = str(path)
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    with engine.connect() as connection:
        # The lock: whoever comes second finds the work done.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if objects(raw):
            if number(raw, "application_id") != CONTROL_APPLICATION:
                raise _unknown(name)
            found = standing(connection, name)
            if found.revision is None or number(raw, "user_version") != REVISIONS.index(found.revision) + 1:
                raise _unknown(name)
            migrate = migrate and bool(found.pending)
        else:
            migrate = True
        if migrate:
            upgrade(connection, name)
            connection.exec_driver_sql(f"PRAGMA application_id = {CONTROL_APPLICATION}")
            connection.exec_driver_sql(f"PRAGMA user_version = {len(REVISIONS)}")
        demand_current(connection, name)
        connection.commit()


def _unknown(name: str) -> StorageRefused:
    return StorageRefused(
        f"{name} holds a schema that this release does not know",
        remedy="Use the release that wrote it, or restore it from a backup.",
    )
