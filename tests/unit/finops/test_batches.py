"""What a batch may cost, what stays presumed for it after its request, and the one correction."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.finops.ledger import JournalDownError, ManualClock, MemoryJournal, hard, reserve
from tests.unit.finops.test_rules import prices

from securellm.core.batches import Load
from securellm.core.errors import Code, Refusal
from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.finops import (
    Budget,
    Correction,
    Finops,
    Pledge,
    Price,
    Reservation,
    Settlement,
    batch_cost,
    budget_report,
    correcting,
    correction_fields,
    holding,
    intent_fields,
    load,
    outcome_fields,
    settling,
)
from securellm.finops.rules import batch_worst_case
from securellm.storage import Connection, StorageConflict

PLAIN = Price(input=1_000, output=1_000)


def load_of(tokens: int = 50, requests: int = 1, **members: Any) -> Load:
    return Load(
        model="chat",
        upstream_model="gpt",
        requests=requests,
        input_tokens=tokens,
        longest_input=members.pop("longest", tokens),
        output_tokens=members.pop("output", 0),
        **members,
    )


async def reserve_batch(
    service: Finops,
    name: str,
    *loads: tuple[Load, Price | None],
    budget: Budget | None,
    tenant: str = "acme",
) -> Reservation:
    return await service.reserve_batch(
        request_id=name, tenant=tenant, budget=budget, provider="openai", loads=loads, wait=0.0
    )


class Books:
    """A service and its journal, driven as the gateway does."""

    def __init__(self, limit: int = 1_000) -> None:
        self.journal = MemoryJournal()
        self.service = Finops(clock=ManualClock())
        self.limit = limit
        self.polls = 0

    def begin(self, name: str, tokens: int = 100, thing: str = "b1", tenant: str = "acme") -> Pledge:
        held = asyncio.run(
            reserve_batch(self.service, name, (load_of(tokens), PLAIN), budget=hard(self.limit), tenant=tenant)
        )
        self.journal.commit("INTENT", intent_fields(held), holding(held))
        settlement = self.service.pledge(held, provider="openai", thing=thing)
        self.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
        self.service.apply(settlement)
        assert settlement.pledge is not None
        return settlement.pledge

    def poll(self, correction: Correction | None, tenant: str = "acme") -> None:
        """The record of a look, with what it corrects."""
        self.polls += 1
        look = asyncio.run(reserve(self.service, f"p{self.polls}", 0, limit=10**9, tenant=tenant))
        self.journal.commit("INTENT", intent_fields(look), holding(look))
        settlement = self.service.settle(look, None)
        fields: dict[str, object] = dict(outcome_fields(settlement))
        if correction is not None:
            fields["corrects"] = correction_fields(correction)
        self.journal.commit("OUTCOME", fields, _both(settlement, correction))
        self.service.apply(settlement)
        if correction is not None:
            self.service.correct(correction)

    def correct(self, pledge: Pledge, settled: int) -> Correction:
        correction = self.service.claim(pledge, Nanos(settled))
        assert correction is not None
        self.poll(correction)
        return correction

    def money(self) -> tuple[int, int, int]:
        (balance,) = self.service.snapshot().balances
        stored = {each[:3]: each[3:] for each in load(self.journal.connection).balances}
        assert stored[balance[:3]] == balance[3:]
        assert self.journal.problems() == []
        return balance.settled, balance.presumed, balance.unknown


def _both(settlement: Settlement, correction: Correction | None) -> Callable[[Connection], None]:
    def operation(connection: Connection) -> None:
        settling(settlement)(connection)
        if correction is not None:
            correcting(correction)(connection)

    return operation


@pytest.mark.requirement("FN-2")
def test_what_a_batch_holds_stays_presumed_until_its_cost_is_known() -> None:
    books = Books()
    pledge = books.begin("r1", 100)
    assert books.money() == (0, 101, 1)
    assert books.service.pledged("acme", "openai", "b1") == pledge
    books.correct(pledge, 40)
    assert books.money() == (40, 0, 0)
    assert books.service.snapshot().pledges == load(books.journal.connection).pledges == ()
    kinds = books.journal.connection.execute("SELECT kind, debit, credit, amount FROM ledger ORDER BY seq").fetchall()
    assert kinds == [
        ("hold", "held", "budget", 101),
        ("presumed", "presumed", "held", 101),
        ("corrected", "spent", "presumed", 40),
        ("returned", "budget", "presumed", 61),
    ]


@pytest.mark.requirement("FN-2")
def test_only_one_can_correct_a_pledge_and_only_once() -> None:
    books = Books()
    pledge = books.begin("r1")
    first = books.service.claim(pledge, Nanos(40))
    assert first is not None
    assert books.service.claim(pledge, Nanos(40)) is None
    assert books.money() == (0, 101, 1), "claiming moves nothing"
    books.poll(first)
    assert books.service.claim(pledge, Nanos(40)) is None
    with pytest.raises(StorageConflict), books.journal.transaction():
        correcting(first)(books.journal.connection)
    assert books.money() == (40, 0, 0)


@pytest.mark.requirement("FN-2")
def test_a_claim_whose_record_failed_can_be_made_again() -> None:
    books = Books()
    pledge = books.begin("r1")
    first = books.service.claim(pledge, Nanos(40))
    assert first is not None
    look = asyncio.run(reserve(books.service, "look", 0, limit=10**9))
    books.journal.commit("INTENT", intent_fields(look), holding(look))
    books.journal.failing = True
    with pytest.raises(JournalDownError):
        books.journal.commit("OUTCOME", {}, correcting(first))
    books.service.give_back(first)
    books.journal.failing = False
    settlement = books.service.settle(look, None)
    books.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
    books.service.apply(settlement)
    assert books.money() == (0, 101, 1)
    books.correct(pledge, 7)
    assert books.money() == (7, 0, 0)


@pytest.mark.requirement("FN-2")
def test_a_crash_between_claim_and_record_leaves_the_pledge() -> None:
    books = Books()
    pledge = books.begin("r1")
    assert books.service.claim(pledge, Nanos(1)) is not None
    books.service = Finops(clock=ManualClock())
    assert books.service.restore(load(books.journal.connection)) == ()
    assert books.money() == (0, 101, 1)
    books.correct(pledge, 1)
    assert books.money() == (1, 0, 0)


@pytest.mark.requirement("FN-2")
def test_pledges_count_as_spent_and_a_correction_makes_room() -> None:
    books = Books(limit=250)
    pledge = books.begin("r1", 200)
    with pytest.raises(Refusal) as refused:
        books.begin("r2", 100, "b2")
    assert refused.value.code is Code.BUDGET_EXHAUSTED
    books.correct(pledge, 20)
    books.begin("r3", 100, "b3")
    assert books.money() == (20, 101, 1)


@pytest.mark.requirement("FN-2")
def test_a_batch_billed_above_its_bound_is_charged_and_the_next_refused_until_acknowledged() -> None:
    books = Books()
    correction = books.correct(books.begin("r1", 100), 150)
    assert correction.overrun == 49
    assert books.money() == (150, 0, 0)
    with pytest.raises(Refusal) as refused:
        books.begin("r2")
    assert refused.value.code is Code.BUDGET_EXHAUSTED
    assert books.service.acknowledge("acme", "openai/batches")
    books.begin("r3")


def test_a_cost_that_cannot_be_is_not_believed() -> None:
    books = Books()
    pledge = books.begin("r1")
    for cost in (-1, 10**16):
        assert books.service.claim(pledge, Nanos(cost)) is None
    assert books.money() == (0, 101, 1)


def test_one_id_for_two_batches_leaves_both_presumed() -> None:
    books = Books()
    first, _ = books.begin("r1", 10), books.begin("r2", 20)
    assert books.service.pledged("acme", "openai", "b1") is None
    assert books.service.claim(first, Nanos(1)) is None
    assert books.money() == (0, 32, 2)


def test_a_pledge_is_found_under_its_tenant_and_provider_only() -> None:
    books = Books()
    books.begin("r1")
    assert books.service.pledged("other", "openai", "b1") is None
    assert books.service.pledged("acme", "compatible", "b1") is None


def test_without_a_budget_a_batch_holds_nothing_and_is_paid_all_the_same() -> None:
    books = Books()
    held = asyncio.run(reserve_batch(books.service, "r1", (load_of(), PLAIN), budget=None))
    assert (held.amount, held.bounded) == (0, False)
    books.journal.commit("INTENT", intent_fields(held), holding(held))
    settlement = books.service.pledge(held, provider="openai", thing="b1")
    books.journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
    books.service.apply(settlement)
    assert settlement.pledge is not None
    assert books.correct(settlement.pledge, 77).overrun == 0
    assert books.money() == (77, 0, 0)


@pytest.mark.requirement("FN-1", "FN-2")
@pytest.mark.parametrize(
    ("members", "price", "code"),
    [
        ({}, None, Code.UNKNOWN_PRICE),
        ({"output": None}, PLAIN, Code.UNPRICED_FEATURE),
        ({"unpriced": ("tools.web_search",)}, PLAIN, Code.UNPRICED_FEATURE),
        ({"traits": ("audio_input",)}, PLAIN, Code.UNPRICED_FEATURE),
        ({"tokens": 10**16}, PLAIN, Code.BUDGET_EXHAUSTED),
        ({}, Price(input=1, output=1, currency="EUR"), Code.UNKNOWN_PRICE),
    ],
)
def test_what_has_no_bound_begins_no_batch_under_a_hard_budget(
    members: dict[str, Any], price: Price | None, code: Code
) -> None:
    service = Finops(clock=ManualClock())
    whole = (load_of(), PLAIN), (load_of(**members), price)
    with pytest.raises(Refusal) as refused:
        asyncio.run(reserve_batch(service, "r1", *whole, budget=hard(10**18)))
    assert refused.value.code is code
    assert service.snapshot().holds == ()


def test_a_soft_budget_watches_what_it_can() -> None:
    service = Finops(clock=ManualClock())
    soft = Budget(limit=Nanos(1), hard=False)
    known = asyncio.run(reserve_batch(service, "r1", (load_of(50), PLAIN), budget=soft))
    unknown = asyncio.run(reserve_batch(service, "r2", (load_of(50), None), budget=soft))
    assert (known.amount, known.limit) == (51, None)
    assert (unknown.amount, unknown.priced) == (0, False)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Price, Load, list[Usage]]:
    """A price, some requests that stay within what they said, and the load that they make."""
    price = draw(prices())
    if draw(st.booleans()):
        price = price.__class__(
            **{n: getattr(price, n) for n in price.__struct_fields__}
            | {"service_tiers": {**price.service_tiers, "batch": draw(st.integers(0, 1_000))}}
        )
    each = draw(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)), min_size=1, max_size=6))
    writes = draw(st.booleans())
    went_in = ["input", "cache_read"] + (["cache_write_5m", "cache_write_1h"] if writes else [])
    usages = [
        Usage(**{draw(st.sampled_from(went_in)): tokens, draw(st.sampled_from(["output", "reasoning"])): out})
        for tokens, out in each
    ]
    whole = Load(
        model="chat",
        upstream_model="gpt",
        requests=len(each),
        input_tokens=sum(tokens for tokens, _ in each),
        longest_input=max(tokens for tokens, _ in each),
        output_tokens=sum(out for _, out in each),
        traits=("cache_writes",) if writes else (),
    )
    return price, whole, usages


@pytest.mark.requirement("FN-2")
@settings(max_examples=300)
@given(batches())
def test_no_batch_within_its_load_costs_more_than_its_worst_case(batch: tuple[Price, Load, list[Usage]]) -> None:
    price, whole, usages = batch
    costs = [batch_cost(usage, price) for usage in usages]
    assert None not in costs
    assert sum(cost or 0 for cost in costs) <= batch_worst_case(whole, price)


@pytest.mark.requirement("FN-1")
def test_the_price_of_batches_counts_where_it_is_stated() -> None:
    half = Price(input=1_000, output=2_000, service_tiers={"batch": 500})
    assert batch_worst_case(load_of(100, output=50), half) == 100 + 1
    assert batch_cost(Usage(input=100, output=50), half) == 100
    assert batch_cost(Usage(input=100, output=50), Price(input=1_000, output=2_000)) == 200
    assert batch_cost(Usage(audio_input=1), half) is None
    assert batch_cost(Usage(input=-1), half) is None
    assert batch_cost(Usage(), half, tool_uses={"web_search": 1}) is None


def a_pledged_journal() -> MemoryJournal:
    books = Books()
    books.begin("r1", 100, "b1")
    books.correct(books.begin("r2", 50, "b2"), 20)
    books.begin("r3", 10, "b3", tenant="other")
    return books.journal


@pytest.mark.requirement("AU-2", "FN-2")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE pledges SET amount = 1 WHERE request_id = 'r1'",
        "UPDATE pledges SET tenant = 'other' WHERE request_id = 'r1'",
        "UPDATE pledges SET thing = 'b9' WHERE request_id = 'r1'",
        "UPDATE pledges SET provider = 'xai' WHERE request_id = 'r1'",
        "UPDATE pledges SET period = '2026-10' WHERE request_id = 'r1'",
        "DELETE FROM pledges WHERE request_id = 'r1'",
        "INSERT INTO pledges VALUES ('r9', 'acme', '2026-11', 'USD', 1, 'openai', 'b9')",
        "UPDATE balances SET presumed = presumed - 1 WHERE tenant = 'acme'",
        "UPDATE balances SET settled = settled + 1 WHERE tenant = 'acme'",
    ],
)
def test_any_change_of_what_is_pledged_is_noticed(change: str) -> None:
    journal = a_pledged_journal()
    assert journal.problems() == []
    journal.connection.execute(change)
    assert journal.problems()


@pytest.mark.requirement("AU-2", "FN-2")
@pytest.mark.parametrize(
    ("tenant", "corrects"),
    [
        ("acme", {"request_id": "r9", "settled": 1}),
        ("acme", {"request_id": "r2", "settled": 1}),
        ("acme", {"request_id": "r3", "settled": 1}),
        ("acme", {"request_id": "r1", "settled": -1}),
        ("acme", {"request_id": "r1"}),
        ("acme", 7),
    ],
    ids=["never pledged", "corrected before", "another tenant's", "below zero", "no sum", "no object"],
)
def test_a_correction_that_cannot_be_is_a_problem(tenant: str, corrects: object) -> None:
    journal = a_pledged_journal()
    look: dict[str, object] = {"request_id": "look", "tenant": tenant, "period": "2026-11", "currency": "USD"}
    journal.entries.append({"type": "INTENT", **look, "hold": 0})
    ending = {"settled": 0, "presumed": 0, "cost_known": True, "corrects": corrects}
    journal.entries.append({"type": "OUTCOME", "request_id": "look", **ending})
    assert any(problem.startswith(f"record {len(journal.entries)}:") for problem in journal.problems())


def test_a_pledge_of_another_sum_than_was_held_is_a_problem() -> None:
    for members in ({"settled": 1}, {"presumed": 9}, {"cost_known": True}):
        journal = MemoryJournal()
        intent: dict[str, object] = {"request_id": "r1", "tenant": "a", "period": "p", "currency": "c", "hold": 10}
        journal.entries.append({"type": "INTENT", **intent})
        ending = {"settled": 0, "presumed": 10, "cost_known": False, "provider": "openai", "pledged": "b1", **members}
        journal.entries.append({"type": "OUTCOME", "request_id": "r1", **ending})
        assert any("pledges another sum" in problem or "presumes more" in problem for problem in journal.problems())


def test_a_report_says_what_of_the_presumed_waits_for_batches() -> None:
    books = Books()
    books.begin("r1", 100)
    (line,) = budget_report(books.service.snapshot(), {"acme": hard(1_000)})
    assert (line.presumed, line.pledged, line.open_batches, line.remaining) == (101, 101, 1, 899)
