"""Reserve before the call and settle after it, so that no budget is ever overshot and no hold ever lost."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from securellm.core.batches import Load
from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault, Refusal
from securellm.core.money import ZERO, Nanos, format_amount
from securellm.core.usage import Usage
from securellm.finops import rules
from securellm.finops.model import (
    MAX_AMOUNT,
    MOST_IN_A_MONTH,
    Balance,
    Budget,
    Correction,
    Estimate,
    Hold,
    LedgerState,
    Pledge,
    Price,
    Quote,
    Reservation,
    Settlement,
)

RETRY_AFTER = 1.0
"""Seconds to tell a caller whose hold did not fit in time."""

_NO_TOOLS: Mapping[str, int] = MappingProxyType({})


class Finops:
    """The money gate. Lives on one event loop; every decision is made between two awaits, so none can interleave.

    The order of a request, where J is a durable commit of the journal:
    `reserve` -> J(INTENT + `store.holding`) -> call -> `settle` -> J(OUTCOME + `store.settling`) -> `apply`.
    Before another attempt: `next_attempt` -> J(ATTEMPT + `store.attempting`).
    A commit that failed after `reserve` or `next_attempt` is undone by `release`; one that failed after `settle`
    leaves the hold where it is, so that it counts as spent.

    A batch costs long after its request: `reserve_batch` -> J(INTENT) -> call -> `pledge` -> J(OUTCOME) -> `apply`.
    Whoever learns what it did cost: `claim` -> J(OUTCOME + `store.correcting`) -> `correct`; a claim whose commit
    failed is undone by `give_back`. Only one can have the claim, and a crash before the commit leaves the pledge.
    """

    def __init__(self, *, clock: Clock, reservation_wait: float = 10.0) -> None:
        """`reservation_wait`: seconds a request waits for live holds to be released."""
        self._clock = clock
        self.reservation_wait = reservation_wait
        self._accounts: dict[tuple[str, str, str], _Account] = {}
        self._holds: dict[str, _Live] = {}
        self._pledges: dict[str, Pledge] = {}
        self._pledged: dict[tuple[str, str, str], set[str]] = {}
        """The pledges of a thing, by tenant, provider and its id; one that is being corrected is not among them."""
        self._queues: dict[tuple[str, str], OrderedDict[str, _Waiter]] = {}
        self._suspended: set[tuple[str, str]] = set()

    def restore(self, state: LedgerState) -> tuple[Reservation, ...]:
        """Take over what the ledger says at start; returns the holds of requests that never ended.

        Each is to be settled with `settle(reservation, None, presumed=True)` and recorded before serving.
        """
        for balance in state.balances:
            account = self._account(balance.tenant, balance.period, balance.currency)
            account.settled, account.presumed, account.unknown = balance.settled, balance.presumed, balance.unknown
        for hold in state.holds:
            self._take(self._account(hold.tenant, hold.period, hold.currency), hold.request_id, hold.amount)
        for pledge in state.pledges:
            self._open(pledge)
        return tuple(
            Reservation(
                request_id=hold.request_id,
                tenant=hold.tenant,
                period=hold.period,
                currency=hold.currency,
                amount=Nanos(hold.amount),
                bounded=True,
            )
            for hold in state.holds
        )

    async def reserve(
        self,
        *,
        request_id: str,
        tenant: str,
        budget: Budget | None,
        estimate: Estimate,
        quotes: Sequence[Quote],
        wait: float | None = None,
    ) -> Reservation:
        """Hold the dearest of `quotes` that can be funded; the reservation is for the first such route.

        Waits, first come first served within a tenant, while live holds may still be released; `wait` (seconds)
        overrides the service's own. Cancelling leaves no hold behind.

        Raises:
            Refusal: BUDGET_EXHAUSTED when the amount cannot fit even if every live hold is released, or when
                the route is suspended after an overrun; BUDGET_HELD after the wait; UNKNOWN_PRICE and
                UNPRICED_FEATURE under a hard budget; INVALID_REQUEST for impossible counts.
        """
        return await self._hold(self._draft(request_id, tenant, budget, estimate, quotes), wait=wait)

    async def reserve_batch(
        self,
        *,
        request_id: str,
        tenant: str,
        budget: Budget | None,
        provider: str,
        loads: Sequence[tuple[Load, Price | None]],
        price_version: str = "",
        wait: float | None = None,
    ) -> Reservation:
        """Hold what all requests of a batch can cost together, each load at its price.

        Waits and raises as `reserve` does.
        """
        route = batch_route(provider)
        limit = _limit(budget)
        quotes = [Quote(route=f"{provider}/{load.upstream_model}", price=price) for load, price in loads]
        currency = _currency(budget, quotes)
        for quote in quotes:
            _refuse_another_currency(quote, currency)
        amount: int | None = None
        if limit is not None:
            amount = self._batch_bound(tenant, route, loads)
        elif budget is not None:
            with contextlib.suppress(Refusal):
                amount = self._batch_bound(tenant, route, loads)
        draft = Reservation(
            request_id=request_id,
            tenant=tenant,
            period=rules.period_of(self._clock.now_us()),
            currency=currency,
            amount=Nanos(amount or 0),
            route=route,
            price_version=price_version,
            limit=limit,
            watched=budget is not None,
            bounded=amount is not None,
            priced=all(price is not None for _, price in loads),
        )
        return await self._hold(draft, wait=wait)

    def _batch_bound(self, tenant: str, route: str, loads: Sequence[tuple[Load, Price | None]]) -> int:
        if (tenant, route) in self._suspended:
            raise _suspended(route)
        amount = 0
        for load, price in loads:
            if price is None:
                raise Refusal(Code.UNKNOWN_PRICE, f"{load.model} has no known price and the budget is hard")
            amount += rules.batch_worst_case(load, price)
        if amount > MAX_AMOUNT:
            raise Refusal(Code.BUDGET_EXHAUSTED, "the batch could cost more than any single request may")
        return amount

    async def _hold(self, draft: Reservation, *, wait: float | None) -> Reservation:
        """Take what the draft asks for, once it fits."""
        request_id, tenant = draft.request_id, draft.tenant
        if request_id in self._holds or any(request_id in queue for queue in self._queues.values()):
            raise Fault(Code.INTERNAL, f"request {request_id} holds money already")
        if draft.limit is None or not draft.amount:
            account = self._account(tenant, draft.period, draft.currency)
            if draft.amount and not account.fits(draft.amount, MOST_IN_A_MONTH):
                draft = msgspec.structs.replace(draft, amount=ZERO, bounded=False)
            self._take(account, request_id, draft.amount)
            return draft
        queue_key = (tenant, draft.currency)
        self._pump(queue_key)
        account = self._account(tenant, draft.period, draft.currency)
        hopeless = account.hopeless(draft.amount, draft.limit)
        if hopeless is not None:
            raise hopeless
        if queue_key not in self._queues and account.fits(draft.amount, draft.limit):
            self._take(account, request_id, draft.amount)
            return draft
        seconds = self.reservation_wait if wait is None else wait
        period = await self._queue_up(queue_key, draft, draft.limit, seconds=seconds)
        return msgspec.structs.replace(draft, period=period)

    def next_attempt(self, reservation: Reservation, quote: Quote, *, presumed: bool) -> Reservation:
        """Fund another attempt on `quote` without waiting; the former reservation is used up.

        `presumed`: bytes of the former attempt may have reached the provider, so its hold stays presumed spent and
        a new one is taken. Otherwise the hold goes over to the new attempt, raised only when it is too small.

        Raises:
            Refusal: as `reserve`, at once and with nothing changed; then settle the former reservation.
        """
        account, held, _ = self._held(reservation)
        estimate = reservation.estimate
        if estimate is None:
            raise Fault(Code.INTERNAL, f"request {reservation.request_id} was found at start and has no next attempt")
        _refuse_another_currency(quote, reservation.currency)
        funding = self._fund(reservation.tenant, estimate, quote, limit=reservation.limit, watched=reservation.watched)
        amount = funding.amount if presumed else max(held, funding.amount)
        extra = amount if presumed else amount - held
        if reservation.limit is not None and extra > 0:
            hopeless = account.hopeless(held + extra, reservation.limit)
            if hopeless is not None:
                raise hopeless
            if not account.fits(extra, reservation.limit):
                raise _held_by_others()
        elif not account.fits(extra, MOST_IN_A_MONTH):
            funding = funding._replace(bounded=False)
            amount = 0 if presumed else held
        account.held += amount - held
        account.presumed += held if presumed else 0
        self._holds[reservation.request_id] = _Live(account, amount, reservation.attempt + 1)
        return msgspec.structs.replace(
            reservation,
            amount=Nanos(amount),
            route=quote.route,
            price=quote.price,
            price_version=quote.price_version,
            output_cap=funding.cap,
            cap_injected=funding.injected,
            bounded=funding.bounded,
            priced=funding.priced,
            attempt=reservation.attempt + 1,
            former=Nanos(held),
            carried=Nanos(held) if presumed else ZERO,
        )

    def release(self, reservation: Reservation) -> None:
        """Undo the `reserve` or `next_attempt` that made this reservation: its record never became durable."""
        account, held, _ = self._held(reservation)
        if reservation.attempt == 1:
            del self._holds[reservation.request_id]
            account.held -= held
        else:
            self._holds[reservation.request_id] = _Live(account, reservation.former, reservation.attempt - 1)
            account.held += reservation.former - held
            account.presumed -= reservation.carried
        self._pump((reservation.tenant, reservation.currency))

    def settle(
        self,
        reservation: Reservation,
        usage: Usage | None,
        *,
        presumed: bool = False,
        service_tier: str | None = None,
        tool_uses: Mapping[str, int] = _NO_TOOLS,
    ) -> Settlement:
        """Say how the last attempt ends; changes nothing before `apply`.

        ========  ============  ========================================  =========================================
        usage     presumed      meaning                                   result
        ========  ============  ========================================  =========================================
        known     False         the provider reported it                  settled = its cost, the rest returns
        None      False         certainly not billed (refused, unsent)    nothing is spent
        None      True          bytes were sent, no usage came back       the whole hold is presumed
        partial   True          the caller left; this much was seen       settled = its cost, the rest is presumed
        ========  ============  ========================================  =========================================

        `service_tier` is the one the provider says it served, else the requested one; `tool_uses` counts the
        server tools it says it ran, and the pictures it drew. What was used and has no price keeps the rest of the
        hold presumed; counts that cannot be true are taken as no usage at all. Pictures that alone are paid for
        need no usage beside their number.
        """
        hold = reservation.amount
        if usage is not None and not rules.plausible(usage, tool_uses):
            usage, presumed = None, True
        elif usage is None and rules.counted_whole(reservation.price, tool_uses):
            usage, presumed = Usage(), False
        if usage is None or reservation.price is None:
            billed = presumed or usage is not None
            return Settlement(
                reservation=reservation, settled=ZERO, presumed=hold if billed else ZERO, cost_known=not billed
            )
        if service_tier is None and reservation.estimate is not None:
            service_tier = reservation.estimate.service_tier
        spent = rules.cost(usage, reservation.price, service_tier=service_tier, tool_uses=tool_uses)
        if spent > MAX_AMOUNT or not self._adds_up(reservation, spent - hold):
            overrun = MAX_AMOUNT if spent > MAX_AMOUNT else ZERO
            return Settlement(reservation=reservation, settled=ZERO, presumed=hold, cost_known=False, overrun=overrun)
        unpriced = rules.unpriced(usage, reservation.price, service_tier=service_tier, tool_uses=tool_uses)
        known = reservation.priced and not presumed and not unpriced
        if presumed and reservation.bounded:
            spent = min(spent, hold)
        return Settlement(
            reservation=reservation,
            settled=spent,
            presumed=ZERO if known else Nanos(max(0, hold - spent)),
            cost_known=known,
            overrun=Nanos(max(0, spent - hold)) if reservation.bounded else ZERO,
        )

    def apply(self, settlement: Settlement) -> None:
        """Move the money, once the OUTCOME record is durable, and let waiting requests in."""
        reservation = settlement.reservation
        account, held, _ = self._held(reservation)
        del self._holds[reservation.request_id]
        account.held -= held
        account.settled += settlement.settled
        account.presumed += settlement.presumed
        account.unknown += not settlement.cost_known
        if settlement.pledge is not None:
            self._open(settlement.pledge)
        if settlement.overrun:
            self._suspended.add((reservation.tenant, reservation.route))
        self._pump((reservation.tenant, reservation.currency))

    def pledge(self, reservation: Reservation, *, provider: str, thing: str) -> Settlement:
        """The request ends and its provider goes on with `thing`: all that was held stays presumed, under its name.

        Changes nothing before `apply`.
        """
        pledge = Pledge(
            request_id=reservation.request_id,
            tenant=reservation.tenant,
            period=reservation.period,
            currency=reservation.currency,
            amount=reservation.amount,
            provider=provider,
            thing=thing,
        )
        return Settlement(
            reservation=reservation, settled=ZERO, presumed=reservation.amount, cost_known=False, pledge=pledge
        )

    def pledged(self, tenant: str, provider: str, thing: str) -> Pledge | None:
        """What stays presumed for `thing` and can be corrected now; None also where its id stands for two of them."""
        names = self._pledged.get((tenant, provider, thing), set())
        return self._pledges[next(iter(names))] if len(names) == 1 else None

    def claim(self, pledge: Pledge, settled: Nanos) -> Correction | None:
        """Take it upon oneself to correct `pledge`, which nobody else can then; None where somebody does or did.

        Changes no money before `correct`. Nor is a cost believed that no single request may have.
        """
        if self.pledged(pledge.tenant, pledge.provider, pledge.thing) != pledge or not 0 <= settled <= MAX_AMOUNT:
            return None
        if not self._adds_up(pledge, settled - pledge.amount):
            return None
        self._close(pledge)
        overrun = max(0, settled - pledge.amount) if pledge.amount else 0
        return Correction(pledge=pledge, settled=settled, overrun=Nanos(overrun))

    def give_back(self, correction: Correction) -> None:
        """Undo `claim`: its record never became durable."""
        self._open(correction.pledge)

    def correct(self, correction: Correction) -> None:
        """Move the money, once the record that corrects is durable, and let waiting requests in."""
        pledge = correction.pledge
        account = self._account(pledge.tenant, pledge.period, pledge.currency)
        del self._pledges[pledge.request_id]
        account.presumed -= pledge.amount
        account.settled += correction.settled
        account.unknown -= 1
        if correction.overrun:
            self._suspended.add((pledge.tenant, batch_route(pledge.provider)))
        self._pump((pledge.tenant, pledge.currency))

    def _open(self, pledge: Pledge) -> None:
        self._pledges[pledge.request_id] = pledge
        self._pledged.setdefault((pledge.tenant, pledge.provider, pledge.thing), set()).add(pledge.request_id)

    def _close(self, pledge: Pledge) -> None:
        key = (pledge.tenant, pledge.provider, pledge.thing)
        self._pledged[key].discard(pledge.request_id)
        if not self._pledged[key]:
            del self._pledged[key]

    @property
    def suspended(self) -> frozenset[tuple[str, str]]:
        """The (tenant, route) pairs refused under a hard budget since their provider billed above the bound."""
        return frozenset(self._suspended)

    def acknowledge(self, tenant: str, route: str) -> bool:
        """Lift a suspension; False when there was none."""
        found = (tenant, route) in self._suspended
        self._suspended.discard((tenant, route))
        return found

    def snapshot(self) -> LedgerState:
        """Balances, open holds and open pledges as they stand, for reports and metrics."""
        return LedgerState(
            tuple(
                Balance(*key, account.settled, account.presumed, account.unknown)
                for key, account in self._accounts.items()
            ),
            tuple(Hold(request_id, *live.account.key, live.amount) for request_id, live in self._holds.items()),
            tuple(self._pledges.values()),
        )

    def _draft(
        self, request_id: str, tenant: str, budget: Budget | None, estimate: Estimate, quotes: Sequence[Quote]
    ) -> Reservation:
        """The reservation as it would be in the current month, nothing taken yet."""
        limit = _limit(budget)
        funded: list[tuple[Quote, _Funding]] = []
        refusals: list[Refusal] = []
        currency = _currency(budget, quotes)
        for quote in quotes:
            try:
                _refuse_another_currency(quote, currency)
                funding = self._fund(tenant, estimate, quote, limit=limit, watched=budget is not None)
                funded.append((quote, funding))
            except Refusal as refusal:
                refusals.append(refusal)
        if not funded:
            raise refusals[0] if refusals else Fault(Code.INTERNAL, "a plan without routes reached the budget")
        quote, funding = funded[0]
        return Reservation(
            request_id=request_id,
            tenant=tenant,
            period=rules.period_of(self._clock.now_us()),
            currency=currency,
            amount=Nanos(max(each.amount for _, each in funded)),
            route=quote.route,
            price=quote.price,
            price_version=quote.price_version,
            estimate=estimate,
            output_cap=funding.cap,
            cap_injected=funding.injected,
            limit=limit,
            watched=budget is not None,
            bounded=funding.bounded,
            priced=funding.priced,
        )

    def _fund(self, tenant: str, estimate: Estimate, quote: Quote, *, limit: int | None, watched: bool) -> "_Funding":
        """What one route needs. Without a hard budget nothing is refused and no output cap is set."""
        if limit is not None:
            return self._fund_hard(tenant, estimate, quote)
        priced = quote.price is not None and not rules.unpriced_fields(estimate, quote.price)
        amount = None
        if watched and priced and quote.price is not None:
            with contextlib.suppress(Refusal):
                amount = rules.worst_case(rules.funded_estimate(estimate, quote), quote.price)
        bounded = amount is not None and amount <= MAX_AMOUNT
        return _Funding(
            amount=amount if amount is not None and bounded else 0,
            cap=estimate.output_cap,
            injected=False,
            bounded=bounded,
            priced=priced,
        )

    def _fund_hard(self, tenant: str, estimate: Estimate, quote: Quote) -> "_Funding":
        if (tenant, quote.route) in self._suspended:
            raise _suspended(quote.route)
        if quote.price is None:
            raise Refusal(Code.UNKNOWN_PRICE, f"{quote.route} has no known price and the budget is hard")
        cap, injected = rules.choose_cap(estimate, quote.default_max_output)
        amount = rules.worst_case(rules.funded_estimate(estimate, quote), quote.price)
        if amount > MAX_AMOUNT:
            raise Refusal(Code.BUDGET_EXHAUSTED, "the request could cost more than any single request may")
        return _Funding(amount=amount, cap=cap, injected=injected, bounded=True, priced=True)

    def _account(self, tenant: str, period: str, currency: str) -> "_Account":
        key = (tenant, period, currency)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account(key)
        return account

    def _adds_up(self, spender: Reservation | Pledge, beyond: int) -> bool:
        """Whether so much beyond what is held, or presumed, can still be added up in the spender's month."""
        account = self._account(spender.tenant, spender.period, spender.currency)
        return beyond <= 0 or account.fits(beyond, MOST_IN_A_MONTH)

    def _take(self, account: "_Account", request_id: str, amount: int) -> None:
        self._holds[request_id] = _Live(account, amount, attempt=1)
        account.held += amount

    def _held(self, reservation: Reservation) -> "_Live":
        """The hold behind a reservation. Raises Fault for one that ended or was used up by a later attempt."""
        live = self._holds.get(reservation.request_id)
        if live is None or (live.amount, live.attempt) != (reservation.amount, reservation.attempt):
            raise Fault(Code.INTERNAL, f"request {reservation.request_id} does not hold what its reservation says")
        return live

    async def _queue_up(self, key: tuple[str, str], draft: Reservation, limit: int, *, seconds: float) -> str:
        """Wait for room; returns the period that gave it, with the hold taken there."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(draft, limit, loop.create_future())
        self._queues.setdefault(key, OrderedDict())[draft.request_id] = waiter
        timer = loop.call_later(seconds, self._give_up, key, waiter)
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            # The grant and the cancellation can meet in one turn of the loop: the hold must not outlive the task.
            if waiter.granted.done() and not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self.release(msgspec.structs.replace(draft, period=waiter.granted.result()))
            raise
        finally:
            timer.cancel()
            queue = self._queues.get(key)
            if queue is not None and queue.pop(draft.request_id, None) is not None:
                self._pump(key)

    def _give_up(self, key: tuple[str, str], waiter: "_Waiter") -> None:
        self._pump(key)  # a new month may have begun while nothing moved
        if not waiter.granted.done():
            waiter.granted.set_exception(_held_by_others())

    def _pump(self, key: tuple[str, str]) -> None:
        """Let the longest-waiting requests in, in order, until the first that has to go on waiting."""
        queue = self._queues.get(key)
        if queue is None:
            return
        tenant, currency = key
        period = rules.period_of(self._clock.now_us())
        account = self._account(tenant, period, currency)
        while queue:
            waiter = next(iter(queue.values()))
            if not waiter.granted.done():
                refusal = account.hopeless(waiter.draft.amount, waiter.limit)
                if refusal is not None:
                    waiter.granted.set_exception(refusal)
                elif account.fits(waiter.draft.amount, waiter.limit):
                    self._take(account, waiter.draft.request_id, waiter.draft.amount)
                    waiter.granted.set_result(period)
                else:
                    return
            queue.popitem(last=False)
        del self._queues[key]


class _Account:
    """One tenant's month in one currency."""

    __slots__ = ("held", "key", "presumed", "settled", "unknown")

    def __init__(self, key: tuple[str, str, str]) -> None:
        self.key = key
        self.settled = self.presumed = self.held = self.unknown = 0

    def fits(self, amount: int, limit: int) -> bool:
        return self.settled + self.presumed + self.held + amount <= limit

    def hopeless(self, amount: int, limit: int) -> Refusal | None:
        """Why the amount cannot fit even if every live hold is released."""
        spent = self.settled + self.presumed
        if spent + amount <= limit:
            return None
        _, period, currency = self.key
        needed, left, whole = (format_amount(nanos, currency) for nanos in (amount, max(0, limit - spent), limit))
        return Refusal(
            Code.BUDGET_EXHAUSTED, f"the request may cost {needed}, and {left} of the {whole} for {period} is left"
        )


