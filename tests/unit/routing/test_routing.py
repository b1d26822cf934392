"""Where to: ordered plans that explain themselves, and retries that cannot make things worse."""

import asyncio
from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clocks import ManualClock

from securellm.core.capabilities import Capability
from securellm.core.errors import Code, Family, Refusal
from securellm.core.surfaces import Surface
from securellm.routing import (
    Candidate,
    FollowUp,
    PlannedAttempt,
    Router,
    backoff,
    follow_up,
    may_retry,
    plan,
    wait_before,
)
from securellm.routing.budget import RetryBudget
from securellm.routing.rules import BACKOFF_CAP, LONGEST_WAIT


def candidate(provider: str, *surfaces: Surface, healthy: bool = True) -> Candidate:
    return Candidate(
        provider=provider,
        upstream_model=f"{provider}-model",
        surfaces=frozenset(surfaces or (Surface.CHAT,)),
        healthy=healthy,
    )


def attempt(provider: str) -> PlannedAttempt:
    return PlannedAttempt(provider=provider, upstream_model=f"{provider}-model", surface=Surface.CHAT)


class Asking(TypedDict):
    candidates: list[Candidate]
    pinned: str
    needs: frozenset[Capability]
    output_cap: int
    translatable: list[Surface]
    seed: int


class Halves:
    """Randomness whose fraction is always one half."""

    def token(self, size: int) -> bytes:
        return bytes(size)

    def fraction(self) -> float:
        return 0.5


def test_a_plan_keeps_the_declared_order_and_explains_every_candidate() -> None:
    made = plan(
        "gpt",
        Surface.CHAT,
        candidates=[candidate("a"), candidate("b", Surface.MESSAGES), candidate("c")],
        seed=7,
    )
    assert made.attempts == (attempt("a"), attempt("c"))
    assert made.explanation == (
        "a/a-model: in order",
        "b/b-model: left out, does not speak chat",
        "c/c-model: in order",
    )
    assert made.seed == 7


def test_an_unhealthy_candidate_goes_last_and_is_never_dropped() -> None:
    candidates = [candidate("a", healthy=False), candidate("b")]
    assert plan("gpt", Surface.CHAT, candidates=candidates).attempts == (attempt("b"), attempt("a"))
    assert plan("gpt", Surface.CHAT, candidates=candidates[:1]).attempts == (attempt("a"),)


def test_a_pinned_provider_is_the_only_one_even_when_unhealthy() -> None:
    made = plan("gpt", Surface.CHAT, candidates=[candidate("a"), candidate("b", healthy=False)], pinned="b")
    assert made.attempts == (attempt("b"),)
    assert made.explanation[0] == "a/a-model: left out, another provider is pinned"


def test_no_route_says_why() -> None:
    cases = [
        ([], None, "no provider serves this model"),
        ([candidate("a")], "zzz", "the pinned provider does not serve this model"),
        ([candidate("a", Surface.MESSAGES)], None, "no provider of this model speaks chat"),
        ([candidate("a", Surface.MESSAGES), candidate("b")], "a", "no provider of this model speaks chat"),
    ]
    for candidates, pinned, reason in cases:
        with pytest.raises(Refusal) as refused:
            plan("gpt", Surface.CHAT, candidates=candidates, pinned=pinned)
        assert (refused.value.code, refused.value.reason) == (Code.NO_ROUTE, reason)


def test_only_what_can_pass_is_tried_again() -> None:
    again = {code for code in Code if may_retry(code, first_byte=False)}
    assert again == {
        Code.TIMEOUT,
        Code.PROVIDER_RATE_LIMITED,
        Code.PROVIDER_ERROR,
        Code.PROVIDER_OVERLOADED,
        Code.PROVIDER_UNREACHABLE,
        Code.TRUNCATED,
    }
    assert all(code.spec.family is Family.UPSTREAM for code in again)


def test_nothing_is_tried_again_after_the_first_byte() -> None:
    assert not any(may_retry(code, first_byte=True) for code in Code)


@given(made=st.integers(1, 10_000), fraction=st.floats(0, 1, exclude_max=True))
def test_back_off_has_full_jitter_below_a_doubling_ceiling(made: int, fraction: float) -> None:
    wait = backoff(made, fraction=fraction)
    assert 0 <= wait <= BACKOFF_CAP
    assert backoff(made, fraction=0) == 0
    assert wait <= 0.25 * 2.0 ** min(made - 1, 60)


def test_retry_after_is_honoured_up_to_the_deadline() -> None:
    assert wait_before(1, fraction=0.0, retry_after=3.0, remaining=10.0) == 3.0
    assert wait_before(1, fraction=0.0, retry_after=3.0, remaining=None) == 3.0
    assert wait_before(1, fraction=0.0, retry_after=3.0, remaining=3.0) is None
    assert wait_before(1, fraction=0.0, retry_after=LONGEST_WAIT + 1, remaining=None) is None
    assert wait_before(1, fraction=0.8, retry_after=0.1, remaining=None) == pytest.approx(0.2)


