"""Convert the installed genai-prices snapshot into the gateway's `pricebook.json`: integers, and nothing guessed.

Run `python tools/seed_prices.py` after raising the pinned version, read the difference, commit it. `--check` only says
whether the committed file is the one this would write.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

EFFECTIVE = date(2026, 10, 19)
"""The newest day a price of the pinned snapshot speaks of as past. Prices that end before it are left out."""

KINDS = {"anthropic": "anthropic", "deepseek": "deepseek", "gemini": "google", "openai": "openai", "xai": "x-ai"}
"""Our provider kind -> the snapshot's provider id."""

BUCKETS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write_5m": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "image_input": "input_image_mtok",
}
TOOLS = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}
UNUSABLE = frozenset({"output_image_mtok", "output_video_mtok", "audio_hours", "input_audio_hours", "input_mchars"})
"""Models that are billed for what `core.usage.Usage` does not count are left out: a wrong price is worse than none."""

PROBE_DAYS = ("20240229", "20251231", "20260817")
"""A name that the snapshot takes for a model with every one of these days behind it is taken with any day."""

PLAIN_NAME = re.compile(r"[a-z][a-z0-9.-]*[a-z0-9](?<!-[0-9]{8})(?<!-[0-9]{2}-[0-9]{2})")
"""A name that a day can follow: not one that ends in a day already."""

PUBLISHED = {"anthropic": ("claude-opus-4-20250514", "claude-sonnet-4-20250514")}
"""Names the providers publish that the snapshot matches only by their beginning."""

BOOK = Path(__file__).parents[1] / "src/securellm/finops/pricebook.json"

Figures = dict[str, Any]


def render() -> bytes:
    """The price book file, byte for byte the same for the same snapshot."""
    by_id = {provider.id: provider for provider in providers}
    book = {
        "source": f"genai-prices {version('genai-prices')} (MIT)",
        "effective": EFFECTIVE.isoformat(),
        "kinds": {kind: dict(_models(by_id[source])) for kind, source in KINDS.items()},
    }
    return _compact(book)


def _models(provider: Provider) -> Iterator[tuple[str, Figures]]:
    for model in sorted(provider.models, key=lambda model: model.id):
        # What Google resells of Anthropic is not served under the gemini kind; an id that its own rules do not
        # take for the model (a prefix of fine-tuned names, say) is no name of it.
        resold = provider.id == "google" and model.id.startswith("claude")
        if resold or model.id.endswith("-") or provider.find_model(model.id) is not model:
            continue
        prices = [figures for start, each in _in_force(model) if (figures := _price(model, start, each))]
        if not prices:
            continue
        names = {*_exact_names(model), *PUBLISHED.get(provider.id, ())}
        aliases = sorted(name for name in names - {model.id} if provider.find_model(name) is model)
        dated = sorted(
            pattern
            for base in {name.removesuffix("-latest") for name in (model.id, *aliases)}
            if PLAIN_NAME.fullmatch(base)
            for pattern, days in _day_forms(base).items()
            if all(provider.find_model(day) is model for day in days)
        )
        yield (
            model.id,
            {"prices": prices} | ({"aliases": aliases} if aliases else {}) | ({"dated": dated} if dated else {}),
        )


def _in_force(model: ModelInfo) -> list[tuple[date | None, list[ModelPrice]]]:
    """(start, the prices that take turns from then on), from the one in force on EFFECTIVE on."""
    if isinstance(model.prices, ModelPrice):
        return [(None, [model.prices])]
    spans: list[tuple[date | None, list[ModelPrice]]] = []
    for conditional in model.prices:
        if isinstance(conditional.constraint, TimeOfDateConstraint):
            spans[-1][1].append(conditional.prices)
        elif isinstance(conditional.constraint, StartDateConstraint) and conditional.constraint.start_date > EFFECTIVE:
            spans.append((conditional.constraint.start_date, [conditional.prices]))
        else:
            spans = [(None, [conditional.prices])]
    return spans


def _price(model: ModelInfo, start: date | None, turns: Sequence[ModelPrice]) -> Figures | None:
    """One price; where prices change with the time of day the dearest counts, so that no hour is under-priced."""
    keys = {key for turn in turns for key, value in vars(turn).items() if value is not None}
    if "input_mtok" not in keys or keys & UNUSABLE or ("output_mtok" not in keys and "embedding" not in model.id):
        return None
    starts = sorted(
        {tier.start for turn in turns for value in vars(turn).values() if _tiered(value) for tier in value.tiers}
    )
    base, *long = (_rates(turns, tokens) for tokens in (0, *(start + 1 for start in starts)))
    figures: Figures = base
    if start is not None:
        figures = {"start": start.isoformat()} | figures
    if long:
        figures["long_context"] = [{"above_tokens": at} | rates for at, rates in zip(starts, long, strict=True)]
    tools = {ours: _dearest(turns, theirs, 0) for ours, theirs in TOOLS.items() if theirs in keys}
    if tools:
        figures["server_tools"] = {name: _integer(value * 1_000_000, "nanos a use") for name, value in tools.items()}
    tiers = _service_tiers(model, turns)
    if tiers:
        figures["service_tiers"] = tiers
    if model.context_window:
        figures["context_window"] = model.context_window
    return figures


