"""Identifiers: sortable by time, unguessable, recognisable by prefix."""

import base64

from securellm.core.clock import Clock
from securellm.core.randomness import Randomness

_CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghjkmnpqrstvwxyz")


class Ids:
    """Makes ids of the form `<prefix>_<26 characters>` (a UUIDv7 payload, RFC 9562, in Crockford base32)."""

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._clock = clock
        self._randomness = randomness

    def new(self, prefix: str) -> str:
        millis = (self._clock.now_us() // 1_000).to_bytes(6, "big")
        text = base64.b32encode(millis + self._randomness.token(10)).decode("ascii").rstrip("=")
        return f"{prefix}_{text.translate(_CROCKFORD)}"

    def trace_id(self) -> str:
        """A W3C trace id: 32 lower-case hex digits."""
        return self._randomness.token(16).hex()

    def span_id(self) -> str:
        """A W3C parent id: 16 lower-case hex digits."""
        return self._randomness.token(8).hex()