class _Live(NamedTuple):
    """The hold of a request on its way."""

    account: _Account
    amount: int
    attempt: int


class _Waiter(NamedTuple):
    """A request in the queue."""

    draft: Reservation
    limit: int
    granted: asyncio.Future[str]


class _Funding(NamedTuple):
    """What one route of a plan needs."""

    amount: int
    cap: int | None
    injected: bool
    bounded: bool
    priced: bool


def batch_route(provider: str) -> str:
    """What the batches of a provider are called where routes are named: they are suspended together."""
    return f"{provider}/batches"


def _suspended(route: str) -> Refusal:
    return Refusal(
        Code.BUDGET_EXHAUSTED,
        f"{route} was billed above its upper bound and is suspended until an operator acknowledges it",
    )


def _limit(budget: Budget | None) -> Nanos | None:
    """What must not be exceeded; None where nothing is enforced."""
    return min(budget.limit, MOST_IN_A_MONTH) if budget is not None and budget.hard else None


def _currency(budget: Budget | None, quotes: Sequence[Quote]) -> str:
    """A hard budget decides the currency; otherwise the first known price does."""
    if budget is not None and budget.hard:
        return budget.currency
    known = (quote.price.currency for quote in quotes if quote.price is not None and quote.price.currency)
    return next(known, budget.currency if budget is not None else "USD")


def _refuse_another_currency(quote: Quote, currency: str) -> None:
    if quote.price is not None and quote.price.currency not in ("", currency):
        reason = f"{quote.route} has no price in {currency}, the currency of the reservation"
        raise Refusal(Code.UNKNOWN_PRICE, reason)


def _held_by_others() -> Refusal:
    return Refusal(Code.BUDGET_HELD, "running requests hold the rest of the budget", retry_after=RETRY_AFTER)
