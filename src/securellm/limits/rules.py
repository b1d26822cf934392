"""Pure arithmetic of GCRA (the generic cell rate algorithm, ITU-T I.371), in integers.

A bucket is one number, its theoretical arrival time (TAT): the moment at which it is empty again. A unit moves
it on by `period`; it may run at most `burst` periods ahead of now. Times are ticks of any size, provided `period`
is a whole number of them, so nothing is ever rounded. Over any stretch of time t, at most burst + t / period
units pass.
"""

import ipaddress

TICKS_PER_UNIT = 60_000_000
"""One unit's period, when time is told in ticks of 1 / per_minute microseconds."""


def allow(tat: int, now: int, *, period: int, burst: int, cost: int = 1) -> tuple[int, int]:
    """Take `cost` units: (new TAT, 0), or (the same TAT, ticks until they would pass).

    A cost above the burst never passes; ask `fits` first.
    """
    wait = peek(tat, now, period=period, burst=burst, cost=cost)
    return (tat, wait) if wait else (spend(tat, now, period=period, cost=cost), 0)


def peek(tat: int, now: int, *, period: int, burst: int, cost: int = 1) -> int:
    """Ticks until `cost` units would pass, 0 for now. Takes nothing."""
    return max(0, max(tat, now) + (cost - burst) * period - now)


def fits(cost: int, *, burst: int) -> bool:
    """Whether `cost` units can ever pass at once."""
    return cost <= burst


def spend(tat: int, now: int, *, period: int, cost: int) -> int:
    """The TAT after `cost` units, allowed or not: what was used beyond an estimate is owed."""
    return max(tat, now) + cost * period


def give_back(tat: int, now: int, *, mark: int, period: int, cost: int) -> int:
    """The TAT after `cost` units turn out not to have been used.

    `mark` is the TAT right after they were taken, less all that was given back since. What had already drained
    by now stays gone: it could be neither used nor saved.
    """
    return tat - max(0, min(cost * period, mark - now))


def available(tat: int, now: int, *, period: int, burst: int) -> int:
    """Units that would pass at once."""
    return max(0, (burst * period - max(0, tat - now)) // period)


def carry_over(tat: int, *, old_now: int, new_now: int) -> int:
    """The TAT after the rate changed: the same units stand in the bucket, and drain at the new rate."""
    return new_now + max(0, tat - old_now)


def network_of(address: str) -> str:
    """What a limit by address counts: an IPv4 address, or the /64 network of an IPv6 one.

    A host owns a whole /64, so counting its addresses would count nothing.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
        parsed = parsed.ipv4_mapped
    return str(parsed)
