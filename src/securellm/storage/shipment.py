"""What is shipped from a journal to a database, without the driver that it takes."""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class ShippedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a journal on its way."""

    seq: int
    at_us: int
    type: str
    tenant: str
    """Empty for a record of the installation."""
    request_id: str | None
    entry: bytes
    """What was hashed."""


class Source(Protocol):
    """A journal that is shipped."""

    @property
    def writer(self) -> str:
        """The name of the journal among all that share a database: one journal has it, and keeps it."""

    def since(self, seq: int, *, limit: int) -> "tuple[bytes | None, Sequence[ShippedRecord]]":
        """The entry at position `seq`, and up to `limit` records in order from the one after it.

        At position 0 stands the empty entry; beyond the end there is None. Raises `StorageDamaged`, also when the
        records do not follow one another.
        """


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch did."""

    seq: int
    """The position of the last record that the database is known to hold."""
    count: int
    """Records in this batch; with none, there was nothing to do."""
