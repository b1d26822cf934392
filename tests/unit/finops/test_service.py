"""Reservation and settlement: what waits, what is refused, what comes back, in which order."""

import asyncio
from collections import deque
from random import Random

import pytest
from tests.unit.finops.ledger import ManualClock, hard, quote, reserve, tokens

from securellm.core.errors import Code, Fault, Refusal
from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.finops import PICTURE, Budget, Estimate, Finops, Price, Quote, Reservation, budget_report
from securellm.finops.model import MAX_AMOUNT

DECEMBER = 1_797_000_000_000_000


def finops(clock: ManualClock | None = None, *, wait: float = 3600.0) -> Finops:
    """Waits end by what happens, not by time: an hour is longer than any test."""
    return Finops(clock=clock or ManualClock(), reservation_wait=wait)


def standing(service: Finops, tenant: str = "acme", period: str = "2026-11") -> tuple[int, int, int]:
    """(settled, presumed, held)."""
    lines = [line for line in budget_report(service.snapshot(), {}, period=period) if line.tenant == tenant]
    return (lines[0].settled, lines[0].presumed, lines[0].held) if lines else (0, 0, 0)


async def turns(count: int = 10) -> None:
    """Let every task that can move do so."""
    for _ in range(count):
        await asyncio.sleep(0)


def finish(service: Finops, reservation: Reservation, spent: int) -> None:
    service.apply(service.settle(reservation, Usage(input=spent)))


async def refused(code: Code, coroutine: "asyncio.Future[Reservation] | asyncio.Task[Reservation]") -> Refusal:
    with pytest.raises(Refusal) as caught:
        await coroutine
    assert caught.value.code is code
    return caught.value


@pytest.mark.requirement("FN-2")
def test_three_hundred_requests_on_a_budget_for_fifty_never_overshoot_it() -> None:
    random = Random(20261118)
    actual, limit = 100, 5_000

    async def scene(service: Finops) -> list[str]:
        running: deque[Reservation] = deque()
        outcomes: list[str] = []

        async def request(name: str, most: int) -> None:
            try:
                running.append(await reserve(service, name, most, limit=limit))
            except Refusal as refusal:
                outcomes.append(refusal.code)

        tasks = [asyncio.create_task(request(f"r{index}", random.randint(actual, 2 * actual))) for index in range(300)]
        await turns()
        while running:
            assert sum(standing(service)) <= limit
            running.rotate(random.randrange(len(running)))
            finish(service, running.popleft(), actual)
            outcomes.append("ok")
            await turns()
        await asyncio.gather(*tasks)
        return outcomes

    service = finops()
    outcomes = asyncio.run(scene(service))
    assert 48 <= outcomes.count("ok") <= 50
    assert outcomes.count(Code.BUDGET_EXHAUSTED) == 300 - outcomes.count("ok")
    assert standing(service) == (outcomes.count("ok") * actual, 0, 0)


@pytest.mark.requirement("FN-2")
def test_a_request_that_cannot_fit_is_refused_at_once_and_says_what_is_left() -> None:
    async def scene() -> None:
        service = finops()
        finish(service, await reserve(service, "r1", 60, limit=100), 60)
        with pytest.raises(Refusal) as caught:
            await reserve(service, "r2", 41, limit=100)
        assert caught.value.code is Code.BUDGET_EXHAUSTED
        assert "0.000000041 USD, and 0.00000004 USD of the 0.0000001 USD for 2026-11 is left" in caught.value.reason
        await reserve(service, "r3", 40, limit=100)

    asyncio.run(scene())


@pytest.mark.requirement("FN-2")
def test_a_presumed_amount_counts_as_spent() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 60, limit=100)
        settlement = service.settle(first, None, presumed=True)
        assert (settlement.settled, settlement.presumed, settlement.cost_known) == (0, 60, False)
        service.apply(settlement)
        assert standing(service) == (0, 60, 0)
        await refused(Code.BUDGET_EXHAUSTED, asyncio.ensure_future(reserve(service, "r2", 41, limit=100)))

    asyncio.run(scene())


