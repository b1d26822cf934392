"""Pure decisions of routing: the order of places, which failures may pass, and how long to wait."""

from collections.abc import Sequence

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.routing.model import Candidate, FollowUp, Plan, PlannedAttempt

BACKOFF_BASE = 0.25
BACKOFF_CAP = 8.0
LONGEST_WAIT = 30.0
"""Seconds; a provider that asks for more is not waited for."""

TRANSIENT = frozenset(
    {
        Code.TIMEOUT,
        Code.PROVIDER_RATE_LIMITED,
        Code.PROVIDER_ERROR,
        Code.PROVIDER_OVERLOADED,
        Code.PROVIDER_UNREACHABLE,
        Code.TRUNCATED,
    }
)
"""408, 429, 5xx, and a connection refused, lost or silent. Never 401, 403 or 400."""


def plan(
    model: str, surface: Surface, *, candidates: Sequence[Candidate], pinned: str | None = None, seed: int = 0
) -> Plan:
    """Every candidate that speaks `surface`, in declared order, the unhealthy after the healthy.

    The unhealthy stay as a last resort: the last way is never taken away in silence. `pinned` names the one
    provider the caller accepts. Raises `Refusal` (NO_ROUTE) with the reason.
    """
    healthy: list[PlannedAttempt] = []
    unhealthy: list[PlannedAttempt] = []
    explanation: list[str] = []
    pin_found = False
    for candidate in candidates:
        where = f"{candidate.provider}/{candidate.upstream_model}"
        if pinned is not None and candidate.provider != pinned:
            explanation.append(f"{where}: left out, another provider is pinned")
            continue
        pin_found = True
        if surface not in candidate.surfaces:
            explanation.append(f"{where}: left out, does not speak {surface}")
            continue
        attempt = PlannedAttempt(provider=candidate.provider, upstream_model=candidate.upstream_model)
        (healthy if candidate.healthy else unhealthy).append(attempt)
        explanation.append(f"{where}: {'in order' if candidate.healthy else 'last, unhealthy'}")
    attempts = (*healthy, *unhealthy)
    if attempts:
        return Plan(model=model, attempts=attempts, explanation=tuple(explanation), seed=seed)
    if not candidates:
        raise Refusal(Code.NO_ROUTE, "no provider serves this model", param="model")
    if not pin_found:
        raise Refusal(Code.NO_ROUTE, "the pinned provider does not serve this model", param="x-provider")
    raise Refusal(Code.NO_ROUTE, f"no provider of this model speaks {surface}", param="model")


def may_retry(code: Code, *, first_byte: bool) -> bool:
    """Whether another attempt may follow a failure: it can pass, and the caller has seen nothing of the answer."""
    return not first_byte and code in TRANSIENT


def backoff(made: int, *, fraction: float) -> float:
    """Seconds to wait after `made` attempts: exponential with full jitter, `fraction` in [0, 1)."""
    return fraction * min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(made - 1, 16))


def wait_before(made: int, *, fraction: float, retry_after: float | None, remaining: float | None) -> float | None:
    """Seconds to wait before the same provider is tried again; None when it cannot be within the deadline.

    `retry_after` is the least the provider asked for, `remaining` the time to the caller's deadline.
    """
    wait = max(backoff(made, fraction=fraction), retry_after or 0.0)
    if wait > LONGEST_WAIT or (remaining is not None and wait >= remaining):
        return None
    return wait


def follow_up(
    plan: Plan,
    code: Code,
    *,
    made: int,
    retries: int,
    first_byte: bool,
    fraction: float,
    retry_after: float | None,
    remaining: float | None,
) -> FollowUp | None:
    """What comes after the `made`-th attempt failed with `code`, of at most 1 + `retries`; None to give up.

    A place not tried yet is tried at once. With all of them tried, the order begins anew, after a wait.
    """
    if made > retries or not may_retry(code, first_byte=first_byte):
        return None
    if made < len(plan.attempts):
        if remaining is not None and remaining <= 0:
            return None
        return FollowUp(attempt=plan.attempts[made], delay=0.0)
    delay = wait_before(made, fraction=fraction, retry_after=retry_after, remaining=remaining)
    if delay is None:
        return None
    return FollowUp(attempt=plan.attempts[made % len(plan.attempts)], delay=delay)
