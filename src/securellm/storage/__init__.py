"""Transactions over SQLite: the data directory, the group-commit journal, the control database, read-only views."""

from securellm.storage.control import ControlStore
from securellm.storage.datadir import DataDir
from securellm.storage.errors import DataDirLocked, StorageConflict, StorageDamaged, StorageError, StorageRefused
from securellm.storage.reader import damage, open_readonly
from securellm.storage.schema import Connection, Operation
from securellm.storage.writer import GroupCommitWriter

__all__ = [
    "Connection",
    "ControlStore",
    "DataDir",
    "DataDirLocked",
    "GroupCommitWriter",
    "Operation",
    "StorageConflict",
    "StorageDamaged",
    "StorageError",
    "StorageRefused",
    "damage",
    "open_readonly",
]
