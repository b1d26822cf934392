"""Pure decisions of custody: which ids can be kept, whose one is, and which provider a request must go to."""

import re
from collections.abc import Iterable, Sequence

from securellm.core.errors import Code, Refusal
from securellm.custody.model import Grant

MOST_AT_ONCE = 128
"""Things kept for one request. Those beyond are not found again."""

MOST_NAMED = 1_024
"""Kept things that one request may name."""

_ID = re.compile(r"[!-~]{1,256}", re.ASCII)


def keepable(name: str) -> bool:
    """Whether `name` stands in a record as it is: 1 to 256 printable ASCII characters without spaces."""
    return _ID.fullmatch(name) is not None


def places(grants: Iterable[Grant], tenant: str) -> tuple[str, ...]:
    """The providers where an id is `tenant`'s, the newest first.

    One that gave the same id to two tenants cannot tell them apart: there it is nobody's. Where a tenant had it
    forgotten it is that tenant's no more.
    """
    owners: dict[str, set[str]] = {}
    for grant in grants:
        # Put at the end again, so that the order is that of the last time.
        others = owners.pop(grant.provider, set()) - {grant.tenant}
        owners[grant.provider] = others if grant.gone else others | {grant.tenant}
    return tuple(provider for provider, tenants in reversed(owners.items()) if tenants == {tenant})


def keeper(kept_at: Sequence[Sequence[str]], *, pinned: str | None) -> str:
    """The one provider that keeps everything a request names, given the places of each thing.

    `pinned` names the one provider the caller accepts. Raises Refusal: NOT_FOUND where something is kept nowhere
    (or not at the pinned one), NO_ROUTE where no provider keeps it all.
    """
    if pinned is not None:
        kept_at = [[pinned] if pinned in providers else [] for providers in kept_at]
    if not all(kept_at):
        raise not_found()
    common = [provider for provider in kept_at[0] if all(provider in providers for providers in kept_at)]
    if not common:
        raise Refusal(Code.NO_ROUTE, "what the request names is kept by different providers")
    return common[0]


def page(names: Sequence[str], *, size: int, after: str | None, before: str | None) -> tuple[tuple[str, ...], bool]:
    """Up to `size` of `names` next to `after`, or up to `before`, and whether there are more in that direction.

    Raises Refusal(NOT_FOUND) for a place that is not among them.
    """
    for place in (after, before):
        if place is not None and place not in names:
            raise not_found()
    if before is not None:
        end = names.index(before)
        return tuple(names[max(0, end - size) : end]), end > size
    start = 0 if after is None else names.index(after) + 1
    return tuple(names[start : start + size]), start + size < len(names)


def not_found() -> Refusal:
    """The same for an id of another tenant and for one that nobody was given."""
    return Refusal(Code.NOT_FOUND, "an id in the request names nothing that was made here for this tenant")
