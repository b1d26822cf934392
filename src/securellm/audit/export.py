"""Take records out: one JSON line each, exactly the bytes that were hashed."""

from collections.abc import Iterator
from pathlib import Path

from securellm.storage import StorageDamaged, open_readonly

_PAGE = 1_000


def export(path: Path, *, after: int = 0) -> Iterator[bytes]:
    """Every record after position `after`, oldest first, each a line. Raises `StorageDamaged` where reading ends.

    A live log is read in short views, so that a slow reader never holds its write-ahead log back; records that arrive
    meanwhile are included.
    """
    while True:
        with open_readonly(path) as connection:
            query = "SELECT seq, entry FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
            rows = connection.execute(query, (after, _PAGE)).fetchall()
        for seq, entry in rows:
            yield entry + b"\n"
            after = seq
        if len(rows) < _PAGE:
            return


def tail(path: Path, count: int) -> list[bytes]:
    """The newest `count` records, oldest first, each a line. Raises `StorageDamaged`."""
    with open_readonly(path) as connection:
        rows = connection.execute("SELECT entry FROM records ORDER BY seq DESC LIMIT ?", (count,)).fetchall()
    return [entry + b"\n" for (entry,) in reversed(rows)]


def verifier_key(path: Path) -> str:
    """The public key the log says it is signed with. Raises `StorageDamaged`."""
    with open_readonly(path) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = 'vkey'").fetchone()
    if row is None:
        raise StorageDamaged(f"{path} names no verifier key", remedy="Name the audit log of a data folder.")
    return str(row[0])
