"""What people keep for themselves: their preferences and memories in the control database, each change recorded."""

from collections.abc import Callable
from typing import TypeVar

from securellm.admin.digests import digest_of
from securellm.admin.store import note_made
from securellm.audit import AdminChange, Record
from securellm.bootstrap.recorded import Recorded
from securellm.core.clock import Clock
from securellm.preferences import Changed, Origin, Work
from securellm.storage import Scope, Session

T = TypeVar("T")


class PersonalControl:
    """The control database for what callers of the data plane change, recorded as what administrators do. Blocks."""

    def __init__(self, recorded: Recorded, *, clock: Clock) -> None:
        self._recorded = recorded
        self._clock = clock

    def read(self, query: Callable[[Session], T], *, scope: Scope) -> T:
        return self._recorded.read(query, scope=scope)

    def write(self, work: Work[T], *, scope: Scope, origin: Origin) -> T:
        def make(session: Session) -> tuple[T, Changed | None]:
            result, changed = work(session)
            if changed is not None:
                now_us = self._clock.now_us()
                note_made(session, request_id=origin.request_id, tenant=scope.tenant, claim=None, now_us=now_us)
            return result, changed

        def told(made: tuple[T, Changed | None]) -> tuple[Record, ...]:
            return () if made[1] is None else (_record_of(made[1], origin),)

        return self._recorded.write(make, told, scope=scope)[0]


def _record_of(changed: Changed, origin: Origin) -> AdminChange:
    return AdminChange(
        action=changed.action,
        resource=changed.resource,
        resource_id=changed.person.principal,
        tenant=changed.person.tenant,
        actor=origin.actor,
        request_id=origin.request_id,
        client_ip=origin.client_ip or None,
        before=digest_of(changed.before),
        after=digest_of(changed.after),
    )
