"""Look up what a model costs: the shipped price book, and the operator's own prices above it."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from securellm.core.canonical import canonical_bytes
from securellm.finops.model import BUCKETS, LongContext, Price
from securellm.finops.settings import PriceSettings

_DAY_FORMS = {
    "YYYYMMDD": re.compile(r"(?<=-)[0-9]{8}\Z"),
    "YYYY-MM-DD": re.compile(r"(?<=-)[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"),
}


class DatedPrice(Price, frozen=True, kw_only=True):
    """A price and the UTC day it starts on; the first of a model has no start."""

    start: date | None = None


class BookModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the book."""

    prices: tuple[DatedPrice, ...]
    """In rising order of `start`."""
    aliases: tuple[str, ...] = ()
    dated: tuple[str, ...] = ()
    """Names that end in `YYYYMMDD` or `YYYY-MM-DD`, where any day that exists may stand."""


class BookFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pricebook.json`, written by tools/seed_prices.py."""

    source: str
    effective: str
    """The day up to which the source was checked."""
    kinds: dict[str, dict[str, BookModel]]


_SETTINGS = {bucket: bucket for bucket in BUCKETS} | {"cache_write_5m": "cache_write"}


class _Entry(NamedTuple):
    start_us: int
    price: Price


class PriceBook:
    """Every price the gateway knows, by provider kind and model. Nothing is guessed: a name matches or it does not."""

    def __init__(
        self,
        version: str,
        prices: Mapping[tuple[str, str], tuple[_Entry, ...]],
        dated: Mapping[tuple[str, str], tuple[_Entry, ...]],
        overlay: Mapping[tuple[str, str], Price] | None = None,
    ) -> None:
        self.version = version
        """The source's date and a digest of the content: two books of one version price alike."""
        self._prices = prices
        self._dated = dated
        self._overlay = overlay or {}

    def lookup(self, kind: str, model: str, *, provider: str | None = None, now_us: int | None = None) -> Price | None:
        """The operator's price of `model` at `provider` (its id), else the one for all providers of `kind`.

        `now_us` (microseconds, UTC) chooses among dated prices, without it the newest counts. None = unknown.
        """
        own = self._overlay.get((provider, model)) if provider is not None else None
        if own is not None:
            return own
        entries = self._prices.get((kind, model))
        if entries is None:
            pattern = _dated_pattern(model)
            entries = self._dated.get((kind, pattern)) if pattern is not None else None
        if entries is None:
            return None
        if now_us is None:
            return entries[-1].price
        return next(entry.price for entry in reversed(entries) if entry.start_us <= now_us or entry is entries[0])

    def with_overlay(self, overlay: Mapping[tuple[str, str], Price]) -> "PriceBook":
        """The book with the operator's own prices, by (provider id, model)."""
        if not overlay:
            return self
        content = [
            [provider, model, msgspec.to_builtins(price)]
            for (provider, model), price in sorted(overlay.items(), key=lambda item: item[0])
        ]
        digest = hashlib.sha256(canonical_bytes(content)).hexdigest()[:12]
        return PriceBook(f"{self.version}+{digest}", self._prices, self._dated, dict(overlay))


def configured(settings: PriceSettings, base: Price | None) -> Price | None:
    """The operator's price of a model: each figure of `settings`, and `base` (the book's) for those left out.

    None when `settings` says nothing. Raises ValueError when its figures are not in one currency or do not make a
    price. A base in another currency is not used: two currencies cannot be added.
    """
    per_million = {bucket: getattr(settings, f"{name}_per_million") for bucket, name in _SETTINGS.items()}
    amounts = [*per_million.values(), settings.per_request, settings.per_image, *settings.server_tools.values()]
    currencies = sorted({amount.currency for amount in amounts if amount is not None})
    if not currencies and not settings.tiers:
        return None
    if len(currencies) > 1:
        raise ValueError(f"one price cannot be in both {' and '.join(currencies)}")
    if base is not None and currencies and currencies != [base.currency]:
        base = None
    figures: dict[str, Any] = {bucket: price.picos for bucket, price in per_million.items() if price is not None}
    if settings.per_request is not None:
        figures["per_request"] = settings.per_request.nanos
    if settings.per_image is not None:
        figures["per_image"] = settings.per_image.nanos
    tools: dict[str, int] = {tool: amount.nanos for tool, amount in settings.server_tools.items()}
    if base is not None:
        return msgspec.structs.replace(
            base,
            **figures,
            long_context=tuple(_raised(tier, figures) for tier in base.long_context),
            server_tools={**base.server_tools, **tools},
            service_tiers={**base.service_tiers, **settings.tiers},
        )
    if not {"input", "output"} <= figures.keys():
        raise ValueError("a model that the price book lacks needs input_per_million and output_per_million")
    return Price(
        **figures,
        currency=currencies[0] if currencies else "USD",
        server_tools=tools,
        service_tiers=dict(settings.tiers),
    )


def shipped() -> PriceBook:
    """The book of this release."""
    return read(resources.files("securellm.finops").joinpath("pricebook.json").read_bytes())


def read(content: bytes) -> PriceBook:
    """A book from the bytes of a price-book file. Raises msgspec.ValidationError saying what is wrong where."""
    file = msgspec.json.decode(content, type=BookFile)
    prices: dict[tuple[str, str], tuple[_Entry, ...]] = {}
    dated: dict[tuple[str, str], tuple[_Entry, ...]] = {}
    for kind, models in file.kinds.items():
        for name, model in models.items():
            entries = tuple(_Entry(_start_us(price.start), _undated(price)) for price in model.prices)
            prices.update({(kind, alias): entries for alias in (name, *model.aliases)})
            dated.update({(kind, pattern): entries for pattern in model.dated})
    digest = hashlib.sha256(content).hexdigest()[:12]
    return PriceBook(f"{file.effective}+{digest}", prices, dated)


def _raised(tier: LongContext, figures: Mapping[str, int]) -> LongContext:
    """A tier of the book, nowhere below the operator's own figures: its long prompts are not known to be cheaper."""
    raised = {name: max(getattr(tier, name) or 0, figures[name]) for name in BUCKETS if name in figures}
    return msgspec.structs.replace(tier, **raised)


def _undated(price: DatedPrice) -> Price:
    return Price(**{name: getattr(price, name) for name in Price.__struct_fields__})


def _start_us(start: date | None) -> int:
    if start is None:
        return 0
    return int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1_000_000


def _dated_pattern(model: str) -> str | None:
    """`claude-sonnet-5-20260131` -> `claude-sonnet-5-YYYYMMDD`; None when no day that exists ends the name."""
    for form, shape in _DAY_FORMS.items():
        day = shape.search(model)
        if day is not None:
            try:
                date.fromisoformat(day[0])
            except ValueError:
                return None
            return model[: day.start()] + form
    return None
