"""Sums that no ledger can hold: whatever is asked, presumed or billed, a tenant's month can still be added up."""

import asyncio

import pytest
from tests.unit.finops.ledger import NANO_A_TOKEN, ManualClock, MemoryJournal, hard, quote, tokens

from securellm.core.errors import Code, Refusal
from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.finops import (
    NOTHING,
    Balance,
    Budget,
    Finops,
    LedgerState,
    Reservation,
    attempt_fields,
    attempting,
    correcting,
    correction_fields,
    holding,
    intent_fields,
    outcome_fields,
    settling,
)
from securellm.finops.model import MAX_AMOUNT, MOST_IN_A_MONTH

SOFT = Budget(limit=Nanos(1), hard=False)
LARGEST = 2**63 - 1


class Month:
    """A service and its ledger, of which so much is spent."""

    def __init__(self, settled: int, presumed: int = 0) -> None:
        self.service = Finops(clock=ManualClock(), reservation_wait=0)
        self.journal = MemoryJournal()
        found = Balance("acme", "2026-11", "USD", settled, presumed, 0)
        self.service.restore(LedgerState((found,)))
        self.journal.connection.execute("INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?)", found)

    async def begin(self, name: str, amount: int, budget: Budget | None = SOFT) -> Reservation:
        made = await self.service.reserve(
            request_id=name, tenant="acme", budget=budget, estimate=tokens(amount), quotes=[quote()]
        )
        self.journal.commit("INTENT", intent_fields(made), holding(made))
        return made

    def end(self, made: Reservation, usage: Usage | None, *, presumed: bool = False) -> None:
        settlement = self.service.settle(made, usage, presumed=presumed)
        self.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
        self.service.apply(settlement)

    @property
    def sums(self) -> tuple[int, int]:
        (balance,) = self.service.snapshot().balances
        stored = self.journal.connection.execute("SELECT settled, presumed FROM balances").fetchone()
        assert stored == (balance.settled, balance.presumed)
        return balance.settled, balance.presumed


@pytest.mark.requirement("FN-1")
def test_requests_that_all_stay_presumed_never_reach_what_no_table_can_hold() -> None:
    async def scene() -> None:
        month = Month(0, MOST_IN_A_MONTH - 3 * MAX_AMOUNT)
        for number in range(6):
            made = await month.begin(f"r{number}", MAX_AMOUNT)
            assert made.bounded is (number < 3)
            month.end(made, None, presumed=True)
        assert month.sums == (0, MOST_IN_A_MONTH)

    asyncio.run(scene())


@pytest.mark.requirement("FN-1")
def test_bills_that_no_table_can_hold_are_not_charged() -> None:
    async def scene() -> None:
        month = Month(MOST_IN_A_MONTH - 2 * MAX_AMOUNT)
        for number in range(6):
            month.end(await month.begin(f"r{number}", 0, budget=None), Usage(input=MAX_AMOUNT))
        assert month.sums == (MOST_IN_A_MONTH, 0)
        assert not month.service.suspended

    asyncio.run(scene())


@pytest.mark.requirement("FN-1")
def test_another_attempt_without_room_is_made_without_a_hold() -> None:
    async def scene() -> None:
        month = Month(MOST_IN_A_MONTH - MAX_AMOUNT)
        first = await month.begin("r1", MAX_AMOUNT)
        second = month.service.next_attempt(first, quote("b/gpt"), presumed=True)
        assert (second.amount, second.bounded, second.carried) == (0, False, MAX_AMOUNT)
        month.journal.commit("ATTEMPT", attempt_fields(second), attempting(second))
        month.end(second, None, presumed=True)
        assert month.sums == (MOST_IN_A_MONTH - MAX_AMOUNT, MAX_AMOUNT)

    asyncio.run(scene())


@pytest.mark.requirement("FN-1")
def test_a_correction_that_no_table_can_hold_is_not_made() -> None:
    async def scene() -> None:
        month = Month(MOST_IN_A_MONTH - 60)
        made = await month.begin("r1", 60)
        settlement = month.service.pledge(made, provider="openai", thing="batch_1")
        fields = {**outcome_fields(settlement)}
        month.journal.commit("OUTCOME", fields, settling(settlement))
        month.service.apply(settlement)
        assert settlement.pledge is not None
        assert month.service.claim(settlement.pledge, Nanos(61)) is None
        correction = month.service.claim(settlement.pledge, Nanos(60))
        assert correction is not None
        month.journal.commit(
            "OUTCOME", {"request_id": "r2", "corrects": correction_fields(correction)}, correcting(correction)
        )
        month.service.correct(correction)
        assert month.sums == (MOST_IN_A_MONTH, 0)

    asyncio.run(scene())


@pytest.mark.requirement("FN-1")
def test_a_budget_beyond_every_sum_is_enforced_at_what_can_be_added_up() -> None:
    async def scene() -> None:
        month = Month(MOST_IN_A_MONTH)
        with pytest.raises(Refusal) as refused:
            await month.begin("r1", 1, hard(10**30))
        assert refused.value.code is Code.BUDGET_EXHAUSTED

    asyncio.run(scene())


def test_a_thousand_bills_at_once_above_their_holds_can_still_be_added_up() -> None:
    assert MOST_IN_A_MONTH + 1_000 * MAX_AMOUNT < LARGEST


@pytest.mark.requirement("FN-2")
@pytest.mark.parametrize("budget", [None, SOFT, Budget(limit=Nanos(0), currency="BRL")])
def test_what_costs_nothing_costs_nothing_in_every_currency(budget: Budget | None) -> None:
    async def scene() -> None:
        service = Finops(clock=ManualClock())
        made = await service.reserve(
            request_id="r1", tenant="acme", budget=budget, estimate=tokens(5), quotes=[quote(price=NOTHING)]
        )
        assert (made.amount, made.currency) == (0, "USD" if budget is None else budget.currency)
        again = service.next_attempt(made, quote("b", price=NOTHING), presumed=False)
        assert service.settle(again, Usage(input=3)).settled == 0
        assert NANO_A_TOKEN.currency == "USD"

    asyncio.run(scene())
