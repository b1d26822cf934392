"""Rate-limit headers in the words each family of SDKs reads."""

from datetime import UTC, datetime, timedelta

from securellm.core.surfaces import Surface
from securellm.gateway.model import Headers
from securellm.limits import Remaining, Window


def rate_headers(remaining: Remaining, surface: Surface, *, now_us: int) -> Headers:
    """`x-ratelimit-*` (reset as a duration), or for messages `anthropic-ratelimit-*` (reset as RFC 3339)."""
    headers: list[tuple[bytes, bytes]] = []
    for kind, window in (("requests", remaining.requests), ("tokens", remaining.tokens)):
        if window is None:
            continue
        if surface is Surface.MESSAGES:
            names = [f"anthropic-ratelimit-{kind}-{field}" for field in ("limit", "remaining", "reset")]
            reset = _moment(window, now_us)
        else:
            names = [f"x-ratelimit-{field}-{kind}" for field in ("limit", "remaining", "reset")]
            reset = duration(window.reset)
        values = (str(window.limit), str(window.remaining), reset)
        headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in zip(names, values, strict=True)]
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
