"""What the journal of a gateway consists of, and what a process that ended left open in it."""

from securellm.audit import SCHEMA as AUDIT_SCHEMA
from securellm.audit import Observer, Outcome, OutcomeStatus
from securellm.cache import SCHEMA as IDEMPOTENCY_SCHEMA
from securellm.cache import IdempotencyReplay
from securellm.core.errors import Code
from securellm.custody import SCHEMA as CUSTODY_SCHEMA
from securellm.custody import CustodyReplay
from securellm.finops import SCHEMA as LEDGER_SCHEMA
from securellm.finops import Finops, LedgerReplay, LedgerState, load
from securellm.gateway.journal import Journal
from securellm.storage import Connection, GroupCommitWriter

JOURNAL_SCHEMA = (*AUDIT_SCHEMA, *LEDGER_SCHEMA, *CUSTODY_SCHEMA, *IDEMPOTENCY_SCHEMA)
WRITER_ID = "gateway"


def journal_observers() -> tuple[Observer, ...]:
    """For one `audit verify`: what derives each table of the journal from its records again."""
    return (LedgerReplay(), CustodyReplay(), IdempotencyReplay())


def take_over(writer: GroupCommitWriter, journal: Journal, finops: Finops) -> int:
    """End every request that a former process left open; how many. What it held is presumed spent until reconciled."""
    states: list[LedgerState] = []

    def read(connection: Connection) -> None:
        states.append(load(connection))

    writer.perform(read)
    endings = []
    for reservation in finops.restore(states[0]):
        settlement = finops.settle(reservation, None, presumed=True)
        record = Outcome(
            request_id=reservation.request_id,
            status=OutcomeStatus.UNKNOWN,
            code=Code.UNKNOWN_OUTCOME,
            reason="the process ended before the outcome was known",
            attempts=reservation.attempt,
            settled=settlement.settled,
            presumed=settlement.presumed,
            cost_known=settlement.cost_known,
        )
        endings.append((reservation, settlement, record))
    journal.unknown_outcomes(endings)
    for _, settlement, _ in endings:
        finops.apply(settlement)
    return len(endings)
