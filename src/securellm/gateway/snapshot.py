"""What the data plane knows: one immutable value, swapped whole, refused when too old to trust."""

from collections.abc import Mapping

import msgspec

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault
from securellm.finops import Budget, Price
from securellm.guard import GuardMode
from securellm.identity import NO_SERVICES, KeyTable, ServiceTable
from securellm.limits import Rate, TenantRates
from securellm.policy import NO_POLICIES, Policies
from securellm.routing import Candidate
from securellm.transport import Timeouts

JUMP = 5.0
"""Seconds by which the wall clock may drift from the monotonic one between two confirmations."""


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
    names: Mapping[tuple[str, str], str] = msgspec.field(default_factory=dict)
    """What callers call a model, by provider id and the name the provider knows it by: of what stands for several."""


class TenantFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the gates know of a tenant."""

    id: str
    models: frozenset[str]
    budget: Budget | None
    rates: TenantRates
    guard: GuardMode
    fence: float | None = None
    """Seconds without confirmation beyond which the tenant is refused; None is the gateway's own fence."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a request is decided by, as of one moment."""

    version: str
    keys: KeyTable
    tenants: Mapping[str, TenantFacts]
    models: Mapping[str, ServedModel]
    default_model: str
    provider_rates: Mapping[str, Rate]
    policy_version: str
    key_rates: Mapping[tuple[str, str], TenantRates] = {}
    """Limits of single keys, by the tenant that set them and the key's id: nobody slows another's key down."""
    services: ServiceTable = NO_SERVICES
    policies: Policies = NO_POLICIES
    """The bundles in force, and in the shadow."""


class Snapshots:
    """The current snapshot and when it was last confirmed against its source."""

    def __init__(self, first: Snapshot, *, clock: Clock, fence: float, age: float = 0.0) -> None:
        """`fence`: seconds beyond which nothing is decided by it. `age`: seconds since `first` was confirmed."""
        self._current = first
        self._clock = clock
        self._fence = fence
        self._confirmed = clock.monotonic() - age
        self._wall = clock.now_us() - round(age * 1_000_000)

    @property
    def current(self) -> Snapshot:
        """What is known, however old: to look at and to change, not to decide requests by."""
        return self._current

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What is served, however old: for readiness, not for requests."""
        return self._current.models

    def read(self) -> Snapshot:
        """The current snapshot. Raises Fault(STALE_POLICY) beyond the fence, or once the machine's clock has jumped."""
        age = self.age
        if age > self._fence:
            raise stale(age)
        if self._jumped(age):
            raise Fault(Code.STALE_POLICY, "the machine's clock has jumped since the snapshot was last confirmed")
        return self._current

    def is_stale_for(self, tenant: str) -> bool:
        """Whether nothing may be done for this tenant any more until the snapshot is confirmed."""
        facts = self._current.tenants.get(tenant)
        fence = self._fence if facts is None or facts.fence is None else min(facts.fence, self._fence)
        return self.age > fence

    @property
    def tightest(self) -> float:
        """The shortest fence of all, in seconds."""
        fences = (facts.fence for facts in self._current.tenants.values())
        return min((fence for fence in fences if fence is not None), default=self._fence)

    @property
    def age(self) -> float:
        """Seconds since the snapshot was confirmed."""
        return self._clock.monotonic() - self._confirmed

    @property
    def fresh(self) -> bool:
        return self.age <= self._fence

    def confirm(self, *, asked: float | None = None) -> None:
        """The source still says the same as of `asked`, the monotonic moment the question was sent (default: now)."""
        now = self._clock.monotonic()
        since = 0.0 if asked is None else now - asked
        if now - since >= self._confirmed:
            self._confirmed = now - since
            self._wall = self._clock.now_us() - round(since * 1_000_000)

    def put(self, snapshot: Snapshot) -> None:
        """Decide by this from now on, which is no word about how fresh it is."""
        self._current = snapshot

    def replace(self, snapshot: Snapshot, *, asked: float | None = None) -> None:
        """The source says something new; requests that have begun keep what they read."""
        self._current = snapshot
        self.confirm(asked=asked)

    def _jumped(self, age: float) -> bool:
        """Expiry is told by the wall clock: where it does not go as steadily as it should, keys may seem valid."""
        return abs((self._clock.now_us() - self._wall) / 1_000_000 - age) > JUMP


def stale(age: float) -> Fault:
    """What a request is refused with when nobody has confirmed for `age` seconds what it would be decided by."""
    return Fault(Code.STALE_POLICY, f"the snapshot was last confirmed {age:.0f} s ago")
