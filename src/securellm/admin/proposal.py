"""How a proposal is shown: by the resource itself and by every operation that makes one."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from securellm.admin.moments import moment_of
from securellm.approvals import Proposal, State, missing_eyes


class ProposalView(BaseModel):
    """A change that waits for another person, or what became of it."""

    id: str
    tenant: str | None
    action: str
    arguments: dict[str, Any]
    digest: str = Field(description="Send it with an approval: it binds exactly what is shown here.")
    permission: str = Field(description="What whoever approves must hold.")
    requester: str
    reason: str
    state: State
    approvals: list[str]
    missing: int = Field(description="How many more people must approve.")
    created_at: datetime | None
    expires_at: datetime | None
    decided_by: str | None
    decided_at: datetime | None
    note: str
    result: str | None


def proposal_view(proposal: Proposal) -> ProposalView:
    pending = proposal.state is State.PENDING
    return ProposalView(
        id=proposal.id,
        tenant=proposal.tenant,
        action=proposal.action,
        arguments=proposal.arguments,
        digest=proposal.digest,
        permission=proposal.permission,
        requester=proposal.requester,
        reason=proposal.reason,
        state=proposal.state,
        approvals=list(proposal.approvals),
        missing=missing_eyes(proposal.requester, proposal.approvals) if pending else 0,
        created_at=moment_of(proposal.created_us),
        expires_at=moment_of(proposal.expires_us),
        decided_by=proposal.decided_by,
        decided_at=moment_of(proposal.decided_us),
        note=proposal.note,
        result=proposal.result,
    )
