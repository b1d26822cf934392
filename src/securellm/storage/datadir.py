"""The data directory: where each file lives, and the lock that gives it one owner."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from securellm.storage.errors import DataDirLocked, StorageRefused


class DataDir:
    """A folder of SQLite files and keys that one process at a time may write to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.audit = root / "audit.db"
        self.control = root / "control.db"
        self.keys = root / "keys"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Own the directory until the block ends or the process dies, creating it (0700) when it is missing.

        Raises `DataDirLocked` at once when another process owns it, `StorageRefused` when it cannot be used.
        """
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataDirLocked(
                    f"process {_owner(descriptor)} uses the data directory {self.root}",
                    remedy="Stop it first, or name another directory.",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            yield
        finally:
            os.close(descriptor)

    def owner(self) -> str | None:
        """The id of the process that owns the directory, "unknown" where it is not said; None when nobody does."""
        try:
            descriptor = os.open(self.root / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            # Shared, and let go at once: it disturbs no gateway that runs.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _owner(descriptor)
        finally:
            os.close(descriptor)
        return None

    def _open_lock(self) -> int:
        try:
            if not self.root.exists():
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync_folder(self.root.parent)
            return os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageRefused(
                f"the data directory {self.root} cannot be used: {error.strerror}",
                remedy="Name a directory that this user may create and write.",
            ) from error


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
