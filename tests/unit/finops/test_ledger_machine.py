"""Any history of requests, failures and crashes keeps the money right: checked against a model of thirty lines."""

import asyncio
import sqlite3
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.unit.finops.ledger import ManualClock, MemoryJournal, quote, reserve

from securellm.core.errors import Code, Refusal
from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.finops import (
    Correction,
    Finops,
    Pledge,
    Price,
    Reservation,
    Settlement,
    attempt_fields,
    attempting,
    correcting,
    correction_fields,
    holding,
    intent_fields,
    load,
    outcome_fields,
    period_of,
    settling,
)

LIMIT = 1_000
MONTH_US = 31 * 86_400 * 1_000_000
PICK = st.integers(0, 10**6)


class Model:
    """What the money should be: per month, what is spent, and what each request holds."""

    def __init__(self) -> None:
        self.settled: Counter[str] = Counter()
        self.presumed: Counter[str] = Counter()
        self.overrun: Counter[str] = Counter()
        self.holds: dict[str, tuple[str, int]] = {}
        self.pledges: dict[str, tuple[str, int]] = {}

    def hold(self, name: str, period: str, amount: int) -> None:
        assert name not in self.holds
        self.holds[name] = (period, amount)

    def end(self, name: str, *, settled: int = 0, presumed: int = 0) -> None:
        period, held = self.holds.pop(name)
        self.settled[period] += settled
        self.presumed[period] += presumed
        self.overrun[period] += max(0, settled - held)

    def pledge(self, name: str) -> None:
        self.pledges[name] = self.holds[name]
        self.end(name, presumed=self.holds[name][1])

    def correct(self, name: str, settled: int) -> None:
        period, pledged = self.pledges.pop(name)
        self.presumed[period] -= pledged
        self.settled[period] += settled
        self.overrun[period] += max(0, settled - pledged)

    def retry(self, name: str, amount: int, *, presumed: bool) -> None:
        period, held = self.holds[name]
        self.presumed[period] += held if presumed else 0
        self.holds[name] = (period, amount)

    def total(self, period: str) -> int:
        held = sum(amount for of, amount in self.holds.values() if of == period)
        return self.settled[period] + self.presumed[period] + held


