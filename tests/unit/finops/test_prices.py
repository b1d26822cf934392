"""The price book: exact names, dated prices, the operator's own figures, and the source it is made from."""

from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec
import pytest
from genai_prices import types as genai
from genai_prices.data import providers
from tools import seed_prices

from securellm.core.money import Nanos, Picos
from securellm.core.usage import Usage
from securellm.finops import LongContext, Price, PriceSettings, configured, shipped
from securellm.finops.prices import read
from securellm.finops.rules import cost
from securellm.settings import Amount, Permille, PricePerMillion

BOOK = shipped()
FILE = msgspec.json.decode(seed_prices.BOOK.read_bytes())
MODELS = [(kind, name) for kind, models in FILE["kinds"].items() for name in models]
PEAK = datetime(seed_prices.EFFECTIVE.year, seed_prices.EFFECTIVE.month, seed_prices.EFFECTIVE.day, 2, tzinfo=UTC)
PEAK_US = int(PEAK.timestamp()) * 1_000_000
SOURCES = {kind: next(each for each in providers if each.id == name) for kind, name in seed_prices.KINDS.items()}


def oracle(kind: str, model: str, counts: dict[str, int], context: dict[str, str] | None = None) -> int:
    """What genai-prices itself says a call costs, in nanos, rounded up."""
    source = SOURCES[kind]
    found = source.find_model(model)
    assert found is not None
    usage = genai.Usage(**counts)
    price = found.calc_price(usage, source, genai_request_timestamp=PEAK, price_context=context).total_price
    return int((price * 10**9).to_integral_value(ROUND_CEILING))


def test_the_committed_book_is_what_the_pinned_source_says() -> None:
    assert seed_prices.BOOK.read_bytes() == seed_prices.render()
    assert seed_prices.main(["--check"]) == 0
    assert len(seed_prices.render()) < 300_000


@pytest.mark.requirement("FN-1")
@pytest.mark.parametrize("kind", sorted(seed_prices.KINDS))
def test_every_price_of_the_book_agrees_with_its_source(kind: str) -> None:
    for model in FILE["kinds"][kind]:
        price = BOOK.lookup(kind, model, now_us=PEAK_US)
        assert price is not None
        lengths = [
            1_001,
            *(start for tier in price.long_context for start in (tier.above_tokens, tier.above_tokens + 1)),
        ]
        for prompt in lengths:
            output = 0 if "embedding" in model else 777
            ours = Usage(input=prompt - 600, cache_read=300, cache_write_5m=200, cache_write_1h=100, output=output)
            theirs = {
                "input_tokens": prompt,
                "cache_read_tokens": 300,
                "cache_write_tokens": 300,
                "cache_write_5m_tokens": 200,
                "cache_write_1h_tokens": 100,
                "output_tokens": output,
            }
            assert cost(ours, price) == oracle(kind, model, theirs), (model, prompt)


@pytest.mark.requirement("FN-1")
def test_service_tiers_of_the_book_agree_with_their_source() -> None:
    checked = 0
    for kind, model in MODELS:
        price = BOOK.lookup(kind, model, now_us=PEAK_US)
        assert price is not None
        for tier in price.service_tiers:
            usage = Usage(input=10_007, cache_read=33, output=501)
            theirs = {"input_tokens": 10_040, "cache_read_tokens": 33, "output_tokens": 501}
            expected = oracle(kind, model, theirs, {"service_tier": tier})
            assert cost(usage, price, service_tier=tier) == expected, (model, tier)
            checked += 1
    assert checked > 30


def test_audio_tokens_of_the_book_agree_with_their_source() -> None:
    price = BOOK.lookup("openai", "gpt-audio")
    assert price is not None
    theirs = {"input_tokens": 150, "input_audio_tokens": 50, "output_tokens": 90, "output_audio_tokens": 40}
    ours = Usage(input=100, audio_input=50, output=50, audio_output=40)
    assert cost(ours, price) == oracle("openai", "gpt-audio", theirs)


def test_every_name_of_the_book_is_the_same_model_for_its_source() -> None:
    for kind, models in FILE["kinds"].items():
        for name, model in models.items():
            days = [
                each.replace("YYYYMMDD", "20260817").replace("YYYY-MM-DD", "2026-08-17")
                for each in model.get("dated", [])
            ]
            for alias in [name, *model.get("aliases", []), *days]:
                found = SOURCES[kind].find_model(alias)
                assert found is not None
                assert found.id == name
                assert BOOK.lookup(kind, alias) == BOOK.lookup(kind, name)


def test_a_name_the_book_does_not_have_has_no_price() -> None:
    assert BOOK.lookup("openai", "gpt-4o-mini") is not None
    for name in ("gpt-4o-mini2", "GPT-4O-MINI", "gpt-4o-mini-2099-01-01", "ft:gpt-4o-mini:acme", "", "gpt-4o-min"):
        assert BOOK.lookup("openai", name) is None
    assert BOOK.lookup("mock", "gpt-4o-mini") is None


