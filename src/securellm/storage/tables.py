"""Every table of the control plane hangs on one METADATA, and each says whether its rows belong to tenants."""

from typing import Any

from sqlalchemy import CheckConstraint, Column, MetaData, PrimaryKeyConstraint, Table
from sqlalchemy.schema import SchemaItem

from securellm.storage.columns import INTEGER, TEXT

NAMES = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}
"""How constraints and indexes are called, so that a migration can name them."""

METADATA = MetaData(naming_convention=NAMES)

TENANT_SCOPED = "tenant_scoped"
FOLLOWED = "followed"


def tenant_table(name: str, *items: SchemaItem, metadata: MetaData = METADATA, followed: bool = True) -> Table:
    """A table whose every row belongs to one tenant: the column `tenant` is added, and a tenant's scope sees its own.

    `followed=False` says that no snapshot depends on its rows, so that a write needs no `Session.note`.
    """
    tenant: Column[Any] = Column("tenant", TEXT, nullable=False)
    return Table(name, metadata, tenant, *items, sqlite_strict=True, info={TENANT_SCOPED: True, FOLLOWED: followed})


def installation_table(name: str, *items: SchemaItem, metadata: MetaData = METADATA, followed: bool = True) -> Table:
    """A table of the installation, out of reach in a tenant's scope. `followed` as for `tenant_table`."""
    return Table(name, metadata, *items, sqlite_strict=True, info={TENANT_SCOPED: False, FOLLOWED: followed})


DATA_VERSION = installation_table(
    "data_version",
    Column("one", INTEGER, primary_key=True, autoincrement=False),
    Column("version", INTEGER, nullable=False),
    CheckConstraint("one = 1", name="one_row"),
    followed=False,
)
"""One number that rises with every write. Its row is also the lock that puts writes one after another."""

CHANGES = installation_table(
    "changes",
    Column("version", INTEGER, nullable=False),
    Column("place", INTEGER, nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("tenant", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    PrimaryKeyConstraint("version", "place"),
    followed=False,
)
"""What each of the last writes changed, for those who follow. An empty kind: it was not said."""
