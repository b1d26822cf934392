"""The resource /admin/v1/keys: issue, scope, rotate and revoke virtual keys."""

from datetime import datetime
from typing import Annotated, Literal, TypeVar

from fastapi import FastAPI, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import Call, CurrentCall, demand_tenant, scope_of
from securellm.admin.etags import etag_of
from securellm.admin.moments import micros_of, moment_of
from securellm.admin.owned import Owned
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import (
    ID,
    ONCE,
    Id,
    Input,
    ListedOfTenant,
    ModelName,
    Name,
    PathId,
    Update,
    answer,
    shown,
)
from securellm.audit import KeyChange
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity import IssuedKey, KeyScopes, Permission, VirtualKey
from securellm.storage import Session

T = TypeVar("T")

Models = Annotated[
    tuple[ModelName, ...],
    Field(min_length=1, max_length=256, description='Names of models; "*" is all of the tenant\'s.'),
    ONCE,
]
Surfaces = Annotated[tuple[Surface, ...], Field(max_length=64, description="Empty is every surface."), ONCE]
IpRanges = Annotated[
    tuple[Annotated[str, Field(max_length=49, pattern=r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$")], ...],
    Field(max_length=64, description="Networks it may be presented from; empty is any."),
    ONCE,
]
Expiry = Annotated[AwareDatetime | None, Field(description="The moment from which it is refused; null is never.")]
_LONGEST_OVERLAP = 30 * 24 * 3600


class NewKey(Input):
    """What an operator asks for."""

    tenant: Id
    project: Id | None = None
    user: Annotated[Id | None, Field(description="The person it is for.")] = None
    name: Name = ""
    models: Models
    surfaces: Surfaces = ()
    ip_ranges: IpRanges = ()
    expires_at: Expiry = None


class KeyUpdate(Update):
    """What is to change; what is left out stays."""

    name: Name = ""
    models: Models = ()
    surfaces: Surfaces = ()
    ip_ranges: IpRanges = ()
    expires_at: Expiry = None


class Rotation(Input):
    """How a key is rotated."""

    overlap_seconds: Annotated[
        int, Field(ge=0, le=_LONGEST_OVERLAP, description="How long the former token stays good.")
    ] = 0


class KeyView(BaseModel):
    """A virtual key as it may be shown."""

    id: str
    tenant: str
    project: str | None
    user: str | None
    name: str
    prefix: str
    models: list[str]
    surfaces: list[Surface]
    ip_ranges: list[str]
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    former_token_until: datetime | None
    managed_by: Literal["file", "api"]


class ChangedKeyView(KeyView):
    """A virtual key that was made or changed, and what may not have been meant."""

    warnings: Annotated[list[str], Field(description="Such as models that it names and its tenant has not.")]


class NewKeyView(ChangedKeyView):
    """A virtual key with its token, shown this once."""

    token: str


class KeyList(BaseModel):
    data: list[KeyView]
    next_cursor: str | None


class ListKeys(ListedOfTenant):
    """Which keys to list."""

    project: Annotated[str | None, Field(pattern=ID)] = None


def add_keys(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    root = f"{API_ROOT}/keys"
    one = f"{root}/{{key_id}}"
    keys = Owned(
        plural="keys",
        find=lambda session, key_id: ports.keyring().get(session, key_id),
        allow=lambda call, key: call.allow_or_hide(key.tenant, "virtual key", project=key.project),
        view=view_of,
        etag=_etag,
        confined=True,
    )

    @app.post(
        root,
        status_code=201,
        operation_id="create_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE, of="tenant", once_shown=True),
        responses=shown(NewKeyView, status=201),
        response_model=None,
    )
    async def create_key(call: CurrentCall, asked: NewKey) -> Response:
        """Issue a virtual key. Its token is in this answer and nowhere else."""
        call.allow(asked.tenant, project=asked.project)
        _allow_person(call, asked.tenant, asked.user)
        await demand_tenant(call, asked.tenant)
        expires_us = _expiry(call, asked.expires_at)

        def work(session: Session) -> Changed[IssuedKey]:
            if asked.user is not None:
                ports.directory.users.get(session, asked.user)
            issued = ports.keyring().issue(
                session,
                tenant=asked.tenant,
                project=asked.project,
                user=asked.user,
                name=asked.name,
                models=asked.models,
                surfaces=asked.surfaces,
                ip_ranges=asked.ip_ranges,
                expires_us=expires_us,
            )
            return _changed(call, "create", issued, None, issued.key)

        issued = await call.change("create", "keys", work, tenant=asked.tenant, scope=scope_of(asked.tenant))
        return _issued(issued, await _warnings(call, issued.key), status=201)

    @app.get(root, operation_id="list_keys", tags=["keys"], openapi_extra=asks(Permission.KEYS_READ, of="tenant"))
    async def list_keys(call: CurrentCall, asked: Annotated[ListKeys, Query()]) -> KeyList:
        """List virtual keys in the order of their ids; `next_cursor` continues, null ends the list."""
        tenant = call.among(asked.tenant, project=asked.project)
        projects = None if asked.project is None else (asked.project,)
        found, cursor = await page_of(
            call,
            asked,
            lambda session, after, most: ports.keyring().page(
                session, after=after, limit=most, tenant=tenant, projects=projects
            ),
            key=lambda key: key.id,
            tenant=tenant,
            query={"project": asked.project},
        )
        return KeyList(data=[view_of(key) for key in found], next_cursor=cursor)

    @app.get(
        one,
        operation_id="get_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_READ, of="tenant"),
        responses=shown(KeyView),
        response_model=None,
    )
    async def get_key(call: CurrentCall, key_id: PathId) -> Response:
        """One virtual key, never its token."""
        return keys.answer(await keys.read(call, key_id))

    @app.patch(
        one,
        operation_id="update_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE, of="tenant", precondition=True),
        responses=shown(ChangedKeyView),
        response_model=None,
    )
    async def update_key(call: CurrentCall, key_id: PathId, asked: KeyUpdate) -> Response:
        """Change what a virtual key may do. It is so when this is answered."""
        said = asked.model_fields_set
        expires_us = _expiry(call, asked.expires_at)

        def work(session: Session, before: VirtualKey) -> Changed[VirtualKey]:
            scopes = KeyScopes(
                name=asked.name if "name" in said else before.name,
                models=asked.models if "models" in said else before.models,
                surfaces=asked.surfaces if "surfaces" in said else before.surfaces,
                ip_ranges=asked.ip_ranges if "ip_ranges" in said else before.ip_ranges,
                expires_us=expires_us if "expires_at" in said else before.expires_us,
            )
            after = ports.keyring().update(session, key_id, scopes, etag=before.etag)
            return _changed(call, "update", after, before, after)

        key = await keys.change(call, "update", key_id, work)
        view = ChangedKeyView(**view_of(key).model_dump(), warnings=await _warnings(call, key))
        return answer(view, etag=_etag(key))

    @app.post(
        f"{one}/rotate",
        operation_id="rotate_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE, of="tenant", once_shown=True, precondition_optional=True),
        responses=shown(NewKeyView),
        response_model=None,
    )
    async def rotate_key(call: CurrentCall, key_id: PathId, asked: Rotation) -> Response:
        """Give the key a new token, shown this once. The former one stays good for the overlap, if one is asked for."""

        def work(session: Session, before: VirtualKey) -> Changed[IssuedKey]:
            _allow_person(call, before.tenant, before.user)
            issued = ports.keyring().rotate(session, key_id, overlap=asked.overlap_seconds, etag=before.etag)
            return _changed(call, "rotate", issued, before, issued.key)

        issued = await keys.change(call, "rotate", key_id, work)
        return _issued(issued, await _warnings(call, issued.key))

    async def revoke(call: Call, key_id: str) -> Response:
        def work(session: Session, before: VirtualKey) -> Changed[VirtualKey]:
            after = ports.keyring().revoke(session, key_id)
            return _changed(call, "revoke", after, before, after)

        # Recorded each time: the first answer may have been lost.
        return keys.answer(await keys.change(call, "revoke", key_id, work))

    @app.delete(
        one,
        operation_id="delete_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE, of="tenant", precondition_optional=True),
        responses=shown(KeyView),
        response_model=None,
    )
    async def delete_key(call: CurrentCall, key_id: PathId) -> Response:
        """Revoke a virtual key; the key stays listed. Doing it again changes nothing, so `If-Match` may be left out."""
        return await revoke(call, key_id)

    @app.post(
        f"{one}/revoke",
        operation_id="revoke_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE, of="tenant", precondition_optional=True),
        responses=shown(KeyView),
        response_model=None,
    )
    async def revoke_key(call: CurrentCall, key_id: PathId) -> Response:
        """Revoke a virtual key; running streams are cut. Doing it again changes nothing."""
        return await revoke(call, key_id)


def view_of(key: VirtualKey) -> KeyView:
    return KeyView(
        id=key.id,
        tenant=key.tenant,
        project=key.project,
        user=key.user,
        name=key.name,
        prefix=key.prefix,
        models=list(key.models),
        surfaces=list(key.surfaces),
        ip_ranges=list(key.ip_ranges),
        created_at=moment_of(key.created_us or None),
        expires_at=moment_of(key.expires_us),
        revoked_at=moment_of(key.revoked_us),
        former_token_until=moment_of(key.former_until_us),
        managed_by=key.managed_by,
    )


async def _warnings(call: Call, key: VirtualKey) -> list[str]:
    """Of each model that the key names and that its tenant may not use now: a model may be declared after its keys."""
    declared = call.ports.declared

    def unusable(session: Session) -> list[str]:
        tenant = declared.find(session, "tenant", key.tenant)
        allowed = None if tenant is None else tenant.document.get("models")
        return [
            name
            for name in key.models
            if name != "*"
            and ((allowed is not None and name not in allowed) or declared.find(session, "model", name) is None)
        ]

    # One sentence for both: whether others have a model of this name is not this tenant's to learn.
    return [f"{key.tenant} has no model called {name} now" for name in await call.read(unusable)]


def _issued(issued: IssuedKey, warnings: list[str], *, status: int = 200) -> Response:
    view = NewKeyView(**view_of(issued.key).model_dump(), warnings=warnings, token=issued.token)
    return answer(view, etag=_etag(issued.key), status=status, location=f"{API_ROOT}/keys/{issued.key.id}")


def _etag(key: VirtualKey) -> str:
    return etag_of("key", key=key.id, created_us=key.created_us, revision=key.etag, content=key.managed_by)


def _allow_person(call: Call, tenant: str, user: str | None) -> None:
    """Who holds a person's key speaks as them to what is kept of them: it is theirs, or for who administers people."""
    if user is not None and call.actor.principal != f"user:{user}":
        call.allow(tenant, permission=Permission.USERS_WRITE)


def _expiry(call: Call, expires_at: datetime | None) -> int | None:
    if expires_at is None:
        return None
    expires_us = micros_of(expires_at)
    if expires_us <= call.ports.clock.now_us():
        raise Refusal(Code.INVALID_REQUEST, "the key would have expired already", param="expires_at")
    return expires_us


def _changed(
    call: Call,
    action: Literal["create", "revoke", "rotate", "update"],
    result: T,
    before: VirtualKey | None,
    after: VirtualKey,
) -> Changed[T]:
    record = KeyChange(action=action, key_id=after.id, tenant=after.tenant, actor=call.actor.principal)
    return Changed(
        result=result,
        id=after.id,
        before=None if before is None else view_of(before).model_dump(mode="json"),
        after=view_of(after).model_dump(mode="json"),
        records=(record,),
    )
