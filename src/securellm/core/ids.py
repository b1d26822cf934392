"""Identifiers: sortable by time, unguessable, recognisable by prefix."""

from securellm.core.clock import Clock
from securellm.core.randomness import Randomness

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
"""How ten bits are written."""
_TENS = range(120, -1, -10)
"""Where they begin in the 130 bits that 26 characters hold: a UUID's 128, and two that are zero."""


class Ids:
    """Makes ids of the form `<prefix>_<26 characters>` (a UUIDv7 payload, RFC 9562, in Crockford base32)."""

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._clock = clock
        self._randomness = randomness

    def new(self, prefix: str) -> str:
        millis = (self._clock.now_us() // 1_000).to_bytes(6, "big")
        bits = int.from_bytes(millis + self._randomness.token(10), "big") << 2
        return f"{prefix}_{''.join([_PAIRS[bits >> at & 1023] for at in _TENS])}"

    def trace_id(self) -> str:
        """A W3C trace id: 32 lower-case hex digits."""
        return self._randomness.token(16).hex()

    def span_id(self) -> str:
        """A W3C parent id: 16 lower-case hex digits."""
        return self._randomness.token(8).hex()
