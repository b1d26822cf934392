"""What a human must decide: proposals that a second person approves, each used once."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.approvals.model import Proposal, State, Verdict
    from securellm.approvals.rules import EYES, HOST, decide, demand_alone, digest_of, is_person, missing_eyes, state_at
    from securellm.approvals.service import LIFETIME_US, MOST_OPEN, Approvals
    from securellm.approvals.store import PROPOSALS
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "EYES",
    "HOST",
    "LIFETIME_US",
    "MOST_OPEN",
    "PROPOSALS",
    "Approvals",
    "Proposal",
    "State",
    "Verdict",
    "decide",
    "demand_alone",
    "digest_of",
    "is_person",
    "missing_eyes",
    "state_at",
]
