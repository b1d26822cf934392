"""Money: what a request can cost, what it holds of its tenant's budget, what it did cost, and the ledger of it all."""

from securellm.finops.model import (
    PICTURE,
    Balance,
    Budget,
    BudgetLine,
    Estimate,
    Hold,
    LedgerState,
    LongContext,
    Price,
    Quote,
    Reservation,
    Settlement,
)
from securellm.finops.prices import PriceBook, configured, shipped
from securellm.finops.rules import attempt_fields, budget_report, intent_fields, outcome_fields, period_of
from securellm.finops.service import Finops
from securellm.finops.settings import BudgetSettings, FinopsSettings, PriceSettings
from securellm.finops.store import SCHEMA, LedgerReplay, attempting, holding, load, settling

__all__ = [
    "PICTURE",
    "SCHEMA",
    "Balance",
    "Budget",
    "BudgetLine",
    "BudgetSettings",
    "Estimate",
    "Finops",
    "FinopsSettings",
    "Hold",
    "LedgerReplay",
    "LedgerState",
    "LongContext",
    "Price",
    "PriceBook",
    "PriceSettings",
    "Quote",
    "Reservation",
    "Settlement",
    "attempt_fields",
    "attempting",
    "budget_report",
    "configured",
    "holding",
    "intent_fields",
    "load",
    "outcome_fields",
    "period_of",
    "settling",
    "shipped",
]