def test_a_dated_name_is_known_only_with_a_day_that_exists() -> None:
    assert BOOK.lookup("anthropic", "claude-haiku-4-5-20251001") is not None
    assert BOOK.lookup("anthropic", "claude-haiku-4-5-20251301") is None
    assert BOOK.lookup("anthropic", "claude-haiku-4-5-2025100") is None


@pytest.mark.requirement("FN-1")
def test_a_price_changes_on_its_day() -> None:
    before = BOOK.lookup("gemini", "gemini-4-argon", now_us=PEAK_US)
    day = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert before is not None
    assert BOOK.lookup("gemini", "gemini-4-argon", now_us=day - 1) == before
    after = BOOK.lookup("gemini", "gemini-4-argon", now_us=day)
    assert after is not None
    assert after.input == 2 * before.input
    assert BOOK.lookup("gemini", "gemini-4-argon") == after


@pytest.mark.requirement("FN-1")
def test_the_operators_price_wins_for_its_provider_only() -> None:
    own = Price(input=7, output=9)
    book = BOOK.with_overlay({("eu", "gpt-4o-mini"): own})
    assert book.lookup("openai", "gpt-4o-mini", provider="eu") is own
    assert book.lookup("openai", "gpt-4o-mini", provider="us") == BOOK.lookup("openai", "gpt-4o-mini")
    assert book.lookup("openai", "gpt-4o-mini") == BOOK.lookup("openai", "gpt-4o-mini")


@pytest.mark.requirement("FN-1")
def test_two_books_of_one_version_price_alike() -> None:
    assert BOOK.version.startswith(f"{seed_prices.EFFECTIVE}+")
    one = BOOK.with_overlay({("eu", "m"): Price(input=7, output=9)})
    other = BOOK.with_overlay({("eu", "m"): Price(input=7, output=10)})
    assert len({BOOK.version, one.version, other.version}) == 3
    assert BOOK.with_overlay({}).version == BOOK.version
    assert BOOK.with_overlay({("eu", "m"): Price(input=7, output=9)}).version == one.version


def per_million(picos: int, currency: str = "USD") -> PricePerMillion:
    return PricePerMillion(Picos(picos), currency)


def test_a_configured_price_keeps_what_it_leaves_out() -> None:
    base = Price(
        input=10,
        output=20,
        cache_read=1,
        long_context=(LongContext(above_tokens=5, input=20, output=30),),
        server_tools={"web_search": 4},
    )
    settings = PriceSettings(input_per_million=per_million(25), tiers={"priority": Permille(2_000)})
    own = configured(settings, base)
    assert own is not None
    assert (own.input, own.output, own.cache_read, own.server_tools) == (25, 20, 1, {"web_search": 4})
    assert own.service_tiers == {"priority": 2_000}
    # A long prompt is not known to be cheaper than the operator's own figure.
    assert own.long_context == (LongContext(above_tokens=5, input=25, output=30),)


def test_a_configured_price_stands_alone_for_an_unknown_model_or_another_currency() -> None:
    settings = PriceSettings(
        input_per_million=per_million(25, "BRL"),
        output_per_million=per_million(50, "BRL"),
        cache_write_per_million=per_million(30, "BRL"),
        per_request=Amount(Nanos(3), "BRL"),
        per_image=Amount(Nanos(5), "BRL"),
        server_tools={"web_search": Amount(Nanos(4), "BRL")},
    )
    own = Price(
        input=25,
        output=50,
        cache_write_5m=30,
        per_request=3,
        per_image=5,
        server_tools={"web_search": 4},
        currency="BRL",
    )
    assert configured(settings, None) == own
    assert configured(settings, Price(input=1, output=1, cache_read=1)) == own


def test_a_configured_price_says_nothing_or_enough_or_is_refused() -> None:
    assert configured(PriceSettings(), Price(input=1, output=1)) is None
    with pytest.raises(ValueError, match="needs input_per_million and output_per_million"):
        configured(PriceSettings(input_per_million=per_million(1)), None)
    with pytest.raises(ValueError, match="both BRL and USD"):
        configured(PriceSettings(input_per_million=per_million(1), output_per_million=per_million(1, "BRL")), None)


@pytest.mark.parametrize(
    "change",
    [
        {"kinds": {"openai": {"m": {"prices": [{"input": 1.5, "output": 1}]}}}},
        {"kinds": {"openai": {"m": {"prices": [{"input": -1, "output": 1}]}}}},
        {"kinds": {"openai": {"m": {"prices": [{"input": "1", "output": 1}]}}}},
        {"kinds": {"openai": {"m": {"prices": [{"output": 1}]}}}},
        {"surprise": 1},
    ],
)
def test_a_damaged_book_is_refused(change: dict[str, Any]) -> None:
    content = {"source": "s", "effective": "2026-01-01", "kinds": {}} | change
    with pytest.raises(msgspec.ValidationError):
        read(msgspec.json.encode(content))


def test_prices_are_exact_decimals_of_their_source() -> None:
    price = BOOK.lookup("openai", "gpt-4o-mini")
    assert price is not None
    assert Decimal(price.input).scaleb(-6) == Decimal("0.15")
    assert Decimal(price.output).scaleb(-6) == Decimal("0.6")
