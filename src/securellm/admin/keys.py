"""The resource /admin/v1/keys: issue, list and revoke virtual keys; no record, no response."""

import asyncio
import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import FastAPI, Query
from fastapi import Path as PathParam
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request

from securellm.admin.permissions import API_ROOT, Permission, asks
from securellm.admin.ports import KeyEvent, Ports
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity import IssuedKey, KeyPage, KeyRegistry, VirtualKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID = r"^[A-Za-z0-9_.-]{1,64}$"
_ACTOR = "admin"
"""There is one admin token; who holds it is not told apart."""

Name = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")]
KeyId = Annotated[str, PathParam(pattern=_ID)]


class NewKey(BaseModel):
    """What an operator asks for."""

    model_config = ConfigDict(extra="forbid", strict=False)

    tenant: Annotated[str, Field(pattern=_ID)]
    name: Name = ""
    models: Annotated[
        list[ModelName],
        Field(min_length=1, max_length=256, description='Names of models; "*" is all of the tenant\'s.'),
    ]
    surfaces: Annotated[list[Surface], Field(max_length=16, description="Empty is every surface.")] = []
    expires_at: Annotated[AwareDatetime | None, Field(description="The moment from which it is refused.")] = None


class KeyView(BaseModel):
    """A virtual key as it may be shown."""

    id: str
    tenant: str
    name: str
    prefix: str
    models: list[str]
    surfaces: list[Surface]
    created_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    managed_by: Literal["file", "api"]


class NewKeyView(KeyView):
    """A new virtual key with its token, shown this once."""

    token: str


class KeyList(BaseModel):
    data: list[KeyView]
    next_cursor: str | None


class ListKeys(BaseModel):
    """Which keys to list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=128)] = None
    tenant: Annotated[str | None, Field(pattern=_ID)] = None


class ThreadedKeys:
    """The registry that is current, called in a thread: its store waits for the disk."""

    def __init__(self, registry: Callable[[], KeyRegistry]) -> None:
        self._registry = registry

    async def create(
        self, *, tenant: str, name: str, models: tuple[str, ...], surfaces: tuple[Surface, ...], expires_us: int | None
    ) -> IssuedKey:
        return await asyncio.to_thread(
            self._registry().create, tenant=tenant, name=name, models=models, surfaces=surfaces, expires_us=expires_us
        )

    async def page(self, *, after: str | None, limit: int, tenant: str | None) -> KeyPage:
        return await asyncio.to_thread(self._registry().page, after=after, limit=limit, tenant=tenant)

    async def get(self, key_id: str) -> VirtualKey:
        return await asyncio.to_thread(self._registry().get, key_id)

    async def revoke(self, key_id: str) -> VirtualKey:
        return await asyncio.to_thread(self._registry().revoke, key_id)


def add_keys(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""

    @app.post(
        f"{API_ROOT}/keys",
        status_code=201,
        operation_id="create_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE),
    )
    async def create_key(request: Request, asked: NewKey) -> NewKeyView:
        """Issue a virtual key. Its token is in this answer and nowhere else."""
        if asked.tenant not in ports.tenants():
            raise Refusal(Code.INVALID_REQUEST, "there is no tenant of this id", param="tenant")
        expires_us = None if asked.expires_at is None else _micros(asked.expires_at)
        if expires_us is not None and expires_us <= ports.clock.now_us():
            raise Refusal(Code.INVALID_REQUEST, "the key would have expired already", param="expires_at")
        issued = await ports.keys.create(
            tenant=asked.tenant,
            name=asked.name,
            models=tuple(dict.fromkeys(asked.models)),
            surfaces=tuple(dict.fromkeys(asked.surfaces)),
            expires_us=expires_us,
        )
        recorded = False
        try:
            await ports.record(_event("create", issued.key, request))
            recorded = True
        finally:
            if not recorded:
                await ports.keys.revoke(issued.key.id)
        return NewKeyView(**_shown(issued.key).model_dump(), token=issued.token)

    @app.get(f"{API_ROOT}/keys", operation_id="list_keys", tags=["keys"], openapi_extra=asks(Permission.KEYS_READ))
    async def list_keys(asked: Annotated[ListKeys, Query()]) -> KeyList:
        """List virtual keys in the order of their ids; `next_cursor` continues, null ends the list."""
        page = await ports.keys.page(after=_after(asked.cursor), limit=asked.limit, tenant=asked.tenant)
        return KeyList(
            data=[_shown(key) for key in page.keys], next_cursor=None if page.after is None else _cursor(page.after)
        )

    @app.get(
        f"{API_ROOT}/keys/{{key_id}}", operation_id="get_key", tags=["keys"], openapi_extra=asks(Permission.KEYS_READ)
    )
    async def get_key(key_id: KeyId) -> KeyView:
        """One virtual key, never its token."""
        return _shown(await ports.keys.get(key_id))

    async def revoke(request: Request, key_id: str) -> KeyView:
        key = await ports.keys.revoke(key_id)
        # Recorded each time: the first answer may have been lost with its record.
        await ports.record(_event("revoke", key, request))
        return _shown(key)

    @app.delete(
        f"{API_ROOT}/keys/{{key_id}}",
        operation_id="delete_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE),
    )
    async def delete_key(request: Request, key_id: KeyId) -> KeyView:
        """Revoke a virtual key; the key stays listed. Doing it again changes nothing."""
        return await revoke(request, key_id)

    @app.post(
        f"{API_ROOT}/keys/{{key_id}}/revoke",
        operation_id="revoke_key",
        tags=["keys"],
        openapi_extra=asks(Permission.KEYS_WRITE),
    )
    async def revoke_key(request: Request, key_id: KeyId) -> KeyView:
        """Revoke a virtual key. Doing it again changes nothing."""
        return await revoke(request, key_id)


def _event(action: Literal["create", "revoke"], key: VirtualKey, request: Request) -> KeyEvent:
    return KeyEvent(
        action=action,
        key=key,
        actor=_ACTOR,
        request_id=request.state.request_id,
        client_ip=request.client.host if request.client is not None else "",
    )


def _shown(key: VirtualKey) -> KeyView:
    return KeyView(
        id=key.id,
        tenant=key.tenant,
        name=key.name,
        prefix=key.prefix,
        models=list(key.models),
        surfaces=list(key.surfaces),
        created_at=_moment(key.created_us or None),
        expires_at=_moment(key.expires_us),
        revoked_at=_moment(key.revoked_us),
        managed_by=key.managed_by,
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _cursor(key_id: str) -> str:
    return base64.urlsafe_b64encode(key_id.encode("ascii")).decode("ascii")


def _after(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    try:
        key_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        key_id = ""
    if re.fullmatch(_ID, key_id) is None:
        raise Refusal(Code.INVALID_REQUEST, "this cursor is not one of ours", param="cursor")
    return key_id
