"""A clock that stands still, prices of one nano a token, and a journal in memory that can fail."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from securellm.core.money import Nanos
from securellm.finops import SCHEMA, Budget, Estimate, Finops, LedgerReplay, Price, Quote, Reservation
from securellm.storage import Operation

NOVEMBER = 1_795_000_000_000_000
"""2026-11-18, in microseconds."""

NANO_A_TOKEN = Price(input=1_000, output=1_000)


class ManualClock:
    """Time moves only when told to."""

    def __init__(self, now_us: int = NOVEMBER) -> None:
        self.us = now_us

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1e6


class JournalDownError(Exception):
    """The commit failed."""


class MemoryJournal:
    """Records and ledger tables that change together or not at all."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in SCHEMA:
            self.connection.execute(statement)
        self.entries: list[dict[str, object]] = []
        self.failing = False

    def commit(self, kind: str, fields: Mapping[str, object], operation: Operation) -> None:
        if self.failing:
            raise JournalDownError
        with self.transaction():
            operation(self.connection)
        self.entries.append({"type": kind, **fields})

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def problems(self) -> list[str]:
        replay = LedgerReplay()
        for seq, entry in enumerate(self.entries, start=1):
            replay.record(seq, entry)
        return list(replay.problems(self.connection))


def tokens(count: int) -> Estimate:
    """A request that costs exactly `count` nanos at most."""
    return Estimate(input_tokens=count, output_cap=0, cache_writes=False)


def quote(route: str = "openai/gpt", price: Price | None = NANO_A_TOKEN, cap: int | None = None) -> Quote:
    return Quote(route=route, price=price, price_version="v1", default_max_output=cap)


def hard(limit: int) -> Budget:
    return Budget(limit=Nanos(limit))


async def reserve(
    finops: Finops, request_id: str, count: int, *, limit: int, tenant: str = "acme", wait: float | None = None
) -> Reservation:
    """A plain reservation of `count` nanos against a hard budget."""
    return await finops.reserve(
        request_id=request_id,
        tenant=tenant,
        budget=hard(limit),
        estimate=tokens(count),
        quotes=[quote()],
        wait=wait,
    )
