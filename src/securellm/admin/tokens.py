"""The resource /admin/v1/tokens: access tokens, by which people and services call this API."""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import Call, CurrentCall, Disallowed, missing
from securellm.admin.moments import micros_of, moment_of
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import PRINCIPAL, Input, Listed, Name, PathId, Principal, answer, shown
from securellm.core.errors import Code, Refusal
from securellm.identity import AccessToken, IssuedToken, Permission
from securellm.storage import Session


class NewToken(Input):
    """A token for oneself, or for a service that may do nothing one may not."""

    principal: Annotated[Principal | None, Field(description="Null is the caller.")] = None
    name: Name = ""
    expires_at: Annotated[AwareDatetime | None, Field(description="Null is in 90 days; at most 366.")] = None


class TokenView(BaseModel):
    """An access token as it may be shown."""

    id: str
    principal: str
    tenant: str | None
    name: str
    prefix: str
    created_at: datetime | None
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None


class NewTokenView(TokenView):
    """An access token with its text, shown this once."""

    token: str


class TokenList(BaseModel):
    data: list[TokenView]
    next_cursor: str | None


class ListTokens(Listed):
    """Whose tokens to list."""

    principal: Annotated[str | None, Query(pattern=PRINCIPAL)] = None


def add_tokens(app: FastAPI, ports: Ports) -> None:
    """Serve the resource. One's own are one's own affair; a service's are of whoever may change the service."""
    tokens = ports.tokens
    root = f"{API_ROOT}/tokens"
    one = f"{root}/{{token_id}}"

    def allow(session: Session, call: Call, principal: str, permission: Permission, *, noun: str) -> None:
        service = ports.directory.services.get(session, principal.removeprefix("service:"))
        call.allow_or_hide(service.tenant, noun, project=service.project, permission=permission)

    def allow_for(session: Session, call: Call, principal: str, permission: Permission) -> None:
        """For whoever is named. Nobody handles another person's credentials, not even to look."""
        if call.allow_self(principal):
            return
        if not principal.startswith("service:"):
            call.refused = Disallowed(permission, named=None, seen=None)
            raise Refusal(Code.FORBIDDEN, "a person's access tokens are for that person alone: invite them instead")
        allow(session, call, principal, permission, noun="service")

    def owned(session: Session, call: Call, token_id: str, permission: Permission) -> AccessToken:
        token = tokens.get(session, token_id)
        if call.allow_self(token.principal):
            return token
        if not token.principal.startswith("service:"):
            raise missing("no access token has this id")
        allow(session, call, token.principal, permission, noun="access token")
        return token

    @app.get(root, operation_id="list_tokens", tags=["tokens"], openapi_extra=asks(Permission.SELF, of="self"))
    async def list_tokens(call: CurrentCall, asked: Annotated[ListTokens, Query()]) -> TokenList:
        """List one's own access tokens, or those of a service."""
        principal = asked.principal or call.actor.principal

        def found(session: Session, after: str | None, most: int) -> tuple[AccessToken, ...]:
            allow_for(session, call, principal, Permission.SERVICES_READ)
            return tokens.page(session, principal, after=after, limit=most)

        home, query = call.actor.tenant, {"principal": principal}
        items, cursor = await page_of(call, asked, found, key=lambda token: token.id, tenant=home, query=query)
        return TokenList(data=[_view(token) for token in items], next_cursor=cursor)

    @app.post(
        root,
        status_code=201,
        operation_id="create_token",
        tags=["tokens"],
        openapi_extra=asks(Permission.SELF, of="self", once_shown=True),
        responses=shown(NewTokenView, status=201, tagged=False),
        response_model=None,
    )
    async def create_token(call: CurrentCall, asked: NewToken) -> Response:
        """Issue an access token. Its text is in this answer and nowhere else."""
        principal = asked.principal or call.actor.principal
        expires_us = None if asked.expires_at is None else micros_of(asked.expires_at)
        await call.read(lambda session: allow_for(session, call, principal, Permission.SERVICES_WRITE), scope=call.home)

        def work(session: Session) -> Changed[IssuedToken]:
            issued = tokens.issue(session, call.actor, principal=principal, name=asked.name, expires_us=expires_us)
            return Changed(result=issued, id=issued.token.id, after=_view(issued.token).model_dump(mode="json"))

        issued = await call.change("create", "tokens", work, tenant=call.actor.tenant)
        view = NewTokenView(**_view(issued.token).model_dump(), token=issued.secret)
        return answer(view, status=201, location=f"{root}/{issued.token.id}")

    @app.get(
        one,
        operation_id="get_token",
        tags=["tokens"],
        openapi_extra=asks(Permission.SELF, of="self"),
    )
    async def get_token(call: CurrentCall, token_id: PathId) -> TokenView:
        """One access token, never its text."""
        return _view(
            await call.read(lambda session: owned(session, call, token_id, Permission.SERVICES_READ), scope=call.home)
        )

    @app.post(
        f"{one}/revoke",
        operation_id="revoke_token",
        tags=["tokens"],
        openapi_extra=asks(Permission.SELF, of="self"),
    )
    async def revoke_token(call: CurrentCall, token_id: PathId) -> TokenView:
        """Refuse an access token from now on. Doing it again changes nothing."""

        def changeable(session: Session) -> AccessToken:
            return owned(session, call, token_id, Permission.SERVICES_WRITE)

        def work(session: Session) -> Changed[AccessToken]:
            before = changeable(session)
            after = tokens.revoke(session, token_id)
            views = [_view(token).model_dump(mode="json") for token in (before, after)]
            return Changed(result=after, id=token_id, before=views[0], after=views[1])

        token = await call.read(changeable, scope=call.home)
        return _view(await call.change("revoke", "tokens", work, tenant=token.tenant))


def _view(token: AccessToken) -> TokenView:
    return TokenView(
        id=token.id,
        principal=token.principal,
        tenant=token.tenant,
        name=token.name,
        prefix=token.prefix,
        created_at=moment_of(token.created_us),
        created_by=token.created_by,
        expires_at=moment_of(token.expires_us),
        revoked_at=moment_of(token.revoked_us),
    )
