"""Transactions: the control plane over SQLite or PostgreSQL, the data directory, the journal, read-only views."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.storage.address import is_postgres
    from securellm.storage.columns import BYTES, FLAG, INTEGER, JSON, TEXT
    from securellm.storage.control import Change, Changes, ControlStore
    from securellm.storage.datadir import DataDir
    from securellm.storage.digests import RowDigests
    from securellm.storage.errors import (
        CommitUncertain,
        DataDirLocked,
        OutOfScope,
        ShippingRefused,
        StorageChanged,
        StorageConflict,
        StorageDamaged,
        StorageError,
        StorageRefused,
    )
    from securellm.storage.reader import damage, open_readonly
    from securellm.storage.schema import Connection, Operation
    from securellm.storage.scope import EVERYWHERE, Scope
    from securellm.storage.session import Session
    from securellm.storage.shelf import Shelf, Shelved
    from securellm.storage.shipment import ShippedRecord
    from securellm.storage.tables import METADATA, installation_table, tenant_table
    from securellm.storage.threads import in_thread, looked_up
    from securellm.storage.wal import lost_frames
    from securellm.storage.writer import GroupCommitWriter
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "BYTES",
    "EVERYWHERE",
    "FLAG",
    "INTEGER",
    "JSON",
    "METADATA",
    "TEXT",
    "Change",
    "Changes",
    "CommitUncertain",
    "Connection",
    "ControlStore",
    "DataDir",
    "DataDirLocked",
    "GroupCommitWriter",
    "Operation",
    "OutOfScope",
    "RowDigests",
    "Scope",
    "Session",
    "Shelf",
    "Shelved",
    "ShippedRecord",
    "ShippingRefused",
    "StorageChanged",
    "StorageConflict",
    "StorageDamaged",
    "StorageError",
    "StorageRefused",
    "damage",
    "in_thread",
    "installation_table",
    "is_postgres",
    "looked_up",
    "lost_frames",
    "open_readonly",
    "tenant_table",
]
