"""What the gauges show of a running gateway: how it is, and where each tenant's budget stands."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from securellm.core.money import Nanos
from securellm.finops import LedgerState, period_of
from securellm.gateway.capabilities import Gates
from securellm.telemetry.metrics import Metrics

BUDGET_STATES = ("settled", "presumed", "pledged", "held")


def measure(metrics: Metrics, gates: Gates) -> None:
    """Set the gauges to what is so now."""
    metrics.snapshot_age.set(gates.snapshots.age)
    metrics.audit_healthy.set(1 if gates.journal.healthy else 0)
    standing = budgets_of(gates.finops.snapshot(), period=period_of(gates.clock.now_us()))
    for (tenant, currency), amounts in standing.items():
        for state in BUDGET_STATES:
            metrics.budget.labels(tenant, currency, state).set(Nanos(amounts[state]))


def budgets_of(ledger: LedgerState, *, period: str) -> Mapping[tuple[str, str], Mapping[str, int]]:
    """Nanos of each state in `period`, by tenant and currency.

    Whoever has spent in another period alone stands at nothing: else their gauge would show that one for good.
    """
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for balance in ledger.balances:
        amounts = found[balance.tenant, balance.currency]
        if balance.period == period:
            amounts["settled"] += balance.settled
            amounts["presumed"] += balance.presumed
    for pledge in ledger.pledges:
        if pledge.period == period:
            found[pledge.tenant, pledge.currency]["pledged"] += pledge.amount
    for hold in ledger.holds:
        found[hold.tenant, hold.currency]["held"] += hold.amount
    return found
