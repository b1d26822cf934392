"""The arithmetic of rates: exact windows, exact waits, and refunds that can never be spent twice."""

from hypothesis import given
from hypothesis import strategies as st

from securellm.limits.rules import (
    TICKS_PER_UNIT,
    allow,
    available,
    carry_over,
    fits,
    give_back,
    network_of,
    peek,
    spend,
)

RATES = st.integers(1, 7000)
BURSTS = st.integers(1, 20)
STEPS = st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 6)), min_size=1, max_size=40)


@given(per_minute=RATES, burst=BURSTS, steps=STEPS)
def test_exactly_what_every_window_allows_is_admitted(
    per_minute: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    """In any window of t: at most burst + rate * t; and whoever stays within that is never refused."""
    now_us, tat = 0, 0
    admitted: list[tuple[int, int]] = []
    for pause, cost in steps:
        now_us += pause
        conforms = True
        total = cost
        for at, taken in [(now_us, 0), *reversed(admitted)]:
            total += taken
            conforms = conforms and total * TICKS_PER_UNIT <= burst * TICKS_PER_UNIT + per_minute * (now_us - at)
        tat, wait = allow(tat, now_us * per_minute, period=TICKS_PER_UNIT, burst=burst, cost=cost)
        assert (wait == 0) is conforms
        if conforms:
            admitted.append((now_us, cost))


@given(tat=st.integers(0, 10**12), now=st.integers(0, 10**12), period=st.integers(1, 10**8), burst=BURSTS, cost=BURSTS)
def test_the_wait_is_the_shortest_that_helps(tat: int, now: int, period: int, burst: int, cost: int) -> None:
    wait = peek(tat, now, period=period, burst=burst, cost=cost)
    if not fits(cost, burst=burst):
        assert wait > 0
        return
    assert peek(tat, now + wait, period=period, burst=burst, cost=cost) == 0
    if wait:
        assert peek(tat, now + wait - 1, period=period, burst=burst, cost=cost) == 1


@given(tat=st.integers(0, 10**9), now=st.integers(0, 10**9), period=st.integers(1, 10**6), burst=BURSTS)
def test_what_is_called_available_passes_and_one_more_does_not(tat: int, now: int, period: int, burst: int) -> None:
    units = available(tat, now, period=period, burst=burst)
    if units:
        assert peek(tat, now, period=period, burst=burst, cost=units) == 0
    assert peek(tat, now, period=period, burst=burst, cost=units + 1) > 0


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 100), st.integers(0, 100), st.integers(0, 8)),
        min_size=1,
        max_size=12,
    )
)
def test_giving_back_never_frees_more_than_was_not_used(calls: list[tuple[int, int, int, int]]) -> None:
    """The bucket stays at least as full as if every cost had been known from the start."""
    period = 3
    now = tat = given = 0
    taken: list[list[int]] = []
    open_calls: list[tuple[int, int, int, int]] = []
    for pause, estimate, unused, lag in calls:
        now += pause
        due = [item for item in open_calls if item[0] == 0]
        open_calls = [(left - 1, index, mark, back) for left, index, mark, back in open_calls if left]
        for _, index, mark, back in due:
            before = tat
            tat = give_back(tat, now, mark=mark - given, period=period, cost=back)
            given += before - tat
            taken[index][1] -= back
            assert 0 <= before - tat <= back * period
        tat = spend(tat, now, period=period, cost=estimate)
        taken.append([now, estimate])
        open_calls.append((lag, len(taken) - 1, tat + given, min(unused, estimate)))
        true = 0
        for at, cost in taken:
            true = spend(true, at, period=period, cost=cost)
        assert tat >= true


def test_a_prompt_refund_is_whole() -> None:
    tat = spend(0, 1000, period=10, cost=50)
    assert give_back(tat, 1000, mark=tat, period=10, cost=50) == 1000


def test_what_has_drained_is_not_given_back() -> None:
    tat = spend(0, 0, period=10, cost=50)
    assert give_back(tat, 400, mark=tat, period=10, cost=50) == 400
    assert give_back(tat, 9000, mark=tat, period=10, cost=50) == tat


@given(tat=st.integers(0, 10**12), now_us=st.integers(0, 10**8), old=RATES, new=RATES, burst=BURSTS)
def test_a_changed_rate_keeps_what_stands_in_the_bucket(tat: int, now_us: int, old: int, new: int, burst: int) -> None:
    moved = carry_over(tat, old_now=now_us * old, new_now=now_us * new)
    before = available(tat, now_us * old, period=TICKS_PER_UNIT, burst=burst)
    assert available(moved, now_us * new, period=TICKS_PER_UNIT, burst=burst) == before


def test_addresses_count_by_what_one_host_owns() -> None:
    assert network_of("203.0.113.9") == "203.0.113.9"
    assert network_of("::ffff:203.0.113.9") == "203.0.113.9"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == network_of("not an address") == "unknown"
