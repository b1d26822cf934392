"""GCRA buckets by name, bounded in number; apart from the service so that each table is bounded by itself."""

from collections import OrderedDict

from securellm.core.clock import Clock
from securellm.limits import rules
from securellm.limits.model import Rate, Window

_LOOKED_AT = 8


class _Bucket:
    __slots__ = ("given_back", "per_minute", "tat")

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.tat = 0
        self.given_back = 0


class Buckets:
    """Up to `capacity` buckets. A full one is the same as none, so idle buckets are forgotten first.

    With every bucket busy, the one nearest to idle among the longest untouched is forgotten: where names are
    issued by us, give room for all of them; where callers choose them, a fresh name has a fresh bucket anyway.
    """

    def __init__(self, clock: Clock, *, capacity: int) -> None:
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, name: str, rate: Rate, cost: int = 1) -> float:
        """Seconds until `cost` units would pass; 0.0 for now, infinity for never. Takes nothing."""
        if not rules.fits(cost, burst=rate.burst):
            return float("inf")
        bucket = self._buckets.get(name)
        if bucket is None:
            return 0.0
        now = self._at(bucket, rate)
        ticks = rules.peek(bucket.tat, now, period=rules.TICKS_PER_UNIT, burst=rate.burst, cost=cost)
        return _seconds(ticks, rate) if ticks else 0.0

    def take(self, name: str, rate: Rate) -> float:
        """Take one unit if it passes: 0.0; else the seconds until it would, with nothing taken."""
        bucket = self._open(name, rate)
        now = self._at(bucket, rate)
        bucket.tat, ticks = rules.allow(bucket.tat, now, period=rules.TICKS_PER_UNIT, burst=rate.burst)
        return _seconds(ticks, rate) if ticks else 0.0

    def spend(self, name: str, rate: Rate, cost: int = 1) -> int:
        """Take `cost` units, allowed or not. Returns the mark that `give_back` asks for."""
        bucket = self._open(name, rate)
        now = self._at(bucket, rate)
        bucket.tat = rules.spend(bucket.tat, now, period=rules.TICKS_PER_UNIT, cost=cost)
        return bucket.tat + bucket.given_back

    def give_back(self, name: str, rate: Rate, *, mark: int, cost: int) -> None:
        """Return `cost` of the units taken when `mark` was handed out, as far as they have not drained.

        After a change of the rate nothing is returned: the mark was told in another rate's ticks.
        """
        bucket = self._buckets.get(name)
        if bucket is None or bucket.per_minute != rate.per_minute:
            return
        before = bucket.tat
        bucket.tat = rules.give_back(
            before,
            self._at(bucket, rate),
            mark=mark - bucket.given_back,
            period=rules.TICKS_PER_UNIT,
            cost=cost,
        )
        bucket.given_back += before - bucket.tat

    def window(self, name: str, rate: Rate) -> Window:
        """What is left."""
        bucket = self._buckets.get(name)
        if bucket is None:
            return Window(limit=rate.per_minute, remaining=rate.burst, reset=0.0)
        now = self._at(bucket, rate)
        return Window(
            limit=rate.per_minute,
            remaining=rules.available(bucket.tat, now, period=rules.TICKS_PER_UNIT, burst=rate.burst),
            reset=_seconds(max(0, bucket.tat - now), rate),
        )

    def _open(self, name: str, rate: Rate) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is not None:
            self._buckets.move_to_end(name)
            return bucket
        if len(self._buckets) >= self._capacity:
            self._forget_one()
        bucket = self._buckets[name] = _Bucket(rate.per_minute)
        return bucket

    def _forget_one(self) -> None:
        now = self._now_us()
        oldest = [name for name, _ in zip(self._buckets, range(_LOOKED_AT), strict=False)]
        del self._buckets[min(oldest, key=lambda name: self._busy_until(name, now))]

    def _busy_until(self, name: str, now: int) -> float:
        bucket = self._buckets[name]
        return max(0.0, bucket.tat / bucket.per_minute - now)

    def _at(self, bucket: _Bucket, rate: Rate) -> int:
        """Now, in ticks of `rate`, to which the bucket is brought."""
        now_us = self._now_us()
        now = now_us * rate.per_minute
        if bucket.per_minute != rate.per_minute:
            bucket.tat = rules.carry_over(bucket.tat, old_now=now_us * bucket.per_minute, new_now=now)
            bucket.given_back = 0
            bucket.per_minute = rate.per_minute
        return now

    def _now_us(self) -> int:
        return round(self._clock.monotonic() * 1_000_000)


def _seconds(ticks: int, rate: Rate) -> float:
    """Rounded up to whole microseconds, so that a caller who waits this long is not refused."""
    return -(-ticks // rate.per_minute) / 1_000_000
