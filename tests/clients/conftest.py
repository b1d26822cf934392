"""The matrix of clients: run once for the cells that were chosen, its outcome kept for the page."""

import os
from collections.abc import Generator, Iterator

import pytest
from tests.clients.matrix import Cell
from tests.clients.runs import Matrix, matrix

SHOWN = pytest.StashKey[dict[str, str]]()
"""The outcome of every cell's test, by the cell's id."""
_absent = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHOWN] = {}
    config.stash[_absent] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an absent client, by name; fail instead where REAL=1 says all are installed."""
    cell = cell_of(item)
    if cell is None or cell.client.installed:
        return
    title = cell.client.title
    if os.environ.get("REAL") == "1":
        pytest.fail(f"{title} is not installed, and REAL=1 says it must be: make setup-clients", pytrace=False)
    absent = item.config.stash[_absent]
    absent[title] = absent.get(title, 0) + 1
    pytest.skip(f"{title} is not installed: make setup-clients")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, count in sorted(config.stash[_absent].items()):
        terminalreporter.line(f"not run, because {title} is not installed (make setup-clients): {count} cells")


def cell_of(item: pytest.Item) -> Cell | None:
    callspec = getattr(item, "callspec", None)
    cell = callspec.params.get("cell") if callspec is not None else None
    return cell if isinstance(cell, Cell) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    cell = cell_of(item)
    if cell is not None and (report.when == "call" or report.outcome != "passed"):
        item.config.stash[SHOWN][cell.id] = report.outcome
    return report


@pytest.fixture(scope="session")
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """The world of the chosen cells, with every client that is installed."""
    chosen = [cell for item in request.session.items if (cell := cell_of(item)) and cell.client.installed]
    with matrix(tmp_path_factory.mktemp("clients"), chosen) as running:
        yield running
