"""How a database file is made, recognised and refused."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from securellm.storage.errors import StorageRefused

Connection = sqlite3.Connection

UNREADABLE = (sqlite3.Error, sqlite3.Warning, OSError, MemoryError, UnicodeDecodeError)
"""What opening or reading a file can raise when its bytes are wrong; SQLite's own messages may not be text."""

Operation = Callable[[Connection], None]
"""One step inside somebody else's transaction: it neither commits nor rolls back."""

PAGE_SIZE = 4096

LARGEST_IDLE_LOG = 64 * 1024 * 1024
"""A slow reader lets the write-ahead log grow; once it has gone, the file shrinks to this many bytes again."""

JOURNAL_APPLICATION = 0x534C_4A31
CONTROL_APPLICATION = 0x534C_4331

JOURNAL_VERSION = 1

PROFILE = (
    f"PRAGMA page_size = {PAGE_SIZE}",
    "PRAGMA auto_vacuum = NONE",
    "PRAGMA encoding = 'UTF-8'",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    f"PRAGMA journal_size_limit = {LARGEST_IDLE_LOG}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)

Objects = list[tuple[str, str, str, str | None]]
"""The rows of sqlite_schema that a schema makes: (type, name, table, SQL)."""


def connect(path: Path) -> Connection:
    """A connection that may be handed to one other thread; the file is made 0600 when it is missing."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def prepare(connection: Connection, statements: Sequence[str], *, application: int, version: int, path: Path) -> None:
    """Set the connection's profile; make the schema in an empty file, else demand exactly that schema.

    Raises `StorageRefused` when the file is somebody else's or of another version.
    """
    for pragma in PROFILE:
        connection.execute(pragma)
    found = (number(connection, "application_id"), number(connection, "user_version"))
    if found == (0, 0) and not objects(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute(f"PRAGMA user_version = {version}")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")
        return
    if found != (application, version) or objects(connection) != expected_objects(statements)[0]:
        raise StorageRefused(
            f"{path} holds version {found[1]} of a schema this release does not know",
            remedy="Use the release that wrote it, or restore the file from a backup.",
        )


def objects(connection: Connection) -> Objects:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid")
    return list(rows)


def expected_objects(statements: Sequence[str]) -> tuple[Objects, int]:
    """What `statements` make of an empty database: its objects and its schema cookie."""
    reference = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statement in statements:
            reference.execute(statement)
        return objects(reference), number(reference, "schema_version")
    finally:
        reference.close()


def number(connection: Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)
