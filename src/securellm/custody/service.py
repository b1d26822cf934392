"""The verbs of custody: who keeps what a request names, and take note of what was left with a provider."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from securellm.core.batches import Workload
from securellm.core.errors import Code, Refusal
from securellm.core.kept import Kept, KeptKind
from securellm.custody import rules, store
from securellm.custody.model import Deposit, Grant
from securellm.storage import looked_up, open_readonly

_WORKLOADS = 1_000
"""In memory."""


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
        self._workloads: OrderedDict[tuple[str, str, str], Workload] = OrderedDict()
        """By tenant, provider and id: of what was left last."""
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

    async def others(self, tenant: str, ids: Iterable[str]) -> frozenset[str]:
        """Those of `ids` that were given to other tenants and never to this one. Raises Refusal for too many."""
        named = [name for name in dict.fromkeys(ids) if rules.keepable(name) and (tenant, name) not in self._places]
        if not named:
            return frozenset()
        if len(named) > rules.MOST_NAMED:
            raise Refusal(Code.INVALID_REQUEST, f"the request names more than {rules.MOST_NAMED} kept things")
        grants = await looked_up(lambda: self._read(named))
        return frozenset(
            name for name in named if grants[name] and all(grant.tenant != tenant for grant in grants[name])
        )

    async def unknown(self, tenant: str, things: Iterable[Kept], *, provider: str) -> tuple[Kept, ...]:
        """Those of `things`, seen in a thing of this tenant's, that `provider` has given to nobody so far."""
        named = {
            thing.id: thing
            for thing in things
            if rules.keepable(thing.id) and provider not in self._places.get((tenant, thing.id), ())
        }
        if not named:
            return ()
        grants = await looked_up(lambda: self._read(list(named)))
        return tuple(
            thing for name, thing in named.items() if all(grant.provider != provider for grant in grants[name])
        )

    async def workload(self, tenant: str, provider: str, name: str) -> Workload | None:
        """What the batch asks for that a thing of the tenant's belongs to."""
        known = self._workloads.get((tenant, provider, name))
        return known or await looked_up(lambda: self._workload(tenant, provider, name))

    async def page(
        self,
        tenant: str,
        kind: KeptKind,
        *,
        providers: Collection[str],
        size: int,
        after: str | None = None,
        before: str | None = None,
        oldest_first: bool = False,
    ) -> tuple[tuple[str, ...], bool]:
        """Up to `size` ids of what these providers keep for the tenant, newest first, and whether there are more.

        They stand next to `after`, or up to `before`, in that order. Raises Refusal(NOT_FOUND) for a place that is
        not the tenant's.
        """
        rows = await looked_up(lambda: self._mine(tenant, kind))
        names = list(dict.fromkeys(name for _, name, provider in reversed(rows) if provider in providers))
        if oldest_first:
            names.reverse()
        return rules.page(names, size=size, after=after, before=before)

    async def _find(self, tenant: str, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """Where each thing is kept for `tenant`."""
        while True:
            found = {name: self._places.get((tenant, name), ()) for name in names}
            missing = [name for name, places in found.items() if not places]
            if not missing:
                return found
            revisions = self._revisions
            grants = await looked_up(partial(self._read, missing))
            if revisions == self._revisions:
                return found | {name: rules.places(grants[name], tenant) for name in missing}

    def note(self, deposit: Deposit) -> None:
        """The record that names this deposit is durable: from now on its things are found."""
        if deposit.workload is not None:
            for thing in deposit.things:
                self._workloads[deposit.tenant, deposit.provider, thing.id] = deposit.workload
                if len(self._workloads) > _WORKLOADS:
                    self._workloads.popitem(last=False)
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

    def _workload(self, tenant: str, provider: str, name: str) -> Workload | None:
        with open_readonly(self._path) as connection:
            return store.workload(connection, tenant, provider, name)

    def _mine(self, tenant: str, kind: KeptKind) -> list[tuple[int, str, str]]:
        with open_readonly(self._path) as connection:
            return store.mine(connection, tenant, kind)
