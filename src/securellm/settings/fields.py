"""The kinds of value a configuration key can hold: how each is written, checked and spelled back.

A reason never quotes the value it refuses: a value may be a secret that someone put in the wrong place.
"""

import ipaddress
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, NamedTuple, NewType

import msgspec

from securellm.core.canonical import Canonical
from securellm.core.hosts import PATTERN as HOST_PATTERN
from securellm.core.money import Nanos, Picos, format_amount, parse_amount, parse_price_per_million
from securellm.settings.references import NoReference, SecretRef, parse_reference

Seconds = NewType("Seconds", float)
"""A duration in seconds, written "500ms", "2s", "10m", "1h" or "1d"."""

Bytes = NewType("Bytes", int)
"""A size in bytes, written as a number or "64KiB", "10MiB", "1GiB"."""

Instant = NewType("Instant", int)
"""A moment in microseconds since the Unix epoch (UTC), written as an RFC 3339 date-time with an offset."""

Permille = NewType("Permille", int)
"""A multiplier in thousandths: "2.0" is 2000."""

FilePath = NewType("FilePath", str)
"""A file; a relative path starts at the folder of the configuration file."""

HostName = NewType("HostName", str)
"""A name that callers put into `Host`, or with "*." in front every name below it; in lower case."""


class Amount(msgspec.Struct, frozen=True):
    """Money, written "200.00 USD"."""

    nanos: Nanos
    currency: str


class PricePerMillion(msgspec.Struct, frozen=True):
    """A price of a million tokens, written "0.15 USD"; held as pico-units a token, which is exact."""

    picos: Picos
    currency: str


class Listen(msgspec.Struct, frozen=True):
    """An address to listen on, written "127.0.0.1:8080" or "[::1]:8080"; port 0 takes any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What a key is for and which values of its kind it takes. Stands in `Annotated` on a Struct's field.

    `ge` and `le` bound numbers in the kind's own unit; `pattern` (with `shape`, its words) bounds strings;
    `min_items` bounds lists.
    """

    help: str
    ge: float | None = None
    le: float | None = None
    pattern: str | None = None
    shape: str = ""
    min_items: int = 0


ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
ID_SHAPE = "up to 64 letters, digits and . _ -, the first a letter or digit"
"""Of what an operator calls a tenant or provider: it stands in records, metrics and addresses as it is."""
NAME_PATTERN = r"[^\x00-\x1f\x7f-\x9f]{0,100}"
NAME_SHAPE = "at most 100 characters, none of which is a control character"
"""Of what people read: it stands in lists on terminals."""


class FieldError(ValueError):
    """A value does not fit its key."""

    def __init__(self, reason: str, remedy: str, suggestion: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.suggestion = suggestion


class Kind(NamedTuple):
    """One scalar kind. `blank` stands for a value that could not be read while its file's other problems are sought."""

    name: str
    parse: Callable[[object], Any]
    write: Callable[[Any], Canonical]
    blank: Any


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address without brackets) can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback if mapped is None else bool(mapped.is_loopback)


def nearest(name: str, known: list[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else None


_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", re.ASCII)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)", re.ASCII)
_SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MULTIPLIER = re.compile(r"([0-9]{1,6})(?:\.([0-9]{1,3}))?", re.ASCII)
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):([0-9]{1,5})", re.ASCII)
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 1 << 63


def _text(value: object, remedy: str) -> str:
    if not isinstance(value, str):
        raise FieldError(f"must be a string, not {_toml_name(value)}", remedy)
    return value


def _toml_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a float"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def must_be(kind: str, value: object, remedy: str) -> FieldError:
    """The complaint that `value` is of another TOML type."""
    return FieldError(f"must be {kind}, not {_toml_name(value)}", remedy)


def _parse_str(value: object) -> str:
    text = _text(value, "put the value in quotes")
    if "\0" in text:
        raise FieldError("holds a NUL character", "remove it")
    return text


def _parse_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise must_be("an integer", value, "write a whole number without quotes")
    if not -_INT64 <= value < _INT64:
        raise FieldError("is outside the range of a 64-bit integer", "write a smaller number")
    return value


def _parse_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise must_be("a boolean", value, "write true or false without quotes")
    return value


def _parse_float(value: object) -> float:
    number = value if isinstance(value, float) else float(_parse_int(value))
    if not math.isfinite(number):
        raise FieldError("must be a finite number", "write a plain number")
    return number


def _parse_seconds(value: object) -> Seconds:
    remedy = 'write a duration with its unit, such as "500ms", "30s" or "10m"'
    match = _DURATION.fullmatch(_text(value, remedy))
    if match is None:
        raise FieldError("is not a duration", remedy)
    return Seconds(float(match[1]) * _DURATION_UNITS[match[2]])


def _parse_bytes(value: object) -> Bytes:
    remedy = 'write bytes as a number, or a size such as "64KiB" or "10MiB"'
    if isinstance(value, int) and not isinstance(value, bool):
        size = _parse_int(value)
        if size < 0:
            raise FieldError("a size cannot be negative", remedy)
        return Bytes(size)
    match = _SIZE.fullmatch(_text(value, remedy))
    if match is None:
        raise FieldError("is not a size", remedy)
    return Bytes(int(match[1]) * _SIZE_UNITS[match[2]])


