"""The table of approvals: every proposal and what became of it."""

from typing import Any

import msgspec
from sqlalchemy import Column, Row, func, insert, select, update

from securellm.approvals.model import Proposal, State
from securellm.storage import INTEGER, JSON, TEXT, Session, tenant_table

PROPOSALS = tenant_table(
    "proposals",
    Column("id", TEXT, primary_key=True),
    Column("state", TEXT, nullable=False),
    Column("revision", INTEGER, nullable=False),
    Column("expires_us", INTEGER, nullable=False),
    Column("requester", TEXT, nullable=False),
    Column("document", JSON, nullable=False),
    followed=False,
)


def put(session: Session, proposal: Proposal) -> None:
    """Keep a new proposal."""
    session.run(insert(PROPOSALS).values(id=proposal.id, tenant=proposal.tenant or "", **_columns(proposal)))


def get(session: Session, proposal_id: str) -> Proposal | None:
    row = session.row(select(PROPOSALS.c.document).where(PROPOSALS.c.id == proposal_id))
    return None if row is None else _proposal(row)


def page(
    session: Session, *, after: str | None, limit: int, tenant: str | None = None, pending_at: int | None = None
) -> tuple[Proposal, ...]:
    """Up to `limit` proposals beyond the id `after`; of one tenant ("" is the installation) or of all in scope.

    With `pending_at`, only those that nobody has decided and that have not expired at that moment.
    """
    query = select(PROPOSALS.c.document).order_by(PROPOSALS.c.id).limit(limit)
    if after is not None:
        query = query.where(PROPOSALS.c.id > after)
    if tenant is not None:
        query = query.where(PROPOSALS.c.tenant == tenant)
    if pending_at is not None:
        query = query.where(PROPOSALS.c.state == State.PENDING.value, PROPOSALS.c.expires_us > pending_at)
    return tuple(_proposal(row) for row in session.rows(query))


def open_of(session: Session, requester: str, *, now_us: int) -> int:
    """How many proposals of `requester` wait."""
    query = select(func.count()).where(
        PROPOSALS.c.requester == requester,
        PROPOSALS.c.state == State.PENDING.value,
        PROPOSALS.c.expires_us > now_us,
    )
    row = session.row(query)
    assert row is not None
    return int(row[0])


def replace(session: Session, proposal: Proposal, *, before: Proposal) -> bool:
    """Put `proposal` in the place of `before`; False, and nothing is written, when that has changed meanwhile."""
    change = update(PROPOSALS).where(PROPOSALS.c.id == before.id, PROPOSALS.c.revision == before.revision)
    return session.run(change.values(**_columns(proposal))) == 1


def _columns(proposal: Proposal) -> dict[str, Any]:
    return {
        "state": proposal.state.value,
        "revision": proposal.revision,
        "expires_us": proposal.expires_us,
        "requester": proposal.requester,
        "document": proposal,
    }


def _proposal(row: Row[Any]) -> Proposal:
    return msgspec.convert(row.document, Proposal)
