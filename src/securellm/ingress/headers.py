"""What the gateway reads from a request's headers, each at most once."""

from collections.abc import Mapping
from typing import NamedTuple

from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.ingress.exchange import RawHeaders

_SINGLE = frozenset(
    {
        "host",
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "idempotency-key",
        "content-type",
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "traceparent",
        "x-request-id",
        "x-request-deadline",
        "x-provider",
        "x-securellm-cache",
        "x-securellm-preferences",
        "anthropic-version",
    }
)
_TRAVELLING = ("anthropic-", "openai-", "x-goog-")
"""Names that providers read."""
FEATURES = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})
"""What travels on: names of features and versions, and nothing that could be a text or somebody's number."""
_FEATURE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.=")
_MOST_DIGITS = 10
_LONGEST_FEATURE = 64
KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
"""Where SDKs put the key, besides Authorization."""
_LOWER_HEX = frozenset("0123456789abcdef")
_REQUEST_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")


class Trace(NamedTuple):
    """A W3C Trace Context (level 1): the id of the whole and our own span's `traceparent`."""

    trace_id: str
    traceparent: str


def read_headers(raw: RawHeaders) -> Mapping[str, str]:
    """Lower-case names to values. Raises Refusal(INVALID_HEADER) when one that must be single is not."""
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name = name_bytes.decode("latin-1")
        value = value_bytes.decode("latin-1").strip()
        if name in headers:
            if name in _SINGLE:
                raise Refusal(Code.INVALID_HEADER, f"{name} is sent twice", param=name)
            headers[name] = f"{headers[name]},{value}"
        else:
            headers[name] = value
        if name.startswith(_TRAVELLING) and not (value.isascii() and value.isprintable()):
            raise Refusal(Code.INVALID_HEADER, f"{name} is not printable ASCII", param=name)
        if name in FEATURES and not all(map(_is_feature, value.split(","))):
            raise Refusal(Code.INVALID_HEADER, f"{name} holds something else than names of features", param=name)
    return headers


def _is_feature(text: str) -> bool:
    text = text.strip()
    digits = sum(character.isdigit() for character in text)
    return len(text) <= _LONGEST_FEATURE and digits <= _MOST_DIGITS and _FEATURE.issuperset(text)


def credential(headers: Mapping[str, str]) -> str | None:
    """The virtual key, from whichever header SDKs put it in. Two that differ are refused."""
    found: set[str] = set()
    bearer = headers.get("authorization")
    if bearer is not None:
        scheme, _, token = bearer.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refusal(Code.MISSING_KEY, "Authorization is not a Bearer credential", param="authorization")
        found.add(token.strip())
    for name in KEY_HEADERS:
        if headers.get(name):
            found.add(headers[name])
    if len(found) > 1:
        raise Refusal(Code.INVALID_HEADER, "two different credentials are sent", param="authorization")
    return found.pop() if found else None


def trace(headers: Mapping[str, str], ids: Ids) -> Trace:
    """Continue the caller's trace, or begin one. A malformed `traceparent` is ignored, as the standard says."""
    parts = headers.get("traceparent", "").split("-")
    flags = "01"
    trace_id = ""
    if (
        len(parts) == 4
        and parts[0] == "00"
        and [len(part) for part in parts[1:]] == [32, 16, 2]
        and all(set(part) <= _LOWER_HEX for part in parts)
        and set(parts[1]) != {"0"}
        and set(parts[2]) != {"0"}
    ):
        trace_id, flags = parts[1], parts[3]
    trace_id = trace_id or ids.trace_id()
    return Trace(trace_id, f"00-{trace_id}-{ids.span_id()}-{flags}")


def deadline(headers: Mapping[str, str], now: float) -> float | None:
    """`x-request-deadline`: how many seconds the caller will wait, as a decimal number."""
    text = headers.get("x-request-deadline")
    if text is None:
        return None
    if len(text) > 12 or not text.replace(".", "", 1).isascii() or not text.replace(".", "", 1).isdigit():
        raise Refusal(Code.INVALID_HEADER, "x-request-deadline is not a number of seconds", param="x-request-deadline")
    return now + float(text)


def prefers_portuguese(headers: Mapping[str, str]) -> bool:
    """Whether Accept-Language's first choice is Portuguese."""
    return headers.get("accept-language", "").lstrip().lower().startswith("pt")
