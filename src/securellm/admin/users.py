"""The resource /admin/v1/users: the people, and how they are let in."""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import CurrentCall, demand_tenant
from securellm.admin.etags import etag_of
from securellm.admin.moments import moment_of
from securellm.admin.owned import Owned
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import Id, Input, Name, PathId, TenantQuery, Update, answer, shown
from securellm.identity import Permission, User
from securellm.storage import Session

Email = Annotated[
    str,
    Field(
        max_length=254,
        pattern=r"^([^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+)?$",
        description="For people to read; nobody is ever recognised by it.",
    ),
]
Issuer = Annotated[str | None, Field(max_length=2048, description="The OpenID issuer that vouches for them.")]
Subject = Annotated[str | None, Field(min_length=1, max_length=255, description="Their `sub` there.")]


class NewUser(Input):
    """A person to be known. They hold no role until two people agree to give one."""

    tenant: Annotated[Id | None, Field(description="Null belongs to the installation.")] = None
    name: Name = ""
    email: Email = ""
    issuer: Issuer = None
    subject: Subject = None


class UserUpdate(Update):
    """What is to change; what is left out stays."""

    name: Name = ""
    email: Email = ""
    issuer: Issuer = None
    subject: Subject = None
    disabled: bool = False


class UserView(BaseModel):
    """A person."""

    id: str
    principal: str
    tenant: str | None
    name: str
    email: str
    issuer: str | None
    subject: str | None
    disabled: bool
    created_at: datetime | None


class UserList(BaseModel):
    data: list[UserView]
    next_cursor: str | None


class Invitation(BaseModel):
    """A way in for a person, shown this once and used once."""

    principal: str
    invitation: str


def add_users(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    directory = ports.directory
    root = f"{API_ROOT}/users"
    one = f"{root}/{{user_id}}"
    users = Owned(
        plural="users",
        find=directory.users.get,
        allow=lambda call, user: call.allow_or_hide(user.tenant, "user"),
        view=_view,
        etag=_etag,
    )

    @app.get(root, operation_id="list_users", tags=["users"], openapi_extra=asks(Permission.USERS_READ, of="tenant"))
    async def list_users(call: CurrentCall, asked: TenantQuery) -> UserList:
        """List people in the order of their ids."""
        tenant = call.among(asked.tenant)
        found, cursor = await page_of(
            call,
            asked,
            lambda session, after, most: directory.users.page(session, after=after, limit=most, tenant=tenant),
            key=lambda user: user.id,
            tenant=tenant,
        )
        return UserList(data=[_view(user) for user in found], next_cursor=cursor)

    @app.post(
        root,
        status_code=201,
        operation_id="create_user",
        tags=["users"],
        openapi_extra=asks(Permission.USERS_WRITE, of="tenant"),
        responses=shown(UserView, status=201),
        response_model=None,
    )
    async def create_user(call: CurrentCall, asked: NewUser) -> Response:
        """Make a person known. They have no role and no way in yet."""
        call.allow(asked.tenant)
        await demand_tenant(call, asked.tenant)
        return await users.create(
            call,
            asked.tenant,
            lambda session: directory.create_user(
                session,
                tenant=asked.tenant,
                name=asked.name,
                email=asked.email,
                issuer=asked.issuer,
                subject=asked.subject,
                by=call.actor,
            ),
        )

    @app.get(
        one,
        operation_id="get_user",
        tags=["users"],
        openapi_extra=asks(Permission.USERS_READ, of="tenant"),
        responses=shown(UserView),
        response_model=None,
    )
    async def get_user(call: CurrentCall, user_id: PathId) -> Response:
        """One person."""
        return users.answer(await users.read(call, user_id))

    @app.patch(
        one,
        operation_id="update_user",
        tags=["users"],
        openapi_extra=asks(Permission.USERS_WRITE, of="tenant", precondition=True),
        responses=shown(UserView),
        response_model=None,
    )
    async def update_user(call: CurrentCall, user_id: PathId, asked: UserUpdate) -> Response:
        """Change a person. Disabled, they are refused from now on, whatever they present."""
        return await users.update(call, user_id, asked, directory.replace_user)

    @app.delete(
        one,
        status_code=204,
        operation_id="delete_user",
        tags=["users"],
        openapi_extra=asks(Permission.USERS_WRITE, of="tenant", precondition=True),
        response_model=None,
    )
    async def delete_user(call: CurrentCall, user_id: PathId) -> Response:
        """Forget a person with their roles, access tokens and sessions."""
        return await users.delete(call, user_id, directory.delete_user)

    @app.post(
        f"{one}/invite",
        operation_id="invite_user",
        tags=["users"],
        openapi_extra=asks(Permission.USERS_WRITE, of="tenant", once_shown=True),
        responses=shown(Invitation, tagged=False),
        response_model=None,
    )
    async def invite_user(call: CurrentCall, user_id: PathId) -> Response:
        """Make a way in, shown this once: good once, for 72 hours, and only while they hold no role."""

        def work(session: Session, user: User) -> Changed[Invitation]:
            secret = ports.tokens.invite(session, user_id)
            return Changed(result=Invitation(principal=user.principal, invitation=secret), id=user_id)

        invitation = await users.change(call, "invite", user_id, work)
        return answer(invitation)


def _view(user: User) -> UserView:
    return UserView(
        id=user.id,
        principal=user.principal,
        tenant=user.tenant,
        name=user.name,
        email=user.email,
        issuer=user.issuer,
        subject=user.subject,
        disabled=user.disabled,
        created_at=moment_of(user.created_us),
    )


def _etag(user: User) -> str:
    return etag_of("user", key=user.id, created_us=user.created_us, revision=user.etag)
