"""Take records out: one JSON line each, exactly the bytes that were hashed."""

from collections.abc import Iterator
from pathlib import Path

from securellm.storage import open_readonly

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
