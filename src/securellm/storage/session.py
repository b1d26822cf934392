"""One transaction in one scope: the only way to the tables of the control plane."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult, Delete, Executable, Insert, Row, Update

from securellm.storage.confining import demand_own
from securellm.storage.engines import translated
from securellm.storage.scope import Scope
from securellm.storage.tables import FOLLOWED

AnyRow = Row[*tuple[Any, ...]]
"""A row of whatever columns the query names."""


class Note(msgspec.Struct, frozen=True):
    """What a transaction changed, for those who follow."""

    kind: str
    tenant: str
    name: str


class Session:
    """One running transaction; of no use after it. Once a statement has failed, nothing is committed.

    In the scope of a tenant a statement sees, counts and changes that tenant's rows alone; one that would do more
    raises `OutOfScope`, as does raw SQL. Every method raises `StorageConflict` where a unique or foreign key
    forbids a change, `Refusal` (INVALID_REQUEST) for a value that cannot be stored, `Fault` (STORAGE_UNAVAILABLE)
    where the database fails.
    """

    def __init__(self, connection: Connection, scope: Scope, *, writing: bool, database: str) -> None:
        self.scope = scope
        self.notes: list[Note] = []
        self.untold = False
        """A table that snapshots follow was written to."""
        self.failure: BaseException | None = None
        self._connection = connection
        self._writing = writing
        self._database = database

    def rows(self, statement: Executable) -> Sequence[AnyRow]:
        """All rows that a query finds."""
        return self._find(statement).all()

    def row(self, statement: Executable) -> AnyRow | None:
        """The first row that a query finds."""
        return self._find(statement).first()

    def run(self, statement: Insert | Update | Delete) -> int:
        """Change rows; how many."""
        if not self._writing:
            raise TypeError("nothing is changed in a read")
        table: Any = statement.table
        self.untold = self.untold or bool(table.info.get(FOLLOWED, True))
        return self._execute(statement.execution_options(preserve_rowcount=True)).rowcount

    def note(self, kind: str, *, tenant: str, name: str) -> None:
        """Say what this transaction changes, for those who follow; without it they must read everything anew."""
        self.notes.append(Note(kind, tenant, name))

    def _find(self, statement: Executable) -> CursorResult[*tuple[Any, ...]]:
        if isinstance(statement, Insert | Update | Delete):
            raise TypeError("a change is made with run()")
        return self._execute(statement)

    def _execute(self, statement: Executable) -> CursorResult[*tuple[Any, ...]]:
        if self.failure is not None:
            raise self.failure
        try:
            if self.scope.tenant is not None and isinstance(statement, Insert | Update):
                demand_own(statement, self.scope.tenant)
            with translated(self._database):
                return self._connection.execute(statement)
        except BaseException as error:
            self.failure = error
            raise
