"""The verbs of custody: who keeps what a request names, and take note of what was left with a provider."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from securellm.core.errors import Code, Refusal
from securellm.custody import rules, store
from securellm.custody.model import Deposit, Grant
from securellm.storage import open_readonly


class Custody:
    """Which provider keeps a tenant's things. Runs on the one event loop; only a miss reads the disk, in a thread.

    In memory are the things used or made last. A tenant finds its own there and nothing else, so that the time an
    answer takes says nothing about another's.
    """

    def __init__(self, path: Path, *, most: int = 100_000) -> None:
        """`path` is the journal, `most` the number of things in memory."""
        self._path = path
        self._most = most
        self._places: OrderedDict[tuple[str, str], tuple[str, ...]] = OrderedDict()
        self._revisions = 0

    async def keeper(self, tenant: str, ids: Iterable[str], *, pinned: str | None = None) -> str:
        """The provider that keeps everything in `ids` (at least one) for `tenant`.

        Raises:
            Refusal: NOT_FOUND for an id that is not the tenant's, whether or not it is somebody else's; NO_ROUTE
                when no provider keeps them all; INVALID_REQUEST for too many.
        """
        named = tuple(dict.fromkeys(ids))
        if len(named) > rules.MOST_NAMED:
            raise Refusal(Code.INVALID_REQUEST, f"the request names more than {rules.MOST_NAMED} kept things")
        if not all(map(rules.keepable, named)):
            raise rules.not_found()
        kept_at = await self._find(tenant, named)
        keeper = rules.keeper(list(kept_at.values()), pinned=pinned)
        for name, places in kept_at.items():
            self._remember(tenant, name, places)
        return keeper

    async def _find(self, tenant: str, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Where each thing is kept for `tenant`."""
        while True:
            found = {name: self._places.get((tenant, name), ()) for name in names}
            missing = [name for name, places in found.items() if not places]
            if not missing:
                return found
            revisions = self._revisions
            grants = await asyncio.to_thread(self._read, missing)
            if revisions == self._revisions:
                return found | {name: rules.places(grants[name], tenant) for name in missing}

    def note(self, deposit: Deposit) -> None:
        """The record that names this deposit is durable: from now on its things are found."""
        for name, grants in deposit.grants.items():
            if len(grants) > 1:
                # What was read before is not all of it.
                self._revisions += 1
            for tenant in {grant.tenant for grant in grants}:
                places = rules.places(grants, tenant)
                if places:
                    self._remember(tenant, name, places)
                else:
                    self._places.pop((tenant, name), None)

    def _remember(self, tenant: str, name: str, places: tuple[str, ...]) -> None:
        self._places[tenant, name] = places
        self._places.move_to_end((tenant, name))
        if len(self._places) > self._most:
            self._places.popitem(last=False)

    def _read(self, ids: list[str]) -> dict[str, tuple[Grant, ...]]:
        with open_readonly(self._path) as connection:
            return store.grants(connection, ids)
