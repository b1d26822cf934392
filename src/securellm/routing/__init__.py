"""Where to: the ordered plan of a request, and what follows a failed attempt."""

from securellm.routing.model import Candidate, FollowUp, Plan, PlannedAttempt
from securellm.routing.rules import backoff, follow_up, may_retry, plan, wait_before
from securellm.routing.service import Router

__all__ = [
    "Candidate",
    "FollowUp",
    "Plan",
    "PlannedAttempt",
    "Router",
    "backoff",
    "follow_up",
    "may_retry",
    "plan",
    "wait_before",
]
