"""The control database: short synchronous transactions, each write bumping the version that snapshots follow."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from securellm.core.errors import Code, Fault
from securellm.storage.errors import StorageConflict, StorageDamaged
from securellm.storage.schema import CONTROL_APPLICATION, CONTROL_VERSION, UNREADABLE, Connection, connect, prepare

T = TypeVar("T")

_SCHEMA = (
    """CREATE TABLE data_version (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  version INTEGER NOT NULL
) STRICT""",
)


class ControlStore:
    """control.db. Blocking: called from a thread or a command, never on the event loop. Safe to share by threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, schema: Sequence[str]) -> "ControlStore":
        """Open or create `path` with the slices' tables.

        Raises `StorageRefused` for a file of another schema, `StorageDamaged` for one that cannot be opened.
        """
        try:
            connection = connect(path)
            try:
                prepare(
                    connection,
                    (*_SCHEMA, *schema),
                    application=CONTROL_APPLICATION,
                    version=CONTROL_VERSION,
                    path=path,
                )
                connection.execute("INSERT OR IGNORE INTO data_version VALUES (1, 0)")
            except BaseException:
                connection.close()
                raise
        except UNREADABLE as error:
            raise StorageDamaged(
                f"the control database {path} cannot be opened: {error}",
                remedy="Restore it from a backup.",
            ) from error
        return cls(connection)

    @property
    def version(self) -> int:
        """Rises with every write, by whichever process; equal versions mean equal content."""
        return self.read(_version)

    def read(self, query: Callable[[Connection], T]) -> T:
        """What `query` finds, in one consistent view. Raises `Fault` (STORAGE_UNAVAILABLE)."""
        with self._transaction("BEGIN"):
            return query(self._connection)

    def write(self, change: Callable[[Connection], T]) -> T:
        """Do `change` durably, or not at all when it raises.

        Raises `StorageConflict` when it breaks a rule of the schema, `Fault` (STORAGE_UNAVAILABLE) when it cannot.
        """
        with self._transaction("BEGIN IMMEDIATE"):
            result = change(self._connection)
            self._connection.execute("UPDATE data_version SET version = version + 1")
            return result

    def close(self) -> None:
        """Fold the write-ahead log into the file and let it go."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock:
            try:
                self._connection.execute(begin)
                try:
                    yield
                    self._connection.execute("COMMIT")
                finally:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
            except sqlite3.IntegrityError as error:
                raise StorageConflict(
                    "the change contradicts what is stored", remedy="Use another name, or change what exists."
                ) from error
            except sqlite3.Error as error:
                raise Fault(Code.STORAGE_UNAVAILABLE, f"the control database failed: {error}") from error


def _version(connection: Connection) -> int:
    (version,) = connection.execute("SELECT version FROM data_version").fetchone()
    return int(version)
