"""Look up what a model costs: the shipped price book, and the operator's own prices above it."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib import resources
from typing import NamedTuple

import msgspec

from securellm.core.canonical import canonical_bytes
from securellm.finops.model import Price

_DAY_LENGTHS = (len("20260131"), len("2026-01-31"))


class DatedPrice(Price, frozen=True, kw_only=True):
    """A price and the UTC day it starts on; the first of a model has no start."""

    start: date | None = None


class BookModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the book."""

    prices: tuple[DatedPrice, ...]
    """In rising order of `start`."""
    aliases: tuple[str, ...] = ()
    dated: tuple[str, ...] = ()
    """Names that stand for this model also with `-YYYYMMDD` or `-YYYY-MM-DD` behind them."""


class BookFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pricebook.json`, written by tools/seed_prices.py."""

    source: str
    effective: str
    """The day up to which the source was checked."""
    kinds: dict[str, dict[str, BookModel]]


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
            base = _without_date(model)
            entries = self._dated.get((kind, base)) if base is not None else None
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
            dated.update({(kind, base): entries for base in model.dated})
    digest = hashlib.sha256(content).hexdigest()[:12]
    return PriceBook(f"{file.effective}+{digest}", prices, dated)


def _undated(price: DatedPrice) -> Price:
    return Price(**{name: getattr(price, name) for name in Price.__struct_fields__})


def _start_us(start: date | None) -> int:
    if start is None:
        return 0
    return int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1_000_000


def _without_date(model: str) -> str | None:
    """`claude-sonnet-5-20260131` -> `claude-sonnet-5`; None when the name does not end in a day that exists."""
    for length in _DAY_LENGTHS:
        base, day = model[: -length - 1], model[-length:]
        if base and model[-length - 1] == "-" and day.isascii() and day.replace("-", "").isdigit():
            try:
                date.fromisoformat(day)
            except ValueError:
                continue
            return base
    return None
