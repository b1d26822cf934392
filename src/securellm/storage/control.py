"""The control plane's store: whole transactions in one scope, and the version that snapshots follow."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, select

from securellm.core.randomness import SystemRandomness
from securellm.storage.address import is_postgres
from securellm.storage.engines import Database, SqliteDatabase, translated
from securellm.storage.errors import StorageRefused
from securellm.storage.migrating import demand_current, prepare_sqlite
from securellm.storage.scope import EVERYWHERE, Scope
from securellm.storage.session import Note, Session
from securellm.storage.tables import CHANGES, DATA_VERSION
from securellm.storage.walls import demand_walls

T = TypeVar("T")

KEPT = 10_000
"""Versions whose changes are kept: who is further behind reads everything anew."""

_WRITE = "write"
"""The kind of the row that each write leaves, with its stamp."""


class Change(msgspec.Struct, frozen=True):
    """One thing that a write changed."""

    version: int
    kind: str
    tenant: str
    name: str


class Changes(msgspec.Struct, frozen=True):
    """What happened after some version. Unless `complete`, anything may have."""

    version: int
    complete: bool
    items: tuple[Change, ...]
    stamp: str
    """Given to the write that made `version`, and to no other: it tells two histories with equal numbers apart."""


class ControlStore:
    """The control plane. Blocking: called from a thread or a command, never on the event loop. Threads may share it.

    Writes are one after another, over all processes; a read sees one moment.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, location: str | Path, *, migrate: bool, password: Callable[[], str] | None = None) -> "ControlStore":
        """The store at `location`: the path of a SQLite file, or a `postgresql://` address without a password.

        `migrate` brings an older file up to date; a missing one is always made. A server's schema is brought up to
        date by `securellm db migrate` alone. `password` is asked for each new connection to a server.
        Raises `StorageRefused` for a schema that is unknown, not up to date or not behind its walls,
        `StorageDamaged` for a file that cannot be read, `Fault` (STORAGE_UNAVAILABLE) for a server out of reach.
        """
        if isinstance(location, str) and is_postgres(location):
            return cls(_postgres(location, password))
        path = Path(location)
        prepare_sqlite(path, migrate=migrate)
        return cls(SqliteDatabase(path))

    @property
    def version(self) -> int:
        """Rises with every write, by whichever process; equal versions mean equal content."""
        return self.read(_version)

    def changes(self, after: int, *, stamp: str | None = None) -> Changes:
        """What was written since the version `after`, in order.

        `stamp` is that version's, where it is known: a server that took over, or was restored, without the last
        writes gives their numbers again to others.
        """
        return self.read(lambda session: _changes(session, after, stamp))

    def read(self, query: Callable[[Session], T], *, scope: Scope = EVERYWHERE) -> T:
        """What `query` finds, in one consistent view. Raises `Fault` (STORAGE_UNAVAILABLE)."""
        with (
            translated(self._database.name),
            self._database.transaction(scope, writing=False) as connection,
        ):
            return query(Session(connection, scope, writing=False, database=self._database.name))

    def write(
        self,
        change: Callable[[Session], T],
        *,
        scope: Scope = EVERYWHERE,
        before_commit: Callable[[T], None] | None = None,
    ) -> T:
        """Do `change` durably, or not at all when it raises. Both callables run once.

        `before_commit` sees the result once everything but the COMMIT is done; when it raises, nothing is changed.
        Raises `StorageConflict` when a unique or foreign key forbids it, `Fault` (STORAGE_UNAVAILABLE) when it cannot.
        """
        with (
            translated(self._database.name),
            self._database.transaction(scope, writing=True) as connection,
        ):
            # First of all, because its row is the lock that writers of every process wait for.
            version = connection.exec_driver_sql(_RISE).scalar_one()
            session = Session(connection, scope, writing=True, database=self._database.name)
            result = change(session)
            if session.failure is not None:
                raise session.failure
            self._keep(connection, version, session)
            self._database.announce(connection, version)
            if before_commit is not None:
                before_commit(result)
            return result

    def listen(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with each new version, in a thread of the store's, until the returned callable is called.

        A hint and no more: versions may be skipped or never announced, so whoever follows also looks now and then.
        """
        return self._database.listen(callback)

    def close(self) -> None:
        """Let the database go; of a file, fold its write-ahead log into it."""
        self._database.close()

    def _keep(self, connection: Connection, version: int, session: Session) -> None:
        notes = session.notes or ([Note("", "", "")] if session.untold else [])
        stamp = Note(_WRITE, "", SystemRandomness().token(8).hex())
        mark = self._database.mark
        connection.exec_driver_sql(
            f"INSERT INTO changes (version, place, kind, tenant, name) VALUES ({', '.join([mark] * 5)})",  # noqa: S608 - names of ours
            [(version, place, note.kind, note.tenant, note.name) for place, note in enumerate((stamp, *notes))],
        )
        connection.exec_driver_sql(f"DELETE FROM changes WHERE version <= {mark}", (version - KEPT,))  # noqa: S608 - names of ours


# As text, because the scope of a tenant has no words for the tables of the installation.
_RISE = "UPDATE data_version SET version = version + 1 RETURNING version"
_VERSION = select(DATA_VERSION.c.version)


def demand_driver() -> None:
    """Raise `StorageRefused` when the driver for PostgreSQL, which is an extra, is not installed."""
    if find_spec("psycopg") is None:
        raise StorageRefused(
            "PostgreSQL needs a driver that is not installed",
            remedy="Install securellm-bridge[postgres], or keep the control plane in a folder of SQLite files.",
        )


def _postgres(url: str, password: Callable[[], str] | None) -> Database:
    demand_driver()
    from securellm.storage.postgres import PostgresDatabase

    database = PostgresDatabase(url, password=password)
    try:
        with translated(database.name), database.transaction(EVERYWHERE, writing=False) as connection:
            demand_current(connection, database.name)
            demand_walls(connection, database.name)
    except BaseException:
        database.close()
        raise
    return database


def _version(session: Session) -> int:
    row = session.row(_VERSION)
    assert row is not None
    return int(row.version)


def _changes(session: Session, after: int, stamp: str | None) -> Changes:
    version = _version(session)
    rows = session.rows(select(CHANGES).where(CHANGES.c.version >= after).order_by(CHANGES.c.version, CHANGES.c.place))
    stamps = {row.version: str(row.name) for row in rows if row.kind == _WRITE}
    told = [row for row in rows if row.version > after and row.kind != _WRITE]
    # A version beyond ours, or with another stamp, was read from a database that has since lost it.
    same = after <= version and stamp in (None, stamps.get(after, ""))
    complete = same and version - KEPT <= after and all(row.kind for row in told)
    items = tuple(Change(row.version, row.kind, row.tenant, row.name) for row in told)
    return Changes(version, complete, items if complete else (), stamps.get(version, ""))