def test_a_request_waits_for_live_holds_and_gets_what_they_release() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 80, limit=100)
        second = asyncio.create_task(reserve(service, "r2", 50, limit=100))
        await turns()
        assert not second.done()
        finish(service, first, 30)
        assert (await second).amount == 50
        assert standing(service) == (30, 0, 50)

    asyncio.run(scene())


def test_a_wait_without_room_ends_as_held() -> None:
    async def scene() -> None:
        service = finops(wait=0.0)
        await reserve(service, "r1", 80, limit=100)
        refusal = await refused(Code.BUDGET_HELD, asyncio.ensure_future(reserve(service, "r2", 50, limit=100)))
        assert refusal.retry_after == 1.0
        assert standing(service) == (0, 0, 80)

    asyncio.run(scene())


def test_the_longest_waiting_request_goes_first_even_when_a_smaller_one_would_fit() -> None:
    async def scene() -> None:
        service = finops()
        order: list[str] = []

        async def waiting(name: str, most: int) -> None:
            await reserve(service, name, most, limit=100)
            order.append(name)

        first = await reserve(service, "r1", 80, limit=100)
        tasks = [asyncio.create_task(waiting(name, most)) for name, most in (("big", 90), ("small", 10))]
        await turns()
        assert order == []
        finish(service, first, 0)
        await asyncio.gather(*tasks)
        assert order == ["big", "small"]

    asyncio.run(scene())


def test_a_waiting_request_that_becomes_hopeless_is_told_so_and_lets_the_next_one_in() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 80, limit=100)
        big = asyncio.create_task(reserve(service, "big", 90, limit=100))
        small = asyncio.create_task(reserve(service, "small", 20, limit=100))
        await turns()
        finish(service, first, 80)
        await refused(Code.BUDGET_EXHAUSTED, big)
        assert (await small).amount == 20

    asyncio.run(scene())


def test_tenants_do_not_wait_for_each_other() -> None:
    async def scene() -> None:
        service = finops()
        await reserve(service, "r1", 100, limit=100, tenant="acme")
        blocked = asyncio.create_task(reserve(service, "r2", 100, limit=100, tenant="acme"))
        await turns()
        await reserve(service, "r3", 100, limit=100, tenant="other")
        blocked.cancel()

    asyncio.run(scene())


@pytest.mark.requirement("FN-2")
def test_a_cancelled_waiter_leaves_no_hold_and_lets_the_next_one_in() -> None:
    async def scene() -> None:
        service = finops()
        await reserve(service, "r1", 60, limit=100)
        gone = asyncio.create_task(reserve(service, "gone", 90, limit=100))
        small = asyncio.create_task(reserve(service, "small", 40, limit=100))
        await turns()
        gone.cancel()
        assert (await small).amount == 40
        assert gone.cancelled()
        assert standing(service) == (0, 0, 100)

    asyncio.run(scene())


@pytest.mark.requirement("FN-2")
def test_a_grant_that_meets_a_cancellation_leaves_no_hold() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 60, limit=100)
        gone = asyncio.create_task(reserve(service, "gone", 90, limit=100))
        after = asyncio.create_task(reserve(service, "after", 95, limit=100))
        await turns()
        finish(service, first, 0)
        assert standing(service) == (0, 0, 90)  # granted, its task not yet awake
        gone.cancel()
        assert (await after).amount == 95
        assert gone.cancelled()
        assert standing(service) == (0, 0, 95)

    asyncio.run(scene())


def test_a_refusal_that_meets_a_cancellation_is_a_cancellation() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 60, limit=100)
        gone = asyncio.create_task(reserve(service, "gone", 90, limit=100))
        await turns()
        finish(service, first, 60)
        gone.cancel()
        await turns()
        assert gone.cancelled()
        assert standing(service) == (60, 0, 0)

    asyncio.run(scene())


@pytest.mark.requirement("FN-2")
def test_a_reservation_settles_in_the_month_it_was_made_in() -> None:
    async def scene() -> None:
        clock = ManualClock()
        service = finops(clock)
        first = await reserve(service, "r1", 100, limit=100)
        waiting = asyncio.create_task(reserve(service, "r2", 70, limit=100))
        await turns()
        clock.us = DECEMBER
        newcomer = await reserve(service, "r3", 30, limit=100)
        assert (await waiting).period == newcomer.period == "2026-12"
        finish(service, first, 90)
        assert standing(service, period="2026-11") == (90, 0, 0)
        assert standing(service, period="2026-12") == (0, 0, 100)

    asyncio.run(scene())


