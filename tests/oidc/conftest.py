"""A real OpenID provider, where `make setup-clients` has installed it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.oidc.provider import INSTALLED, free_port, provider
from tests.oidc.site import Site

ABSENT = "oidc-provider is not installed: make setup-clients"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, by name, where the provider is absent; fail instead where REAL=1 says that all is installed."""
    if not INSTALLED:
        if os.environ.get("REAL") == "1":
            pytest.fail(f"{ABSENT}, and REAL=1 says it must be", pytrace=False)
        pytest.skip(ABSENT)


@pytest.fixture(scope="session")
def issuer() -> Iterator[str]:
    with provider(free_port()) as url:
        yield url


@pytest.fixture
def site(tmp_path: Path, issuer: str) -> Iterator[Site]:
    with Site(tmp_path, issuer) as made:
        yield made
