"""Transactions over SQLite: the data directory, the group-commit journal, the control database, read-only views."""

from securellm.storage.control import ControlStore
from securellm.storage.datadir import DataDir
from securellm.storage.digests import RowDigests
from securellm.storage.errors import (
    DataDirLocked,
    StorageChanged,
    StorageConflict,
    StorageDamaged,
    StorageError,
    StorageRefused,
)
from securellm.storage.reader import damage, open_readonly
from securellm.storage.schema import Connection, Operation
from securellm.storage.wal import lost_frames
from securellm.storage.writer import GroupCommitWriter

__all__ = [
    "Connection",
    "ControlStore",
    "DataDir",
    "DataDirLocked",
    "GroupCommitWriter",
    "Operation",
    "RowDigests",
    "StorageChanged",
    "StorageConflict",
    "StorageDamaged",
    "StorageError",
    "StorageRefused",
    "damage",
    "lost_frames",
    "open_readonly",
]
