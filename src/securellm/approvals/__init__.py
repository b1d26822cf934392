"""What a human must decide: proposals that a second person approves, each used once."""

from securellm.approvals.model import Proposal, State, Verdict
from securellm.approvals.rules import EYES, HOST, decide, demand_alone, digest_of, is_person, missing_eyes, state_at
from securellm.approvals.service import LIFETIME_US, MOST_OPEN, Approvals
from securellm.approvals.store import PROPOSALS

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
