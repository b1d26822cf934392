"""Look at a database file without ever writing to it, and say what is physically wrong with it."""

import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from securellm.storage.errors import StorageChanged, StorageDamaged
from securellm.storage.schema import (
    JOURNAL_APPLICATION,
    JOURNAL_VERSION,
    PAGE_SIZE,
    UNREADABLE,
    Connection,
    expected_objects,
    objects,
)

_HEADER = struct.Struct(">16sH6B12I20s2I")
_PRAGMAS = (
    ("application_id", JOURNAL_APPLICATION),
    ("user_version", JOURNAL_VERSION),
    ("encoding", "UTF-8"),
    ("auto_vacuum", 0),
)
_REMEDY = "Keep the files as evidence, and restore the directory from a backup."


@contextmanager
def open_readonly(path: Path) -> Iterator[Connection]:
    """One consistent view of `path`: of a live database, of one left by a killed process, of a read-only copy.

    Every error of the database or of reading it, also inside the block, becomes `StorageDamaged`; `StorageChanged`
    says at the end that a process began to write during the look at an idle file.
    """
    with ExitStack() as stack:
        try:
            if not path.is_file():
                raise StorageDamaged(f"{path} is missing", remedy="Name the right directory, or restore a backup.")
            before = _stamp(path)
            connection, still = _view(path, stack)
            yield connection
            changed = still and _stamp(path) != before
        except UNREADABLE as error:
            raise StorageDamaged(f"{path.name} cannot be read: {error}", remedy=_REMEDY) from error
        if changed:
            raise StorageChanged(f"{path.name} was opened for writing meanwhile", remedy="Look again.")


def damage(connection: Connection, path: Path, schema: Sequence[str]) -> list[str]:
    """What is wrong with the journal at `path` below the meaning of its rows; empty when nothing is.

    `connection` is a view of `path` made by `open_readonly`. Covers the file header, the page structure, the
    indexes; `lost_frames` covers the write-ahead log. Raises `StorageDamaged` when an object of the schema differs, for
    then nothing that a query finds means anything.
    """
    wanted, cookie = expected_objects(schema)
    if objects(connection) != wanted:
        raise StorageDamaged(f"the schema of {path.name} is not the one this release writes", remedy=_REMEDY)
    problems = _header_damage(path, cookie)
    for pragma, value in (*_PRAGMAS, ("schema_version", cookie)):
        if connection.execute(f"PRAGMA {pragma}").fetchone() != (value,):
            problems.append(f"{pragma} is not {value}")
    problems += [f"integrity: {row[0]}" for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
    problems += [f"foreign key of {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")]
    return problems


def _view(path: Path, stack: ExitStack) -> tuple[Connection, bool]:
    """A connection, and whether it trusts the file to lie still."""
    # With no write-ahead log nobody writes, and SQLite must not be allowed to make one: it would stay behind.
    if not _in_use(path):
        return stack.enter_context(_begin(path, "mode=ro&immutable=1")), True
    try:
        return stack.enter_context(_begin(path, "mode=ro")), False
    except sqlite3.OperationalError:
        # A log without its shared memory in a folder that cannot be written: only a copy can be recovered.
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="securellm-")), path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(_wal(path), _wal(copy))
        return stack.enter_context(_begin(copy, "mode=ro")), False


@contextmanager
def _begin(path: Path, options: str) -> Iterator[Connection]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None)
    try:
        connection.text_factory = _text
        for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON", "busy_timeout = 5000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield connection
    finally:
        connection.close()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _in_use(path: Path) -> bool:
    wal = _wal(path)
    return wal.exists() and (wal.stat().st_size > 0 or path.with_name(path.name + "-shm").exists())


def _header_damage(path: Path, cookie: int) -> list[str]:
    """Every field of the file header (sqlite.org/fileformat2, 1.3) that a reader acts on, against what we write."""
    with path.open("rb") as file:
        raw = file.read(_HEADER.size)
    if len(raw) < _HEADER.size:
        return ["the file is shorter than its header"]
    (
        magic, page_size, write_form, read_form, reserved, most, least, leaf, changes, pages, _, _, schema_cookie,
        schema_form, cache, largest_root, encoding, version, vacuum, application, zeros, valid_for, library,
    ) = _HEADER.unpack(raw)  # fmt: skip
    expected: dict[str, tuple[object, object]] = {
        "magic": (magic, b"SQLite format 3\0"),
        "page size": (page_size, PAGE_SIZE),
        "format": ((write_form, read_form), (2, 2)),
        "reserved space": (reserved, 0),
        "payload fractions": ((most, least, leaf), (64, 32, 32)),
    }
    if not _in_use(path):  # Else the log may hold a newer first page, which the pragmas speak of.
        expected |= {
            "change counter": (changes, valid_for),
            "page count": (pages * PAGE_SIZE, path.stat().st_size),
            "schema cookie": (schema_cookie, cookie),
            "schema format": (schema_form, 4),
            "cache size": (cache, 0),
            "vacuum mode": ((largest_root, vacuum), (0, 0)),
            "text encoding": (encoding, 1),
            "user version": (version, JOURNAL_VERSION),
            "application id": (application, JOURNAL_APPLICATION),
            "expansion bytes": (zeros, bytes(20)),
            "library version": (library // 1_000_000, 3),
        }
    return [f"file header: {name}" for name, (found, wanted) in expected.items() if found != wanted]
