"""How a request ends: paid or presumed, recorded, and only then accounted for."""

from functools import partial

from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.finops import Reservation, Settlement
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.model import Received
from securellm.gateway.stages import Funded, Settled


async def settle(funded: Funded, gates: Gates, case: Case) -> Settled:
    """The answer is whole and usable: pay, and make the OUTCOME durable. Nothing final leaves before this."""
    settlement = _paid(gates, case, funded.reservation)
    case.closed = True
    late = partial(_account, gates, case, settlement)
    recorded = await gates.record(gates.journal.outcome(case, settlement, None, late=late))
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


def cause_of(error: BaseException, received: Received) -> GatewayError:
    """What to record for whatever is not one of our errors."""
    if isinstance(error, Exception):
        return Fault(Code.INTERNAL, "an unexpected error stopped this request")
    if received.left():
        return Refusal(Code.CLIENT_DISCONNECTED, "the client left before the end")
    return Fault(Code.SHUTTING_DOWN, "the process was stopped before the end")


def _paid(gates: Gates, case: Case, reservation: Reservation) -> Settlement:
    """The settlement of an answer that came whole."""
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
    if case.deposit is not None:
        gates.custody.note(case.deposit)
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
