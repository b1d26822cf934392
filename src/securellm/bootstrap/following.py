"""What the data plane knows of the control plane, and how it keeps up: changes as deltas, revocations first."""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from securellm.bootstrap.aside import BREATH_EVERY, Aside, breathe
from securellm.bootstrap.compiling import compile_snapshot, with_keys
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.effective import Effective, Stored, compose, stored_documents
from securellm.bootstrap.standby import Known, Standby, StandbyRefused
from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault
from securellm.finops import PriceBook
from securellm.gateway.running import Running
from securellm.gateway.snapshot import JUMP, Snapshot, Snapshots
from securellm.identity import (
    KeyTable,
    ServiceIdentity,
    ServiceTable,
    VirtualKey,
    all_stored_keys,
    revoked_keys,
    stored_keys,
)
from securellm.identity.directory import stored_services
from securellm.policy import NO_POLICIES, Declared, Policies, compile_policies, stored_policies
from securellm.storage import Changes, ControlStore, Session
from securellm.telemetry.logs import logger

QUESTION = 4.0
"""Seconds for a small question to the control store."""
READING = 120.0
"""Seconds for all of it, or for a compile."""
_REVOKED_WITHIN = 3_600_000_000
"""Microseconds: who has lost track of what changed looks at what was revoked this long before, ahead of all else."""
CONFIRM_EVERY = 5.0
"""Seconds between two notes on disk that the store has confirmed what is kept there."""
_IDS_AT_ONCE = 500
_UNREAD = frozenset({"grant", "preference", "project", "proposal", "token", "user"})
"""Kinds of change that no request is decided by."""

_log = logger("snapshot")


class _Read(NamedTuple):
    """All that is stored, but the keys."""

    stored: Stored
    policies: tuple[Declared, ...]
    services: tuple[ServiceIdentity, ...]


class _Next(NamedTuple):
    """What a full compile makes."""

    effective: Effective
    snapshot: Snapshot
    read: _Read
    put_in_force: Callable[[], None]