def test_a_new_month_is_noticed_at_the_end_of_a_wait() -> None:
    async def scene() -> None:
        clock = ManualClock()
        service = finops(clock)
        await reserve(service, "r1", 100, limit=100)
        waiting = asyncio.create_task(reserve(service, "r2", 70, limit=100, wait=0.0))
        await asyncio.sleep(0)
        clock.us = DECEMBER
        assert (await waiting).period == "2026-12"
        assert standing(service, period="2026-12") == (0, 0, 70)

    asyncio.run(scene())


def test_an_answer_that_was_not_billed_returns_the_whole_hold() -> None:
    async def scene() -> None:
        service = finops()
        settlement = service.settle(await reserve(service, "r1", 60, limit=100), None)
        assert (settlement.settled, settlement.presumed, settlement.cost_known) == (0, 0, True)
        service.apply(settlement)
        assert standing(service) == (0, 0, 0)

    asyncio.run(scene())


def test_a_caller_who_leaves_settles_what_was_seen_and_presumes_the_rest() -> None:
    async def scene() -> None:
        service = finops()
        settlement = service.settle(await reserve(service, "r1", 60, limit=100), Usage(input=20), presumed=True)
        assert (settlement.settled, settlement.presumed, settlement.cost_known) == (20, 40, False)
        more = service.settle(settlement.reservation, Usage(input=99), presumed=True)
        assert (more.settled, more.presumed, more.overrun) == (60, 0, 0)

    asyncio.run(scene())


def test_settling_changes_nothing_before_it_is_applied() -> None:
    async def scene() -> None:
        service = finops()
        reservation = await reserve(service, "r1", 60, limit=100)
        settlement = service.settle(reservation, Usage(input=20))
        assert standing(service) == (0, 0, 60)  # a journal that fails here leaves the money held
        service.apply(settlement)
        with pytest.raises(Fault):
            service.apply(settlement)
        assert standing(service) == (20, 0, 0)

    asyncio.run(scene())


@pytest.mark.requirement("FN-2")
def test_an_overrun_is_charged_in_full_and_suspends_the_route_until_acknowledged() -> None:
    async def scene() -> None:
        service = finops()
        settlement = service.settle(await reserve(service, "r1", 60, limit=100), Usage(input=75))
        assert (settlement.settled, settlement.overrun) == (75, 15)
        service.apply(settlement)
        assert standing(service) == (75, 0, 0)
        assert service.suspended == {("acme", "openai/gpt")}
        with pytest.raises(Refusal) as caught:
            await reserve(service, "r2", 1, limit=100)
        assert caught.value.code is Code.BUDGET_EXHAUSTED
        assert "suspended" in caught.value.reason
        await reserve(service, "r3", 1, limit=100, tenant="other")
        soft = Budget(limit=Nanos(100), hard=False)
        await service.reserve(request_id="r4", tenant="acme", budget=soft, estimate=tokens(1), quotes=[quote()])
        assert service.acknowledge("acme", "openai/gpt")
        assert not service.acknowledge("acme", "openai/gpt")
        await reserve(service, "r5", 1, limit=100)

    asyncio.run(scene())


@pytest.mark.parametrize("usage", [Usage(input=-5), Usage(input=10, output=-1)])
def test_counts_that_cannot_be_true_presume_the_hold(usage: Usage) -> None:
    async def scene() -> None:
        service = finops()
        settlement = service.settle(await reserve(service, "r1", 60, limit=100), usage)
        assert (settlement.settled, settlement.presumed, settlement.cost_known) == (0, 60, False)

    asyncio.run(scene())


def test_a_bill_beyond_belief_is_not_charged_but_suspends_the_route() -> None:
    async def scene() -> None:
        service = finops()
        settlement = service.settle(await reserve(service, "r1", 60, limit=100), Usage(input=10**40))
        assert (settlement.settled, settlement.presumed, settlement.cost_known) == (0, 60, False)
        service.apply(settlement)
        assert service.suspended

    asyncio.run(scene())


