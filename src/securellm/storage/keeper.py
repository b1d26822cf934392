"""The role that owns a PostgreSQL database: it alone changes the schema, and it never serves."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from securellm.storage import archive
from securellm.storage.engines import translated
from securellm.storage.errors import StorageRefused
from securellm.storage.migrating import VERSION_TABLE, Standing, standing, upgrade
from securellm.storage.postgres import Reach

_MIGRATION = 0x534C_4331
"""The advisory lock that lets one migration run at a time."""

_LOCK_TIMEOUT = "2s"
"""For a table that is in use: a migration that waits for it would make everybody else wait behind itself."""


class Keeper:
    """One database, reached as the role that keeps its schema."""

    def __init__(self, url: str, *, password: Callable[[], str] | None) -> None:
        self._reach = Reach(url, password=password)
        self._engine = create_engine("postgresql+psycopg://", creator=self._reach.connect, poolclass=NullPool)

    def migrate(self, *, serving: str) -> tuple[str, ...]:
        """Make every pending step, and let the role `serving` use the tables; the steps made. All of it or nothing.

        Raises `StorageRefused` for an unknown schema, a role that does not fit, or while another migration runs;
        `Fault` (STORAGE_UNAVAILABLE) when the server is out of reach or a table stays in use.
        """
        name = self._reach.name
        with translated(name), self._engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            _demand_role(connection, serving)
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_MIGRATION})").scalar_one():
                raise StorageRefused(f"another migration of {name} is running", remedy="Wait for it, then look again.")
            made = standing(connection, name).pending
            if made:
                upgrade(connection, name)
            _admit(connection, serving)
            return made


def look(url: str, *, password: Callable[[], str] | None) -> Standing:
    """How far the schema at `url` is. Raises `StorageRefused`, `Fault` (STORAGE_UNAVAILABLE)."""
    reach = Reach(url, password=password)
    engine = create_engine("postgresql+psycopg://", creator=reach.connect, poolclass=NullPool)
    with translated(reach.name), engine.connect() as connection:
        return standing(connection, reach.name)


def _demand_role(connection: Connection, serving: str) -> None:
    above = connection.exec_driver_sql(
        "SELECT rolsuper OR rolbypassrls OR pg_has_role(oid, current_user, 'MEMBER') FROM pg_roles WHERE rolname = %s",
        (serving,),
    ).scalar_one_or_none()
    if above is None:
        raise StorageRefused(
            f"the role {serving} does not exist", remedy=f"Create it: CREATE ROLE {serving} LOGIN PASSWORD '…';"
        )
    if above:
        raise StorageRefused(
            f"the role {serving} could reach around row-level security",
            remedy="Serve as a role that is no superuser, has no BYPASSRLS and is not the one that migrates.",
        )


def _admit(connection: Connection, serving: str) -> None:
    quote = connection.dialect.identifier_preparer.quote
    schema = quote(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {quote(serving)}")
    for table in _tables(connection):
        if own := archive.rights(table, quote(serving)):
            for statement in own:
                connection.exec_driver_sql(statement)
            continue
        rights = "SELECT" if table == VERSION_TABLE else "SELECT, INSERT, UPDATE, DELETE"
        connection.exec_driver_sql(f"GRANT {rights} ON {schema}.{quote(table)} TO {quote(serving)}")


def _tables(connection: Connection) -> Sequence[str]:
    """All but partitions: whoever may use a table may use them through it, and has no business with them."""
    return (
        connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname"
        )
        .scalars()
        .all()
    )
