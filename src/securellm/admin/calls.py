"""One call of the admin API: who makes it, what of it was allowed, and the route class that lets nothing else pass.

A route lets a caller in who holds its permission somewhere; whose thing it is, only the handler learns, and says
`Call.allow`. An answer for which nobody said so never leaves: forgetting is a fault, not a hole.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from securellm.admin.etags import ANY, Precondition, precondition_of
from securellm.admin.permissions import Ask, ask_of
from securellm.admin.ports import Changed, Ports
from securellm.admin.repeats import HEADER, Claim, demand_same
from securellm.audit import AdminRead
from securellm.core.errors import Code, Fault, Refusal
from securellm.identity import Actor, Permission
from securellm.storage import EVERYWHERE, Scope, Session

T = TypeVar("T")


GLASS = "X-Break-Glass"
_LONGEST_REASON = 500


class Disallowed(NamedTuple):
    """What was asked for and not allowed."""

    permission: Permission
    named: str | None
    """The tenant that the caller named."""
    seen: str | None
    """The tenant, where the caller may look."""


class Call:
    """An authenticated call on its way through a handler."""

    def __init__(self, request: Request, actor: Actor, ask: Ask, ports: Ports) -> None:
        self.actor = actor
        self.ask = ask
        self.ports = ports
        self.request_id: str = request.state.request_id
        self.client_ip = request.client.host if request.client is not None else ""
        self.precondition: Precondition = ANY
        self.break_glass: str | None = None
        self.claim: Claim | None = None
        self.allowed = False
        self.refused: Disallowed | None = None
        self._path = request.scope["path"]

    @property
    def permission(self) -> Permission:
        assert self.ask.permission is not None
        return self.ask.permission

    def enter(self) -> None:
        """Raises `Refusal` (FORBIDDEN) when the caller could not be allowed whatever the handler learns."""
        if self.ask.of == "installation":
            self.allow(None)
        elif not self.actor.may(self.permission, tenant=self.actor.tenant):
            # What everyone proven may do needs no role.
            self.demand_anywhere()
        if self.ask.of == "nobody":
            self.allowed = True

    def allow(self, tenant: str | None, *, project: str | None = None, permission: Permission | None = None) -> None:
        """Let the call go on for what belongs to `tenant` (None: to the installation).

        Raises `Refusal`: NOT_FOUND when this tenant does not exist for the caller, FORBIDDEN when it does.
        """
        asked = permission or self.permission
        if self.actor.may(asked, tenant=tenant, project=project):
            self.allowed = True
            return
        seen = tenant is None or self.actor.sees(tenant, project=project)
        self.refused = Disallowed(asked, named=tenant, seen=tenant if seen else None)
        raise _forbidden(asked) if seen else missing()

    def allow_or_hide(
        self, tenant: str | None, noun: str, *, project: str | None = None, permission: Permission | None = None
    ) -> None:
        """As `allow`, for a thing found by its id: what the caller cannot see is missing, word for word."""
        try:
            self.allow(tenant, project=project, permission=permission)
        except Refusal:
            if self.actor.sees(tenant, project=project):
                raise
            # Nor does the record tell whose it is: the caller's own tenant reads that.
            self.refused = Disallowed(permission or self.permission, named=None, seen=None)
            raise missing(f"no {noun} has this id") from None

    def allow_nothing(self) -> None:
        """Say that what is asked for belongs to nobody: the answer will be that it is not there."""
        self.allowed = True

    def demand_anywhere(self) -> None:
        """Raises `Refusal` (FORBIDDEN) unless the caller holds the permission somewhere: for what is nobody's."""
        grants, permission = self.actor.grants, self.permission
        if not any(self.actor.may(permission, tenant=grant.tenant, project=grant.project) for grant in grants):
            raise _forbidden(permission)

    def demand_whole_glass(self) -> None:
        """Raises `Refusal` (INVALID_HEADER) when the glass is broken for what one person may do."""
        if self.break_glass is not None:
            raise Refusal(Code.INVALID_HEADER, "one person may do this, so the glass stays whole", param=GLASS)

    def allow_self(self, principal: str) -> bool:
        """Whether this is about the caller; if so the call may go on."""
        own = principal == self.actor.principal
        self.allowed = self.allowed or own
        return own

    def among(self, tenant: str | None, *, project: str | None = None) -> str | None:
        """Whose things to list, when `tenant` (None: everyone's) is asked for. Raises `Refusal`."""
        if tenant is not None:
            self.allow(tenant, project=project)
            return tenant
        reach = self.actor.reach(self.permission)
        if reach is None:
            self.allowed = True
            return None
        if len(reach) != 1:
            reason = "name the tenant" if reach else "name the tenant, and the project in it"
            raise Refusal(Code.INVALID_REQUEST, reason, param="tenant")
        (only,) = reach
        self.allow(only)
        return only

    def tenants(self) -> frozenset[str] | None:
        """The tenants themselves to list; None is all."""
        self.allowed = True
        return self.actor.reach(self.permission)

    def projects(self, tenant: str) -> frozenset[str] | None:
        """The projects of `tenant` to list; None is all. Raises `Refusal` as `allow` does."""
        projects = self.actor.projects(self.permission, tenant=tenant)
        if projects:
            self.allowed = True
        else:
            self.allow(tenant)
        return projects

    def cursor(self, after: str | None, **query: str | None) -> str | None:
        """The cursor of the next page of this very list, for this very caller."""
        return None if after is None else self.ports.cursors.make(after, query=self._list(query))

    def after(self, cursor: str | None, **query: str | None) -> str | None:
        """Where to go on. Raises `Refusal` (INVALID_REQUEST) for a cursor of another list or caller."""
        return self.ports.cursors.read(cursor, query=self._list(query))

    @property
    def home(self) -> Scope:
        """All that this caller could ever see: the second wall around who belongs to a tenant."""
        return scope_of(self.actor.tenant)

    async def read(self, query: Callable[[Session], T], *, scope: Scope = EVERYWHERE) -> T:
        """What `query` finds in rows of this scope."""
        return await self.ports.control.read(query, scope=scope)

    async def looked(self, resource: str, resource_id: str | None, *, tenant: str | None) -> None:
        """Record that the caller looks at what is about others of `tenant` (None: everybody), before they see it.

        Raises `Fault` (AUDIT_UNAVAILABLE): who cannot be seen looking does not look.
        """
        if resource_id == self.actor.principal:
            return
        await self.ports.looked(
            AdminRead(
                resource=resource,
                resource_id=resource_id,
                tenant=tenant,
                actor=self.actor.principal,
                request_id=self.request_id,
                client_ip=self.client_ip or None,
            )
        )

    async def change(
        self,
        action: str,
        resource: str,
        work: Callable[[Session], Changed[T]],
        *,
        tenant: str | None,
        scope: Scope = EVERYWHERE,
        approval: str | None = None,
        alone: bool = False,
    ) -> T:
        """Do `work` in one transaction with its audit record, and have it in force before this returns.

        With `alone` it takes two people wherever there are two: that there was but one is recorded, too.
        """
        if not self.allowed:
            raise Fault(Code.INTERNAL, "a change was attempted that nobody allowed")
        return await self.ports.control.change(
            self.actor,
            action=action,
            resource=resource,
            tenant=tenant,
            work=work,
            request_id=self.request_id,
            client_ip=self.client_ip,
            scope=scope,
            approval=approval,
            break_glass=self.break_glass,
            claim=self.claim,
            alone=alone,
        )

    def _list(self, query: dict[str, str | None]) -> dict[str, str | None]:
        return {**query, "\0path": self._path, "\0principal": self.actor.principal}


