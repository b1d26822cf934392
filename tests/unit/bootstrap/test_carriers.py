"""Senders stay while nothing about them changes, and are closed once no request can use them any more."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.bootstrap.stored import loaded
from tests.unit.clocks import ManualClock

from securellm.bootstrap.carriers import Carriers, sender_for
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tree import Provider as Declared
from securellm.providers import Providers, Sender
from securellm.providers.settings import Timeouts
from securellm.secrets import FixedCredential, SecretValue
from securellm.settings import FilePath, Seconds, SecretRef
from securellm.transport import Pool


def declared(name: str, **members: Any) -> Declared:
    return Declared(id=name, kind="openai", credential=SecretRef("env", "X"), **members)


class Made:
    """Carriers, and every pool they made."""

    def __init__(self, folder: Path) -> None:
        self.file = loaded(folder)
        self.pools: list[Pool] = []
        self.carriers = Carriers(self._make, hold=lambda _: FixedCredential(SecretValue("sk-0")), clock=ManualClock())

    def _make(self, file: Loaded, row: Declared) -> Sender:
        # The files of these rows do not exist; the pool is the same without them.
        made = sender_for(file, msgspec.structs.replace(row, ca_file=None))
        assert isinstance(made, Pool)
        self.pools.append(made)
        return made

    def generation(self, *rows: Declared, renew: bool = False) -> Providers:
        return self.carriers.providers(self.file, rows, renew=renew)

    def closed(self) -> list[bool]:
        return [pool._closed for pool in self.pools]


def test_a_changed_provider_gets_another_sender_and_the_old_one_waits_for_its_requests(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = Made(tmp_path)
        first = made.generation(declared("a"), declared("b"))
        second = made.generation(
            declared("a", timeouts=Timeouts(total=Seconds(1.0))),
            declared("b", base_url="https://elsewhere.example/v1"),
        )
        assert second.get("a").sender is first.get("a").sender
        assert second.get("b").sender is not first.get("b").sender
        assert second.get("a").timeouts.total == 1.0
        await made.carriers.sweep()
        assert made.closed() == [False, False, False]
        del first
        await made.carriers.sweep()
        assert made.closed() == [False, True, False]
        third = made.generation(declared("a"))
        del second
        await made.carriers.sweep()
        assert made.closed() == [False, True, True]
        assert [provider.id for provider in third] == ["a"]
        await made.carriers.aclose()
        assert all(made.closed())

    asyncio.run(scenario())


def test_a_reload_renews_what_reads_certificates_from_files_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = Made(tmp_path)
        rows = (declared("a"), declared("b", ca_file=FilePath("ca.pem")))
        first = made.generation(*rows)
        second = made.generation(*rows, renew=True)
        assert [one.sender is other.sender for one, other in zip(first, second, strict=True)] == [True, False]
        await made.carriers.aclose()

    asyncio.run(scenario())


def test_two_providers_never_share_a_sender(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = Made(tmp_path)
        both = made.generation(declared("a"), declared("b"))
        assert both.get("a").sender is not both.get("b").sender
        assert len(made.carriers) == 2
        await made.carriers.aclose()

    asyncio.run(scenario())
