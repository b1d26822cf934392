"""Rate-limit headers in the words each family of SDKs reads."""

from datetime import UTC, datetime, timedelta

from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.gateway.model import Headers
from securellm.limits import Remaining, Window

_FIELDS = ("limit", "remaining", "reset")
_KINDS = ("requests", "tokens")
_OPENAI = [tuple(f"x-ratelimit-{field}-{kind}".encode("ascii") for field in _FIELDS) for kind in _KINDS]
_ANTHROPIC = [tuple(f"anthropic-ratelimit-{kind}-{field}".encode("ascii") for field in _FIELDS) for kind in _KINDS]


def rate_headers(remaining: Remaining, surface: Surface, *, now_us: int) -> Headers:
    """`x-ratelimit-*` (reset as a duration), or as Anthropic words it `anthropic-ratelimit-*` (reset as RFC 3339)."""
    headers: list[tuple[bytes, bytes]] = []
    anthropic = manner_of(surface) is Manner.ANTHROPIC
    windows = (remaining.requests, remaining.tokens)
    for names, window in zip(_ANTHROPIC if anthropic else _OPENAI, windows, strict=True):
        if window is None:
            continue
        reset = _moment(window, now_us) if anthropic else duration(window.reset)
        values = (str(window.limit), str(window.remaining), reset)
        headers += [(name, value.encode("ascii")) for name, value in zip(names, values, strict=True)]
    return tuple(headers)


def duration(seconds: float) -> str:
    """`6m0s`, `1.5s`, `12ms`: OpenAI's spelling."""
    millis = max(0, round(seconds * 1000))
    if millis < 1000:
        return f"{millis}ms"
    minutes, rest = divmod(millis, 60_000)
    text = f"{rest / 1000:g}s"
    return f"{minutes}m{text}" if minutes else text


def _moment(window: Window, now_us: int) -> str:
    moment = datetime.fromtimestamp(now_us / 1_000_000, tz=UTC) + timedelta(seconds=window.reset)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
