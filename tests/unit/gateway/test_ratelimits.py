"""Rate-limit headers, in the words of each family of SDKs."""

import pytest

from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.gateway.ratelimits import duration, rate_headers
from securellm.limits import Remaining, Window

NOW = 1_795_000_000_000_000
LEFT = Remaining(
    requests=Window(limit=60, remaining=59, reset=1.5), tokens=Window(limit=1_000, remaining=10, reset=90.0)
)


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("surface", Surface)
def test_every_surface_says_what_is_left_as_its_sdks_read_it(surface: Surface) -> None:
    headers = {name.decode(): value.decode() for name, value in rate_headers(LEFT, surface, now_us=NOW)}
    if manner_of(surface) is Manner.ANTHROPIC:
        assert headers == {
            "anthropic-ratelimit-requests-limit": "60",
            "anthropic-ratelimit-requests-remaining": "59",
            "anthropic-ratelimit-requests-reset": "2026-11-18T11:06:41Z",
            "anthropic-ratelimit-tokens-limit": "1000",
            "anthropic-ratelimit-tokens-remaining": "10",
            "anthropic-ratelimit-tokens-reset": "2026-11-18T11:08:10Z",
        }
    else:
        assert headers == {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1.5s",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "10",
            "x-ratelimit-reset-tokens": "1m30s",
        }


def test_what_is_not_limited_is_not_said() -> None:
    assert rate_headers(Remaining(requests=None, tokens=None), Surface.CHAT, now_us=NOW) == ()


@pytest.mark.parametrize(
    ("seconds", "spelled"), [(0, "0ms"), (-1, "0ms"), (0.0124, "12ms"), (1, "1s"), (6.25, "6.25s"), (360, "6m0s")]
)
def test_a_duration_is_spelled_as_openai_spells_it(seconds: float, spelled: str) -> None:
    assert duration(seconds) == spelled
