"""What people keep for themselves: their preferences and memories in the control database, each change recorded."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from securellm.admin.digests import digest_of
from securellm.admin.store import note_made
from securellm.audit import AdminChange, Record
from securellm.core.clock import Clock
from securellm.preferences import Changed, Origin, Work
from securellm.storage import ControlStore, Scope, Session

T = TypeVar("T")


class PersonalControl:
    """The control database for what callers of the data plane change. Blocks.

    The order is that of every administrative change: the change, its ADMIN record durable, COMMIT.
    """

    def __init__(self, store: Callable[[], ControlStore], *, record: Callable[[Record], None], clock: Clock) -> None:
        """`store` raises `Fault` while there is none. `record` makes a record durable, or raises."""
        self._store = store
        self._record = record
        self._clock = clock

    def read(self, query: Callable[[Session], T], *, scope: Scope) -> T:
        return self._store().read(query, scope=scope)

    def write(self, work: Work[T], *, scope: Scope, origin: Origin) -> T:
        written: list[AdminChange] = []

        def make(session: Session) -> tuple[T, Changed | None]:
            result, changed = work(session)
            if changed is not None:
                now_us = self._clock.now_us()
                note_made(session, request_id=origin.request_id, tenant=scope.tenant, claim=None, now_us=now_us)
            return result, changed

        def record(made: tuple[T, Changed | None]) -> None:
            if made[1] is not None:
                change = _record_of(made[1], origin)
                self._record(change)
                written.append(change)

        committed = False
        try:
            result, _ = self._store().write(make, scope=scope, before_commit=record)
            committed = True
        finally:
            if written and not committed:
                self._record(msgspec.structs.replace(written[-1], undone=True))
        return result


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
