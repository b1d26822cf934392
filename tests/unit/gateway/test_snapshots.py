"""How old a snapshot may be, and what happens when clocks disagree."""

import pytest
from tests.unit.clocks import ManualClock
from tests.unit.gateway.test_running import snapshot

from securellm.core.errors import Fault
from securellm.gateway.snapshot import Snapshots


def opened(*, fence: float = 60.0, own: float | None = None, age: float = 0.0) -> tuple[Snapshots, ManualClock]:
    clock = ManualClock()
    return Snapshots(snapshot(fence=own), clock=clock, fence=fence, age=age), clock


def reason(snapshots: Snapshots) -> str:
    with pytest.raises(Fault) as refused:
        snapshots.read()
    assert refused.value.code.value == "stale_policy"
    return refused.value.reason


def test_a_snapshot_is_read_up_to_its_fence_and_again_once_confirmed() -> None:
    snapshots, clock = opened()
    clock.advance(60)
    assert snapshots.read() is snapshots.current
    clock.advance(0.001)
    assert "60 s ago" in reason(snapshots)
    assert not snapshots.fresh
    snapshots.confirm()
    assert snapshots.read() is snapshots.current


def test_a_confirmation_counts_from_the_question_and_never_makes_it_older() -> None:
    snapshots, clock = opened()
    asked = clock.monotonic()
    clock.advance(50)
    snapshots.confirm(asked=asked)
    assert snapshots.age == 50
    snapshots.confirm()
    snapshots.confirm(asked=asked)
    assert snapshots.age == 0


def test_the_age_of_what_was_kept_counts() -> None:
    snapshots, clock = opened(age=40.0)
    clock.advance(20)
    snapshots.read()
    clock.advance(1)
    reason(snapshots)


@pytest.mark.parametrize("jump", [-6_000_000, 6_000_000])
def test_a_wall_clock_that_jumps_refuses_until_the_next_confirmation(jump: int) -> None:
    snapshots, clock = opened()
    clock.us += jump // 2
    snapshots.read()
    clock.us += jump - jump // 2
    assert "clock has jumped" in reason(snapshots)
    snapshots.confirm()
    snapshots.read()


def test_a_tenant_may_ask_for_a_tighter_fence() -> None:
    snapshots, clock = opened(own=2.0)
    clock.advance(2)
    assert not snapshots.is_stale_for("acme")
    clock.advance(0.001)
    assert snapshots.is_stale_for("acme")
    assert not snapshots.is_stale_for("other")
    assert snapshots.tightest == 2.0


def test_what_is_new_is_decided_by_at_once_yet_proves_nothing_of_its_age() -> None:
    snapshots, clock = opened()
    clock.advance(61)
    following = snapshot()
    snapshots.put(following)
    assert snapshots.current is following
    reason(snapshots)
