"""What carries requests to each provider: made when it is declared, kept while it may be used, closed once idle."""

import weakref
from collections.abc import Callable
from pathlib import Path

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tree import Provider as Declared
from securellm.core.clock import Clock
from securellm.providers import KINDS, MockSender, Provider, Providers, Sender
from securellm.secrets import Credential
from securellm.settings import FilePath, SecretRef
from securellm.transport import Pool, Timeouts, TlsOptions, parse_base_url

Make = Callable[[Loaded, Declared], Sender]


class Carriers:
    """The senders of every generation of providers that a request may still use.

    A request keeps the providers it began with. Once the last request of a generation is over, those of its senders
    that no other generation has are closed.
    """

    def __init__(self, make: Make, *, hold: Callable[[SecretRef], Credential], clock: Clock) -> None:
        self._make = make
        self._hold = hold
        self._clock = clock
        self._newest: dict[tuple[object, ...], Sender] = {}
        self._generations: list[tuple[weakref.ref[Providers], tuple[Sender, ...]]] = []

    def __len__(self) -> int:
        return len({id(sender) for _, senders in self._generations for sender in senders})

    def providers(self, loaded: Loaded, declared: tuple[Declared, ...], *, renew: bool = False) -> Providers:
        """The next generation. Where nothing that a connection depends on has changed, its sender stays.

        With `renew`, those that read certificates from files are made anew. Blocking. Raises SecretUnavailable,
        ValueError.
        """
        newest: dict[tuple[object, ...], Sender] = {}
        providers = []
        for row in declared:
            route = _route(row)
            kept = None if renew and _files(row) else self._newest.get(route)
            newest[route] = newest.get(route) or kept or self._make(loaded, row)
            credential = None if row.credential is None else self._hold(row.credential)
            providers.append(_provider(row, newest[route], credential))
        generation = Providers(providers, clock=self._clock)
        self._generations.append((weakref.ref(generation), tuple(newest.values())))
        self._newest = newest
        return generation

    async def sweep(self) -> None:
        """Close what nobody can use any more."""
        living = [generation for generation in self._generations if generation[0]() is not None]
        used = {id(sender) for _, senders in living for sender in senders}
        idle = {id(sender): sender for _, senders in self._generations for sender in senders if id(sender) not in used}
        self._generations = living
        for sender in idle.values():
            await _close(sender)

    async def aclose(self) -> None:
        """Close everything: no request is left."""
        for sender in {id(sender): sender for _, senders in self._generations for sender in senders}.values():
            await _close(sender)


def sender_for(loaded: Loaded, row: Declared) -> Sender:
    """A connection pool to the provider, or the mock inside the process."""
    kind = KINDS[row.kind]
    if kind.demo_only:
        return MockSender()
    target = parse_base_url(row.base_url or kind.default_base_url or "")
    tls = None
    if target.scheme == "https":
        tls = TlsOptions(
            ca_file=_path(loaded, row.ca_file),
            client_cert=_path(loaded, row.client_cert),
            client_key=_path(loaded, row.client_key),
        )
    proxy = None if row.proxy is None else parse_base_url(row.proxy)
    return Pool(target, tls=tls, proxy=proxy)


def _provider(row: Declared, sender: Sender, credential: Credential | None) -> Provider:
    kind = KINDS[row.kind]
    timeouts = row.timeouts
    return Provider(
        id=row.id,
        kind=kind,
        base=parse_base_url(row.base_url or kind.default_base_url or "http://127.0.0.1"),
        credential=credential,
        timeouts=Timeouts(
            connect=timeouts.connect, first_byte=timeouts.first_byte, idle=timeouts.idle, total=timeouts.total
        ),
        sender=sender,
    )


def _route(row: Declared) -> tuple[object, ...]:
    """All that a connection depends on: never shared by two providers, whose credentials must not mix."""
    return (row.id, row.kind, row.base_url, row.proxy, *_files(row))


def _files(row: Declared) -> tuple[FilePath, ...]:
    files = tuple(file or FilePath("") for file in (row.ca_file, row.client_cert, row.client_key))
    return files if any(files) else ()


def _path(loaded: Loaded, name: FilePath | None) -> Path | None:
    return None if name is None else loaded.locate(name)


async def _close(sender: Sender) -> None:
    if isinstance(sender, Pool):
        await sender.aclose()
