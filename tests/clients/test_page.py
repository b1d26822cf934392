"""The page of the matrix says what this run showed; it comes last, when every cell has had its test."""

import os

import pytest
from tests.clients.clients import CLIENTS
from tests.clients.conftest import SHOWN
from tests.clients.matrix import CELLS
from tests.clients.page import PAGE, render, share_refused
from tests.clients.runs import Matrix


@pytest.mark.requirement("GW-7", "DC-1")
def test_the_page_says_what_this_run_showed(request: pytest.FixtureRequest) -> None:
    """With WRITE_PAGES=1 the page is written instead."""
    outcomes = request.config.stash[SHOWN]
    wanted = {cell.id for cell in CELLS if cell.lacked is None}
    if wanted - set(outcomes) or "skipped" in outcomes.values():
        pytest.skip("only a part of the matrix was run")
    clients: Matrix = request.getfixturevalue("clients")
    page = render(outcomes, {client.name: clients.version(client) for client in CLIENTS})
    if os.environ.get("WRITE_PAGES") == "1":
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "make clients writes the page anew"
    assert "fails" not in page


def test_few_cells_are_refused_by_design() -> None:
    assert share_refused() <= 0.05
