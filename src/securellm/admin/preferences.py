"""The resource /admin/v1/tenants/{tenant}/preferences: of whom what is kept, and how it is erased.

Nobody states preferences for another person. What somebody agreed to have remembered is counted, not shown.
"""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Path
from pydantic import BaseModel
from starlette.responses import Response

from securellm.admin.calls import CurrentCall, missing, scope_of
from securellm.admin.moments import moment_of
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import ListQuery, PathId
from securellm.identity import Permission
from securellm.preferences import Kept, Person, erase, kept, people
from securellm.storage import Session

Principal = Annotated[str, Path(pattern=r"^(user|service|key):[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class KeptView(BaseModel):
    """What is kept of one person."""

    principal: str
    tone: str | None
    format: str | None
    language: str | None
    updated_at: datetime | None
    memories: int


class KeptList(BaseModel):
    data: list[KeptView]
    next_cursor: str | None


def add_preferences(app: FastAPI, ports: Ports) -> None:  # noqa: ARG001 - all resources are added alike
    """Serve the resource."""
    root = f"{API_ROOT}/tenants/{{tenant}}/preferences"
    one = f"{root}/{{principal}}"

    @app.get(
        root,
        operation_id="list_preferences",
        tags=["preferences"],
        openapi_extra=asks(Permission.PREFERENCES_READ, of="tenant"),
    )
    async def list_preferences(call: CurrentCall, tenant: PathId, asked: ListQuery) -> KeptList:
        """List the people of a tenant of whom something is kept. That somebody looked is recorded."""
        call.allow(tenant)
        if asked.cursor is None:
            await call.looked("preferences", None, tenant=tenant)

        def found(session: Session, after: str | None, most: int) -> tuple[Kept, ...]:
            names = people(session, tenant, after=after, limit=most)
            return tuple(item for name in names if (item := kept(session, Person(tenant, name))) is not None)

        items, cursor = await page_of(call, asked, found, key=lambda item: item.person.principal, tenant=tenant)
        return KeptList(data=[_view(item) for item in items], next_cursor=cursor)

    @app.get(
        one,
        operation_id="get_preference",
        tags=["preferences"],
        openapi_extra=asks(Permission.PREFERENCES_READ, of="tenant"),
    )
    async def get_preference(call: CurrentCall, tenant: PathId, principal: Principal) -> KeptView:
        """What is kept of one person. That somebody else looked is recorded."""
        call.allow(tenant)
        await call.looked("preferences", principal, tenant=tenant)
        found = await call.read(lambda session: kept(session, Person(tenant, principal)), scope=scope_of(tenant))
        if found is None:
            raise missing("nothing is kept of this person")
        return _view(found)

    @app.delete(
        one,
        status_code=204,
        operation_id="delete_preference",
        tags=["preferences"],
        openapi_extra=asks(Permission.PREFERENCES_WRITE, of="tenant"),
        response_model=None,
    )
    async def delete_preference(call: CurrentCall, tenant: PathId, principal: Principal) -> Response:
        """Erase all that is kept of one person: preferences and memories."""
        call.allow(tenant)

        def work(session: Session) -> Changed[None]:
            before = erase(session, Person(tenant, principal))
            if before is None:
                raise missing("nothing is kept of this person")
            return Changed(result=None, id=principal, before=_view(before).model_dump(mode="json"))

        await call.change("delete", "preferences", work, tenant=tenant, scope=scope_of(tenant))
        return Response(status_code=204)


def _view(found: Kept) -> KeptView:
    stated = found.stated
    return KeptView(
        principal=found.person.principal,
        tone=stated.preferences.tone,
        format=stated.preferences.format,
        language=stated.preferences.language,
        updated_at=moment_of(stated.etag) if stated.etag else None,
        memories=found.memories,
    )
