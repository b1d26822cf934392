"""The requests in progress, by whom they run for: one whose right to run has ended is cut."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.gateway.case import Case
from securellm.gateway.snapshot import Snapshot, Snapshots, stale
from securellm.identity import Identity

Ending = Callable[[], GatewayError]
"""Makes the error that one request is cut with."""


class Running:
    """Every request that is inside one of its `holding` blocks."""

    def __init__(self, snapshots: Snapshots, clock: Clock) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._held: dict[Holding, Identity] = {}

    def __len__(self) -> int:
        return len(self._held)

    def holding(self, case: Case) -> "Holding":
        """Go on only while the caller may.

        Refused when entered after the caller's key or tenant was taken away. Cut inside, the story is stopped wherever
        it waits and leaves the block with a GatewayError, as if it had refused itself. Once its outcome is recorded, or
        being recorded, there is nothing left to cut.
        """
        return Holding(self, case)

    def review(self, keys: Iterable[str] | None = None) -> None:
        """Cut what runs for keys and tenants that the current snapshot no longer lets in; of all, or of `keys`."""
        snapshot, now_us = self._snapshots.current, self._clock.now_us()
        reviewed = None if keys is None else frozenset(keys)
        for held, identity in list(self._held.items()):
            if reviewed is not None and identity.key_id not in reviewed:
                continue
            ending = _ended(identity.key_id, snapshot, now_us=now_us)
            if ending is None and reviewed is None and identity.tenant not in snapshot.tenants:
                ending = _tenant_removed
            if ending is not None:
                held.cut(ending)

    def watch(self) -> None:
        """Cut what runs for keys that have expired by now, and for tenants whose fence has been passed."""
        now_us = self._clock.now_us()
        stale_for = {tenant: self._snapshots.is_stale_for(tenant) for tenant in self._tenants()}
        for held, identity in list(self._held.items()):
            if held.expires_us is not None and held.expires_us <= now_us:
                held.cut(_expired)
            elif stale_for[identity.tenant]:
                held.cut(self._stale)

    def ended(self, identity: Identity) -> Ending | None:
        """Why this caller, once let in, is not any more; None while they are."""
        snapshot: Snapshot = self._snapshots.current
        ending = _ended(identity.key_id, snapshot, now_us=self._clock.now_us())
        if ending is None and identity.tenant not in snapshot.tenants:
            return _tenant_removed
        if ending is None and self._snapshots.is_stale_for(identity.tenant):
            return self._stale
        return ending

    def enter(self, held: "Holding", identity: Identity) -> int | None:
        """When the right to go on ends by itself: microseconds since the Unix epoch."""
        self._held[held] = identity
        key = self._snapshots.current.keys.get(identity.key_id)
        if key is None or key.expires_us is None:
            return identity.expires_us
        return key.expires_us if identity.expires_us is None else min(key.expires_us, identity.expires_us)

    def leave(self, held: "Holding") -> None:
        del self._held[held]

    def _tenants(self) -> set[str]:
        return {identity.tenant for identity in self._held.values()}

    def _stale(self) -> Fault:
        return stale(self._snapshots.age)


class Holding:
    """One block of one story, which can be cut."""

    __slots__ = ("_cancelling", "_case", "_running", "_task", "expires_us")

    def __init__(self, running: Running, case: Case) -> None:
        self._running = running
        self._case = case
        self.expires_us: int | None = None

    def cut(self, ending: Ending) -> None:
        """Stop the story; the first time counts."""
        if self._case.cut is None and not self._case.closed:
            self._case.cut = ending
            self._task.cancel()

    def __enter__(self) -> None:
        case = self._case
        assert case.identity is not None
        case.cut = case.cut or self._running.ended(case.identity)
        if case.cut is not None:
            raise case.cut()
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        self.expires_us = self._running.enter(self, case.identity)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        case = self._case
        self._running.leave(self)
        # As in asyncio.timeout: the cancellation is ours, unless somebody else asked for one as well.
        if case.cut is not None and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise case.cut() from None


def _ended(credential: str, snapshot: Snapshot, *, now_us: int) -> Ending | None:
    """Why this virtual key, or this service with a token of its own, is not let in any more; None while it is."""
    key = snapshot.keys.get(credential)
    if key is None:
        service = snapshot.services.by_id.get(credential)
        return _gone if service is None or service.disabled else None
    if key.revoked_us is not None:
        return _revoked
    if key.expires_us is not None and key.expires_us <= now_us:
        return _expired
    return None


def _gone() -> Refusal:
    return Refusal(Code.REVOKED_KEY, "the virtual key was deleted")


def _revoked() -> Refusal:
    return Refusal(Code.REVOKED_KEY, "the virtual key was revoked")


def _expired() -> Refusal:
    return Refusal(Code.EXPIRED_KEY, "the virtual key has expired")


def _tenant_removed() -> Refusal:
    return Refusal(Code.REVOKED_KEY, "the key's tenant was removed")
