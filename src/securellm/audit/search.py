"""Find records by what they say: newest first, in bounded steps, without ever writing to the log.

The log has no index but its order. Ids and entries carry their time, so a request is found by bisection; everything
else is looked through in steps of bounded cost, each of which says where the next begins.
"""

import base64
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from securellm.storage import Connection, StorageDamaged, open_readonly

MOST_LOOKED_AT = 20_000
"""Records that one step looks at, found or not."""

_PIECE = 1_000
_SLACK = 2_000
"""Records by which the order of time may differ from the order of the log: a clock was set, a batch was late."""
_MOST_PIECES = 64
"""Pieces whose INTENTs are remembered at once."""
_LONGEST_STORY = 200_000
"""Records between the first and the last of one request that are looked through."""
_CROCKFORD = str.maketrans("0123456789abcdefghjkmnpqrstvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What records must say; None is anything."""

    tenant: str | None = None
    types: frozenset[str] | None = None
    principal: str | None = None
    """Who asked, or who changed something."""
    since_us: int | None = None
    until_us: int | None = None
    """The first moment that is too late."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a search."""

    records: tuple[dict[str, Any], ...]
    before: int | None
    """Where the next step begins; None when there is nothing older."""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """The members of a record that a search looks at."""

    type: str
    at: int
    seq: int
    tenant: str | None = None
    request_id: str | None = None
    principal: str | None = None
    actor: str | None = None


_decode = msgspec.json.Decoder(_Head).decode


def _head(entry: bytes) -> _Head:
    """Raises `StorageDamaged` for what is no entry: a damaged row can hold a value of any type."""
    try:
        return _decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
        raise StorageDamaged(
            "a record of the audit log cannot be read",
            remedy="Run `securellm audit verify`; keep the directory as evidence and restore it from a backup.",
        ) from None


def search(path: Path, wanted: Wanted, *, before: int | None = None, limit: int) -> Found:
    """Up to `limit` records older than position `before` (None: than nothing), newest first. Blocking.

    May find fewer although there are more: `before` then goes on. Raises `StorageDamaged`.
    """
    with open_readonly(path) as connection:
        reader = _Reader(connection)
        start, end = reader.bounds(wanted, before)
        taken: list[dict[str, Any]] = []
        looked_at = 0
        while end > start:
            low = max(start, end - _PIECE)
            piece = reader.between(low, end)
            looked_at += len(piece)
            for head, entry in reversed(piece):
                if reader.says(head, wanted):
                    taken.append(msgspec.json.decode(entry))
                    if len(taken) == limit:
                        return Found(records=tuple(taken), before=head.seq if head.seq > start + 1 else None)
            end = low
            if looked_at >= MOST_LOOKED_AT:
                break
        return Found(records=tuple(taken), before=end + 1 if end > start else None)


def story(path: Path, request_id: str, wanted: Wanted) -> tuple[dict[str, Any], ...]:
    """The records of one request that say what is wanted, oldest first. Blocking. Raises `StorageDamaged`."""
    born = born_us(request_id)
    if born is None:
        return ()
    with open_readonly(path) as connection:
        reader = _Reader(connection)
        return tuple(reader.story(request_id, born, wanted))


def tenant_of(connection: Connection, request_id: str) -> str | None:
    """Whose request it was by its INTENT, in a view of the log; None where the log does not say."""
    born = born_us(request_id)
    return None if born is None else _Reader(connection).tenant_of(request_id, born)


def born_us(identifier: str) -> int | None:
    """The moment an id of ours was made, microseconds since the Unix epoch; None for what is no id of ours."""
    _, _, text = identifier.rpartition("_")
    if len(text) != 26 or not text.isascii():
        return None
    try:
        raw = base64.b32decode(text.translate(_CROCKFORD) + "======")
    except ValueError:
        return None
    return int.from_bytes(raw[:6], "big") * 1_000


class _Reader:
    """One view of the log. Positions are half-open: (low, high] in the log's own counting."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        row = connection.execute("SELECT max(seq) FROM records").fetchone()
        self.size = int(row[0] or 0)
        self._tenants: dict[str, _Head | None] = {}
        self._pieces: dict[int, Mapping[str, _Head]] = {}

    def between(self, low: int, high: int) -> list[tuple[_Head, bytes]]:
        rows = self._connection.execute(
            "SELECT entry FROM records WHERE seq > ? AND seq <= ? ORDER BY seq", (low, high)
        )
        return [(_head(entry), entry) for (entry,) in rows]

    def bounds(self, wanted: Wanted, before: int | None) -> tuple[int, int]:
        low, high = 0, self.size if before is None else min(self.size, before - 1)
        if wanted.since_us is not None:
            low = max(low, self._first_at(wanted.since_us) - 1 - _SLACK)
        if wanted.until_us is not None:
            high = min(high, self._first_at(wanted.until_us) - 1 + _SLACK)
        return low, high

    def says(self, head: _Head, wanted: Wanted) -> bool:
        if wanted.types is not None and head.type not in wanted.types:
            return False
        if wanted.since_us is not None and head.at < wanted.since_us:
            return False
        if wanted.until_us is not None and head.at >= wanted.until_us:
            return False
        if wanted.tenant is None and wanted.principal is None:
            return True
        whose = self._whose(head)
        if wanted.tenant is not None and whose.tenant != wanted.tenant:
            return False
        return wanted.principal is None or wanted.principal in (whose.principal, whose.actor)

    def story(self, request_id: str, born: int, wanted: Wanted) -> Iterator[dict[str, Any]]:
        for head, entry in self._after(born):
            if head.request_id == request_id and self.says(head, wanted):
                yield msgspec.json.decode(entry)

    def tenant_of(self, request_id: str, born: int) -> str | None:
        heads = (head for head, _ in self._after(born) if head.request_id == request_id and head.type == "INTENT")
        return next((head.tenant for head in heads), None)

    def _after(self, born: int) -> Iterator[tuple[_Head, bytes]]:
        low = max(0, self._first_at(born) - 1 - _SLACK)
        last = min(self.size, low + _LONGEST_STORY)
        while low < last:
            high = min(last, low + _PIECE)
            yield from self.between(low, high)
            low = high

    def _whose(self, head: _Head) -> _Head:
        """Where it is written whose a record is: in itself, or in the INTENT of its request."""
        if head.tenant is not None or head.request_id is None or head.type not in ("ATTEMPT", "OUTCOME"):
            return head
        if head.request_id not in self._tenants:
            self._tenants[head.request_id] = self._intent(head.request_id, head.seq)
        return self._tenants[head.request_id] or head

    def _intent(self, request_id: str, seq: int) -> _Head | None:
        """The INTENT of a request of which something is said at `seq`: before that, and not long before its birth."""
        own = (seq - 1) // _PIECE
        near = (own, max(0, own - 1))
        found = next((head for head in map(self._begun(request_id), near) if head is not None), None)
        born = born_us(request_id)
        if found is not None or born is None:
            return found
        birth = self._first_at(born) - 1
        first = max(0, birth - _SLACK)
        last = min(seq - 1, first + _LONGEST_STORY) // _PIECE
        likely = min(birth // _PIECE, last)
        pieces = (*range(likely, last + 1), *range(first // _PIECE, likely))
        return next((head for head in map(self._begun(request_id), pieces) if head is not None), None)

    def _begun(self, request_id: str) -> Callable[[int], _Head | None]:
        return lambda piece: self._intents(piece).get(request_id)

    def _intents(self, piece: int) -> Mapping[str, _Head]:
        """The INTENTs in one piece of the log, which is read once for all that is asked of it in a row."""
        if piece not in self._pieces:
            if len(self._pieces) == _MOST_PIECES:
                del self._pieces[next(iter(self._pieces))]
            heads = (head for head, _ in self.between(piece * _PIECE, min((piece + 1) * _PIECE, self.size)))
            self._pieces[piece] = {head.request_id: head for head in heads if head.type == "INTENT" and head.request_id}
        return self._pieces[piece]

    def _first_at(self, moment: int) -> int:
        """The position of about the first record at or after `moment`."""
        return bisect_left(range(1, self.size + 1), moment, key=self._at) + 1

    def _at(self, seq: int) -> int:
        row = self._connection.execute("SELECT entry FROM records WHERE seq = ?", (seq,)).fetchone()
        return _head(row[0]).at if row is not None else 0
