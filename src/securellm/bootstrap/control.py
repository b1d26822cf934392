"""Changes of the control plane: recorded before they are made, in force before they are answered."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from securellm.admin.digests import digest_of
from securellm.admin.ports import Changed
from securellm.admin.repeats import Claim
from securellm.admin.store import fingerprint_of, note_made, was_made
from securellm.audit import AdminChange, Record, RecordType, Wanted, search
from securellm.core.clock import Clock
from securellm.core.errors import GatewayError
from securellm.identity import Actor
from securellm.settings import ConfigError
from securellm.storage import EVERYWHERE, ControlStore, Scope, Session
from securellm.telemetry.logs import logger

T = TypeVar("T")

_log = logger("control")

_ADMIN = frozenset({RecordType.ADMIN.value})
_FIELDS = AdminChange.__struct_fields__
_MOST_SETTLED = 2_000


class ControlPlane:
    """The one way into the control database while a gateway serves.

    The order is: the change, its ADMIN record durable, COMMIT, and then the snapshot. Each change leaves a row that
    says it was made, so that a record without one can be marked `undone`: at once when a COMMIT fails, by the next
    change when the database could not be asked, by `settle` when the process died in between.
    """

    def __init__(
        self,
        store: Callable[[], ControlStore],
        *,
        record: Callable[[tuple[Record, ...]], None],
        refresh: Callable[[], Awaitable[None]],
        clock: Clock,
        broken_glass: Callable[[str], None],
    ) -> None:
        """`store` raises `Fault` while there is none. `record` makes records durable, blocking, or raises.

        `broken_glass` is told each action that one did alone.
        """
        self._store = store
        self._record = record
        self._refresh = refresh
        self._clock = clock
        self._broken_glass = broken_glass
        self._doubts: deque[AdminChange] = deque()

    async def read(self, query: Callable[[Session], T], *, scope: Scope = EVERYWHERE) -> T:
        """What `query` finds in one consistent view, off the loop."""
        return await asyncio.to_thread(lambda: self._store().read(query, scope=scope))

    async def claimed(self, claim: Claim) -> str | None:
        now_us = self._clock.now_us()
        return await self.read(lambda session: fingerprint_of(session, claim, now_us=now_us))

    async def change(
        self,
        actor: Actor,
        *,
        action: str,
        resource: str,
        tenant: str | None,
        work: Callable[[Session], Changed[T]],
        request_id: str,
        client_ip: str,
        scope: Scope = EVERYWHERE,
        approval: str | None = None,
        break_glass: str | None = None,
        claim: Claim | None = None,
    ) -> T:
        """Do `work`, recorded and in force. Raises what `work` raises, `Fault` and `StorageConflict`."""

        def record_of(changed: Changed[T]) -> AdminChange:
            return AdminChange(
                action=action,
                resource=resource,
                resource_id=changed.id,
                tenant=tenant,
                actor=actor.principal,
                request_id=request_id,
                client_ip=client_ip or None,
                before=digest_of(changed.before),
                after=digest_of(changed.after),
                approval=approval,
                break_glass=break_glass,
            )

        def make(session: Session) -> Changed[T]:
            changed = work(session)
            note_made(session, request_id=request_id, tenant=scope.tenant, claim=claim, now_us=self._clock.now_us())
            return changed

        result = await asyncio.to_thread(self.write, make, record_of, scope=scope)
        if break_glass is not None:
            self._broken_glass(action)
            _log.error("break_glass", action=action, resource=resource, actor=actor.principal, request_id=request_id)
        try:
            await self._refresh()
        except (GatewayError, ConfigError) as error:
            # It is stored and recorded. The regular look at the database follows within a second.
            _log.error("refresh_failed", error=str(error))
        return result

    def write(
        self,
        work: Callable[[Session], Changed[T]],
        record_of: Callable[[Changed[T]], AdminChange],
        *,
        scope: Scope = EVERYWHERE,
    ) -> T:
        """As `change`, blocking, and without the snapshot: for threads, and for start-up."""
        self._settle_doubts()
        written: list[tuple[Changed[T], AdminChange]] = []

        def record(changed: Changed[T]) -> None:
            made = record_of(changed)
            self._record((*changed.records, made))
            written.append((changed, made))

        try:
            return self._store().write(work, scope=scope, before_commit=record).result
        except BaseException:
            if not written or not self._was_made(written[0]):
                raise
        # The connection was lost during COMMIT, and the COMMIT was not.
        return written[0][0].result

    def settle(self, audit: Path, *, since_us: int) -> int:
        """Mark every change that was recorded after `since_us` and never made; how many. Blocking, at start.

        Looks at the newest records only: a change is in doubt when a process died, so at the end of the log.
        """
        found = search(audit, Wanted(types=_ADMIN, since_us=since_us), limit=_MOST_SETTLED)
        records = [msgspec.convert({name: item[name] for name in _FIELDS}, AdminChange) for item in found.records]
        ended = {record.request_id for record in records if record.undone}
        open_ = [record for record in records if record.request_id not in ended]
        lost = self._store().read(lambda session: [item for item in open_ if not was_made(session, item.request_id)])
        for item in reversed(lost):
            self._undo(item)
        return len(lost)

    def _was_made(self, written: tuple[Changed[T], AdminChange]) -> bool:
        """Whether a change whose COMMIT did not answer was made; where nobody can say, it is asked again later."""
        made = written[1]
        try:
            if self._store().read(lambda session: was_made(session, made.request_id)):
                return True
        except GatewayError:
            self._doubts.append(made)
            return False
        self._undo(made)
        return False

    def _settle_doubts(self) -> None:
        while self._doubts:
            doubt = self._doubts[0]
            if not self._store().read(lambda session: was_made(session, doubt.request_id)):  # noqa: B023 - called at once
                self._undo(doubt)
            self._doubts.popleft()

    def _undo(self, record: AdminChange) -> None:
        self._record((msgspec.structs.replace(record, undone=True),))
        _log.warning("change_undone", action=record.action, resource=record.resource, request_id=record.request_id)
