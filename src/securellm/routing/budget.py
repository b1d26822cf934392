"""The retry budget all requests share, so that retries cannot multiply an outage."""

from securellm.core.clock import Clock

_PER_REQUEST = 20
_PER_RETRY = 100
"""In hundredths of a retry, so that the sums are exact."""


class RetryBudget:
    """At most one retry for five requests, and three a second whatever the traffic; ten seconds' worth may be saved.

    Over any stretch of t seconds with n requests, at most `capacity` + n / 5 + 3 t retries are paid.
    """

    def __init__(self, clock: Clock, *, per_second: int = 3, saved_seconds: int = 10) -> None:
        self._clock = clock
        self._per_second = per_second
        self.capacity = per_second * saved_seconds
        self._hundredths = float(self.capacity * _PER_RETRY)
        self._seen = clock.monotonic()

    def note_request(self) -> None:
        """A request began."""
        self._add(_PER_REQUEST)

    def take(self) -> bool:
        """Pay for one retry; False when the budget is empty."""
        now = self._clock.monotonic()
        self._add((now - self._seen) * self._per_second * _PER_RETRY)
        self._seen = now
        if self._hundredths < _PER_RETRY:
            return False
        self._hundredths -= _PER_RETRY
        return True

    def _add(self, hundredths: float) -> None:
        self._hundredths = min(self.capacity * _PER_RETRY, self._hundredths + hundredths)
