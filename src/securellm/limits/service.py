"""The verbs of limits: admit, charge, release; whether a provider may be sent to; who presents bad credentials."""

from collections.abc import Sequence
from itertools import count
from math import isinf

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.limits.buckets import Buckets
from securellm.limits.leases import Leases
from securellm.limits.model import Admission, Rate, Remaining, TenantRates, Window
from securellm.limits.rules import network_of

REFUSED_CREDENTIALS = Rate(per_minute=30, burst=20)
"""Failed authentications one address may make."""

_PARALLEL_RETRY = 1.0
"""Seconds: no one knows when a running request ends."""

_LONGEST_DEBT = 60
"""Minutes."""

_Charge = tuple[str, Rate, int]
"""Bucket, rate and mark of tokens charged in advance."""


class Limits:
    """The gate that alone mints an `Admission`. Exact in one process; every call runs on the one event loop."""

    def __init__(
        self,
        clock: Clock,
        *,
        capacity: int = 200_000,
        addresses: int = 20_000,
        refused_credentials: Rate = REFUSED_CREDENTIALS,
    ) -> None:
        """`capacity` bounds the buckets of tenants, keys and providers; `addresses` those of callers not known."""
        self._buckets = Buckets(clock, capacity=capacity)
        self._addresses = Buckets(clock, capacity=addresses)
        self._refused_credentials = refused_credentials
        self._leases = Leases()
        self._charges: dict[int, tuple[_Charge, ...]] = {}
        self._numbers = count(1)

    async def admit(
        self, *, tenant: str, key_id: str, limits: TenantRates, key_limits: TenantRates | None, tokens: int
    ) -> Admission:
        """Take one request, `tokens` and a parallel place from tenant and key: all of them, or none.

        Raises `Refusal` (RATE_LIMITED, TOO_MANY_PARALLEL) that names the limit; its `retry_after` is None when
        the request can never pass.
        """
        scopes = _scopes(tenant, key_id, limits, key_limits)
        self._refuse_beyond(scopes, tokens)
        charges: list[_Charge] = []
        for scope, name, rates in scopes:
            if rates.requests is not None:
                self._buckets.spend(f"{scope}.requests:{name}", rates.requests)
            if rates.tokens is not None:
                bucket = f"{scope}.tokens:{name}"
                charges.append((bucket, rates.tokens, self._buckets.spend(bucket, rates.tokens, tokens)))
        lease = next(self._numbers)
        self._leases.take(lease, [f"{scope}:{name}" for scope, name, _ in scopes])
        self._charges[lease] = tuple(charges)
        return Admission(lease=lease, tenant=tenant, key_id=key_id, tokens=tokens)

    def preflight(
        self, *, tenant: str, key_id: str, limits: TenantRates, key_limits: TenantRates | None, tokens: int
    ) -> None:
        """Ask whether `admit` would succeed, taking nothing. Raises what it would raise."""
        self._refuse_beyond(_scopes(tenant, key_id, limits, key_limits), tokens)

    def charge(self, admission: Admission, tokens: int) -> None:
        """Replace the tokens charged in advance by those really used: once, before the release.

        What exceeds the estimate is owed: later requests wait for it, an hour at most, whatever a provider says.
        """
        for bucket, rate, mark in self._charges.pop(admission.lease, ()):
            if tokens > admission.tokens:
                self._buckets.spend(bucket, rate, min(tokens - admission.tokens, _LONGEST_DEBT * rate.per_minute))
            elif tokens < admission.tokens:
                self._buckets.give_back(bucket, rate, mark=mark, cost=admission.tokens - tokens)

    def release(self, admission: Admission) -> None:
        """Give the parallel place back; doing it again changes nothing."""
        self._charges.pop(admission.lease, None)
        self._leases.release(admission.lease)

    def provider(self, provider_id: str, rate: Rate) -> float:
        """0.0 when a send was taken, else the seconds to wait, with nothing taken."""
        return self._buckets.take(f"provider:{provider_id}", rate)

    def refused_credential(self, address: str) -> float:
        """Count a failed authentication: 0.0 within the limit of its address, else the seconds it must wait."""
        return self._addresses.take(network_of(address), self._refused_credentials)

    def remaining(self, *, tenant: str, key_id: str, limits: TenantRates, key_limits: TenantRates | None) -> Remaining:
        """What is left to this key, for rate-limit headers."""
        scopes = _scopes(tenant, key_id, limits, key_limits)
        return Remaining(
            requests=_tightest(
                [
                    self._buckets.window(f"{scope}.requests:{name}", rates.requests)
                    for scope, name, rates in scopes
                    if rates.requests is not None
                ]
            ),
            tokens=_tightest(
                [
                    self._buckets.window(f"{scope}.tokens:{name}", rates.tokens)
                    for scope, name, rates in scopes
                    if rates.tokens is not None
                ]
            ),
        )

    def in_flight(self, tenant: str) -> int:
        """Requests of the tenant admitted and not released."""
        return self._leases.held(f"tenant:{tenant}")

    def _refuse_beyond(self, scopes: tuple[tuple[str, str, TenantRates], ...], tokens: int) -> None:
        if tokens < 0:
            raise ValueError("a request takes no negative tokens")
        longest, limit = 0.0, ""
        for scope, name, rates in scopes:
            for kind, rate, cost in (("requests", rates.requests, 1), ("tokens", rates.tokens, tokens)):
                if rate is None:
                    continue
                wait = self._buckets.wait(f"{scope}.{kind}:{name}", rate, cost)
                if wait > longest:
                    longest, limit = wait, f"the {scope}'s limit of {rate.per_minute} {kind} a minute"
                    if isinf(wait):
                        limit = f"{limit} lets {rate.burst} pass at once, and this request needs {cost}"
        if longest:
            raise Refusal(Code.RATE_LIMITED, limit, retry_after=None if isinf(longest) else longest)
        for scope, name, rates in scopes:
            if rates.parallel is not None and self._leases.held(f"{scope}:{name}") >= rates.parallel:
                raise Refusal(
                    Code.TOO_MANY_PARALLEL,
                    f"the {scope}'s limit of {rates.parallel} requests in parallel",
                    retry_after=_PARALLEL_RETRY,
                )


def _scopes(
    tenant: str, key_id: str, limits: TenantRates, key_limits: TenantRates | None
) -> tuple[tuple[str, str, TenantRates], ...]:
    if key_limits is None:
        return (("tenant", tenant, limits),)
    return (("tenant", tenant, limits), ("key", key_id, key_limits))


def _tightest(windows: Sequence[Window]) -> Window | None:
    if len(windows) == 1:
        return windows[0]
    return min(windows, key=lambda window: window.remaining / window.limit, default=None)
