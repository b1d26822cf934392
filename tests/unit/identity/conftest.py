"""Worlds that are closed at the end of each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.identity.world import Network, World

from securellm.identity.settings import IssuerSettings
from securellm.storage import ControlStore

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[World] = []

    def world(*issuers: IssuerSettings, network: Network | None = None) -> World:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(World(ControlStore.open(folder / "control.db", migrate=True), *issuers, network=network))
        return made[-1]

    yield world
    for each in made:
        each.control.close()


@pytest.fixture
def world(make: Make) -> World:
    return make()
