"""Lists of what providers keep for a tenant: made of what custody knows, each thing looked at by itself."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Fault, GatewayError
from securellm.core.kept import KeptKind
from securellm.gateway.capabilities import Gates
from securellm.gateway.completion import complete, listing
from securellm.gateway.model import Headers, Received

MOST = 100
"""Things on one page, and things that are looked at for one: each look is a request of its own."""


class Wanted(NamedTuple):
    """Which part of a list is asked for."""

    kind: KeptKind
    size: int
    after: str | None = None
    before: str | None = None
    oldest_first: bool = False
    only: Mapping[str, str] = {}
    """Members that each thing must have."""


class Page(NamedTuple):
    things: tuple[tuple[str, bytes], ...]
    """Each thing's id, and what its provider says of it now."""
    more: bool


async def list_kept(received: Received, wanted: Wanted, gates: Gates, one: Callable[[str], Received]) -> Page:
    """One page of a tenant's list; `one` makes the request that looks at a thing.

    Nobody else's things are seen, since no provider is asked for a list: to it, all tenants are one. What it has
    forgotten is left out. Raises as any request does.
    """
    async with listing(received, gates) as (tenant, providers):
        return await _page(tenant, providers, wanted, gates, one)


async def _page(
    tenant: str, providers: frozenset[str], wanted: Wanted, gates: Gates, one: Callable[[str], Received]
) -> Page:
    shown: list[tuple[str, bytes]] = []
    after, looks, more = wanted.after, 0, True
    while more and len(shown) < wanted.size and looks < MOST:
        names, more = await gates.ask(
            "custody",
            gates.custody.page(
                tenant,
                wanted.kind,
                providers=providers,
                size=min(wanted.size - len(shown), MOST - looks),
                after=after,
                before=wanted.before,
                oldest_first=wanted.oldest_first,
            ),
        )
        for name in names:
            body = await _look(one(name), gates)
            if body is not None and _is_wanted(body, wanted.only):
                shown.append((name, body))
        looks += len(names)
        if wanted.before is not None or not names:
            break
        after = names[-1]
    return Page(tuple(shown), more)


async def _look(received: Received, gates: Gates) -> bytes | None:
    """What is said of one thing; None for one that is not there any more."""
    seen = _Seen()
    try:
        await complete(received, seen, gates)
    except GatewayError as error:
        if error.code in (Code.NOT_FOUND, Code.NOT_KEPT):
            return None
        raise
    return seen.body


def _is_wanted(body: bytes, only: Mapping[str, str]) -> bool:
    members: Mapping[str, Value] = Document(body, max_depth=128).members() if only else {}
    return all(members.get(name) == value for name, value in only.items())


class _Seen:
    """Keeps an answer that is part of another."""

    def __init__(self) -> None:
        self.sequence = -1
        self.rates: Callable[[], Headers] | None = None
        self.body: bytes | None = None

    @property
    def started(self) -> bool:
        return self.body is not None

    async def send(self, status: int, headers: Headers, body: bytes) -> None:  # noqa: ARG002 - of one thing
        self.body = body

    async def expect_stream(self, headers: Headers) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()

    async def begin(self, headers: Headers) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()

    async def write(self, data: bytes) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()

    async def end(self, data: bytes) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()


def _no_stream() -> Fault:
    return Fault(Code.INTERNAL, "what is looked at is no stream")