def test_zero_and_huge_amounts_meet_a_budget_of_any_size() -> None:
    async def scene() -> None:
        service = finops()
        free = await reserve(service, "r1", 0, limit=0)
        finish(service, free, 0)
        await refused(Code.BUDGET_EXHAUSTED, asyncio.ensure_future(reserve(service, "r2", 1, limit=0)))
        await refused(Code.BUDGET_EXHAUSTED, asyncio.ensure_future(reserve(service, "r3", 10**60, limit=10**70)))
        await reserve(service, "r4", MAX_AMOUNT, limit=10**70)

    asyncio.run(scene())


@pytest.mark.requirement("FN-1")
@pytest.mark.parametrize(
    ("quotes", "code"),
    [
        ([quote(price=None)], Code.UNKNOWN_PRICE),
        ([quote(price=Price(input=1, output=1, currency="BRL"))], Code.UNKNOWN_PRICE),
        ([quote(price=None), quote("b", price=None)], Code.UNKNOWN_PRICE),
    ],
)
def test_an_unknown_price_is_refused_under_a_hard_budget(quotes: list[Quote], code: Code) -> None:
    async def scene() -> None:
        service = finops()
        with pytest.raises(Refusal) as caught:
            await service.reserve(request_id="r1", tenant="acme", budget=hard(100), estimate=tokens(1), quotes=quotes)
        assert caught.value.code is code
        assert service.snapshot().holds == ()

    asyncio.run(scene())


@pytest.mark.requirement("FN-1")
@pytest.mark.parametrize("budget", [None, Budget(limit=Nanos(1), hard=False)])
def test_an_unknown_price_is_recorded_as_unknown_and_never_as_free(budget: Budget | None) -> None:
    async def scene() -> None:
        service = finops()
        reservation = await service.reserve(
            request_id="r1", tenant="acme", budget=budget, estimate=tokens(50), quotes=[quote(price=None)]
        )
        assert (reservation.amount, reservation.priced, reservation.bounded) == (0, False, False)
        settlement = service.settle(reservation, Usage(input=50))
        assert not settlement.cost_known
        service.apply(settlement)
        (line,) = budget_report(service.snapshot(), {})
        assert (line.settled, line.unknown) == (0, 1)

    asyncio.run(scene())


def test_a_soft_budget_holds_but_never_refuses() -> None:
    async def scene() -> None:
        service = finops()
        soft = Budget(limit=Nanos(10), hard=False)
        for name in ("r1", "r2"):
            reservation = await service.reserve(
                request_id=name, tenant="acme", budget=soft, estimate=tokens(50), quotes=[quote()]
            )
            assert reservation.amount == 50
            assert reservation.bounded
        assert standing(service) == (0, 0, 100)

    asyncio.run(scene())


def test_a_field_without_a_price_leaves_a_soft_cost_unknown_but_counts_what_is_known() -> None:
    async def scene() -> None:
        service = finops()
        reservation = await service.reserve(
            request_id="r1",
            tenant="acme",
            budget=Budget(limit=Nanos(10), hard=False),
            estimate=Estimate(input_tokens=5, output_cap=1, features=("container",)),
            quotes=[quote()],
        )
        settlement = service.settle(reservation, Usage(input=5))
        assert (settlement.settled, settlement.presumed, settlement.cost_known) == (5, 0, False)

    asyncio.run(scene())


def test_a_tenant_without_a_budget_holds_nothing_and_is_charged_what_it_used() -> None:
    async def scene() -> None:
        service = finops()
        reservation = await service.reserve(
            request_id="r1", tenant="acme", budget=None, estimate=tokens(50), quotes=[quote()]
        )
        assert (reservation.amount, reservation.limit, reservation.cap_injected) == (0, None, False)
        settlement = service.settle(reservation, Usage(input=50))
        assert (settlement.settled, settlement.overrun, settlement.cost_known) == (50, 0, True)
        service.apply(settlement)
        assert standing(service) == (50, 0, 0)
        assert not service.suspended

    asyncio.run(scene())


