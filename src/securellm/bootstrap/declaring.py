"""Declarations for the admin API: those of the file shown, those of the store changed, all checked as one whole."""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice

import msgspec

from securellm.admin import Document, Found, Kind, Refused
from securellm.approvals import store as approvals
from securellm.bootstrap.effective import SHELVES, TREES, Effective, check, check_removal, name_of, stored_documents
from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.finops import PriceBook
from securellm.identity import inhabitants
from securellm.policy import stored_policies
from securellm.preferences import people
from securellm.settings import Problem
from securellm.storage import Session, Shelved


class Declarations:
    """What the admin API calls `Declared`. Checks see the store as it is in the running transaction, so that two
    changes that are right each by itself and wrong together cannot both be made."""

    def __init__(self, effective: Callable[[], Effective], *, book: Callable[[], PriceBook], clock: Clock) -> None:
        self._effective = effective
        self._book = book
        self._clock = clock

    def tree(self, kind: Kind) -> type[msgspec.Struct]:
        return TREES[kind]

    def find(self, session: Session, kind: Kind, name: str, *, tenant: str = "") -> Found | None:
        stored = SHELVES[kind].get(session, name, tenant=tenant)
        return self._of_file(kind, name, tenant) if stored is None else _found(stored)

    def page(
        self, session: Session, kind: Kind, *, tenant: str = "", after: str | None, limit: int
    ) -> tuple[Found, ...]:
        shelf = SHELVES[kind]
        stored = shelf.page(session, after=after, limit=limit, tenant=tenant if shelf.tenant_scoped else None)
        own = (_found(item) for item in stored)
        return tuple(islice(merge(own, self._file(kind, tenant, after), key=lambda item: item.name), limit))

    def check(
        self, session: Session, kind: Kind, before: Found | None, document: Document, *, tenant: str = ""
    ) -> None:
        self._checked(session, kind, before, document, tenant)

    def create(self, session: Session, kind: Kind, document: Document, *, tenant: str = "") -> Found:
        name = self._checked(session, kind, None, document, tenant)
        made = SHELVES[kind].create(session, dict(document), id=name, tenant=tenant, now_us=self._clock.now_us())
        return _found(made)

    def replace(self, session: Session, kind: Kind, before: Found, document: Document, *, tenant: str = "") -> Found:
        self._checked(session, kind, before, document, tenant)
        made = SHELVES[kind].replace(
            session,
            dict(document),
            id=before.name,
            tenant=tenant,
            etag=before.revision,
            now_us=self._clock.now_us(),
        )
        return _found(made)

    def remove(self, session: Session, kind: Kind, before: Found, *, tenant: str = "") -> None:
        problems = check_removal(kind, before.name, self._now(session), book=self._book(), tenant=tenant)
        if kind == "tenant":
            problems += _left_in(session, before.name, now_us=self._clock.now_us())
        if problems:
            raise Refused(problems)
        SHELVES[kind].delete(session, id=before.name, tenant=tenant, etag=before.revision)

    def _checked(self, session: Session, kind: Kind, before: Found | None, document: Document, tenant: str) -> str:
        """The name that `document` bears, if it may take its place."""
        name = name_of(kind, document, tenant=tenant).id
        if before is not None and name != before.name:
            raise Refused([Problem(None, "", "bears another id than its address", "leave the id as it is")])
        if before is None and self._effective().managed_by(kind, name, tenant=tenant) == "file":
            raise Refusal(Code.MANAGED_BY_FILE, "the configuration file declares one of this id")
        self._check(session, kind, document, tenant)
        if before is None and SHELVES[kind].get(session, name, tenant=tenant) is not None:
            raise Refusal(Code.CONFLICT, "there is one of this id already")
        return name

    def _check(self, session: Session, kind: Kind, document: Document, tenant: str) -> None:
        problems = check(kind, document, self._now(session), book=self._book(), tenant=tenant)
        if problems:
            raise Refused(problems)

    def _now(self, session: Session) -> Effective:
        """What is in force, with what is stored as the running transaction sees it: for checks alone."""
        return msgspec.structs.replace(self._effective(), stored=stored_documents(session))

    def _file(self, kind: Kind, tenant: str, after: str | None) -> Iterator[Found]:
        effective = self._effective()
        for name in effective.names(kind, tenant=tenant):
            if after is None or name > after:
                found = self._of_file(kind, name, tenant)
                if found is not None:
                    yield found

    def _of_file(self, kind: Kind, name: str, tenant: str) -> Found | None:
        effective = self._effective()
        if effective.managed_by(kind, name, tenant=tenant) != "file":
            return None
        document = effective.document(kind, name, tenant=tenant)
        return None if document is None else Found(name=name, document=document, managed_by="file")


def _left_in(session: Session, tenant: str, *, now_us: int) -> list[Problem]:
    """What would wake again with the next tenant of this name: people, keys, what they said, proposed and enforced."""
    left = list(inhabitants(session, tenant))
    if people(session, tenant, after=None, limit=1):
        left.append("people of whom something is kept")
    if approvals.page(session, after=None, limit=1, tenant=tenant, pending_at=now_us):
        left.append("proposals that wait")
    if any(policy.tenant == tenant for policy in stored_policies(session)):
        left.append("policies in force or in the shadow")
    remedy = "remove them first"
    return [Problem(line=None, key=tenant, reason=f"still has {what}", remedy=remedy, suggestion=None) for what in left]


def _found(stored: Shelved[dict[str, object]]) -> Found:
    return Found(
        name=stored.id,
        document=stored.document,
        managed_by="api",
        revision=stored.etag,
        created_us=stored.created_us,
        updated_us=stored.updated_us,
    )
