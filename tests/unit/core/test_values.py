"""Money never loses a fraction, usage never counts a token twice, and what is hashed has one spelling."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.canonical import canonical_bytes
from securellm.core.errors import SPECS, Code, Family, Fault, Refusal, UpstreamFailure
from securellm.core.ids import Ids
from securellm.core.money import cost_of, format_amount, parse_amount, parse_price_per_million
from securellm.core.usage import Usage


@given(st.integers(0, 10**18))
def test_an_amount_is_read_back_as_it_was_printed(nanos: int) -> None:
    assert parse_amount(format_amount(nanos, "BRL")) == (nanos, "BRL")


@given(st.integers(0, 10**20))
def test_a_cost_is_rounded_up_and_by_less_than_one_nano(picos: int) -> None:
    assert 0 <= cost_of(picos) * 1_000 - picos < 1_000


@pytest.mark.parametrize(
    "text", ["1", "1 usd", "-1 USD", "1.0000000001 USD", "1e3 USD", "1,00 USD", " 1 USD", "1 USD "]
)
def test_an_amount_that_is_not_exact_and_named_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        parse_amount(text)


def test_a_price_per_million_is_picos_per_token() -> None:
    assert parse_price_per_million("0.0375 USD") == (37_500, "USD")


def test_usage_totals_count_every_bucket_once() -> None:
    usage = Usage(**{name: 2**index for index, name in enumerate(Usage.__struct_fields__)})

    assert usage.total_tokens == 2 ** len(Usage.__struct_fields__) - 1


def test_the_last_cumulative_figure_of_each_bucket_wins() -> None:
    merged = Usage(input=10, output=1).merge(Usage(output=7, reasoning=3))

    assert merged == Usage(input=10, output=7, reasoning=3)


canonical = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(canonical)
def test_canonical_bytes_have_one_spelling(value: object) -> None:
    once = canonical_bytes(value)  # type: ignore[arg-type]

    assert canonical_bytes(json.loads(once)) == once


def test_a_float_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="float"):
        canonical_bytes({"cost": [1, {"x": 0.1}]})  # type: ignore[dict-item]


def test_every_code_says_who_acts_what_to_do_and_how_it_is_answered() -> None:
    assert set(SPECS) == set(Code)
    for spec in SPECS.values():
        assert 400 <= spec.status < 600
        assert spec.remedy.endswith(".")
        assert spec.remedy_pt.endswith(".")
        assert spec.remedy != spec.remedy_pt


def test_an_error_can_only_carry_codes_of_its_family() -> None:
    for error in (Refusal, UpstreamFailure, Fault):
        for code in Code:
            if code.spec.family in error.families:
                assert error(code, "reason").code is code
            else:
                with pytest.raises(ValueError, match=code.value):
                    error(code, "reason")


def test_denials_that_no_retry_can_heal_are_not_retryable() -> None:
    for code in (Code.BUDGET_EXHAUSTED, Code.MODEL_NOT_ALLOWED, Code.GUARD_BLOCKED, Code.INVALID_KEY):
        assert code.spec.family is Family.REFUSAL
        assert not code.spec.retryable
        assert code.spec.status in (401, 402, 403)


class _Frozen:
    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def monotonic(self) -> float:
        return 0.0


class _Counting:
    def __init__(self) -> None:
        self.drawn = 0

    def token(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")

    def fraction(self) -> float:
        return 0.5


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = Ids(_Frozen(), _Counting())

    made = [ids.new("req") for _ in range(100)]

    assert made == sorted(made)
    assert len(set(made)) == 100
    assert all(len(one) == len("req_") + 26 for one in made)