def _rates(turns: Sequence[ModelPrice], prompt_tokens: int) -> Figures:
    """Picos a token for a prompt of that length.

    The snapshot's rule for a kind of token without a price is the price of plain input; the book writes it down,
    because the gateway, which cannot tell "the same" from "unknown", takes a dearer price for what is left out.
    """
    rates = {
        ours: _integer(_dearest(turns, theirs, prompt_tokens) * 1_000_000, "picos a token")
        for ours, theirs in BUCKETS.items()
        if any(getattr(turn, theirs) is not None for turn in turns)
    }
    rates.setdefault("output", 0)
    rates.setdefault("cache_write_5m", rates["input"])
    rates.setdefault("cache_write_1h", max(rates["input"], rates["cache_write_5m"]))
    rates.setdefault("image_input", rates["input"])
    return rates


def _service_tiers(model: ModelInfo, turns: Sequence[ModelPrice]) -> dict[str, int]:
    """Permille by service tier, where one multiplier says it all for every kind of token and every length."""
    tiers: dict[str, int] = {}
    for variant in model.price_variants or ():
        name = variant.when.get("service_tier")
        starts = variant.constraint
        if name is None or len(variant.when) > 1 or len(turns) > 1:
            continue
        if isinstance(starts, TimeOfDateConstraint) or (starts is not None and starts.start_date > EFFECTIVE):
            continue
        priced = {key for key, value in vars(turns[0]).items() if value is not None and key.endswith("_mtok")}
        if set(vars(variant.prices)) != priced:
            continue
        ratios = {ratio for key in priced for ratio in _ratios(getattr(variant.prices, key), getattr(turns[0], key))}
        permille = ratios.pop() * 1_000
        if not ratios and permille == int(permille):
            tiers[name] = int(permille)
    return tiers


def _ratios(special: Decimal | TieredPrices, plain: Decimal | TieredPrices) -> Iterable[Decimal]:
    starts = {tier.start for price in (special, plain) if isinstance(price, TieredPrices) for tier in price.tiers}
    return [_at(special, tokens) / _at(plain, tokens) for tokens in (0, *(start + 1 for start in starts))]


def _dearest(turns: Sequence[ModelPrice], key: str, prompt_tokens: int) -> Decimal:
    return max(_at(value, prompt_tokens) for turn in turns if (value := getattr(turn, key)) is not None)


def _at(price: Decimal | TieredPrices, prompt_tokens: int) -> Decimal:
    if isinstance(price, TieredPrices):
        return next((tier.price for tier in reversed(price.tiers) if prompt_tokens > tier.start), price.base)
    return price


def _tiered(value: object) -> bool:
    return isinstance(value, TieredPrices)


def _exact_names(model: ModelInfo) -> Iterator[str]:
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    return (clause.equals for clause in clauses if isinstance(clause, ClauseEquals))


def _day_forms(base: str) -> dict[str, list[str]]:
    """Both ways to write a day behind a name -> the probes of it."""
    return {
        f"{base}-YYYYMMDD": [f"{base}-{day}" for day in PROBE_DAYS],
        f"{base}-YYYY-MM-DD": [f"{base}-{day[:4]}-{day[4:6]}-{day[6:]}" for day in PROBE_DAYS],
    }


def _integer(value: Decimal, unit: str) -> int:
    if value != value.to_integral_value():
        raise SystemExit(f"{value} {unit} is not exact")
    return int(value)


def _compact(book: Figures) -> bytes:
    """JSON with one line for each model: small, and readable in a difference."""
    lines = [f'{{"source":{json.dumps(book["source"])},"effective":"{book["effective"]}","kinds":{{']
    for index, (kind, models) in enumerate(book["kinds"].items()):
        lines.append(f'{"," if index else ""}"{kind}":{{')
        rows = [f"{json.dumps(name)}:{json.dumps(model, separators=(',', ':'))}" for name, model in models.items()]
        lines.append(",\n".join(rows) + "}")
    return ("\n".join([*lines, "}}"]) + "\n").encode()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file would change")
    content = render()
    if parser.parse_args(arguments).check:
        return int(BOOK.read_bytes() != content)
    BOOK.write_bytes(content)
    print(f"{BOOK.name}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