class Guarded(APIRoute):
    """A route that asks before it reads, and answers only what was allowed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        ask = ask_of(self)
        answer = super().get_route_handler()
        if ask.permission is None:
            return answer

        async def guarded(request: Request) -> Response:
            call = Call(request, request.state.actor, ask, request.app.state.ports)
            request.state.call = call
            call.enter()
            _read_conditions(request, call)
            response = await _once(request, call, answer)
            if not call.allowed:
                raise Fault(Code.INTERNAL, "a route answered without asking whose this is")
            return response

        return guarded


def current(request: Request) -> Call:
    call = request.state.call
    assert isinstance(call, Call)
    return call


CurrentCall = Annotated[Call, Depends(current)]


async def demand_tenant(call: Call, tenant: str | None) -> None:
    """Raises `Refusal` (INVALID_REQUEST) when a body names a tenant that is not there."""
    if tenant is None:
        return
    declared = call.ports.declared
    if await call.read(lambda session: declared.find(session, "tenant", tenant)) is None:
        raise Refusal(Code.INVALID_REQUEST, "there is no tenant of this id", param="tenant")


def scope_of(tenant: str | None) -> Scope:
    return EVERYWHERE if tenant is None else Scope(tenant)


def missing(reason: str = "there is nothing of this id") -> Refusal:
    return Refusal(Code.NOT_FOUND, reason)


def _forbidden(permission: Permission) -> Refusal:
    return Refusal(Code.FORBIDDEN, f"this asks for the permission {permission.value}")


def _read_conditions(request: Request, call: Call) -> None:
    """`If-Match` and the glass: said where they mean something, and refused where they mean nothing."""
    ask = call.ask
    header = _only(request, "if-match")
    if ask.precondition or (ask.precondition_optional and header is not None):
        call.precondition = precondition_of(header)
    glass = _only(request, GLASS)
    if glass is None:
        return
    if not ask.four_eyes:
        raise Refusal(Code.INVALID_HEADER, f"nothing here takes {GLASS}", param=GLASS)
    call.break_glass = glass.encode("latin-1").decode("utf-8", "replace")[:_LONGEST_REASON]


def _only(request: Request, name: str) -> str | None:
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise Refusal(Code.INVALID_HEADER, f"{name} is sent twice", param=name)
    return found[0] if found else None


async def _once(request: Request, call: Call, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer; with an idempotency key, for the first time or as before."""
    key = _only(request, HEADER) if request.method == "POST" else None
    if key is None:
        return await answer(request)
    repeats = call.ports.repeats
    query = request.scope["query_string"].decode("latin-1")
    claim = repeats.claim(
        key,
        principal=call.actor.principal,
        method=request.method,
        target=f"{request.scope['path']}?{query}",
        body=await request.body(),
    )
    before = repeats.begin(claim)
    if before is not None:
        call.allowed = True
        return before
    kept: Response | None = None
    try:
        fingerprint = await call.ports.control.claimed(claim)
        if fingerprint is not None:
            demand_same(fingerprint, claim)
            raise Refusal(Code.IDEMPOTENT_RESULT_EXPIRED, "this was done, and its answer is not kept", param=HEADER)
        call.claim = claim
        response = await answer(request)
        if response.status_code < 300 and not call.ask.once_shown:
            kept = response
        return response
    finally:
        repeats.finish(claim, kept)
