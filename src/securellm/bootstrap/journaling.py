"""What the journal of a gateway consists of."""

from securellm.audit import SCHEMA as AUDIT_SCHEMA
from securellm.audit import Observer
from securellm.cache import SCHEMA as IDEMPOTENCY_SCHEMA
from securellm.cache import IdempotencyReplay
from securellm.custody import SCHEMA as CUSTODY_SCHEMA
from securellm.custody import CustodyReplay
from securellm.finops import SCHEMA as LEDGER_SCHEMA
from securellm.finops import LedgerReplay

JOURNAL_SCHEMA = (*AUDIT_SCHEMA, *LEDGER_SCHEMA, *CUSTODY_SCHEMA, *IDEMPOTENCY_SCHEMA)
WRITER_ID = "gateway"


def journal_observers() -> tuple[Observer, ...]:
    """For one `audit verify`: what derives each table of the journal from its records again."""
    return (LedgerReplay(), CustodyReplay(), IdempotencyReplay())
