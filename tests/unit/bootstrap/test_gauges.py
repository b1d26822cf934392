"""The gauges of budgets: this period's figures, and nothing of a month that is over."""

from securellm.bootstrap.gauges import BUDGET_STATES, budgets_of
from securellm.finops import LedgerState
from securellm.finops.model import Balance, Hold, Pledge

NOW, BEFORE = "2026-11", "2026-10"


def shown(ledger: LedgerState) -> dict[tuple[str, str], tuple[int, ...]]:
    found = budgets_of(ledger, period=NOW)
    return {key: tuple(amounts[state] for state in BUDGET_STATES) for key, amounts in found.items()}


def test_each_state_is_summed_by_tenant_and_currency() -> None:
    ledger = LedgerState(
        balances=(Balance("acme", NOW, "USD", 7, 5, 0), Balance("acme", NOW, "BRL", 1, 0, 0)),
        holds=(Hold("a", "acme", NOW, "USD", 2), Hold("b", "acme", NOW, "USD", 3)),
        pledges=(Pledge("c", "acme", NOW, "USD", 11, "openai", "batch"),),
    )
    assert shown(ledger) == {("acme", "USD"): (7, 5, 11, 5), ("acme", "BRL"): (1, 0, 0, 0)}


def test_a_month_that_is_over_leaves_no_figure_behind() -> None:
    ledger = LedgerState(
        balances=(Balance("acme", BEFORE, "USD", 7, 5, 0),),
        pledges=(Pledge("c", "acme", BEFORE, "USD", 11, "openai", "batch"),),
    )
    assert shown(ledger) == {("acme", "USD"): (0, 0, 0, 0)}


def test_the_first_request_of_a_tenant_is_held_in_sight() -> None:
    assert shown(LedgerState(holds=(Hold("a", "acme", NOW, "USD", 2),))) == {("acme", "USD"): (0, 0, 0, 2)}
