"""People, programs, projects and roles as rows: found, added, replaced and taken away one way."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Table, delete, insert, select, update

from securellm.core.errors import Code, Refusal
from securellm.identity.people import AccessToken, Grant, Project, ServiceIdentity, User
from securellm.identity.tables import INSTALLATION, noun_of, values_of
from securellm.storage import Session

R = TypeVar("R", Project, User, ServiceIdentity, Grant, AccessToken)
T = TypeVar("T", Project, User, ServiceIdentity, Grant)
"""What snapshots follow."""
N = TypeVar("N", Project, User, ServiceIdentity)
"""What has revisions."""


class Rows(Generic[R]):
    """The nouns of one table, to be read. `tenant` None is all in scope, "" what belongs to the installation."""

    def __init__(self, table: Table, noun: type[R], *, kind: str) -> None:
        """`kind` is what refusals call it, and those who follow changes."""
        self.table = table
        self.kind = kind
        self._noun: type[R] = noun

    def find(self, session: Session, *where: ColumnElement[bool]) -> R | None:
        """The one of which all of this is so."""
        row = session.row(select(self.table).where(*where))
        return None if row is None else noun_of(row, self._noun)

    def get(self, session: Session, id: str, *, tenant: str | None = None) -> R:  # noqa: A002 - the word for it
        """Raises `Refusal` (NOT_FOUND)."""
        noun = self.find(session, self.table.c.id == id, *self._of(tenant))
        if noun is None:
            raise Refusal(Code.NOT_FOUND, f"no {self.kind} has this id")
        return noun

    def page(
        self,
        session: Session,
        *,
        after: str | None = None,
        limit: int = 50,
        tenant: str | None = None,
        where: Sequence[ColumnElement[bool]] = (),
    ) -> tuple[R, ...]:
        """Up to `limit` beyond the id `after`, in the order of ids."""
        query = select(self.table).where(*where, *self._of(tenant)).order_by(self.table.c.id).limit(limit)
        if after is not None:
            query = query.where(self.table.c.id > after)
        return tuple(noun_of(row, self._noun) for row in session.rows(query))

    def _of(self, tenant: str | None) -> Sequence[ColumnElement[bool]]:
        return () if tenant is None else (self.table.c.tenant == tenant,)


def add(session: Session, rows: Rows[T], noun: T) -> T:
    session.run(insert(rows.table).values(**values_of(noun)))
    _note(session, rows, noun)
    return noun


def replace(session: Session, rows: Rows[N], before: N, after: N) -> N:
    """Put `after` in the place of `before`, one revision on. Raises as `take`."""
    assert (after.id, after.tenant) == (before.id, before.tenant)
    kept = msgspec.structs.replace(after, etag=before.etag + 1)
    _demand_one(rows, session.run(update(rows.table).where(*_as_read(rows, before)).values(**values_of(kept))))
    _note(session, rows, kept)
    return kept


def take(session: Session, rows: Rows[T], noun: T) -> None:
    """Take it away. Raises `Refusal` (PRECONDITION_FAILED) when it is not as it was read."""
    _demand_one(rows, session.run(delete(rows.table).where(*_as_read(rows, noun))))
    _note(session, rows, noun)


def _as_read(rows: Rows[T], noun: T) -> list[ColumnElement[bool]]:
    values = values_of(noun)
    return [rows.table.c[name] == values[name] for name in ("tenant", "id", "etag") if name in values]


def _demand_one(rows: Rows[T], changed: int) -> None:
    if changed != 1:
        raise Refusal(Code.PRECONDITION_FAILED, f"the {rows.kind} has changed since it was read")


def _note(session: Session, rows: Rows[T], noun: T) -> None:
    session.note(rows.kind, tenant=noun.tenant or INSTALLATION, name=noun.id)
