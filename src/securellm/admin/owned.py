"""Things found by their ids, each some tenant's or the installation's: shown, made, changed and removed one way."""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

from securellm.admin.calls import Call, scope_of
from securellm.admin.permissions import API_ROOT
from securellm.admin.ports import Changed
from securellm.admin.shapes import Update, answer
from securellm.identity import Actor, ServiceIdentity, User, VirtualKey
from securellm.storage import EVERYWHERE, Session

T = TypeVar("T", User, ServiceIdentity, VirtualKey)
R = TypeVar("R")


class Owned(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What the handlers of one such resource do."""

    plural: str
    find: Callable[[Session, str], T]
    """Raises where there is none."""
    allow: Callable[[Call, T], None]
    """Raises where this caller is not to know, or not to act."""
    view: Callable[[T], BaseModel]
    etag: Callable[[T], str]
    confined: bool = False
    """A change of one sees no rows but its own tenant's."""

    async def read(self, call: Call, thing_id: str) -> T:
        return await call.read(lambda session: self._owned(session, call, thing_id), scope=call.home)

    async def create(self, call: Call, tenant: str | None, make: Callable[[Session], T]) -> Response:
        def work(session: Session) -> Changed[T]:
            made = make(session)
            return Changed(result=made, id=made.id, after=made)

        made = await call.change("create", self.plural, work, tenant=tenant)
        return self.answer(made, status=201, location=f"{API_ROOT}/{self.plural}/{made.id}")

    async def update(
        self, call: Call, thing_id: str, asked: Update, replace: Callable[[Session, Actor, T, T], T]
    ) -> Response:
        def work(session: Session, before: T) -> Changed[T]:
            after = replace(session, call.actor, before, asked.applied_to(before))
            return Changed(result=after, id=thing_id, before=before, after=after)

        return self.answer(await self.change(call, "update", thing_id, work))

    async def delete(self, call: Call, thing_id: str, remove: Callable[[Session, Actor, T], None]) -> Response:
        def work(session: Session, before: T) -> Changed[None]:
            remove(session, call.actor, before)
            return Changed(result=None, id=thing_id, before=before)

        await self.change(call, "delete", thing_id, work)
        return Response(status_code=204)

    async def change(self, call: Call, action: str, thing_id: str, work: Callable[[Session, T], Changed[R]]) -> R:
        """Do `work` with the one of this id, if it is of a version that the caller has read."""

        def checked(session: Session) -> Changed[R]:
            before = self._owned(session, call, thing_id)
            call.precondition.demand(self.etag(before))
            return work(session, before)

        tenant = (await self.read(call, thing_id)).tenant
        scope = scope_of(tenant) if self.confined else EVERYWHERE
        return await call.change(action, self.plural, checked, tenant=tenant, scope=scope)

    def answer(self, thing: T, *, status: int = 200, location: str | None = None) -> Response:
        return answer(self.view(thing), etag=self.etag(thing), status=status, location=location)

    def _owned(self, session: Session, call: Call, thing_id: str) -> T:
        found = self.find(session, thing_id)
        self.allow(call, found)
        return found
