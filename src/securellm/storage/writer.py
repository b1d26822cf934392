"""The journal's one writer: operations queue, land together in one durable transaction, then their waiters wake."""

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from pathlib import Path

from securellm.core.errors import Code, Fault
from securellm.storage.errors import StorageDamaged, StorageError
from securellm.storage.schema import (
    JOURNAL_APPLICATION,
    JOURNAL_VERSION,
    UNREADABLE,
    Connection,
    Operation,
    connect,
    prepare,
)

LARGEST_BATCH = 512
"""Submissions in one transaction: enough to share a disk flush, few enough to bound the wait behind it."""

DISK_RESERVE = 0.05
"""Below this free share of the disk new work is refused, so that what runs can still be recorded."""

_IDLE_PROBE = 1.0


class GroupCommitWriter:
    """One thread and one connection to the journal; a submission is acknowledged only after its COMMIT.

    Any error in a batch fails every waiter of it and the writer for good: after a failed flush nothing that the
    operating system says about earlier writes can be trusted, so the process must be restarted.
    """

    def __init__(
        self, connection: Connection, path: Path, *, free_share: Callable[[Path], float], capacity: int
    ) -> None:
        self.before_commit: list[Operation] = []
        """Run inside every transaction, after its operations."""
        self.failure: str | None = None
        """Why the writer failed, without content; None while it is healthy."""
        self._connection = connection
        self._path = path
        self._free_share = free_share
        self._capacity = capacity
        self._roomy = True
        self._queue: deque[_Submission] = deque()
        self._changed = threading.Condition()
        self._idle = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    @classmethod
    def open(
        cls,
        path: Path,
        schema: Sequence[str],
        *,
        connect: Callable[[Path], Connection] = connect,
        free_share: Callable[[Path], float] | None = None,
        capacity: int = 16_384,
    ) -> "GroupCommitWriter":
        """Open or create the journal at `path` and start its thread. `capacity` bounds the queued submissions.

        Raises `StorageRefused` for a file of another schema, `StorageDamaged` for one that cannot be opened.
        """
        try:
            connection = connect(path)
            try:
                prepare(connection, schema, application=JOURNAL_APPLICATION, version=JOURNAL_VERSION, path=path)
            except BaseException:
                connection.close()
                raise
        except UNREADABLE as error:
            raise StorageDamaged(
                f"the journal {path} cannot be opened: {error}",
                remedy="Run `securellm audit verify`, and restore it from a backup.",
            ) from error
        writer = cls(connection, path, free_share=free_share or free_disk_share, capacity=capacity)
        writer._probe_disk()
        writer._thread.start()
        return writer

    @property
    def healthy(self) -> bool:
        return self.failure is None and not self._closing

    @property
    def accepting_new_work(self) -> bool:
        """False when only records of work already begun should still be written: disk or queue is filling up."""
        return self.healthy and self._roomy and len(self._queue) < self._capacity // 2

    def submit(self, *operations: Operation, new_work: bool = False) -> asyncio.Future[None]:
        """Queue `operations` for one transaction; the future resolves once they are durable.

        Called on the event loop. Raises `Fault` (AUDIT_UNAVAILABLE) at once when the writer has failed, is closed or
        is full, and for `new_work` when it only accepts the records of running work; the future fails with the same.
        """
        if new_work and not self.accepting_new_work:
            raise self._unavailable("the journal keeps its remaining room for running requests")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError("the journal serves one event loop")
            self._loop = loop
        future = loop.create_future()
        self._enqueue((operations, future))
        return future

    def perform(self, *operations: Operation) -> None:
        """Do `operations` in a transaction and wait, blocking: for start-up and commands, never on the event loop.

        Raises `Fault` as `submit` does; a `StorageError` that an operation raises comes through as it is.
        """
        future: Future[None] = Future()
        self._enqueue((operations, future))
        future.result()

    def close(self) -> None:
        """Write what is queued, fold the write-ahead log into the file, and end the thread. Idempotent, blocking."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _enqueue(self, submission: "_Submission") -> None:
        with self._changed:
            if not self.healthy:
                raise self._unavailable(self.failure or "the journal is closed")
            if len(self._queue) >= self._capacity:
                raise self._unavailable("the journal's queue is full")
            self._queue.append(submission)
            if self._idle:
                self._changed.notify()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                try:
                    self._commit(batch)
                # The root of a thread: an operation's defect must fail its waiters, never leave them hanging.
                except Exception as error:  # noqa: BLE001 - one of the three named places: the root of a thread
                    self._fail(batch, error)
                    return
                self._wake(batch, None)
                self._probe_disk()
        finally:
            self._release()

    def _next_batch(self) -> "list[_Submission]":
        with self._changed:
            while not self._queue and not self._closing:
                self._idle = True
                if not self._changed.wait(_IDLE_PROBE):
                    self._probe_disk()
                self._idle = False
            batch = list(islice(self._queue, LARGEST_BATCH))
            for _ in batch:
                self._queue.popleft()
            return batch

    def _commit(self, batch: "list[_Submission]") -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for operations, _ in batch:
            for operation in operations:
                operation(connection)
        for operation in self.before_commit:
            operation(connection)
        connection.execute("COMMIT")

    def _fail(self, batch: "list[_Submission]", error: Exception) -> None:
        with self._changed:
            detail = str(error) if isinstance(error, sqlite3.Error | OSError) else ""
            self.failure = f"the journal failed: {type(error).__name__} {detail}".rstrip()
            waiting = [*batch, *self._queue]
            self._queue.clear()
        # Where this fails too, closing the connection rolls back.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._wake(waiting, error)

    def _wake(self, batch: "list[_Submission]", error: Exception | None) -> None:
        futures: list[asyncio.Future[None]] = []
        for _, waiter in batch:
            if isinstance(waiter, asyncio.Future):
                futures.append(waiter)
            elif error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error if isinstance(error, StorageError) else self._unavailable(self.failure))
        if futures and self._loop is not None:
            # A closed loop took its waiters with it; the records stand.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._resolve, futures, error)

    def _resolve(self, futures: list[asyncio.Future[None]], error: Exception | None) -> None:
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                fault = self._unavailable(self.failure)
                fault.__cause__ = error
                future.set_exception(fault)

    def _release(self) -> None:
        try:
            if self.failure is None:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            self.failure = f"the journal's last checkpoint failed: {error}"
        self._connection.close()

    def _probe_disk(self) -> None:
        try:
            self._roomy = self._free_share(self._path) >= DISK_RESERVE
        except OSError:
            self._roomy = False

    def _unavailable(self, reason: str | None) -> Fault:
        return Fault(Code.AUDIT_UNAVAILABLE, reason or "the journal is unavailable")


_Submission = tuple[tuple[Operation, ...], asyncio.Future[None] | Future[None]]


def free_disk_share(path: Path) -> float:
    """The share of the disk under `path` that unprivileged writers may still use."""
    disk = os.statvfs(path)
    return disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0