def test_a_missing_output_cap_is_set_under_a_hard_budget_and_declared() -> None:
    async def scene() -> None:
        service = finops()
        estimate = Estimate(input_tokens=5, cache_writes=False)
        kept = await service.reserve(
            request_id="r1", tenant="a", budget=hard(100), estimate=estimate, quotes=[quote(cap=7)]
        )
        assert (kept.output_cap, kept.cap_injected, kept.amount) == (7, True, 12)
        soft = Budget(limit=Nanos(100), hard=False)
        free = await service.reserve(request_id="r2", tenant="b", budget=soft, estimate=estimate, quotes=[quote(cap=7)])
        assert (free.output_cap, free.cap_injected, free.amount) == (None, False, 12)

    asyncio.run(scene())


def test_what_cannot_be_capped_is_reserved_without_a_cap() -> None:
    async def scene() -> None:
        service = finops()
        estimate = Estimate(input_tokens=5, output_floor=20, cache_writes=False)
        kept = await service.reserve(
            request_id="r1", tenant="a", budget=hard(100), estimate=estimate, quotes=[quote(cap=7)]
        )
        assert (kept.output_cap, kept.cap_injected, kept.amount, kept.bounded) == (None, False, 25, True)

    asyncio.run(scene())


@pytest.mark.requirement("FN-1", "FN-2")
def test_pictures_by_the_piece_are_settled_by_their_number_and_nothing_else_is_without_figures() -> None:
    async def scene() -> None:
        service = finops()
        estimate = Estimate(input_tokens=5, output_floor=9, choices=3, pictures=3, cache_writes=False)
        pieces = Price(input=0, output=0, per_image=10)
        reservation = await service.reserve(
            request_id="r1", tenant="a", budget=hard(100), estimate=estimate, quotes=[quote(price=pieces)]
        )
        assert reservation.amount == 30
        came = service.settle(reservation, None, presumed=True, tool_uses={PICTURE: 2})
        assert (came.settled, came.presumed, came.cost_known, came.overrun) == (20, 0, True, 0)
        lost = service.settle(reservation, None, presumed=True)
        assert (lost.settled, lost.presumed, lost.cost_known) == (0, 30, False)
        many = service.settle(reservation, None, presumed=True, tool_uses={PICTURE: 4})
        assert (many.settled, many.overrun) == (40, 10)
        tokens_too = await service.reserve(
            request_id="r2",
            tenant="b",
            budget=hard(100_000),
            estimate=estimate,
            quotes=[quote(price=Price(input=1_000, output=1_000, per_image=10))],
        )
        unknown = service.settle(tokens_too, None, presumed=True, tool_uses={PICTURE: 3})
        assert (unknown.settled, unknown.presumed, unknown.cost_known) == (0, tokens_too.amount, False)

    asyncio.run(scene())


def test_the_dearest_route_of_the_plan_is_funded_and_routes_that_cannot_be_are_passed_over() -> None:
    async def scene() -> None:
        service = finops()
        dear = quote("b/gpt", price=Price(input=3_000, output=1_000))
        reservation = await service.reserve(
            request_id="r1",
            tenant="acme",
            budget=hard(100),
            estimate=tokens(20),
            quotes=[quote("x/none", price=None), quote("a/gpt"), dear],
        )
        assert (reservation.route, reservation.amount) == ("a/gpt", 60)
        moved = service.next_attempt(reservation, dear, presumed=False)
        assert (moved.route, moved.amount, moved.carried, moved.attempt) == ("b/gpt", 60, 0, 2)
        assert standing(service) == (0, 0, 60)
        finish(service, moved, 20)
        assert standing(service) == (60, 0, 0)

    asyncio.run(scene())


@pytest.mark.requirement("FN-2")
def test_another_attempt_leaves_the_former_hold_presumed() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 30, limit=100)
        second = service.next_attempt(first, quote("b/gpt"), presumed=True)
        assert (second.amount, second.former, second.carried) == (30, 30, 30)
        assert standing(service) == (0, 30, 30)
        third = service.next_attempt(second, quote("c/gpt"), presumed=True)
        assert standing(service) == (0, 60, 30)
        with pytest.raises(Refusal) as caught:
            service.next_attempt(third, quote("d/gpt"), presumed=True)
        assert caught.value.code is Code.BUDGET_EXHAUSTED
        with pytest.raises(Fault):
            service.apply(service.settle(first, None))
        finish(service, third, 10)
        assert standing(service) == (10, 60, 0)

    asyncio.run(scene())


