"""Money as integers: amounts in nano-units, prices in pico-units a token, one rounding.

A price such as 0.0375 USD per million tokens is 37,500 pico-USD per token: exact. A cost is a sum of
`tokens x price` in pico-units, rounded up once to nano-units, so that no request is ever rounded to free.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import NewType

Nanos = NewType("Nanos", int)
"""An amount: 1e-9 of the currency unit. 200.00 USD = 200_000_000_000 nanos."""

Picos = NewType("Picos", int)
"""A price of one token or one unit: 1e-12 of the currency unit."""

ZERO = Nanos(0)

_AMOUNT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?) ([A-Z]{3})")


def cost_of(picos: int) -> Nanos:
    """Round a sum of `tokens x price` up to nanos: the only rounding money ever sees."""
    return Nanos(-(-picos // 1_000))


def parse_amount(text: str) -> tuple[Nanos, str]:
    """`"200.00 USD"` -> (nanos, currency). Raises ValueError with what is wrong."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError('write an amount and a currency code, such as "200.00 USD"')
    scaled = Decimal(match[1]).scaleb(9)
    if scaled != scaled.to_integral_value():
        raise ValueError("an amount has at most 9 decimals")
    return Nanos(int(scaled)), match[2]


def parse_price_per_million(text: str) -> tuple[Picos, str]:
    """`"0.15 USD"` per million tokens -> (picos per token, currency). Raises ValueError."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError('write a price and a currency code, such as "0.15 USD"')
    return price_per_million(match[1]), match[2]


def price_per_million(number: str) -> Picos:
    """`"0.15"` per million tokens -> picos per token. Raises ValueError when it is not exact."""
    try:
        scaled = Decimal(number).scaleb(6)
    except InvalidOperation as error:
        raise ValueError(f"{number!r} is not a number") from error
    if scaled != scaled.to_integral_value():
        raise ValueError("a price per million tokens has at most 6 decimals")
    return Picos(int(scaled))


def format_amount(nanos: int, currency: str = "USD") -> str:
    """Nanos -> `"0.000000123 USD"`, at least two decimals, no trailing zeros beyond them."""
    sign, magnitude = ("-", -nanos) if nanos < 0 else ("", nanos)
    whole, rest = divmod(magnitude, 1_000_000_000)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals} {currency}"
