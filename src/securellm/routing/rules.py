"""Pure decisions of routing: the order of places, which failures may pass, and how long to wait."""

from collections.abc import Iterable, Sequence

from securellm.core.capabilities import Capability
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.routing.model import Candidate, FollowUp, Plan, PlannedAttempt

IN_ORDER = "in order"
LAST = "last, unhealthy"
TRANSLATED = ", translated to "
LEFT_OUT = "left out"
"""How a line of an explanation says where a candidate stands."""

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
    model: str,
    surface: Surface,
    *,
    candidates: Sequence[Candidate],
    pinned: str | None = None,
    needs: frozenset[Capability] = frozenset(),
    output_cap: int | None = None,
    translatable: Sequence[Surface] = (),
    allowed: frozenset[str] | None = None,
    seed: int = 0,
) -> Plan:
    """Every candidate that can do what is asked, in declared order, the unhealthy after the healthy.

    One that speaks `surface` is spoken to as the caller speaks, and comes before those to whom the request must be
    translated: they are spoken to in the first dialect of `translatable` that they speak. One that is declared not
    to offer all of `needs`, or to write fewer tokens than the caller's `output_cap`, is left out. The unhealthy stay
    as a last resort: the last way is never taken away in silence. `pinned` names the one provider the caller accepts,
    `allowed` those that policy allows; None is all.

    Raises `Refusal` (NO_ROUTE, UNSUPPORTED_CAPABILITY) with the reason.
    """
    ranked: list[tuple[bool, bool, PlannedAttempt]] = []
    explanation: list[str] = []
    unable: list[Candidate] = []
    for candidate in candidates:
        spoken = surface if surface in candidate.surfaces else _first_spoken(translatable, candidate)
        if allowed is not None and candidate.provider not in allowed:
            standing = f"{LEFT_OUT}, policy does not allow this provider"
        elif pinned is not None and candidate.provider != pinned:
            standing = f"{LEFT_OUT}, another provider is pinned"
        elif spoken is None:
            standing = f"{LEFT_OUT}, does not speak {surface}"
        elif shortcomings := _shortcomings(candidate, needs, output_cap):
            standing = f"{LEFT_OUT}, {shortcomings}"
            unable.append(candidate)
        else:
            attempt = PlannedAttempt(
                provider=candidate.provider, upstream_model=candidate.upstream_model, surface=spoken
            )
            ranked.append((not candidate.healthy, spoken != surface, attempt))
            standing = IN_ORDER if candidate.healthy else LAST
            standing += f"{TRANSLATED}{spoken}" if spoken != surface else ""
        explanation.append(f"{_place(candidate)}: {standing}")
    attempts = tuple(attempt for _, _, attempt in sorted(ranked, key=lambda rank: rank[:2]))
    if attempts:
        return Plan(model=model, attempts=attempts, explanation=tuple(explanation), seed=seed)
    if unable:
        raise _unsupported(unable, needs, output_cap)
    if not candidates:
        raise Refusal(Code.NO_ROUTE, "no provider serves this model", param="model")
    if allowed is not None and all(candidate.provider not in allowed for candidate in candidates):
        raise Refusal(Code.NO_ROUTE, "policy allows no provider of this model", param="model")
    if allowed is not None and pinned is not None and pinned not in allowed:
        raise Refusal(Code.NO_ROUTE, "policy does not allow the pinned provider", param="x-provider")
    if pinned is not None and all(candidate.provider != pinned for candidate in candidates):
        raise Refusal(Code.NO_ROUTE, "the pinned provider does not serve this model", param="x-provider")
    raise Refusal(Code.NO_ROUTE, f"no provider of this model speaks {surface}", param="model")


def offered(candidates: Sequence[Candidate]) -> frozenset[Capability] | None:
    """What some candidate is declared to offer; None when one of them declares nothing and so may be asked anything."""
    every: frozenset[Capability] = frozenset()
    for candidate in candidates:
        if candidate.offers is None:
            return None
        every |= candidate.offers
    return every


def _place(candidate: Candidate) -> str:
    return f"{candidate.provider}/{candidate.upstream_model}"


def _first_spoken(translatable: Sequence[Surface], candidate: Candidate) -> Surface | None:
    return next((surface for surface in translatable if surface in candidate.surfaces), None)


def _lacks(candidate: Candidate, needs: frozenset[Capability]) -> frozenset[Capability]:
    return frozenset() if candidate.offers is None else needs - candidate.offers


def _shortcomings(candidate: Candidate, needs: frozenset[Capability], output_cap: int | None) -> str:
    """Why this candidate cannot do what is asked; empty when nothing says so."""
    found = []
    if lacks := _lacks(candidate, needs):
        found.append(f"lacks {_listed(lacks)}")
    if candidate.max_output is not None and output_cap is not None and output_cap > candidate.max_output:
        found.append(f"writes {candidate.max_output} tokens at most")
    return " and ".join(found)


def _listed(capabilities: Iterable[Capability]) -> str:
    return ", ".join(sorted(capabilities))


def _unsupported(unable: Sequence[Candidate], needs: frozenset[Capability], output_cap: int | None) -> Refusal:
    """The refusal of a request that every place which could be spoken to falls short of."""
    nowhere = needs.intersection(*(_lacks(candidate, needs) for candidate in unable))
    if nowhere:
        reason = f"no route of this model offers {_listed(nowhere)}"
    elif not any(_lacks(candidate, needs) for candidate in unable):
        most = max(candidate.max_output or 0 for candidate in unable)
        reason = f"no route of this model writes {output_cap} tokens: at most {most}"
    else:
        each = (f"{_place(candidate)} {_shortcomings(candidate, needs, output_cap)}" for candidate in unable)
        reason = f"no single route of this model offers all that is needed: {'; '.join(each)}"
    return Refusal(Code.UNSUPPORTED_CAPABILITY, reason, param="model")


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
