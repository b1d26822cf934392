"""Write SQL for the scope of one tenant: what is rendered cannot reach another tenant's rows, or is refused.

The compiler is the place for it because nothing reaches a database that it has not rendered: a table in a join, a
subquery, a CTE or a union is narrowed wherever it stands. On PostgreSQL row-level security stands behind it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from sqlalchemy import BindParameter, ColumnClause, ColumnElement, Delete, FromClause, Insert, Table, Update
from sqlalchemy.sql.compiler import SQLCompiler

from securellm.storage.errors import OutOfScope
from securellm.storage.tables import TENANT_SCOPED


class _PresentTenant(ColumnElement[str]):
    __visit_name__ = "present_tenant"
    inherit_cache = True


_Compiler: Any = SQLCompiler  # Its own methods are untyped.


class _Confined(_Compiler):  # type: ignore[misc]
    present_tenant: ClassVar[str]

    def visit_present_tenant(self, _element: _PresentTenant, **_options: Any) -> str:
        return self.present_tenant

    def visit_table(self, table: FromClause, asfrom: bool = False, iscrud: bool = False, **options: Any) -> str:
        name: str = super().visit_table(table, asfrom=asfrom, iscrud=iscrud, **options)
        if not asfrom:
            return name
        scoped = _demand_scoped(table)
        if iscrud:
            return name
        narrowed = f"(SELECT * FROM {self.preparer.format_table(scoped)} WHERE tenant = {self.present_tenant})"  # noqa: S608 - names of ours
        enclosing = options.get("enclosing_alias")
        if enclosing is not None and enclosing.element is table:
            return narrowed
        return f"{narrowed} AS {self.preparer.quote(scoped.name)}"

    def visit_insert(self, statement: Insert, **options: Any) -> str:
        self._demand_alone(statement)
        text: str = super().visit_insert(statement, **options)
        return text

    def visit_update(self, statement: Update, **options: Any) -> str:
        self._demand_alone(statement)
        text: str = super().visit_update(statement.where(_own(statement)), **options)
        return text

    def visit_delete(self, statement: Delete, **options: Any) -> str:
        self._demand_alone(statement)
        text: str = super().visit_delete(statement.where(_own(statement)), **options)
        return text

    def visit_column(self, column: ColumnClause[Any], *arguments: Any, **options: Any) -> str:
        if column.is_literal and column.name != "*":
            self._refuse_raw()
        text: str = super().visit_column(column, *arguments, **options)
        return text

    def _refuse_raw(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise OutOfScope("raw SQL has no place in the scope of a tenant")

    visit_textclause = visit_textual_select = _refuse_raw

    def _refuse_upsert(self, *_arguments: Any, **_options: Any) -> NoReturn:
        raise OutOfScope("what another tenant holds must not decide what an insert does")

    visit_on_conflict_do_nothing = visit_on_conflict_do_update = _refuse_upsert

    def _demand_alone(self, statement: Insert | Update | Delete) -> None:
        _demand_scoped(statement.table)
        if self.stack:
            raise OutOfScope("a change inside another statement has no place in the scope of a tenant")


def confined(compiler: type[SQLCompiler], *, present_tenant: str) -> type[SQLCompiler]:
    """The compiler of an engine for the scope of a tenant, whom the SQL `present_tenant` tells, NULL for nobody."""
    return type("ConfinedCompiler", (_Confined, compiler), {"present_tenant": present_tenant})


def demand_own(statement: Insert | Update, tenant: str) -> None:
    """Raise `OutOfScope` unless every row that `statement` writes is plainly of `tenant`.

    Asked before the database is: whether another tenant's id is taken must not decide what is answered.
    """
    if isinstance(statement, Insert) and statement.select is not None:
        raise OutOfScope("an insert in the scope of a tenant names its values")
    rows: list[Any] = [row for rows in statement._multi_values for row in rows] or [statement._values or {}]
    for row in rows:
        named = row if isinstance(row, Mapping) else dict(zip(statement.table.columns.keys(), row, strict=False))
        given = [value for column, value in named.items() if getattr(column, "key", column) == "tenant"]
        owners = [value.value if isinstance(value, BindParameter) else value for value in given]
        if owners != [tenant] and (owners or isinstance(statement, Insert)):
            raise OutOfScope(f"rows of {statement.table} would belong to another tenant")


def _own(statement: Update | Delete) -> ColumnElement[bool]:
    own: ColumnElement[bool] = statement.table.c.tenant == _PresentTenant()
    return own


def _demand_scoped(table: FromClause) -> Table:
    if not isinstance(table, Table) or not table.info.get(TENANT_SCOPED):
        raise OutOfScope(f"{getattr(table, 'name', 'a table')} is out of reach in the scope of a tenant")
    return table
