"""Money: what a request can cost, what it holds of its tenant's budget, what it did cost, and the ledger of it all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.finops.budgets import BUDGETS
    from securellm.finops.model import (
        NOTHING,
        PICTURE,
        Balance,
        Budget,
        BudgetLine,
        Correction,
        Estimate,
        Hold,
        LedgerState,
        LongContext,
        Pledge,
        Price,
        Quote,
        Reservation,
        Settlement,
    )
    from securellm.finops.prices import PriceBook, configured, shipped
    from securellm.finops.rules import (
        attempt_fields,
        batch_cost,
        budget_report,
        correction_fields,
        intent_fields,
        outcome_fields,
        period_of,
        request_cost,
    )
    from securellm.finops.service import Finops, batch_route
    from securellm.finops.settings import BudgetSettings, FinopsSettings, PriceSettings
    from securellm.finops.store import SCHEMA, LedgerReplay, attempting, correcting, holding, load, settling
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "BUDGETS",
    "NOTHING",
    "PICTURE",
    "SCHEMA",
    "Balance",
    "Budget",
    "BudgetLine",
    "BudgetSettings",
    "Correction",
    "Estimate",
    "Finops",
    "FinopsSettings",
    "Hold",
    "LedgerReplay",
    "LedgerState",
    "LongContext",
    "Pledge",
    "Price",
    "PriceBook",
    "PriceSettings",
    "Quote",
    "Reservation",
    "Settlement",
    "attempt_fields",
    "attempting",
    "batch_cost",
    "batch_route",
    "budget_report",
    "configured",
    "correcting",
    "correction_fields",
    "holding",
    "intent_fields",
    "load",
    "outcome_fields",
    "period_of",
    "request_cost",
    "settling",
    "shipped",
]
