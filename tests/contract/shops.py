"""Tables that no release has, on both engines, for the contract of the control plane's store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Column, ForeignKeyConstraint, MetaData, PrimaryKeyConstraint, create_engine, delete
from tests.postgres import ROLES, Database

from securellm.storage import (
    BYTES,
    FLAG,
    INTEGER,
    JSON,
    TEXT,
    ControlStore,
    Session,
    Shelf,
    installation_table,
    tenant_table,
)
from securellm.storage.tables import CHANGES, NAMES
from securellm.storage.walls import raise_wall

SHOPS = MetaData(naming_convention=NAMES)

ITEMS = tenant_table(
    "items",
    Column("id", TEXT, nullable=False),
    Column("price", INTEGER, nullable=False),
    Column("label", TEXT),
    Column("seal", BYTES),
    Column("sold", FLAG),
    Column("facts", JSON),
    PrimaryKeyConstraint("tenant", "id"),
    metadata=SHOPS,
)
ORDERS = tenant_table(
    "orders",
    Column("id", TEXT, nullable=False),
    Column("item", TEXT, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant", "item"], ["items.tenant", "items.id"]),
    metadata=SHOPS,
)
VISITS = tenant_table(
    "visits", Column("id", TEXT, primary_key=True), Column("count", INTEGER), metadata=SHOPS, followed=False
)
HOUSE = installation_table(
    "house", Column("name", TEXT, primary_key=True), Column("worth", INTEGER), metadata=SHOPS, followed=False
)


class Card(msgspec.Struct, frozen=True):
    """What a shelf of cards keeps."""

    title: str
    tags: tuple[str, ...] = ()
    rank: int = 0
    seal: bytes = b""


CARDS: Shelf[Card] = Shelf("cards", Card, kind="card", tenant_scoped=True, metadata=SHOPS)
SIGNS: Shelf[dict[str, Any]] = Shelf("signs", dict[str, Any], kind="sign", tenant_scoped=False, metadata=SHOPS)


class Place(msgspec.Struct, frozen=True):
    """One database with the tables above; `open` gives one more store on it, as another replica would have."""

    engine: str
    open: Callable[[], ControlStore]


@contextmanager
def sqlite_place(folder: Path) -> Iterator[tuple[Place, ControlStore]]:
    path = folder / "control.db"
    with _opened(Place("sqlite", lambda: ControlStore.open(path, migrate=True))) as opened:
        engine = create_engine(f"sqlite:///{path}")
        SHOPS.create_all(engine)
        engine.dispose()
        yield opened


@contextmanager
def postgres_place(database: Database) -> Iterator[tuple[Place, ControlStore]]:
    engine = create_engine(
        database.url("keeper").replace("postgresql:", "postgresql+psycopg:"),
        connect_args={"password": ROLES["keeper"]},
    )
    with engine.begin() as connection:
        SHOPS.create_all(connection)
        for table in SHOPS.tables.values():
            if table.info["tenant_scoped"]:
                raise_wall(connection, table.name)
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(SHOPS.tables)} TO gateway")
    engine.dispose()
    place = Place(
        "postgres", lambda: ControlStore.open(database.url(), migrate=False, password=lambda: ROLES["gateway"])
    )
    with _opened(place) as opened:
        yield opened


@contextmanager
def _opened(place: Place) -> Iterator[tuple[Place, ControlStore]]:
    store = place.open()
    try:
        yield place, store
    finally:
        store.close()


def clear(store: ControlStore) -> None:
    """Leave every table of these empty."""

    def empty(session: Session) -> None:
        for table in (ORDERS, ITEMS, VISITS, HOUSE, CARDS.table, SIGNS.table, CHANGES):
            session.run(delete(table))

    store.write(empty)
