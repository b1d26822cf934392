"""The ways in and out: set-up, invitations, login through an issuer, logout, and who one is."""

from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from securellm.admin.browsing import PAGE_HEADERS
from securellm.admin.calls import CurrentCall
from securellm.admin.moments import moment_of
from securellm.admin.permissions import ACCEPT, API_ROOT, SETUP, asks, asks_nothing, asks_one_time
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import ID, Input, Name, answer, shown
from securellm.admin.users import Email
from securellm.core.errors import Code, Refusal
from securellm.identity import (
    Actor,
    Entered,
    Grant,
    IssuedToken,
    Permission,
    Role,
    User,
    read_cookie,
    session_cookie_name,
    set_cookie,
)
from securellm.storage import EVERYWHERE, Session

_LOGIN_SECONDS = 600
_ONWARD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signed in</title>
<meta http-equiv="refresh" content="0; url={place}"></head><body><a href="{place}">Go on</a></body></html>
"""


class FirstOwner(Input):
    """Who sets the installation up."""

    name: Name = ""
    email: Email = ""


class Nothing(Input):
    """There is nothing to say."""


class EntryView(BaseModel):
    """Somebody who has come in, with their access token, shown this once."""

    principal: str
    tenant: str | None
    token_id: str
    token: str
    expires_at: datetime | None


class GrantOfMine(BaseModel):
    role: Role
    tenant: str | None
    project: str | None
    permissions: list[Permission]


class Me(BaseModel):
    """Who the caller is, proven how, and what they may do where."""

    principal: str
    tenant: str | None
    method: str
    grants: list[GrantOfMine]


class BeginLogin(BaseModel):
    """Through which issuer, and where to go afterwards."""

    issuer: Annotated[str, Field(pattern=ID)]
    return_to: Annotated[str, Field(max_length=512)] = "/"


def add_entry(app: FastAPI, ports: Ports) -> None:
    """Serve the ways in and out."""

    @app.post(
        SETUP,
        status_code=201,
        operation_id="set_up",
        tags=["entry"],
        openapi_extra=asks_one_time(),
        responses=shown(EntryView, status=201, tagged=False),
        response_model=None,
    )
    async def set_up(request: Request, asked: FirstOwner) -> Response:
        """Become the first owner with the set-up token that the first start printed. It is then used up."""
        secret = request.state.one_time

        def work(session: Session) -> Changed[tuple[User, IssuedToken]]:
            user, grant, issued = ports.tokens.redeem_setup(session, secret, name=asked.name, email=asked.email)
            return Changed(result=(user, issued), id=user.id, after=[user, grant])

        entered = await _enter(request, ports, "set_up", work)
        ports.set_up_done()
        return answer(_entry(*entered), status=201)

    @app.post(
        ACCEPT,
        status_code=201,
        operation_id="accept_invitation",
        tags=["entry"],
        openapi_extra=asks_one_time(),
        responses=shown(EntryView, status=201, tagged=False),
        response_model=None,
    )
    async def accept_invitation(request: Request, asked: Nothing) -> Response:  # noqa: ARG001 - an empty object
        """Take up an invitation: the first access token of who was invited. It is then used up."""
        secret = request.state.one_time

        def work(session: Session) -> Changed[tuple[User, IssuedToken]]:
            user, issued = ports.tokens.accept(session, secret)
            return Changed(result=(user, issued), id=user.id, after={"token": issued.token.id})

        return answer(_entry(*await _enter(request, ports, "accept_invitation", work)), status=201)

    @app.get(
        f"{API_ROOT}/login",
        status_code=303,
        operation_id="begin_login",
        tags=["entry"],
        openapi_extra=asks_nothing(),
        response_model=None,
        responses={303: {"description": "To the issuer", "headers": {"Location": {"schema": {"type": "string"}}}}},
    )
    async def begin_login(asked: Annotated[BeginLogin, Query()]) -> Response:
        """Send the browser to an issuer to log in (authorization code with PKCE)."""
        login = ports.login()
        begun = await login.begin(asked.issuer, return_to=asked.return_to)
        cookie = set_cookie(login.cookie_name, begun.cookie, secure=ports.secure, seconds=_LOGIN_SECONDS, lax=True)
        return Response(status_code=303, headers={"location": begun.location, "set-cookie": cookie})

    @app.get(
        f"{API_ROOT}/login/callback",
        operation_id="finish_login",
        tags=["entry"],
        openapi_extra=asks_nothing(),
        response_model=None,
        responses={
            200: {"description": "A page that goes on", "content": {"text/html": {"schema": {"type": "string"}}}}
        },
    )
    async def finish_login(request: Request) -> Response:
        """Where the issuer sends the browser back to. One that asks for HTML is shown a problem as a page."""
        login = ports.login()
        cookie = read_cookie(request.headers.get("cookie"), login.cookie_name)
        query = request.scope["query_string"].decode("latin-1")
        try:
            proven = await login.finish(query, cookie)
        except Refusal:
            ports.refused_credential(_address(request))
            raise

        def work(session: Session) -> Changed[Entered]:
            entered = login.enter(session, proven)
            return Changed(result=entered, id=entered.user.id, after=entered.user)

        entered = await ports.control.change(
            Actor(principal=f"issuer:{proven.issuer.id}", tenant=None, grants=(), method="session"),
            action="log_in",
            resource="users",
            tenant=proven.issuer.tenant,
            work=work,
            request_id=request.state.request_id,
            client_ip=_address(request),
            scope=EVERYWHERE,
        )
        # Redirected from another site, a browser would not send the strict cookie: the page goes on by itself.
        page = HTMLResponse(_ONWARD.format(place=escape(proven.return_to, quote=True)), headers=dict(PAGE_HEADERS))
        name, life = session_cookie_name(secure=ports.secure), round(ports.session_life)
        page.headers.append("set-cookie", set_cookie(name, entered.secret, secure=ports.secure, seconds=life))
        page.headers.append("set-cookie", set_cookie(login.cookie_name, "", secure=ports.secure, seconds=0, lax=True))
        return page

    @app.post(
        f"{API_ROOT}/logout",
        status_code=204,
        operation_id="log_out",
        tags=["entry"],
        openapi_extra=asks(Permission.SELF, of="self"),
        response_model=None,
    )
    async def log_out(request: Request, call: CurrentCall) -> Response:
        """End the session one is in. An access token is revoked instead."""
        call.allow_self(call.actor.principal)
        if call.actor.method != "session":
            raise Refusal(Code.CONFLICT, "this is no session; revoke the access token")
        name = session_cookie_name(secure=ports.secure)
        secret = read_cookie(request.headers.get("cookie"), name) or ""

        def work(session: Session) -> Changed[None]:
            ports.sessions.close(session, secret)
            return Changed(result=None, id=call.actor.principal)

        await call.change("log_out", "sessions", work, tenant=call.actor.tenant)
        gone = set_cookie(name, "", secure=ports.secure, seconds=0)
        return Response(status_code=204, headers={"set-cookie": gone})

    @app.get(f"{API_ROOT}/me", operation_id="get_me", tags=["entry"], openapi_extra=asks(Permission.SELF, of="self"))
    async def get_me(call: CurrentCall) -> Me:
        """Who one is, and what one may do where."""
        actor = call.actor
        call.allow_self(actor.principal)
        return Me(
            principal=actor.principal,
            tenant=actor.tenant,
            method=actor.method,
            grants=[_mine(grant, actor) for grant in actor.grants],
        )


async def _enter(
    request: Request, ports: Ports, action: str, work: Callable[[Session], Changed[tuple[User, IssuedToken]]]
) -> tuple[User, IssuedToken]:
    """By a one-time secret: who comes in is not proven otherwise."""
    try:
        return await ports.control.change(
            Actor(principal="one-time", tenant=None, grants=(), method="setup"),
            action=action,
            resource="users",
            tenant=None,
            work=work,
            request_id=request.state.request_id,
            client_ip=_address(request),
            scope=EVERYWHERE,
        )
    except Refusal as refusal:
        if refusal.code is Code.ADMIN_REQUIRED:
            ports.refused_credential(_address(request))
        raise


def _entry(user: User, issued: IssuedToken) -> EntryView:
    return EntryView(
        principal=user.principal,
        tenant=user.tenant,
        token_id=issued.token.id,
        token=issued.secret,
        expires_at=moment_of(issued.token.expires_us),
    )


def _mine(grant: Grant, actor: Actor) -> GrantOfMine:
    held = [
        permission for permission in Permission if actor.may(permission, tenant=grant.tenant, project=grant.project)
    ]
    return GrantOfMine(role=grant.role, tenant=grant.tenant, project=grant.project, permissions=held)


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""