def test_another_attempt_does_not_wait() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 30, limit=100)
        await reserve(service, "r2", 60, limit=100)
        with pytest.raises(Refusal) as caught:
            service.next_attempt(first, quote("b/gpt"), presumed=True)
        assert caught.value.code is Code.BUDGET_HELD
        assert standing(service) == (0, 0, 90)
        with pytest.raises(Refusal) as caught:
            service.next_attempt(first, quote("b/gpt", price=None), presumed=False)
        assert caught.value.code is Code.UNKNOWN_PRICE
        other = quote("b/gpt", price=Price(input=1, output=1, currency="BRL"))
        with pytest.raises(Refusal) as caught:
            service.next_attempt(first, other, presumed=False)
        assert caught.value.code is Code.UNKNOWN_PRICE

    asyncio.run(scene())


def test_a_release_undoes_what_was_not_recorded() -> None:
    async def scene() -> None:
        service = finops()
        first = await reserve(service, "r1", 30, limit=100)
        second = service.next_attempt(first, quote("b/gpt"), presumed=True)
        service.release(second)
        assert standing(service) == (0, 0, 30)
        dearer = service.next_attempt(first, quote("b/gpt", price=Price(input=2_000, output=0)), presumed=False)
        assert standing(service) == (0, 0, 60)
        service.release(dearer)
        service.release(await reserve(service, "exact", 70, limit=100, wait=0.0))
        await refused(Code.BUDGET_HELD, asyncio.ensure_future(reserve(service, "over", 71, limit=100, wait=0.0)))
        waiting = asyncio.create_task(reserve(service, "r2", 90, limit=100))
        await turns()
        service.release(first)
        assert (await waiting).amount == 90

    asyncio.run(scene())


def test_one_request_holds_once() -> None:
    async def scene() -> None:
        service = finops()
        await reserve(service, "r1", 60, limit=100)
        waiting = asyncio.create_task(reserve(service, "r2", 60, limit=100))
        await turns()
        for name in ("r1", "r2"):
            with pytest.raises(Fault):
                await reserve(service, name, 1, limit=100)
        waiting.cancel()

    asyncio.run(scene())


def test_a_plan_without_routes_is_a_defect() -> None:
    async def scene() -> None:
        with pytest.raises(Fault):
            await finops().reserve(request_id="r", tenant="t", budget=hard(1), estimate=tokens(1), quotes=[])

    asyncio.run(scene())


def test_prices_in_two_currencies_are_never_added() -> None:
    async def scene() -> None:
        service = finops()
        reais = quote("br/gpt", price=Price(input=1_000, output=1_000, currency="BRL"))
        first = await service.reserve(
            request_id="r1", tenant="acme", budget=None, estimate=tokens(5), quotes=[reais, quote()]
        )
        assert (first.currency, first.route) == ("BRL", "br/gpt")
        with pytest.raises(Refusal):
            service.next_attempt(first, quote(), presumed=False)

    asyncio.run(scene())


def test_what_the_provider_served_decides_the_tier_and_the_tools_that_are_charged() -> None:
    async def scene() -> None:
        service = finops()
        price = Price(input=1_000, output=1_000, service_tiers={"priority": 2_000}, server_tools={"web_search": 5})
        reservation = await service.reserve(
            request_id="r1",
            tenant="acme",
            budget=hard(1_000),
            estimate=Estimate(input_tokens=10, output_cap=0, service_tier="priority", cache_writes=False),
            quotes=[quote(price=price)],
        )
        assert reservation.amount == 20
        assert service.settle(reservation, Usage(input=10)).settled == 20
        assert service.settle(reservation, Usage(input=10), service_tier="default").settled == 10
        assert service.settle(reservation, Usage(input=1), tool_uses={"web_search": 1}).settled == 7
        unknown = service.settle(reservation, Usage(input=1), tool_uses={"moon_search": 1})
        assert (unknown.settled, unknown.presumed, unknown.cost_known) == (2, 18, False)

    asyncio.run(scene())
