"""What a request can cost at most, and what it did cost."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securellm.core.errors import Code, Refusal
from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.finops import (
    PICTURE,
    Balance,
    Budget,
    Estimate,
    Hold,
    LedgerState,
    LongContext,
    Price,
    Quote,
    budget_report,
    period_of,
)
from securellm.finops.rules import (
    choose_cap,
    cost,
    counted_whole,
    funded_estimate,
    plausible,
    resolved,
    unpriced,
    worst_case,
)

PICOS = st.sampled_from([0, 1, 999, 1_000, 1_001, 10**6]) | st.integers(0, 10**9)
MAYBE = st.none() | PICOS
SELDOM = st.sampled_from([False, False, False, True])
TOOL_NAMES = ("web_search", "file_search")


@st.composite
def rates(draw: st.DrawFn) -> dict[str, Any]:
    optional = {name: draw(MAYBE) for name in ("cache_read", "cache_write_5m", "cache_write_1h", "reasoning")}
    media = {name: None if draw(SELDOM) else draw(PICOS) for name in ("audio_input", "audio_output", "image_input")}
    return {"input": draw(PICOS), "output": draw(PICOS)} | optional | media


@st.composite
def prices(draw: st.DrawFn) -> Price:
    starts = sorted(draw(st.sets(st.integers(0, 3_000), max_size=3)))
    return Price(
        **draw(rates()),
        long_context=tuple(LongContext(above_tokens=start, **draw(rates())) for start in starts),
        per_request=draw(st.integers(0, 10**9)),
        per_image=draw(st.none() | st.integers(0, 10**9)),
        server_tools={name: draw(st.integers(0, 10**8)) for name in TOOL_NAMES if not draw(SELDOM)},
        service_tiers={"priority": draw(st.integers(0, 5_000)), "flex": draw(st.integers(0, 1_000))},
    )


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    return Estimate(
        input_tokens=draw(st.integers(0, 4_000)),
        output_cap=draw(st.integers(0, 4_000)),
        choices=draw(st.integers(1, 4)),
        pictures=draw(st.integers(0, 4)),
        whole_context=draw(st.booleans()),
        context_window=draw(st.integers(0, 4_000)),
        server_tool_uses=tuple((name, draw(st.integers(0, 3))) for name in TOOL_NAMES if draw(SELDOM)),
        service_tier=draw(st.sampled_from([None, "auto", "default", "priority", "flex"])),
        audio_input=draw(st.booleans()),
        image_input=draw(st.booleans()),
        audio_output=draw(st.booleans()),
        cache_writes=draw(st.booleans()),
    )


def split(draw: st.DrawFn, total: int, buckets: list[str], price: Price) -> dict[str, int]:
    """At most `total` tokens over `buckets`: in the dearest, where a bound is tightest, in any one, or spread."""
    dearest = max(buckets, key=lambda bucket: resolved(price)[bucket] or 0)
    alone = draw(st.sampled_from([dearest, *buckets, None]))
    if alone is not None:
        return {alone: total}
    cuts = sorted(draw(st.lists(st.integers(0, total), min_size=len(buckets), max_size=len(buckets))))
    return dict(zip(buckets, (high - low for low, high in pairwise([0, *cuts])), strict=True))


@st.composite
def calls(draw: st.DrawFn) -> tuple[Price, Estimate, Usage, dict[str, int]]:
    """A priced request and any call that stays within its estimate."""
    price, estimate = draw(prices()), draw(estimates())
    prompt = ["input", "cache_read"]
    prompt += ["cache_write_5m", "cache_write_1h"] if estimate.cache_writes else []
    prompt += ["audio_input"] if estimate.audio_input or estimate.whole_context else []
    prompt += ["image_input"] if estimate.image_input or estimate.whole_context else []
    answer = ["output", "reasoning"] + (["audio_output"] if estimate.audio_output else [])
    uses = {name: draw(st.integers(0, (most or 0) * estimate.choices)) for name, most in estimate.server_tool_uses}
    uses[PICTURE] = draw(st.integers(0, estimate.pictures))
    turns = 1 + sum((most or 0) * estimate.choices for _, most in estimate.server_tool_uses)
    window = max(estimate.context_window or 0, estimate.input_tokens)
    most_in = window * turns if estimate.whole_context or turns > 1 else estimate.input_tokens
    most_out = estimate.choices * (estimate.output_cap or 0)
    used = split(draw, most_in, prompt, price) | split(draw, most_out, answer, price)
    return price, estimate, Usage(**used), uses


def bound(estimate: Estimate, price: Price) -> Nanos | None:
    """The worst case; None when it is refused."""
    try:
        return worst_case(estimate, price)
    except Refusal:
        return None


@pytest.mark.requirement("FN-2")
@settings(max_examples=400)
@given(calls())
def test_no_call_within_its_estimate_costs_more_than_the_worst_case(
    call: tuple[Price, Estimate, Usage, dict[str, int]],
) -> None:
    price, estimate, usage, uses = call
    most = bound(estimate, price)
    assert most is None or cost(usage, price, service_tier=estimate.service_tier, tool_uses=uses) <= most


@given(calls())
def test_everything_that_a_bounded_call_uses_has_a_price(
    call: tuple[Price, Estimate, Usage, dict[str, int]],
) -> None:
    price, estimate, usage, uses = call
    missing = unpriced(usage, price, service_tier=estimate.service_tier, tool_uses=uses)
    assert not missing or estimate.whole_context or bound(estimate, price) is None


@given(st.lists(st.integers(0, 10**7), min_size=9, max_size=9), rates())
def test_a_cost_is_the_exact_sum_rounded_up_once(counts: list[int], figures: dict[str, Any]) -> None:
    price = Price(**figures)
    usage = Usage(**dict(zip(Usage.__struct_fields__, counts, strict=True)))
    buckets = resolved(price)
    picos = sum(count * (buckets[name] or 0) for name, count in zip(Usage.__struct_fields__, counts, strict=True))
    nanos = cost(usage, price)
    assert nanos * 1_000 >= picos > (nanos - 1) * 1_000


def test_one_token_of_the_cheapest_model_is_not_free() -> None:
    assert cost(Usage(input=1), Price(input=1, output=1)) == 1


def test_prices_left_out_fall_back_to_values_that_cannot_be_too_low() -> None:
    assert resolved(Price(input=100, output=500)) == {
        "input": 100,
        "output": 500,
        "cache_read": 100,
        "cache_write_5m": 200,
        "cache_write_1h": 200,
        "reasoning": 500,
        "audio_input": None,
        "audio_output": None,
        "image_input": None,
    }
    assert resolved(Price(input=100, output=500, cache_write_5m=125))["cache_write_1h"] == 200
    assert resolved(Price(input=100, output=500, cache_write_5m=300))["cache_write_1h"] == 300


@pytest.mark.requirement("FN-1")
def test_a_long_prompt_is_charged_at_its_tier_for_all_its_tokens() -> None:
    price = Price(input=1_000, output=2_000, long_context=(LongContext(above_tokens=100, input=2_000, output=3_000),))
    assert cost(Usage(input=100, output=10), price) == 100 + 20
    assert cost(Usage(input=101, output=10), price) == 202 + 30
    assert cost(Usage(input=1, cache_read=100), price) == 202


@pytest.mark.requirement("FN-1")
def test_service_tiers_multiply_tokens_and_an_unknown_one_has_no_price() -> None:
    price = Price(input=1_000, output=1_000, per_request=7, service_tiers={"priority": 1_750, "flex": 500})
    assert cost(Usage(input=10), price, service_tier="priority") == 18 + 7
    assert cost(Usage(input=10), price, service_tier="flex") == 5 + 7
    assert cost(Usage(input=10), price, service_tier="auto") == 10 + 7
    assert unpriced(Usage(), price, service_tier="scale") == ("service_tier",)
    flex = Estimate(input_tokens=10, output_cap=0, service_tier="flex", cache_writes=False)
    assert worst_case(flex, price) == 10 + 7  # the discount is not counted on


def test_server_tools_reserve_every_use_and_every_reading_of_the_context() -> None:
    price = Price(input=1_000, output=1_000, server_tools={"web_search": 50}, context_window=1_000)
    estimate = Estimate(
        input_tokens=10, output_cap=0, server_tool_uses=(("web_search_20250305", 3),), cache_writes=False
    )
    assert worst_case(estimate, price) == 3 * 50 + 4 * 1_000
    assert cost(Usage(input=10), price, tool_uses={"web_search_20250305": 2}) == 10 + 100


@pytest.mark.requirement("FN-1", "FN-2")
def test_pictures_cost_their_number_beside_their_tokens() -> None:
    estimate = Estimate(input_tokens=10, output_cap=5, choices=3, pictures=3, cache_writes=False)
    by_both = Price(input=1_000, output=1_000, per_image=40)
    assert worst_case(estimate, by_both) == 10 + 15 + 120
    assert cost(Usage(input=10, output=5), by_both, tool_uses={PICTURE: 2}) == 10 + 5 + 80
    by_tokens = Price(input=1_000, output=1_000)
    assert worst_case(estimate, by_tokens) == 25
    assert cost(Usage(input=10), by_tokens, tool_uses={PICTURE: 2}) == 10
    assert unpriced(Usage(), by_tokens, tool_uses={PICTURE: 2}) == ()


@pytest.mark.requirement("FN-1")
def test_a_tool_that_calls_itself_a_picture_is_not_one() -> None:
    declared = Estimate(input_tokens=1, output_cap=1, server_tool_uses=((PICTURE, 1),), context_window=9)
    with pytest.raises(Refusal) as caught:
        worst_case(declared, Price(input=1, output=1, per_image=0))
    assert caught.value.code is Code.UNPRICED_FEATURE


def test_pictures_are_all_there_is_to_pay_only_where_no_token_costs_anything() -> None:
    piece = Price(input=0, output=0, per_image=40)
    assert counted_whole(piece, {PICTURE: 1})
    assert not counted_whole(piece, {PICTURE: 0})
    assert not counted_whole(piece, {"web_search": 1})
    assert not counted_whole(None, {PICTURE: 1})
    for other in (
        Price(input=0, output=0),
        Price(input=1, output=0, per_image=40),
        Price(input=0, output=0, image_input=1, per_image=40),
        Price(input=0, output=0, per_image=40, long_context=(LongContext(above_tokens=1, input=0, output=1),)),
    ):
        assert not counted_whole(other, {PICTURE: 1})


@given(used=st.integers(0, 10**6), written=st.integers(0, 10), tier=st.integers(0, 5_000))
def test_where_nothing_that_goes_in_costs_anything_no_window_need_be_known(used: int, written: int, tier: int) -> None:
    price = Price(input=0, output=7, long_context=(LongContext(above_tokens=tier, input=0, output=11),))
    estimate = Estimate(input_tokens=1, output_cap=10, whole_context=True)
    assert cost(Usage(input=used, output=written), price) <= worst_case(estimate, price)


def test_what_no_cap_can_bound_reserves_the_larger_of_two_figures_and_sends_none() -> None:
    estimate = Estimate(input_tokens=1, output_floor=100)
    assert choose_cap(estimate, 4_096) == (None, False)
    assert [
        funded_estimate(estimate, Quote(route="r", price=None, default_max_output=most)).output_cap
        for most in (None, 99, 4_096)
    ] == [100, 100, 4_096]


def test_what_the_provider_adds_reserves_the_whole_window() -> None:
    estimate = Estimate(input_tokens=10, output_cap=5, whole_context=True, context_window=500, cache_writes=False)
    assert worst_case(estimate, Price(input=1_000, output=1_000)) == 505


@pytest.mark.parametrize(
    ("estimate", "field"),
    [
        (Estimate(input_tokens=1, output_cap=1, features=("container",)), "container"),
        (Estimate(input_tokens=1, output_cap=1, server_tool_uses=(("web_search", None),)), "tools.web_search"),
        (Estimate(input_tokens=1, output_cap=1, server_tool_uses=(("code_interpreter", 1),)), "tools.code_interpreter"),
        (Estimate(input_tokens=1, output_cap=1, service_tier="scale"), "service_tier"),
        (Estimate(input_tokens=1, output_cap=1, audio_input=True), "audio_input"),
        (Estimate(input_tokens=1, output_cap=1, audio_output=True), "audio_output"),
        (Estimate(input_tokens=1, output_cap=1, image_input=True), "image_input"),
        (Estimate(input_tokens=1, output_cap=1, whole_context=True), "context_window"),
        (Estimate(input_tokens=1, output_cap=1, server_tool_uses=(("web_search", 1),)), "context_window"),
        (Estimate(input_tokens=1), "max_tokens"),
    ],
)
def test_what_has_no_price_or_no_bound_is_refused_by_name(estimate: Estimate, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        worst_case(estimate, Price(input=1, output=1, server_tools={"web_search": 1}))
    assert caught.value.code is Code.UNPRICED_FEATURE
    assert caught.value.param == field


@pytest.mark.parametrize(
    "estimate",
    [
        Estimate(input_tokens=-1, output_cap=1),
        Estimate(input_tokens=1, output_cap=-1),
        Estimate(input_tokens=1, output_cap=1, choices=0),
        Estimate(input_tokens=1, output_cap=1, context_window=-5, whole_context=True),
        Estimate(input_tokens=1, output_cap=1, server_tool_uses=(("web_search", -1),)),
    ],
)
def test_counts_below_their_meaning_cannot_lower_a_reservation(estimate: Estimate) -> None:
    with pytest.raises(Refusal) as caught:
        worst_case(estimate, Price(input=1, output=1, server_tools={"web_search": 1}))
    assert caught.value.code is Code.INVALID_REQUEST


def test_huge_counts_stay_exact() -> None:
    assert worst_case(
        Estimate(input_tokens=10**30, output_cap=10**30, cache_writes=False), Price(input=1, output=1)
    ) == Nanos(2 * 10**27)


def test_a_price_is_never_negative() -> None:
    with pytest.raises(ValueError, match="output price is negative"):
        Price(input=1, output=-1)


def test_the_callers_cap_wins_over_the_default() -> None:
    assert choose_cap(Estimate(input_tokens=1, output_cap=7), 100) == (7, False)
    assert choose_cap(Estimate(input_tokens=1, output_cap=0), 100) == (0, False)
    assert choose_cap(Estimate(input_tokens=1), 100) == (100, True)
    assert choose_cap(Estimate(input_tokens=1), None) == (None, False)


def test_counts_below_zero_are_not_plausible() -> None:
    assert plausible(Usage(input=3), {"web_search": 0})
    assert not plausible(Usage(input=3, output=-1))
    assert not plausible(Usage(), {"web_search": -1})


def test_a_period_is_a_utc_month() -> None:
    assert period_of(1_796_083_199_999_999) == "2026-11"
    assert period_of(1_796_083_200_000_000) == "2026-12"


def test_a_report_sets_each_month_against_its_budget() -> None:
    state = LedgerState(
        (Balance("acme", "2026-11", "USD", 40, 5, 1), Balance("acme", "2026-10", "USD", 9, 0, 0)),
        (Hold("r1", "acme", "2026-11", "USD", 10), Hold("r2", "acme", "2026-11", "USD", 20)),
    )
    budgets = {"acme": Budget(limit=Nanos(100)), "idle": Budget(limit=Nanos(7), hard=False)}
    acme, idle = budget_report(state, budgets, period="2026-11")
    assert (acme.settled, acme.presumed, acme.held, acme.open_requests, acme.unknown) == (40, 5, 30, 2, 1)
    assert (acme.limit, acme.hard, acme.remaining) == (100, True, 25)
    assert (idle.limit, idle.hard, idle.remaining) == (7, False, 7)
    assert [line.period for line in budget_report(state, {})] == ["2026-10", "2026-11"]