def following(code: Code = Code.PROVIDER_ERROR, *, made: int, retries: int = 5, **changes: object) -> FollowUp | None:
    two = plan("gpt", Surface.CHAT, candidates=[candidate("a"), candidate("b")])
    facts: dict[str, object] = {"first_byte": False, "fraction": 0.5, "retry_after": None, "remaining": None}
    return follow_up(two, code, made=made, retries=retries, **{**facts, **changes})  # type: ignore[arg-type]


def test_another_provider_is_tried_at_once_and_the_same_one_after_a_wait() -> None:
    assert following(made=1, retry_after=9.0) == FollowUp(attempt=attempt("b"), delay=0.0)
    assert following(made=2) == FollowUp(attempt=attempt("a"), delay=0.25)
    assert following(made=2, retry_after=9.0) == FollowUp(attempt=attempt("a"), delay=9.0)
    assert following(made=3) == FollowUp(attempt=attempt("b"), delay=0.5)


def test_trying_ends_with_the_retries_the_deadline_or_a_lasting_failure() -> None:
    assert following(made=1, retries=0) is None
    assert following(made=6) is None
    assert following(made=1, remaining=0.0) is None
    assert following(made=2, remaining=0.1) is None
    assert following(Code.AUTH_ERROR, made=1) is None
    assert following(made=1, first_byte=True) is None


def test_the_router_stops_retrying_when_the_shared_budget_is_empty() -> None:
    async def tell() -> int:
        clock = ManualClock()
        router = Router(clock, Halves())
        paid = 0
        for _ in range(100):
            made = await router.plan("gpt", Surface.CHAT, candidates=[candidate("a"), candidate("b")])
            if router.follow_up(made, Code.TIMEOUT, made=1, first_byte=False) is not None:
                paid += 1
        return paid

    # 30 saved, and one in five of what came after: the saved ones were topped up while they lasted.
    assert asyncio.run(tell()) <= 30 + 100 // 5


def test_the_router_plans_as_the_rules_do() -> None:
    candidates = [
        candidate("a", Surface.MESSAGES),
        Candidate(provider="a", upstream_model="a-bare", surfaces=frozenset({Surface.CHAT}), offers=frozenset()),
        candidate("b"),
        Candidate(provider="a", upstream_model="a-small", surfaces=frozenset({Surface.MESSAGES}), max_output=5),
    ]
    asked = Asking(
        candidates=candidates,
        pinned="a",
        needs=frozenset({Capability.TOOLS}),
        output_cap=6,
        translatable=[Surface.MESSAGES],
        seed=3,
    )
    made = asyncio.run(Router(ManualClock(), Halves()).plan("gpt", Surface.CHAT, **asked))
    assert made == plan("gpt", Surface.CHAT, **asked)
    assert [(one.upstream_model, one.surface) for one in made.attempts] == [("a-model", Surface.MESSAGES)]


def test_a_failure_that_is_not_followed_up_costs_no_budget() -> None:
    router = Router(ManualClock(), Halves())
    made = plan("gpt", Surface.CHAT, candidates=[candidate("a")])
    for _ in range(1000):
        assert router.follow_up(made, Code.AUTH_ERROR, made=1, first_byte=False) is None
    assert router.follow_up(made, Code.TIMEOUT, made=1, first_byte=False) is not None


@given(
    st.lists(
        st.one_of(st.just("request"), st.just("retry"), st.integers(0, 20_000_000)),
        max_size=200,
    )
)
def test_retries_never_exceed_a_fifth_of_requests_and_three_a_second(steps: list[str | int]) -> None:
    clock = ManualClock()
    budget = RetryBudget(clock)
    moments = [(clock.ticks, 0, 0)]
    requests = retries = 0
    for step in steps:
        if step == "request":
            budget.note_request()
            requests += 1
        elif step == "retry":
            retries += budget.take()
        else:
            assert isinstance(step, int)
            clock.advance_us(step)
        moments.append((clock.ticks, requests, retries))
    for start, (at, asked, paid) in enumerate(moments):
        for later, asked_later, paid_later in moments[start:]:
            allowed = budget.capacity + (asked_later - asked) / 5 + 3 * (later - at) / 1_000_000
            assert paid_later - paid <= allowed + 1e-6


def test_a_quiet_gateway_may_always_retry_three_times_a_second() -> None:
    clock = ManualClock()
    budget = RetryBudget(clock)
    while budget.take():
        pass
    for _ in range(30):
        clock.advance(0.34)
        assert budget.take()
    assert not budget.take()


def test_five_requests_pay_for_one_retry() -> None:
    budget = RetryBudget(ManualClock())
    while budget.take():
        pass
    for _ in range(100):
        budget.note_request()
    assert sum(budget.take() for _ in range(100)) == 20


def test_equal_facts_make_an_equal_plan() -> None:
    first, second = (plan("gpt", Surface.CHAT, candidates=[candidate("a"), candidate("b")], seed=1) for _ in range(2))
    assert first == second
