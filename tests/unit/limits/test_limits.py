"""How fast: admission is all or nothing, leases come back, and what was used is what is charged."""

import asyncio
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Refusal
from securellm.limits import Admission, Limits, Rate, Remaining, TenantRates, Window
from securellm.limits.buckets import Buckets
from securellm.limits.leases import Leases

FREE = TenantRates()


def rate(per_minute: int, burst: int) -> Rate:
    return Rate(per_minute=per_minute, burst=burst)


class Door:
    """One `Limits` and its clock, asked synchronously."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.limits = Limits(self.clock, **options)

    def admit(
        self,
        limits: TenantRates = FREE,
        *,
        key_limits: TenantRates | None = None,
        tokens: int = 0,
        tenant: str = "acme",
        key_id: str = "key_1",
    ) -> Admission:
        return asyncio.run(
            self.limits.admit(tenant=tenant, key_id=key_id, limits=limits, key_limits=key_limits, tokens=tokens)
        )

    def refused(self, limits: TenantRates, **facts: Any) -> Refusal:
        with pytest.raises(Refusal) as refused:
            self.admit(limits, **facts)
        return refused.value

    def remaining(self, limits: TenantRates, key_limits: TenantRates | None = None) -> Remaining:
        return self.limits.remaining(tenant="acme", key_id="key_1", limits=limits, key_limits=key_limits)


def test_a_burst_passes_and_the_next_is_told_how_long_to_wait() -> None:
    door = Door()
    limits = TenantRates(requests=rate(60, 2))
    door.admit(limits)
    door.admit(limits)
    refusal = door.refused(limits)
    assert refusal.code is Code.RATE_LIMITED
    assert refusal.reason == "the tenant's limit of 60 requests a minute"
    assert refusal.retry_after == 1.0
    door.clock.advance(1.0)
    door.admit(limits)


@pytest.mark.parametrize("per_minute", [1, 7, 60, 999, 3500, 1_000_003])
def test_whoever_waits_as_told_is_admitted(per_minute: int) -> None:
    door = Door()
    limits = TenantRates(requests=rate(per_minute, 1))
    door.admit(limits)
    for _ in range(50):
        wait = door.refused(limits).retry_after
        assert wait is not None
        door.clock.advance(wait)
        door.admit(limits)


def test_tenants_and_keys_are_counted_apart_and_together() -> None:
    door = Door()
    limits = TenantRates(requests=rate(60, 3))
    key_limits = TenantRates(requests=rate(60, 2))
    door.admit(limits, key_limits=key_limits)
    door.admit(limits, key_limits=key_limits)
    assert door.refused(limits, key_limits=key_limits).reason == "the key's limit of 60 requests a minute"
    door.admit(limits, key_limits=key_limits, key_id="key_2")
    refusal = door.refused(limits, key_limits=key_limits, key_id="key_2")
    assert refusal.reason == "the tenant's limit of 60 requests a minute"
    door.admit(limits, tenant="other")


def test_of_several_limits_the_longest_wait_is_told() -> None:
    door = Door()
    limits = TenantRates(requests=rate(60, 1), tokens=rate(60, 100))
    door.admit(limits, tokens=100)
    refusal = door.refused(limits, tokens=50)
    assert refusal.reason == "the tenant's limit of 60 tokens a minute"
    assert refusal.retry_after == 50.0


def test_a_request_beyond_the_burst_can_never_pass_and_says_so() -> None:
    refusal = Door().refused(TenantRates(tokens=rate(6000, 100)), tokens=101)
    assert refusal.retry_after is None
    assert refusal.reason.endswith("lets 100 pass at once, and this request needs 101")


def test_parallel_places_are_given_back_once() -> None:
    door = Door()
    limits = TenantRates(parallel=2)
    first = door.admit(limits)
    door.admit(limits)
    refusal = door.refused(limits)
    assert refusal.code is Code.TOO_MANY_PARALLEL
    assert refusal.retry_after == 1.0
    for _ in range(3):
        door.limits.release(first)
    assert door.limits.in_flight("acme") == 1
    door.admit(limits)
    assert door.refused(limits).code is Code.TOO_MANY_PARALLEL


def test_a_refusal_by_any_limit_takes_nothing_of_the_others() -> None:
    door = Door()
    limits = TenantRates(requests=rate(60, 5), tokens=rate(60, 100), parallel=1)
    door.admit(limits, tokens=10)
    before = door.remaining(limits)
    assert door.refused(limits, tokens=10).code is Code.TOO_MANY_PARALLEL
    assert door.refused(limits, tokens=95).code is Code.RATE_LIMITED
    nothing = TenantRates(requests=rate(1, 1))
    assert door.remaining(limits) == before
    door.admit(FREE, key_limits=nothing, key_id="key_2")
    assert door.refused(limits, key_limits=nothing, key_id="key_2").code is Code.RATE_LIMITED
    assert door.remaining(limits) == before
    assert door.limits.in_flight("acme") == 2


def test_a_preflight_check_answers_as_admission_would_and_takes_nothing() -> None:
    door = Door()
    limits = TenantRates(requests=rate(60, 1))
    for _ in range(3):
        door.limits.preflight(tenant="acme", key_id="key_1", limits=limits, key_limits=None, tokens=0)
    door.admit(limits)
    with pytest.raises(Refusal):
        door.limits.preflight(tenant="acme", key_id="key_1", limits=limits, key_limits=None, tokens=0)


def test_unused_tokens_come_back_and_excess_is_owed() -> None:
    door = Door()
    limits = TenantRates(tokens=rate(60, 100))
    thrifty = door.admit(limits, tokens=100)
    door.limits.charge(thrifty, 40)
    window = door.remaining(limits).tokens
    assert window == Window(limit=60, remaining=60, reset=40.0)
    greedy = door.admit(limits, tokens=60)
    door.limits.charge(greedy, 90)
    assert door.refused(limits, tokens=1).retry_after == 31.0


@pytest.mark.requirement("LM-1")
def test_no_answer_however_large_it_says_it_was_shuts_its_tenant_out_for_longer_than_an_hour() -> None:
    door = Door()
    limits = TenantRates(tokens=rate(60, 100))
    lied_to = door.admit(limits, tokens=100)
    door.limits.charge(lied_to, 9 * 10**12)
    assert 3_600 <= (door.refused(limits, tokens=1).retry_after or 0) < 3_700


def test_tokens_given_back_by_one_request_are_not_given_back_again_by_the_next() -> None:
    door = Door()
    limits = TenantRates(tokens=rate(60, 200))
    first, second = door.admit(limits, tokens=100), door.admit(limits, tokens=60)
    door.clock.advance(50.0)
    door.limits.charge(first, 0)
    door.clock.advance(55.0)
    door.admit(limits, tokens=50)
    door.limits.charge(second, 0)
    window = door.remaining(limits).tokens
    assert window is not None
    assert window.remaining == 150


def test_tokens_are_charged_once_and_not_after_the_release() -> None:
    door = Door()
    limits = TenantRates(tokens=rate(60, 100))
    admission = door.admit(limits, tokens=50)
    door.limits.charge(admission, 10)
    door.limits.charge(admission, 10)
    door.limits.release(admission)
    door.limits.charge(admission, 90)
    window = door.remaining(limits).tokens
    assert window is not None
    assert window.remaining == 90


def test_a_changed_rate_takes_effect_at_once_and_keeps_what_is_owed() -> None:
    door = Door()
    door.admit(TenantRates(requests=rate(60, 1)))
    slower = TenantRates(requests=rate(30, 1))
    assert door.refused(slower).retry_after == 2.0
    door.clock.advance(2.0)
    door.admit(slower)


def test_tokens_charged_under_a_former_rate_are_not_given_back() -> None:
    door = Door()
    admission = door.admit(TenantRates(tokens=rate(60, 100)), tokens=100)
    faster = TenantRates(tokens=rate(120, 100))
    door.refused(faster, tokens=100)
    door.admit(faster, tokens=0)
    door.limits.charge(admission, 0)
    assert door.refused(faster, tokens=100).retry_after == 50.0


def test_remaining_shows_the_tighter_of_tenant_and_key() -> None:
    door = Door()
    tenant, key = TenantRates(requests=rate(60, 60)), TenantRates(requests=rate(60, 5), tokens=rate(100, 10))
    assert door.remaining(tenant, key) == Remaining(
        requests=Window(limit=60, remaining=5, reset=0.0), tokens=Window(limit=100, remaining=10, reset=0.0)
    )
    assert door.remaining(FREE) == Remaining(requests=None, tokens=None)


def test_a_provider_is_sent_to_no_faster_than_its_rate() -> None:
    door = Door()
    slow = rate(60, 1)
    assert door.limits.provider("p", slow) == 0.0
    assert door.limits.provider("p", slow) == 1.0
    assert door.limits.provider("p", slow) == 1.0
    assert door.limits.provider("q", slow) == 0.0
    door.clock.advance(1.0)
    assert door.limits.provider("p", slow) == 0.0


def test_an_address_that_presents_bad_credentials_must_wait_and_others_need_not() -> None:
    door = Door(refused_credentials=rate(60, 2))
    assert [door.limits.refused_credential("2001:db8::1") for _ in range(2)] == [0.0, 0.0]
    assert door.limits.refused_credential("2001:db8::2") == 1.0
    assert door.limits.refused_credential("2001:db8:0:1::1") == 0.0
    assert door.limits.refused_credential("203.0.113.1") == 0.0


def test_negative_tokens_and_empty_rates_are_mistakes() -> None:
    with pytest.raises(ValueError, match="negative"):
        Door().admit(FREE, tokens=-1)
    for per_minute, burst in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            rate(per_minute, burst)


def test_a_table_of_buckets_stays_within_its_capacity_and_forgets_the_idle_first() -> None:
    clock = ManualClock()
    buckets = Buckets(clock, capacity=3)
    one = rate(60, 5)
    buckets.spend("busy", one, 5)
    buckets.spend("idle", one, 1)
    buckets.spend("other", one, 5)
    clock.advance(1.0)
    for number in range(50):
        buckets.spend(f"new-{number}", one)
        assert len(buckets) == 3
        clock.advance(0.01)
    assert buckets.window("idle", one).remaining == 5
    assert buckets.window("busy", one).remaining < 5
    assert buckets.window("other", one).remaining < 5


def test_leases_are_taken_once_by_an_owner() -> None:
    leases = Leases()
    leases.take(1, ["a"])
    with pytest.raises(ValueError, match="already"):
        leases.take(1, ["a"])
    assert leases.release(1)
    assert not leases.release(1)
    assert leases.held("a") == 0


class LimitsMachine(RuleBasedStateMachine):
    """Any order of admissions, charges and releases: places never leak, refusals take nothing, windows hold."""

    admissions = Bundle("admissions")
    TENANT = TenantRates(requests=Rate(per_minute=120, burst=6), tokens=Rate(per_minute=600, burst=100), parallel=4)
    KEY = TenantRates(requests=Rate(per_minute=60, burst=3), tokens=None, parallel=2)

    def __init__(self) -> None:
        super().__init__()
        self.door = Door()
        self.running: dict[int, str] = {}
        self.log: list[tuple[int, int]] = []
        self.charged: set[int] = set()

    @rule(target=admissions, key_id=st.sampled_from(["key_1", "key_2", "key_3"]), tokens=st.integers(0, 110))
    def admit(self, key_id: str, tokens: int) -> Any:
        before = self.state()
        fullest = max(list(self.running.values()).count(key_id) / 2, len(self.running) / 4)
        code = None
        try:
            admission = self.door.admit(self.TENANT, key_limits=self.KEY, key_id=key_id, tokens=tokens)
        except Refusal as refusal:
            code = refusal.code
        if code is not None:
            assert self.state() == before
            assert code is Code.RATE_LIMITED or fullest >= 1
            return multiple()
        assert fullest < 1
        self.running[admission.lease] = key_id
        self.log.append((self.door.clock.ticks, tokens))
        return admission

    @rule(admission=admissions, tokens=st.integers(0, 150))
    def charge(self, admission: Admission, tokens: int) -> None:
        before = self.state()
        self.door.limits.charge(admission, tokens)
        if admission.lease in self.charged or admission.lease not in self.running:
            assert self.state() == before
        self.charged.add(admission.lease)

    @rule(admission=admissions)
    def release_and_keep(self, admission: Admission) -> None:
        self.door.limits.release(admission)
        self.running.pop(admission.lease, None)

    @rule(admission=consumes(admissions))
    def release(self, admission: Admission) -> None:
        self.release_and_keep(admission)

    @rule(micros=st.integers(0, 2_000_000))
    def wait(self, micros: int) -> None:
        self.door.clock.advance_us(micros)

    @invariant()
    def places_are_exactly_those_of_running_requests(self) -> None:
        assert self.door.limits.in_flight("acme") == len(self.running)
        assert len(self.door.limits._charges) <= len(self.running)

    @invariant()
    def no_window_of_requests_is_exceeded(self) -> None:
        for index, (start, _) in enumerate(self.log):
            for later, (at, _) in enumerate(self.log[index:], start=1):
                assert later <= 6 + 2 * (at - start) / 1_000_000 + 1e-9

    def state(self) -> object:
        keys = [
            self.door.limits.remaining(tenant="acme", key_id=key_id, limits=FREE, key_limits=self.KEY)
            for key_id in ("key_1", "key_2", "key_3")
        ]
        return (self.door.remaining(self.TENANT), keys, self.door.limits.in_flight("acme"))

    def teardown(self) -> None:
        for lease in list(self.running):
            self.door.limits.release(Admission(lease=lease, tenant="acme", key_id="", tokens=0))
        assert self.door.limits.in_flight("acme") == 0
        assert not self.door.limits._charges
        assert not self.door.limits._leases._held


TestLimitsMachine = LimitsMachine.TestCase
