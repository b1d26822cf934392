"""What is promised of people, services, keys and tokens on SQLite holds on a real PostgreSQL: the same tests there."""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.postgres import ROLES, Database, Postgres
from tests.unit.identity import test_callers, test_directory, test_keyring, test_tokens
from tests.unit.identity.conftest import Make
from tests.unit.identity.world import Network, World

from securellm.identity.settings import IssuerSettings
from securellm.identity.store import VIRTUAL_KEYS
from securellm.identity.tables import ACCESS_TOKENS, GRANTS, ONE_TIME, PROJECTS, SERVICES, SESSIONS, USERS
from securellm.storage import ControlStore

TABLES = [table.name for table in (PROJECTS, USERS, SERVICES, GRANTS, ACCESS_TOKENS, ONE_TIME, SESSIONS, VIRTUAL_KEYS)]

pytestmark = pytest.mark.postgres

for _module in (test_callers, test_directory, test_keyring, test_tokens):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and {"world", "make", "corp"} & inspect.signature(_test).parameters.keys():
            globals()[_name] = _test

corp = test_callers.corp


@pytest.fixture(scope="module")
def database(postgres_server: Postgres, postgres_template: str) -> Iterator[Database]:
    with postgres_server.database(template=postgres_template) as lent:
        yield lent


@pytest.fixture
def make(database: Database) -> Iterator[Make]:
    with database.connect() as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    with ExitStack() as opened:

        def world(*issuers: IssuerSettings, network: Network | None = None) -> World:
            control = ControlStore.open(database.url(), password=lambda: ROLES["gateway"], migrate=False)
            opened.callback(control.close)
            return World(control, *issuers, network=network)

        yield world


@pytest.fixture
def world(make: Make) -> World:
    return make()
