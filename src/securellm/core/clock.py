"""The only place that reads a clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Time as the product sees it; the simulator owns another one."""

    def now_us(self) -> int:
        """Wall clock, microseconds since the Unix epoch (UTC). For records and expiry."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump. For deadlines, limits and staleness."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        return time.monotonic()
