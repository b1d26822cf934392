"""The resource /admin/v1/grants: roles, given and taken by two people, never above who gives them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import Call, CurrentCall, demand_tenant
from securellm.admin.critical import ANSWERS_PROPOSAL, Arguments, Critical, Criticals, Hands, propose
from securellm.admin.etags import etag_of
from securellm.admin.moments import moment_of
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import PRINCIPAL, Id, Input, ListedOfTenant, PathId, Principal, Reason, answer, shown
from securellm.identity import Actor, Grant, Permission, Role, refuse_above
from securellm.storage import Session


class NewGrant(Input):
    """A role to be given."""

    principal: Principal
    role: Role
    tenant: Annotated[Id | None, Field(description="Null is the installation: every tenant.")] = None
    project: Id | None = None
    reason: Reason = ""


class GrantView(BaseModel):
    """A role that somebody holds."""

    id: str
    principal: str
    role: Role
    tenant: str | None
    project: str | None
    created_at: datetime | None
    created_by: str


class GrantList(BaseModel):
    data: list[GrantView]
    next_cursor: str | None


class ListGrants(ListedOfTenant):
    """Which roles to list."""

    principal: Annotated[str | None, Field(pattern=PRINCIPAL)] = None


class DeleteReason(BaseModel):
    """Why a role is taken."""

    reason: Reason = ""


def add_grants(app: FastAPI, ports: Ports, criticals: Criticals) -> None:
    """Serve the resource."""
    directory = ports.directory
    root = f"{API_ROOT}/grants"
    one = f"{root}/{{grant_id}}"

    def check(session: Session, grantor: Actor, arguments: Arguments) -> None:
        directory.check_grant(session, grantor, **_asked(arguments))

    def give(session: Session, hands: Hands, arguments: Arguments) -> Changed[Grant]:
        grant = directory.add_grant(session, hands.requester, **_asked(arguments))
        return Changed(result=grant, id=grant.id, after=grant)

    def check_taking(session: Session, grantor: Actor, arguments: Arguments) -> None:
        grant = directory.grants.get(session, arguments["id"])
        refuse_above(grantor, grant.role, tenant=grant.tenant, project=grant.project)

    def take(session: Session, hands: Hands, arguments: Arguments) -> Changed[None]:
        grant = directory.grants.get(session, arguments["id"])
        directory.drop_grant(session, hands.requester, grant)
        return Changed(result=None, id=grant.id, before=grant)

    giving = criticals.add(
        Critical(
            action="create_grant",
            verb="create",
            resource="grants",
            approval=Permission.GRANTS_APPROVE,
            check=check,
            perform=give,
            answer=lambda grant: answer(_view(grant), etag=_etag(grant), status=201, location=f"{root}/{grant.id}"),
        )
    )
    taking = criticals.add(
        Critical(
            action="delete_grant",
            verb="delete",
            resource="grants",
            approval=Permission.GRANTS_APPROVE,
            check=check_taking,
            perform=take,
            answer=lambda _: Response(status_code=204),
        )
    )

    async def owned(call: Call, grant_id: str) -> Grant:
        def found(session: Session) -> Grant:
            grant: Grant = directory.grants.get(session, grant_id)
            call.allow_or_hide(grant.tenant, "grant", project=grant.project)
            return grant

        return await call.read(found, scope=call.home)

    @app.get(root, operation_id="list_grants", tags=["grants"], openapi_extra=asks(Permission.GRANTS_READ, of="tenant"))
    async def list_grants(call: CurrentCall, asked: Annotated[ListGrants, Query()]) -> GrantList:
        """List roles in the order of their ids."""
        tenant = call.among(asked.tenant)
        found, cursor = await page_of(
            call,
            asked,
            lambda session, after, most: directory.granted(
                session, after=after, limit=most, tenant=tenant, principal=asked.principal
            ),
            key=lambda grant: grant.id,
            tenant=tenant,
            query={"principal": asked.principal},
        )
        return GrantList(data=[_view(grant) for grant in found], next_cursor=cursor)

    @app.post(
        root,
        status_code=202,
        operation_id="create_grant",
        tags=["grants"],
        openapi_extra=asks(Permission.GRANTS_WRITE, of="tenant", four_eyes=True),
        responses={**ANSWERS_PROPOSAL, **shown(GrantView, status=201)},
        response_model=None,
    )
    async def create_grant(call: CurrentCall, asked: NewGrant) -> Response:
        """Propose that somebody holds a role. Another person who holds `grants:approve` there must agree."""
        call.allow(asked.tenant, project=asked.project)
        await demand_tenant(call, asked.tenant)
        arguments = asked.model_dump(mode="json", exclude={"reason"})
        return await propose(call, giving, tenant=asked.tenant, arguments=arguments, reason=asked.reason)

    @app.get(
        one,
        operation_id="get_grant",
        tags=["grants"],
        openapi_extra=asks(Permission.GRANTS_READ, of="tenant"),
        responses=shown(GrantView),
        response_model=None,
    )
    async def get_grant(call: CurrentCall, grant_id: PathId) -> Response:
        """One role that somebody holds."""
        grant = await owned(call, grant_id)
        return answer(_view(grant), etag=_etag(grant))

    @app.delete(
        one,
        status_code=202,
        operation_id="delete_grant",
        tags=["grants"],
        openapi_extra=asks(Permission.GRANTS_WRITE, of="tenant", four_eyes=True, precondition=True),
        responses={**ANSWERS_PROPOSAL, 204: {"description": "The role was taken"}},
        response_model=None,
    )
    async def delete_grant(call: CurrentCall, grant_id: PathId, asked: Annotated[DeleteReason, Query()]) -> Response:
        """Propose that a role is taken. To stop somebody at once, disable them or revoke their tokens."""
        grant = await owned(call, grant_id)
        call.precondition.demand(_etag(grant))
        arguments: dict[str, Any] = {"id": grant_id}
        return await propose(call, taking, tenant=grant.tenant, arguments=arguments, reason=asked.reason)


def _asked(arguments: Arguments) -> dict[str, Any]:
    return {**arguments, "role": Role(arguments["role"])}


def _view(grant: Grant) -> GrantView:
    return GrantView(
        id=grant.id,
        principal=grant.principal,
        role=grant.role,
        tenant=grant.tenant,
        project=grant.project,
        created_at=moment_of(grant.created_us),
        created_by=grant.created_by,
    )


def _etag(grant: Grant) -> str:
    return etag_of("grant", key=grant.id, created_us=grant.created_us, revision=1)