def _parse_instant(value: object) -> Instant:
    remedy = "write an RFC 3339 date-time with an offset, such as 2027-01-31T00:00:00Z"
    if isinstance(value, str):
        if _RFC3339.fullmatch(value) is None:
            raise FieldError("is not an RFC 3339 date-time", remedy)
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            raise FieldError("names a moment that does not exist", remedy) from None
    if not isinstance(value, datetime):
        raise must_be("a date-time", value, remedy)
    if value.tzinfo is None:
        raise FieldError("has no offset, so it names no moment", remedy)
    return Instant((value - _EPOCH) // timedelta(microseconds=1))


def _parse_amount(value: object) -> Amount:
    remedy = 'write an amount and a currency code, such as "200.00 USD"'
    try:
        return Amount(*parse_amount(_text(value, remedy)))
    except FieldError:
        raise
    except ValueError:
        raise FieldError("is not an amount of money with at most 9 decimals", remedy) from None


def _parse_price(value: object) -> PricePerMillion:
    remedy = 'write the price of a million tokens and a currency code, such as "0.15 USD"'
    try:
        return PricePerMillion(*parse_price_per_million(_text(value, remedy)))
    except FieldError:
        raise
    except ValueError:
        raise FieldError("is not a price with at most 6 decimals", remedy) from None


def _parse_permille(value: object) -> Permille:
    remedy = 'write a multiplier with at most 3 decimals in quotes, such as "2.0"'
    match = _MULTIPLIER.fullmatch(_text(value, remedy))
    if match is None:
        raise FieldError("is not a multiplier", remedy)
    return Permille(int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0")))


def _parse_secret(value: object) -> SecretRef:
    remedy = 'write where the secret is: "env:NAME" or "file:PATH"'
    text = _text(value, remedy)
    try:
        return parse_reference(text)
    except NoReference as none:
        raise FieldError(none.reason, none.remedy) from None


def _parse_listen(value: object) -> Listen:
    remedy = 'write an address and a port, such as "127.0.0.1:8080" or "[::1]:8080"'
    match = _LISTEN.fullmatch(_text(value, remedy))
    if match is None:
        raise FieldError("is not an address and a port", remedy)
    bracketed, plain, port = match.groups()
    if int(port) > 65535:
        raise FieldError("the port is above 65535", remedy)
    host = bracketed or plain
    # What is written with digits and dots, or in brackets, is meant as an address, never as a name.
    if bracketed or not host.strip("0123456789."):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise FieldError("the address is not an IP address", remedy) from None
    return Listen(host, int(port))


def _parse_path(value: object) -> FilePath:
    text = _parse_str(value)
    if not text:
        raise FieldError("is empty", "write the path of a file")
    return FilePath(text)


def _parse_host(value: object) -> HostName:
    remedy = 'write a name without scheme and port, such as "llm.bank.example", or "*.bank.example" for all below it'
    text = _text(value, remedy).lower().removesuffix(".")
    if text == "*":
        raise FieldError("is every name", "leave the key out to answer for every name, or list the names")
    if not text.isascii():
        raise FieldError("has letters that no Host has", "write the name as DNS has it, in punycode (xn--…)")
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        pass
    else:
        raise FieldError("is an address", "leave it out: addresses always pass, this list is of names")
    if len(text) > 253 or re.fullmatch(HOST_PATTERN, text, re.ASCII) is None:
        raise FieldError("is not a name of a host", remedy)
    return HostName(text)


def _micros(seconds: Seconds) -> Canonical:
    return f"{round(seconds * 1_000_000)}us"


def write_seconds(seconds: Seconds) -> str:
    """Seconds as a person writes them: the longest unit that stays whole."""
    millis = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if millis and millis % size == 0:
            return f"{millis // size}{unit}"
    return f"{millis}ms" if millis else "0s"


def write_bytes(size: Bytes) -> str:
    """Bytes as a person writes them: the longest unit that stays whole."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def _same(value: Any) -> Canonical:
    written: Canonical = value
    return written


KINDS: dict[object, Kind] = {
    str: Kind("string", _parse_str, _same, ""),
    int: Kind("integer", _parse_int, _same, 0),
    bool: Kind("boolean", _parse_bool, _same, False),
    float: Kind("float", _parse_float, repr, 0.0),
    Seconds: Kind("duration", _parse_seconds, _micros, Seconds(0.0)),
    Bytes: Kind("size", _parse_bytes, _same, Bytes(0)),
    Instant: Kind("date-time", _parse_instant, _same, Instant(0)),
    Permille: Kind("multiplier", _parse_permille, _same, Permille(0)),
    FilePath: Kind("path", _parse_path, _same, FilePath("")),
    HostName: Kind("host name", _parse_host, _same, HostName("")),
    Amount: Kind(
        "amount", _parse_amount, lambda amount: format_amount(amount.nanos, amount.currency), Amount(Nanos(0), "")
    ),
    PricePerMillion: Kind(
        "price",
        _parse_price,
        lambda price: f"{price.picos} picos {price.currency}",
        PricePerMillion(Picos(0), ""),
    ),
    SecretRef: Kind("secret reference", _parse_secret, str, SecretRef("", "")),
    Listen: Kind("address", _parse_listen, str, Listen("", 0)),
}
"""Every scalar kind by the annotation that names it."""
