"""The nouns of custody: who was given an id, and what one request leaves with a provider."""

from typing import NamedTuple

import msgspec

from securellm.core.batches import Workload
from securellm.core.kept import Kept


class Grant(NamedTuple):
    """One time that a provider gave an id to a tenant."""

    provider: str
    tenant: str
    gone: bool = False
    """Set: it was taken back then, since the provider was told to forget the thing."""


class Deposit(msgspec.Struct, frozen=True, kw_only=True):
    """What one request of a tenant left with a provider, or had it forget."""

    tenant: str
    provider: str
    request_id: str
    things: tuple[Kept, ...]
    """Each `keepable`."""
    gone: tuple[str, ...] = ()
    """The ids of what the provider keeps no more."""
    workload: Workload | None = None
    """What the batch asks for that these things belong to."""
    grants: dict[str, tuple[Grant, ...]] = msgspec.field(default_factory=dict)
    """By id, every grant of it, oldest first; filled in by the transaction that writes the deposit."""
