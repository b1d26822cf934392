"""Row-level security: PostgreSQL's own wall between tenants, behind the one that our statements already keep."""

import re

from sqlalchemy import Connection

from securellm.storage.errors import StorageRefused
from securellm.storage.tables import CHANGES

PRESENT_TENANT = "nullif(current_setting('app.tenant', true), '')"
"""The tenant whose scope the running transaction has said to be in; `*` is everybody's, NULL nobody's."""

POLICY = "tenant_scope"

_ALLOWED = f"tenant = {PRESENT_TENANT} OR {PRESENT_TENANT} = '*'"

_STANDING = """
SELECT class.relname, class.relrowsecurity AND class.relforcerowsecurity
    AND (SELECT count(*) FROM pg_policy WHERE polrelid = class.oid) = 1
    AND EXISTS (SELECT FROM pg_policy WHERE polrelid = class.oid AND polname = %s AND polcmd = '*'
      AND polroles = '{0}' AND polwithcheck IS NULL),
  (SELECT min(pg_get_expr(polqual, polrelid)) FROM pg_policy WHERE polrelid = class.oid),
  pg_has_role(class.relowner, 'MEMBER'),
  EXISTS (SELECT FROM pg_attribute WHERE attrelid = class.oid AND attname = 'tenant' AND NOT attisdropped)
FROM pg_class AS class
WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind IN ('r', 'p')
"""


def raise_wall(connection: Connection, table: str) -> None:
    """Let each transaction reach in `table` the rows of its tenant alone, or all where it says `*`; on PostgreSQL.

    Forced, so that it holds for the owner of the table too. A transaction that says nothing reaches nothing.
    """
    if connection.dialect.name != "postgresql":
        return
    name = connection.dialect.identifier_preparer.quote(table)
    for statement in (
        f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY {POLICY} ON {name} USING ({_ALLOWED})",
    ):
        connection.exec_driver_sql(statement)


def demand_walls(connection: Connection, name: str) -> None:
    """Raise `StorageRefused` unless row-level security binds whoever `connection` is, on every tenant's table."""
    role, above = connection.exec_driver_sql(
        "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    ).one()
    rows = connection.exec_driver_sql(_STANDING, (POLICY,)).all()
    if above or any(owned for _, _, _, owned, _ in rows):
        raise StorageRefused(
            f"the role {role} could reach around the row-level security of {name}",
            remedy="Serve as a role that is no superuser and owns no table; `securellm db migrate` lets it in.",
        )
    # Asked of the database, not of our tables alone: what a slice that is not loaded declares counts too.
    for table, stands, lets_in, _, of_tenants in rows:
        if of_tenants and not (stands and _plain(lets_in) == _plain(_ALLOWED)) and table != CHANGES.name:
            raise StorageRefused(
                f"the table {table} of {name} has lost its row-level security",
                remedy="Find out who removed it, and restore the database from a backup.",
            )


def _plain(condition: str | None) -> str:
    """A condition without what a server adds when it writes one down: casts, parentheses and spaces."""
    return re.sub(r"::text|[()\s]", "", condition or "").lower()
