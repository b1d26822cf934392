"""A clock that moves when a test says so."""


class ManualClock:
    def __init__(self, *, us: int = 1_800_000_000_000_000) -> None:
        self.us = us
        self.ticks = 1_000_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.ticks / 1_000_000

    def advance(self, seconds: float) -> None:
        self.advance_us(round(seconds * 1_000_000))

    def advance_us(self, micros: int) -> None:
        self.us += micros
        self.ticks += micros
