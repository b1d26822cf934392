"""What an operator asks of a schema wherever it lives: how far it is, and to bring it up to date."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from securellm.storage.address import is_postgres
from securellm.storage.control import demand_driver
from securellm.storage.migrating import REVISIONS, Standing, prepare_sqlite, standing
from securellm.storage.reader import open_readonly

Location = str | Path
"""The path of a SQLite file, or the address of a server."""


def schema_of(location: Location, *, password: Callable[[], str] | None) -> Standing:
    """How far the schema at `location` is; nothing is written.

    Raises `StorageRefused` for one that this release does not know, `StorageDamaged` for a file that cannot be read,
    `Fault` (STORAGE_UNAVAILABLE) for a server out of reach.
    """
    if isinstance(location, str) and is_postgres(location):
        demand_driver()
        from securellm.storage.keeper import look

        return look(location, password=password)
    path = Path(location)
    if not path.exists():
        return Standing(revision=None, pending=REVISIONS)
    with open_readonly(path) as raw:
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        with engine.connect() as connection:
            return standing(connection, str(path))


def migrate_file(path: Path) -> tuple[str, ...]:
    """Bring a file up to date, making it when it is missing; the steps made. Raises as `schema_of`."""
    made = schema_of(path, password=None).pending
    prepare_sqlite(path, migrate=True)
    return made


def migrate_server(url: str, *, password: Callable[[], str] | None, serving: str) -> tuple[str, ...]:
    """Bring a server's schema up to date as the role that `url` names, for the role `serving`; the steps made.

    Raises as `schema_of`, and `StorageRefused` for a role that does not fit or while another migration runs.
    """
    demand_driver()
    from securellm.storage.keeper import Keeper

    return Keeper(url, password=password).migrate(serving=serving)
