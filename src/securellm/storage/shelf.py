"""A table of typed documents, each with an id, a revision and the moments of its life."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    delete,
    insert,
    select,
    tuple_,
    update,
)

from securellm.core.errors import Code, Refusal
from securellm.storage.columns import INTEGER, JSON, TEXT
from securellm.storage.session import Session
from securellm.storage.tables import METADATA, installation_table, tenant_table

T = TypeVar("T")


class Shelved(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A document as it is kept."""

    id: str
    tenant: str
    """Empty: it belongs to the installation."""
    etag: int
    """Its revision: 1, then one more with each replacement."""
    created_us: int
    updated_us: int
    document: T

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands in a list over all tenants, for `Shelf.page`."""
        return self.id, self.tenant


class Shelf(Generic[T]):
    """Documents of one type in a table of their own. Every change is noted as a change of its kind.

    An id is unique within its tenant; without tenants, in the table. `tenant` must be empty where the shelf is not
    tenant-scoped.
    """

    def __init__(
        self, name: str, document: type[T] | Any, *, kind: str, tenant_scoped: bool, metadata: MetaData = METADATA
    ) -> None:
        self.kind = kind
        self.tenant_scoped = tenant_scoped
        self._type: Any = document
        columns: tuple[Column[Any], ...] = (
            Column("id", TEXT, nullable=False),
            Column("etag", INTEGER, nullable=False),
            Column("created_us", INTEGER, nullable=False),
            Column("updated_us", INTEGER, nullable=False),
            Column("document", JSON, nullable=False),
        )
        if tenant_scoped:
            self.table = tenant_table(name, *columns, PrimaryKeyConstraint("tenant", "id"), metadata=metadata)
        else:
            self.table = installation_table(name, *columns, PrimaryKeyConstraint("id"), metadata=metadata)

    def create(self, session: Session, document: T, *, id: str, tenant: str = "", now_us: int) -> Shelved[T]:  # noqa: A002 - the noun's own word
        """Put a new document there. Raises `StorageConflict` when the id is taken."""
        made = Shelved(id=id, tenant=tenant, etag=1, created_us=now_us, updated_us=now_us, document=document)
        values: dict[str, Any] = {"id": id, "etag": 1, "created_us": now_us, "updated_us": now_us, "document": document}
        session.run(insert(self.table).values(**self._owner(tenant), **values))
        session.note(self.kind, tenant=tenant, name=id)
        return made

    def get(self, session: Session, id: str, *, tenant: str = "") -> Shelved[T] | None:  # noqa: A002 - the word for it
        """The document with this id."""
        row = session.row(select(self.table).where(*self._is(id, tenant)))
        return None if row is None else self._shelved(row)

    def page(
        self, session: Session, *, after: str | tuple[str, str] | None = None, limit: int, tenant: str | None = None
    ) -> tuple[Shelved[T], ...]:
        """Up to `limit` documents beyond `after`, in the order of their ids; of one tenant, or of all in scope.

        `after` is an id, or for a list over all tenants the `place` of its last document.
        """
        columns = self.table.c
        query = select(self.table).limit(limit)
        if not self.tenant_scoped:
            query = query.order_by(columns.id)
            if after is not None:
                query = query.where(columns.id > (after if isinstance(after, str) else after[0]))
        else:
            query = query.order_by(columns.id, columns.tenant)
            if tenant is not None:
                query = query.where(columns.tenant == tenant)
            if isinstance(after, str):
                query = query.where(columns.id > after)
            elif after is not None:
                query = query.where(tuple_(columns.id, columns.tenant) > tuple_(*after))
        return tuple(self._shelved(row) for row in session.rows(query))

    def replace(
        self,
        session: Session,
        document: T,
        *,
        id: str,  # noqa: A002 - the word for it
        tenant: str = "",
        etag: int | None,
        now_us: int,
    ) -> Shelved[T]:
        """Put `document` in the place of the one with this id, which must still be of the revision `etag` if given.

        Raises `Refusal` (NOT_FOUND, PRECONDITION_FAILED).
        """
        found = self._present(session, id, tenant, etag)
        made: Shelved[T] = msgspec.structs.replace(found, document=document, etag=found.etag + 1, updated_us=now_us)
        change = update(self.table).where(*self._is(id, tenant))
        session.run(change.values(document=document, etag=made.etag, updated_us=now_us))
        session.note(self.kind, tenant=tenant, name=id)
        return made

    def delete(self, session: Session, *, id: str, tenant: str = "", etag: int | None) -> Shelved[T]:  # noqa: A002 - the word for it
        """Take the document away and return it. Raises as `replace`."""
        found = self._present(session, id, tenant, etag)
        session.run(delete(self.table).where(*self._is(id, tenant)))
        session.note(self.kind, tenant=tenant, name=id)
        return found

    def _present(self, session: Session, id: str, tenant: str, etag: int | None) -> Shelved[T]:  # noqa: A002 - the word for it
        found = self.get(session, id, tenant=tenant)
        if found is None:
            raise Refusal(Code.NOT_FOUND, f"no {self.kind} has this id")
        if etag is not None and etag != found.etag:
            raise Refusal(Code.PRECONDITION_FAILED, f"the {self.kind} has changed since it was read")
        return found

    def _owner(self, tenant: str) -> Mapping[str, str]:
        if self.tenant_scoped:
            return {"tenant": tenant}
        if tenant:
            raise ValueError(f"a {self.kind} belongs to no tenant")
        return {}

    def _is(self, id: str, tenant: str) -> list[ColumnElement[bool]]:  # noqa: A002 - the word for it
        owner = self._owner(tenant)
        return [self.table.c.id == id, *(self.table.c[name] == value for name, value in owner.items())]

    def _shelved(self, row: Row[Any]) -> Shelved[T]:
        return Shelved(
            id=row.id,
            tenant=row.tenant if self.tenant_scoped else "",
            etag=row.etag,
            created_us=row.created_us,
            updated_us=row.updated_us,
            document=msgspec.convert(row.document, self._type, str_keys=True),
        )
