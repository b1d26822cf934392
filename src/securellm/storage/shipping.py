"""Copy a journal's records to PostgreSQL: in order, each exactly once, as the bytes that were hashed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from securellm.core.errors import Code, Fault
from securellm.storage.archive import MAKE_MONTH, RECORDS, SHIPPED
from securellm.storage.errors import ShippingRefused
from securellm.storage.postgres import BEGIN, Reach
from securellm.storage.shipment import Shipped, ShippedRecord, Source

BATCH = 1_000
"""Records in one transaction."""

_DAY = 86_400_000_000
_AHEAD = 7
"""Days before a month at which its partition is made."""

_ESCAPED_NUL = r"\u0000"
_IN_ITS_PLACE = r"\ufffd"

_HELD = f"SELECT seq, entry FROM {RECORDS} WHERE writer = %s AND seq BETWEEN %s AND %s"  # noqa: S608 - our own names
_STORE = f"""
INSERT INTO {RECORDS} (writer, record, tenant, seq, at_us, type, request_id, entry)
SELECT %s, replace(convert_from(entry, 'UTF8'), %s, %s)::jsonb, tenant, seq, at_us, type, request_id, entry
FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %b::bytea[])
  AS record (tenant, seq, at_us, type, request_id, entry)
ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own names

_REMEDY = (
    "Run `securellm audit verify` and compare; a data directory that was restored or is in use twice does this too. "
    "docs/how-to/postgresql.md says how to go on."
)


class Shipper:
    """One journal on its way to one database, over a connection of its own. Blocking; for one thread at a time."""

    def __init__(self, url: str, *, password: Callable[[], str] | None, source: Source) -> None:
        self._reach = Reach(url, password=password)
        self._source = source
        self._connection: psycopg.Connection[Any] | None = None
        self._days: set[int] = set()

    def ship(self, *, limit: int = BATCH) -> Shipped:
        """Copy the next batch, and write down in the same transaction that it was copied.

        Raises `ShippingRefused` when what is stored is not what the journal says, and changes nothing then;
        `StorageDamaged` when the journal cannot be read, `Fault` (STORAGE_UNAVAILABLE) when the server fails.
        """
        with self._connected() as connection:
            mark = self._mark(connection)
            last, records = self._source.since(mark.seq, limit=limit)
            if last is None or hashlib.sha256(last).digest() != mark.head:
                raise _refused(f"the journal does not hold at position {mark.seq} what was shipped from there")
            if not records:
                return Shipped(seq=mark.seq, count=0)
            self._make_months(connection, records)
            with connection.transaction():
                connection.execute(BEGIN, ("*",))
                # Whoever ships under the same name waits for this row, and then finds the work done.
                if self._mark(connection, lock=True) != mark:
                    return Shipped(seq=mark.seq, count=0)
                self._store(connection, records)
            return Shipped(seq=records[-1].seq, count=len(records))

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _mark(self, connection: "psycopg.Connection[Any]", *, lock: bool = False) -> "_Mark":
        query = f"SELECT seq, head FROM {SHIPPED} WHERE writer = %s{' FOR UPDATE' if lock else ''}"  # noqa: S608 - names of ours
        for _ in range(2):
            row = connection.execute(query, (self._source.writer,)).fetchone()
            if row is not None:
                break
            connection.execute(
                f"INSERT INTO {SHIPPED} (writer, seq, head) VALUES (%s, 0, %s) ON CONFLICT DO NOTHING",  # noqa: S608 - names of ours
                (self._source.writer, _NOTHING.head),
            )
        return _NOTHING if row is None else _Mark(seq=row[0], head=row[1])

    def _store(self, connection: "psycopg.Connection[Any]", records: Sequence[ShippedRecord]) -> None:
        writer, last = self._source.writer, records[-1]
        held = dict(connection.execute(_HELD, (writer, records[0].seq, last.seq), binary=True).fetchall())
        for record in records:
            if held.get(record.seq, record.entry) != record.entry:
                raise _refused(f"record {record.seq} of it is stored with another content")
        fresh = [record for record in records if record.seq not in held]
        stored = connection.execute(
            _STORE,
            (
                writer,
                _ESCAPED_NUL,
                _IN_ITS_PLACE,
                [_storable(record.tenant) for record in fresh],
                [record.seq for record in fresh],
                [record.at_us for record in fresh],
                [record.type for record in fresh],
                [_storable(record.request_id) for record in fresh],
                [record.entry for record in fresh],
            ),
        ).rowcount
        if stored != len(fresh):
            raise _refused("records of it were stored by somebody else meanwhile")
        head = hashlib.sha256(last.entry).digest()
        connection.execute(f"UPDATE {SHIPPED} SET seq = %s, head = %s WHERE writer = %s", (last.seq, head, writer))  # noqa: S608 - names of ours

    def _make_months(self, connection: "psycopg.Connection[Any]", records: Sequence[ShippedRecord]) -> None:
        """Have each partition made before it is needed; where one cannot be, its records join the rest."""
        days = {record.at_us // _DAY for record in records}
        for day in sorted({*days, max(days) + _AHEAD} - self._days):
            with connection.transaction():
                connection.execute(BEGIN, ("*",))
                connection.execute(f"SELECT {MAKE_MONTH}(%s)", (day * _DAY,))
            self._days.add(day)

    @contextmanager
    def _connected(self) -> "Iterator[psycopg.Connection[Any]]":
        try:
            if self._connection is None:
                self._connection = self._reach.connect(autocommit=True)
                self._days.clear()
            yield self._connection
        except psycopg.Error as error:
            self.close()
            # What the server says may quote rows.
            reason = f"the control database {self._reach.name} does not take the journal: {type(error).__name__}"
            raise Fault(Code.STORAGE_UNAVAILABLE, reason) from error


class _Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a journal has been shipped, and the SHA-256 of its entry there."""

    seq: int
    head: bytes


_NOTHING = _Mark(seq=0, head=hashlib.sha256(b"").digest())


def _refused(reason: str) -> ShippingRefused:
    return ShippingRefused(f"the journal is not shipped: {reason}", remedy=_REMEDY)


def _storable(text: str | None) -> str | None:
    return None if text is None else text.replace("\0", "\ufffd")
