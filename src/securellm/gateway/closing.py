"""How a request ends: paid or presumed, recorded, and only then accounted for."""

from functools import partial

from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.finops import Reservation, Settlement
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.journal import Undecided
from securellm.gateway.stages import Funded, Settled


async def settle(funded: Funded, gates: Gates, case: Case) -> Settled:
    """The answer is whole and usable: pay, and make the OUTCOME durable. Nothing final leaves before this."""
    settlement = _paid(gates, case, funded.reservation)
    case.closed = True
    late = partial(_account, gates, case, settlement)
    try:
        recorded = await gates.record(gates.journal.outcome(case, settlement, None, late=late))
    except Undecided:
        raise
    except GatewayError:
        if case.correction is not None:
            gates.finops.give_back(case.correction)
        raise
    settled = Settled(funded, settlement, recorded)
    _account(gates, case, settlement)
    return settled


async def close(gates: Gates, case: Case, error: GatewayError) -> None:
    """The request ended without a usable answer: whatever may have been billed stays presumed, and is recorded."""
    reservation = case.reservation
    assert reservation is not None
    case.closed = True
    if case.whole:
        settlement = _paid(gates, case, reservation)
    elif case.may_be_billed:
        settlement = gates.finops.settle(reservation, case.usage, presumed=True)
    else:
        settlement = gates.finops.settle(reservation, None)
    await gates.journal.outcome(case, settlement, error, late=partial(_account, gates, case, settlement))
    _account(gates, case, settlement)


def abandon(gates: Gates, case: Case, error: GatewayError) -> None:
    """Nobody waits for this request any more: its end is settled and recorded in its own time."""
    case.closed = True
    gates.journal.afterwards(close(gates, case, error))


def cause_of(error: BaseException, case: Case) -> GatewayError:
    """What to record for whatever is not one of our errors."""
    if case.cut is not None:
        return case.cut()
    if isinstance(error, Exception):
        return Fault(Code.INTERNAL, "an unexpected error stopped this request")
    if case.received.left():
        return Refusal(Code.CLIENT_DISCONNECTED, "the client left before the end")
    return Fault(Code.SHUTTING_DOWN, "the process was stopped before the end")


def _paid(gates: Gates, case: Case, reservation: Reservation) -> Settlement:
    """The settlement of an answer that came whole; of one that says that something goes on, a pledge."""
    if case.pledging is not None and case.target is not None:
        return gates.finops.pledge(reservation, provider=case.target.provider, thing=case.pledging)
    return gates.finops.settle(
        reservation,
        case.usage,
        presumed=case.usage is None,
        service_tier=case.service_tier,
        tool_uses=dict(case.server_tool_uses),
    )


def _account(gates: Gates, case: Case, settlement: Settlement) -> None:
    """After the record: move the money, what is kept for whom, the limits and the metrics."""
    reservation = settlement.reservation
    gates.finops.apply(settlement)
    if case.correction is not None:
        gates.finops.correct(case.correction)
        pledge = case.correction.pledge
        gates.metrics.spend.labels(pledge.tenant, pledge.currency).inc(case.correction.settled)
        gates.metrics.corrected.labels(pledge.tenant, pledge.currency).inc(pledge.amount)
        if case.correction.overrun:
            gates.metrics.overruns.labels(pledge.tenant).inc()
    if case.deposit is not None:
        gates.custody.note(case.deposit)
    for follow in case.then:
        follow()
    if case.claim is not None:
        gates.idempotency.ended(case.claim, freed=case.key_freed)
    if case.usage is not None and case.admission is not None:
        gates.limits.charge(case.admission, case.usage.total_tokens)
    target = case.target
    if target is not None:
        if case.usage is not None:
            gates.metrics.count_usage(case.usage, provider=target.provider, model=target.upstream_model)
        gates.metrics.llm_latency.labels(target.provider, target.upstream_model).observe(case.attempt_seconds())
    tenant, currency = reservation.tenant, reservation.currency
    if settlement.settled:
        gates.metrics.spend.labels(tenant, currency).inc(settlement.settled)
    if settlement.presumed:
        gates.metrics.presumed.labels(tenant, currency).inc(settlement.presumed)
    if settlement.overrun:
        gates.metrics.overruns.labels(tenant).inc()