class LedgerMachine(RuleBasedStateMachine):
    """Drives the service and its tables as the gateway does, one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.journal = MemoryJournal()
        self.service = Finops(clock=self.clock, reservation_wait=3600.0)
        self.model = Model()
        self.live: dict[str, Reservation] = {}
        self.stuck: set[str] = set()
        self.claims: list[Correction] = []
        """Of polls that have seen the end of a batch and are on their way to the journal."""
        self.waiting: dict[str, asyncio.Task[Reservation]] = {}
        self.names = 0

    def step(self) -> None:
        """Let tasks move until none can, and take note of what came of them."""

        async def turns() -> None:
            for _ in range(2 * len(self.waiting) + 6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for name, task in list(self.waiting.items()):
            if task.done():
                del self.waiting[name]
                if task.cancelled():
                    continue
                error = task.exception()
                if error is None:
                    self.granted(task.result())
                else:
                    assert isinstance(error, Refusal)
                    assert error.code is Code.BUDGET_EXHAUSTED

    def granted(self, reservation: Reservation) -> None:
        self.model.hold(reservation.request_id, reservation.period, reservation.amount)
        self.live[reservation.request_id] = reservation
        self.journal.commit("INTENT", intent_fields(reservation), holding(reservation))

    def pick(self, choice: int, among: Any) -> str:
        names = sorted(among)
        return str(names[choice % len(names)])

    def record_end(self, settlement: Settlement) -> None:
        name = settlement.reservation.request_id
        self.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
        self.service.apply(settlement)
        del self.live[name]
        self.model.end(name, settled=settlement.settled, presumed=settlement.presumed)
        self.step()

    @rule(amount=st.integers(0, LIMIT + 100))
    def ask(self, amount: int) -> None:
        self.names += 1
        name = f"r{self.names:04}"
        self.waiting[name] = self.loop.create_task(reserve(self.service, name, amount, limit=LIMIT))
        self.step()

    @rule(amount=st.integers(0, LIMIT))
    def ask_while_the_journal_fails(self, amount: int) -> None:
        if self.waiting:
            return
        self.names += 1
        task = self.loop.create_task(reserve(self.service, f"r{self.names:04}", amount, limit=LIMIT, wait=0.0))
        self.loop.run_until_complete(asyncio.wait([task]))
        if task.exception() is None:
            self.service.release(task.result())

    @precondition(lambda self: self.waiting)
    @rule(choice=PICK)
    def vanish_while_waiting(self, choice: int) -> None:
        self.waiting[self.pick(choice, self.waiting)].cancel()
        self.step()

    @precondition(lambda self: self.live)
    @rule(choice=PICK, share=st.integers(0, 100), leave=st.booleans())
    def answer(self, choice: int, share: int, leave: bool) -> None:
        reservation = self.live[self.pick(choice, self.live)]
        self.record_end(self.service.settle(reservation, Usage(input=reservation.amount * share // 100)))
        if leave and self.waiting:
            self.vanish_while_waiting(choice)

    @precondition(lambda self: self.live and self.waiting)
    @rule(choice=PICK)
    def answer_and_vanish_in_one_turn(self, choice: int) -> None:
        gone = next(iter(self.waiting.values()))
        reservation = self.live[self.pick(choice, self.live)]
        settlement = self.service.settle(reservation, None)
        self.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
        self.service.apply(settlement)
        gone.cancel()
        del self.live[reservation.request_id]
        self.model.end(reservation.request_id)
        self.step()

    @precondition(lambda self: self.live)
    @rule(choice=PICK)
    def refuse_unbilled(self, choice: int) -> None:
        self.record_end(self.service.settle(self.live[self.pick(choice, self.live)], None))

    @precondition(lambda self: self.live)
    @rule(choice=PICK)
    def lose_the_answer(self, choice: int) -> None:
        settlement = self.service.settle(self.live[self.pick(choice, self.live)], None, presumed=True)
        assert settlement.presumed == settlement.reservation.amount
        self.record_end(settlement)

    @precondition(lambda self: self.live)
    @rule(choice=PICK, seen=st.integers(0, LIMIT))
    def leave_in_the_middle(self, choice: int, seen: int) -> None:
        reservation = self.live[self.pick(choice, self.live)]
        settlement = self.service.settle(reservation, Usage(input=seen), presumed=True)
        assert settlement.settled + settlement.presumed == reservation.amount
        self.record_end(settlement)

    @precondition(lambda self: self.live)
    @rule(choice=PICK, extra=st.integers(1, 200))
    def bill_too_much(self, choice: int, extra: int) -> None:
        reservation = self.live[self.pick(choice, self.live)]
        self.record_end(self.service.settle(reservation, Usage(input=2 * (reservation.amount + extra))))
        assert self.service.acknowledge("acme", reservation.route)

    @precondition(lambda self: self.live)
    @rule(choice=PICK, presumed=st.booleans(), journal_fails=st.booleans(), picos=st.sampled_from([500, 1_000, 1_500]))
    def try_again(self, choice: int, presumed: bool, journal_fails: bool, picos: int) -> None:
        former = self.live[self.pick(choice, self.live)]
        other = quote("b/gpt", price=Price(input=picos, output=0))
        if former.estimate is None:
            return
        try:
            after = self.service.next_attempt(former, other, presumed=presumed)
        except Refusal as refusal:
            suspended = (former.tenant, other.route) in self.service.suspended
            assert presumed or suspended or picos * former.estimate.input_tokens > 1_000 * former.amount
            assert refusal.code in {Code.BUDGET_HELD, Code.BUDGET_EXHAUSTED}  # noqa: PT017
            return
        if journal_fails:
            self.service.release(after)
            self.step()
            return
        self.journal.commit("ATTEMPT", attempt_fields(after), attempting(after))
        self.live[after.request_id] = after
        self.model.retry(after.request_id, after.amount, presumed=presumed)

    @precondition(lambda self: self.live)
    @rule(choice=PICK)
    def end_while_the_journal_fails(self, choice: int) -> None:
        name = self.pick(choice, self.live)
        self.service.settle(self.live.pop(name), Usage(input=1))
        self.stuck.add(name)

    @precondition(lambda self: self.live)
    @rule(choice=PICK, thing=st.sampled_from(["b1", "b2", "b3"]))
    def begin_a_batch(self, choice: int, thing: str) -> None:
        name = self.pick(choice, self.live)
        settlement = self.service.pledge(self.live[name], provider="openai", thing=thing)
        self.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
        self.service.apply(settlement)
        del self.live[name]
        self.model.pledge(name)
        self.step()

    def claimable(self, thing: str) -> Pledge | None:
        """What two things of one id stand for, nobody can tell: neither is corrected."""
        claimed = {correction.pledge.request_id for correction in self.claims}
        found = self.service.pledged("acme", "openai", thing)
        stored = [p for p in load(self.journal.connection).pledges if p.thing == thing and p.request_id not in claimed]
        assert found == (stored[0] if len(stored) == 1 else None)
        assert self.service.pledged("globex", "openai", thing) is None
        return found

    @rule(thing=st.sampled_from(["b1", "b2", "b3"]), share=st.integers(0, 120))
    def see_the_end_of_a_batch(self, thing: str, share: int) -> None:
        pledge = self.claimable(thing)
        if pledge is None:
            return
        correction = self.service.claim(pledge, Nanos(pledge.amount * share // 100))
        assert correction is not None
        assert self.service.claim(pledge, Nanos(0)) is None
        self.claims.append(correction)

    @precondition(lambda self: self.claims)
    @rule(choice=PICK, journal_fails=st.booleans())
    def record_the_end_of_a_batch(self, choice: int, journal_fails: bool) -> None:
        correction = self.claims.pop(choice % len(self.claims))
        if journal_fails:
            self.service.give_back(correction)
            return
        self.names += 1
        name = f"p{self.names:04}"
        poll = self.loop.run_until_complete(reserve(self.service, name, 0, limit=10**9))
        self.journal.commit("INTENT", intent_fields(poll), holding(poll))
        settlement = self.service.settle(poll, None)
        fields = {**outcome_fields(settlement), "corrects": correction_fields(correction)}

        def both(connection: sqlite3.Connection) -> None:
            settling(settlement)(connection)
            correcting(correction)(connection)

        self.journal.commit("OUTCOME", fields, both)
        self.service.apply(settlement)
        self.service.correct(correction)
        self.service.acknowledge("acme", "openai/batches")
        self.model.correct(correction.pledge.request_id, correction.settled)
        self.step()

    @rule()
    def begin_a_month(self) -> None:
        self.clock.us += MONTH_US

    @rule()
    def crash(self) -> None:
        for task in self.waiting.values():
            task.cancel()
        self.step()
        self.service = Finops(clock=self.clock, reservation_wait=3600.0)
        self.live = {found.request_id: found for found in self.service.restore(load(self.journal.connection))}
        self.stuck.clear()
        self.claims.clear()
        for found in list(self.live.values()):
            self.record_end(self.service.settle(found, None, presumed=True))

    @invariant()
    def no_month_is_overshot(self) -> None:
        for period in {*self.model.settled, *self.model.presumed, *(of for of, _ in self.model.holds.values())}:
            assert self.model.total(period) <= LIMIT + self.model.overrun[period]

    @invariant()
    def memory_and_tables_agree_with_the_model(self) -> None:
        snapshot, stored = self.service.snapshot(), load(self.journal.connection)
        assert {hold.request_id: (hold.period, hold.amount) for hold in snapshot.holds} == self.model.holds
        assert set(snapshot.holds) == set(stored.holds)
        assert {pledge.request_id: (pledge.period, pledge.amount) for pledge in snapshot.pledges} == self.model.pledges
        assert set(snapshot.pledges) == set(stored.pledges)
        for balances in (snapshot.balances, stored.balances):
            for balance in balances:
                assert balance.settled == self.model.settled[balance.period]
                assert balance.presumed == self.model.presumed[balance.period]
                assert min(balance[3:]) >= 0
        moved = {balance for balance in snapshot.balances if any(balance[3:])}
        assert moved == {balance for balance in stored.balances if any(balance[3:])}

    @invariant()
    def nobody_waits_without_a_reason(self) -> None:
        if self.waiting:
            assert self.model.holds

    def everything_left_can_be_had(self) -> None:
        period = period_of(self.clock.now_us())
        left = LIMIT - self.model.total(period)
        if left >= 0:
            last = self.loop.run_until_complete(reserve(self.service, "last", left, limit=LIMIT, wait=0.0))
            self.service.release(last)

    def teardown(self) -> None:
        for task in self.waiting.values():
            task.cancel()
        self.step()
        for reservation in list(self.live.values()):
            self.record_end(self.service.settle(reservation, Usage(input=reservation.amount)))
        if self.stuck:
            self.crash()
        assert self.service.snapshot().holds == ()
        assert load(self.journal.connection).holds == ()
        self.everything_left_can_be_had()
        assert self.journal.problems() == []
        accounts: Counter[str] = Counter()
        for debit, credit, amount in self.journal.connection.execute("SELECT debit, credit, amount FROM ledger"):
            accounts[debit] += amount
            accounts[credit] -= amount
        assert sum(accounts.values()) == 0
        assert accounts["held"] == 0
        assert accounts["spent"] == sum(self.model.settled.values())
        assert accounts["presumed"] == sum(self.model.presumed.values())
        self.journal.connection.close()
        self.loop.close()


@pytest.mark.requirement("FN-2")
def test_no_history_overshoots_a_month_or_leaves_a_phantom_hold() -> None:
    run_state_machine_as_test(LedgerMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
