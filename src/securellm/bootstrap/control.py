"""Changes of the control plane: recorded before they are made, in force before they are answered."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from securellm.admin.digests import digest_of
from securellm.admin.ports import Changed
from securellm.admin.repeats import Claim
from securellm.admin.store import fingerprint_of, note_made
from securellm.audit import AdminChange
from securellm.bootstrap.recorded import Recorded
from securellm.core.clock import Clock
from securellm.core.errors import GatewayError
from securellm.identity import Actor
from securellm.settings import ConfigError
from securellm.storage import EVERYWHERE, Scope, Session, in_thread
from securellm.telemetry.logs import logger

T = TypeVar("T")

_log = logger("control")


class ControlPlane:
    """The control database as those change it who administer: recorded, and then in the snapshot."""

    def __init__(
        self,
        recorded: Recorded,
        *,
        refresh: Callable[[], Awaitable[None]],
        clock: Clock,
        done_alone: Callable[[str, bool], None],
    ) -> None:
        """`done_alone` is told each action that one did where two stand, and whether they broke the glass for it."""
        self._recorded = recorded
        self._refresh = refresh
        self._clock = clock
        self._done_alone = done_alone

    async def read(self, query: Callable[[Session], T], *, scope: Scope = EVERYWHERE) -> T:
        """What `query` finds in one consistent view, off the loop."""
        return await in_thread(lambda: self._recorded.read(query, scope=scope))

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
        alone: bool = False,
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
                alone=alone,
            )

        def make(session: Session) -> Changed[T]:
            changed = work(session)
            note_made(session, request_id=request_id, tenant=scope.tenant, claim=claim, now_us=self._clock.now_us())
            return changed

        result = await in_thread(lambda: self.write(make, record_of, scope=scope))
        if break_glass is not None or alone:
            self._done_alone(action, break_glass is not None)
            event = "done_alone" if break_glass is None else "break_glass"
            _log.error(event, action=action, resource=resource, actor=actor.principal, request_id=request_id)
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
        return self._recorded.write(work, lambda made: (*made.records, record_of(made)), scope=scope).result