class Follower:
    """Holds what is in force, and brings what the control store says into it.

    Its questions are asked one at a time from a thread of their own, so that a database that hangs delays nothing
    but itself.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        declared: Callable[[Loaded], tuple[VirtualKey, ...]],
        open_store: Callable[[], ControlStore],
        book: PriceBook,
        clock: Clock,
        standby: Standby | None = None,
        bundles: Callable[[Loaded], tuple[Declared, ...]] = lambda _: (),
    ) -> None:
        """`declared` and `bundles`: the keys and policies of the file. `open_store` raises
        Fault(STORAGE_UNAVAILABLE) when the store cannot be reached.

        `standby`: where what is known is kept for a start without the store; None where the store is a local file.
        """
        self.store: ControlStore | None = None
        self._loaded = loaded
        self._declare = declared
        self.declared: tuple[VirtualKey, ...] = ()
        """The keys of the file in force, as they were when it was put in force."""
        self._bundles = bundles
        self._open_store = open_store
        self._book = book
        self._clock = clock
        self._standby = standby
        self._kept_at = -math.inf
        self._unkept = False
        self._aside = Aside(clock)
        self._turn = asyncio.Lock()
        self._version = -1
        self._stamp = ""
        """That version's; empty, which is no version's, after a start without the store."""
        self._hint = asyncio.Event()
        self._stop_listening: Callable[[], None] | None = None

    # Before anything is served

    def begin(self) -> tuple[Snapshot, float]:
        """The first snapshot, and the monotonic moment as of which it was confirmed. Blocking.

        Raises ConfigError, KeyConflict, and Fault(STORAGE_UNAVAILABLE) when neither the store can be reached nor what
        it last said may still be trusted.
        """
        known, confirmed = self._first()
        self._version, self._read = known.version, _Read(known.stored, known.policies, known.services)
        self.effective = compose(self._loaded, known.stored, book=self._book)
        self.declared = self._declare(self._loaded)
        keys = KeyTable.of([*self.declared, *known.keys.values()])
        return self._compiled(self.effective, keys, self._read, known.version, previous=NO_POLICIES), confirmed

    def attach(
        self, snapshots: Snapshots, running: Running, prepare: Callable[[Effective], Callable[[], None]]
    ) -> None:
        """From here on changes go there. `prepare` blocks, and returns what puts the rest in force, on the loop."""
        self._snapshots = snapshots
        self._running = running
        self._prepare = prepare

    def _first(self) -> tuple[Known, float]:
        asked = self._clock.monotonic()
        try:
            store = self._open_store()
            now = store.changes(self._version)
            read, keys = store.read(lambda session: (_read(session), list(all_stored_keys(session))))
        except Fault as fault:
            if fault.code is not Code.STORAGE_UNAVAILABLE or self._standby is None:
                raise
            try:
                known, age = self._standby.read(fence=self._loaded.config.server.stale_policy_fence)
            except StandbyRefused as refused:
                raise Fault(Code.STORAGE_UNAVAILABLE, f"{fault.reason}; {refused.reason}") from fault
            _log.warning("started_without_the_store", age=round(age, 3), reason=fault.reason)
            return known, self._clock.monotonic() - age
        self.store, self._stamp = store, now.stamp
        known = Known(version=now.version, keys={key.id: key for key in keys}, **read._asdict())
        age = self._clock.monotonic() - asked
        self._keep(lambda standby: standby.write(known))
        if not self._unkept:
            self._keep(lambda standby: standby.confirm(age=age))
        return known, asked

    # While serving

    async def refresh(self) -> None:
        """Bring in what has changed, or confirm that nothing has.

        Raises Fault(STORAGE_UNAVAILABLE) when the store does not answer, ConfigError and KeyConflict for what cannot
        be put in force. Then nothing is confirmed, and the fence says how long the former state is still served.
        """
        async with self._turn:
            asked, asked_us = self._clock.monotonic(), self._clock.now_us()
            store = self.store
            if store is None:
                store = self.store = await self._aside.ask(self._open_store, seconds=READING)
            version, stamp = self._version, self._stamp
            changes = await self._aside.ask(lambda: store.changes(version, stamp=stamp), seconds=QUESTION)
            if changes.version != version or not changes.complete:
                await self._bring_in(store, changes)
                self._kept_at = -math.inf  # What was written anew is of no use until it is confirmed.
            if abs((self._clock.now_us() - asked_us) / 1_000_000 - (self._clock.monotonic() - asked)) > JUMP:
                # Nobody can say how long the question took: the machine has slept over it.
                raise Fault(Code.STORAGE_UNAVAILABLE, "the machine's clock jumped while the control database was asked")
            self._snapshots.confirm(asked=asked)
            if self._clock.monotonic() - self._kept_at >= CONFIRM_EVERY:
                age = self._clock.monotonic() - asked
                await self._aside.ask(lambda: self._keep_confirmed(age), seconds=READING)

    async def hinted(self, *, seconds: float) -> None:
        """Wait until somebody has written to the store, or for so long: a hint can be lost."""
        if self._stop_listening is None and self.store is not None:
            loop = asyncio.get_running_loop()

            def heard(_version: int) -> None:
                with suppress(RuntimeError):  # The loop has ended.
                    loop.call_soon_threadsafe(self._hint.set)

            self._stop_listening = self.store.listen(heard)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hint.wait()
        self._hint.clear()

    def close(self) -> None:
        """Let the store go; nobody asks it any more."""
        if self._stop_listening is not None:
            # It may wait for a server that says nothing, and it is a daemon too.
            threading.Thread(target=self._stop_listening, name="control-goodbye", daemon=True).start()
        if self.store is not None:
            self.store.close()

    async def reload(self, loaded: Loaded, record: Callable[[Snapshot], Awaitable[None]]) -> None:
        """Put another file in force once `record` has told of it. Raises ConfigError, KeyConflict: nothing changes."""
        async with self._turn:
            declared = await self._aside.ask(lambda: self._declare(loaded), seconds=READING)
            # Not what the former file says now: where it refers to a secret, there may be another one since.
            changed = {key.id: None for key in self.declared} | {key.id: key for key in declared}
            keys = await self._aside.ask(lambda: self._snapshots.current.keys.changed(changed), seconds=READING)
            compiled = await self._aside.ask(
                lambda: self._next(loaded, keys, self._read, self._version), seconds=READING
            )
            await record(compiled.snapshot)
            self._loaded, self.declared = loaded, declared
            self._put(compiled)

    async def _bring_in(self, store: ControlStore, changes: Changes) -> None:
        ids: Collection[str] = {change.name for change in changes.items if change.kind == "key"}
        if not changes.complete:
            ids = await self._aside.ask(lambda: store.read(self._lately_revoked), seconds=QUESTION)
        # Where all changes are known, even one that decides nothing takes the snapshot to the store's version.
        if ids or changes.complete:
            version = changes.version if changes.complete else self._version
            snapshot = await self._aside.ask(lambda: self._with_keys(store, ids, version), seconds=READING)
            self._snapshots.put(snapshot)
            self._running.review(ids)
        else_too = not changes.complete or any(change.kind not in _UNREAD | {"key"} for change in changes.items)
        if else_too:
            compiled = await self._aside.ask(
                lambda: self._read_anew(store, changes.version, keys_too=not changes.complete), seconds=READING
            )
            self._put(compiled)
        self._version, self._stamp = changes.version, changes.stamp
        current = self._known()
        if else_too and not changes.complete:
            await self._aside.ask(lambda: self._keep(lambda standby: standby.write(current)), seconds=READING)
        else:
            await self._aside.ask(
                lambda: self._keep(lambda standby: standby.append(current, ids, all_else=else_too)), seconds=READING
            )

    def _put(self, compiled: _Next) -> None:
        """All at once: no request can see half of it."""
        compiled.put_in_force()
        self.effective, self._read = compiled.effective, compiled.read
        self._snapshots.put(compiled.snapshot)
        self._running.review()

    # In the thread

    def _with_keys(self, store: ControlStore, ids: Collection[str], version: int) -> Snapshot:
        changed: dict[str, VirtualKey | None] = dict.fromkeys(ids)
        wanted = sorted(ids)
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            piece = wanted[start : start + _IDS_AT_ONCE]
            changed |= {key.id: key for key in store.read(partial(stored_keys, ids=piece))}
        return with_keys(self._snapshots.current, changed, store_version=version)

    def _lately_revoked(self, session: Session) -> tuple[str, ...]:
        known = self._snapshots.current.keys
        found = revoked_keys(session, since_us=self._clock.now_us() - _REVOKED_WITHIN)
        return tuple(key_id for key_id in found if (key := known.get(key_id)) is None or key.revoked_us is None)

    def _read_anew(self, store: ControlStore, version: int, *, keys_too: bool) -> _Next:
        read = store.read(_read)
        keys = self._snapshots.current.keys
        if keys_too:
            keys = keys.changed(store.read(lambda session: _differing(keys, all_stored_keys(session))))
        return self._next(self._loaded, keys, read, version)

    def _next(self, loaded: Loaded, keys: KeyTable, read: _Read, version: int) -> _Next:
        effective = compose(loaded, read.stored, book=self._book)
        snapshot = self._compiled(effective, keys, read, version, previous=self._snapshots.current.policies)
        return _Next(effective, snapshot, read, self._prepare(effective))

    def _compiled(
        self, effective: Effective, keys: KeyTable, read: _Read, version: int, *, previous: Policies
    ) -> Snapshot:
        policies = compile_policies((*self._bundles(effective.loaded), *read.policies), previous=previous)
        for scope, reason in policies.broken.items():
            _log.error("policy_broken", scope=scope or "installation", reason=reason)
        return compile_snapshot(
            effective.config,
            keys,
            self._book,
            now_us=self._clock.now_us(),
            key_limits=effective.key_limits,
            policies=policies,
            services=ServiceTable.of(read.services),
            store_version=version,
        )

    # For a start without the store

    def _known(self) -> Known:
        keys = self._snapshots.current.keys.by_id
        return Known(version=self._version, keys=keys, **self._read._asdict())

    def _keep(self, write: Callable[[Standby], None]) -> None:
        """What cannot be kept is worth no interruption: only a start without the store is not possible then."""
        if self._standby is None:
            return
        try:
            write(self._standby)
            self._unkept = False
        except OSError as error:
            self._unkept = True
            _log.error("last_known_not_kept", reason=error.strerror or "the file cannot be written")

    def _keep_confirmed(self, age: float) -> None:
        if self._unkept:
            known = self._known()
            self._keep(lambda standby: standby.write(known))
        if not self._unkept:
            self._keep(lambda standby: standby.confirm(age=age))
        self._kept_at = self._clock.monotonic()


def _read(session: Session) -> _Read:
    return _Read(stored_documents(session), stored_policies(session), stored_services(session))


def _differing(known: KeyTable, stored: Iterable[VirtualKey]) -> dict[str, VirtualKey | None]:
    """What has to change in `known` so that it holds `stored` and the file's keys.

    What is the same stays the same object: to let go of 100,000 keys at once would keep every thread waiting.
    """
    changes: dict[str, VirtualKey | None] = {}
    standing = set()
    for number, key in enumerate(stored):
        if number % BREATH_EVERY == 0:
            breathe()
        former = known.get(key.id)
        if former != key:
            changes[key.id] = key
        if former is not None:
            standing.add(former.id)
    for key in known.by_id.values():
        if key.managed_by == "api" and key.id not in standing:
            changes[key.id] = None
    return changes
