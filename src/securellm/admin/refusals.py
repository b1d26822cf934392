"""Refused calls on their way into the log: of those we know one record each, of strangers a count.

A flood of refusals must not fill the disk. Who is refused too often within a minute waits, up to a second, for one
record that stands for all of that second.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import parse_qs

import msgspec
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from securellm.admin.calls import Call
from securellm.admin.permissions import ask_of
from securellm.audit import AdminDenied
from securellm.core.clock import Clock
from securellm.core.errors import GatewayError
from securellm.identity import Actor
from securellm.limits import Buckets, Rate

SINGLE = Rate(per_minute=60, burst=5_000)
"""Refusals of one principal that have a record each: some 3 MB at once."""

_TOGETHER = 1.0
"""Seconds whose refusals beyond that share a record."""
_MOST_PRINCIPALS = 10_000
_LONGEST_QUERY = 4_096
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,37}", re.ASCII)
_BEGINNING = re.compile(r"[A-Za-z0-9._:@/+-]{1,12}", re.ASCII)
_SECRET = re.compile(r"sl[a-z]_|sk-", re.ASCII)

Record = Callable[[AdminDenied], Awaitable[None]]


class Refusals:
    """Makes the record of a refusal durable before the refusal is answered."""

    def __init__(self, record: Record, *, clock: Clock) -> None:
        """`record` returns once it is durable, or raises `Fault` (AUDIT_UNAVAILABLE)."""
        self._record = record
        self._recent = Buckets(clock, capacity=_MOST_PRINCIPALS)
        self._shared: dict[tuple[str, str], _Shared] = {}

    async def note(self, denied: AdminDenied) -> None:
        """Returns once `denied` is durable, by itself or among others. Raises what `record` raises."""
        if not self._recent.wait(denied.principal, SINGLE):
            self._recent.spend(denied.principal, SINGLE)
            await self._record(denied)
            return
        key = denied.principal, denied.code.value
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(denied)
            shared.written = asyncio.get_running_loop().create_task(self._write(key, shared))
        shared.times += 1
        assert shared.written is not None
        # Whoever leaves takes nothing from the others who wait.
        await asyncio.shield(shared.written)

    async def _write(self, key: tuple[str, str], shared: "_Shared") -> None:
        await asyncio.sleep(_TOGETHER)
        del self._shared[key]
        await self._record(msgspec.structs.replace(shared.first, times=shared.times))


class _Shared:
    """Refusals of one second that share a record."""

    def __init__(self, first: AdminDenied) -> None:
        self.first = first
        self.times = 0
        self.written: asyncio.Task[None] | None = None


def denied_of(
    error: GatewayError,
    scope: Scope,
    *,
    actor: Actor,
    call: Call | None,
    routes: Sequence[BaseRoute],
    request_id: str,
    client_ip: str,
) -> AdminDenied:
    """The record of what `actor` was refused. `call` is None where it did not come to one."""
    route, names = _place_of(scope, routes)
    permission = None if route is None else ask_of(route).permission
    named, tenant = None, actor.tenant
    if call is not None and call.refused is not None:
        permission, named, seen = call.refused
        tenant = seen or tenant
    named = named or _tenant_in(scope["query_string"])
    return AdminDenied(
        request_id=request_id,
        tenant=tenant,
        principal=actor.principal,
        method=scope["method"] if scope["method"] in _METHODS else "other",
        route=None if route is None else getattr(route, "path", None),
        names=names,
        permission=None if permission is None else permission.value,
        asked_tenant=_shown(named) if named else None,
        code=error.code,
        reason=error.reason,
        client_ip=client_ip or None,
    )


def _place_of(scope: Scope, routes: Sequence[BaseRoute]) -> tuple[BaseRoute | None, tuple[str, ...]]:
    """The route of a request, or one of its path, and the ids that stand in that path."""
    near: tuple[BaseRoute, tuple[str, ...]] | None = None
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.NONE:
            continue
        place = route, tuple(_shown(str(value)) for value in found.get("path_params", {}).values())
        if match is Match.FULL:
            return place
        near = near or place
    return near or (None, ())


def _tenant_in(query: bytes) -> str | None:
    """The tenant that a query names, if it names one."""
    found = parse_qs(query[:_LONGEST_QUERY].decode("latin-1")).get("tenant", [])
    return found[0] if len(found) == 1 else None


def _shown(name: str) -> str:
    """A name as it is, if it has the shape of an id; else its beginning: it may be a secret in the wrong place."""
    if _NAME.fullmatch(name) is not None and _SECRET.match(name) is None:
        return name
    beginning = _BEGINNING.match(name)
    return f"{'' if beginning is None else beginning[0]}…"
