"""Compare an append-only table with what its rows should be, keeping a digest for each block of them."""

import hashlib
from collections.abc import Iterable, Iterator


class RowDigests:
    """One SHA-256 for each block of rows, so that a difference can be placed without keeping the rows."""

    BLOCK = 256

    def __init__(self, table: str) -> None:
        self.count = 0
        self._table = table
        self._done: list[bytes] = []
        self._open = hashlib.sha256()

    def add(self, row: tuple[object, ...]) -> None:
        """The next row, without its `seq`, which is its place from 1."""
        self._take((self.count + 1, *row))

    def differences(self, rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
        """Where stored rows (with their `seq`, in its order) are not the ones added."""
        stored = RowDigests(self._table)
        for row in rows:
            stored._take(row)
        if stored.count != self.count:
            yield f"{self._table}: {stored.count} rows stored, the records make {self.count}"
        for index, (ours, theirs) in enumerate(zip(self._blocks(), stored._blocks(), strict=False)):
            if ours != theirs:
                first, last = index * self.BLOCK + 1, (index + 1) * self.BLOCK
                yield f"{self._table}: rows {first} to {last} differ from the records"

    def _take(self, row: tuple[object, ...]) -> None:
        self.count += 1
        self._open.update(repr(row).encode("utf-8", "surrogatepass") + b"\n")
        if self.count % self.BLOCK == 0:
            self._done.append(self._open.digest())
            self._open = hashlib.sha256()

    def _blocks(self) -> list[bytes]:
        return [*self._done, self._open.digest()]
