"""The log as a database is to hold it: the same bytes in the same order, and beside each record whose it is."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from securellm.audit.model import GENESIS
from securellm.audit.search import tenant_of
from securellm.storage import Connection, ShippedRecord, StorageDamaged, open_readonly

_REMEMBERED = 20_000
"""Requests whose tenant is remembered from their INTENT until their OUTCOME; of others it is looked up in the log."""

_LARGEST = 4 * 1024 * 1024
"""Bytes after which a batch ends."""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """The members of a record that it is stored by."""

    type: str
    at: int
    seq: int
    prev: str
    tenant: str | None = None
    request_id: str | None = None


_head = msgspec.json.Decoder(_Head).decode


class LogSource:
    """A log that is shipped. Blocking; for one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises `StorageDamaged` when the log at `path` does not say its name."""
        self._path = path
        self._tenants: dict[str, str] = {}
        with open_readonly(path) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
        if row is None:
            raise StorageDamaged(f"{path} does not say its name", remedy="Name the audit log of a data folder.")
        self.writer = str(row[0])
        """The id the log got when it was begun, which its signed checkpoints name too."""

    def since(self, seq: int, *, limit: int) -> tuple[bytes | None, Sequence[ShippedRecord]]:
        """As `securellm.storage.shipment.Source`; a batch of long records has fewer of them, but never none."""
        with open_readonly(self._path) as connection:
            rows = connection.execute("SELECT seq, entry FROM records WHERE seq >= ? ORDER BY seq", (max(seq, 1),))
            last = b""
            if seq:
                at, last = rows.fetchone() or (0, b"")
                if at != seq or not isinstance(last, bytes):
                    return None, ()
            previous = hashlib.sha256(last).hexdigest() if seq else GENESIS
            records: list[ShippedRecord] = []
            size = 0
            for place, entry in rows:
                head = self._checked(place, entry, seq=seq + len(records) + 1, previous=previous)
                records.append(self._addressed(connection, head, entry))
                previous = hashlib.sha256(entry).hexdigest()
                size += len(entry)
                if len(records) == limit or size >= _LARGEST:
                    break
            return last, records

    def behind(self, seq: int) -> tuple[int, int | None]:
        """How many records stand after position `seq`, and when the first of them was made. Raises `StorageDamaged`."""
        with open_readonly(self._path) as connection:
            (size,) = connection.execute("SELECT max(seq) FROM records").fetchone()
            row = connection.execute("SELECT entry FROM records WHERE seq = ?", (seq + 1,)).fetchone()
            return max(0, (size or 0) - seq), None if row is None else self._decoded(seq + 1, row[0]).at

    def _checked(self, place: int, entry: bytes, *, seq: int, previous: str) -> _Head:
        head = self._decoded(seq, entry)
        if (place, head.seq, head.prev) != (seq, seq, previous):
            raise self._damaged(seq)
        return head

    def _addressed(self, connection: Connection, head: _Head, entry: bytes) -> ShippedRecord:
        tenant = head.tenant
        if head.request_id is not None:
            if head.type == "INTENT" and tenant is not None:
                self._tenants[head.request_id] = tenant
                if len(self._tenants) > _REMEMBERED:
                    del self._tenants[next(iter(self._tenants))]
            elif head.type in ("ATTEMPT", "OUTCOME"):
                tenant = self._tenants.get(head.request_id) or tenant_of(connection, head.request_id)
        return ShippedRecord(
            seq=head.seq,
            at_us=head.at,
            type=head.type,
            tenant=tenant or "",
            request_id=head.request_id,
            entry=entry,
        )

    def _decoded(self, seq: int, entry: object) -> _Head:
        try:
            return _head(entry if isinstance(entry, bytes) else b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._damaged(seq) from None

    def _damaged(self, seq: int) -> StorageDamaged:
        return StorageDamaged(
            f"record {seq} of {self._path.name} is not what was written",
            remedy="Run `securellm audit verify`; keep the directory as evidence and restore it from a backup.",
        )
