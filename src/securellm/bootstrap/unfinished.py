"""What a process that ended left open in the journal."""

from securellm.audit import Outcome, OutcomeStatus
from securellm.core.errors import Code
from securellm.finops import Finops, LedgerState, load
from securellm.gateway.journal import Journal
from securellm.storage import Connection, GroupCommitWriter


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
