"""What the data plane knows: one immutable value, swapped whole, refused when too old to trust."""

from collections.abc import Mapping

import msgspec

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault
from securellm.finops import Budget, Price
from securellm.guard import GuardMode
from securellm.identity import KeyTable
from securellm.limits import Rate, TenantRates
from securellm.routing import Candidate
from securellm.transport import Timeouts


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the allow-list: the name clients use and the ordered plan behind it."""

    name: str
    candidates: tuple[Candidate, ...]
    prices: Mapping[tuple[str, str], Price | None]
    """By provider id and the name the provider knows it by; None where the price is unknown."""
    price_version: str
    default_max_output: int
    context_window: int | None
    max_image_tokens: int | None
    retries: int
    timeouts: Mapping[tuple[str, str], Timeouts]
    """Of each route, by provider id and the name the provider knows it by."""
    cached: bool
    """Whether its answers may be kept."""
    cache_ttl: float | None
    """Seconds; None is the cache's own."""


class TenantFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates know of a tenant."""

    id: str
    models: frozenset[str]
    budget: Budget | None
    rates: TenantRates
    guard: GuardMode


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a request is decided by, as of one moment."""

    version: str
    keys: KeyTable
    tenants: Mapping[str, TenantFacts]
    models: Mapping[str, ServedModel]
    default_model: str
    provider_rates: Mapping[str, Rate]
    policy_version: str


class Snapshots:
    """The current snapshot and when it was last confirmed against its source."""

    def __init__(self, first: Snapshot, *, clock: Clock, fence: float) -> None:
        self._current = first
        self._clock = clock
        self._fence = fence
        self._confirmed = clock.monotonic()

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What is served, however old: for readiness, not for requests."""
        return self._current.models

    def read(self) -> Snapshot:
        """The current snapshot. Raises Fault(STALE_POLICY) beyond the fence (seconds)."""
        age = self.age
        if age > self._fence:
            raise Fault(Code.STALE_POLICY, f"the snapshot was last confirmed {age:.0f} s ago")
        return self._current

    @property
    def age(self) -> float:
        return self._clock.monotonic() - self._confirmed

    @property
    def fresh(self) -> bool:
        return self.age <= self._fence

    def confirm(self) -> None:
        """The source still says the same."""
        self._confirmed = self._clock.monotonic()

    def replace(self, snapshot: Snapshot) -> None:
        """The source says something new; requests that have begun keep what they read."""
        self._current = snapshot
        self.confirm()
