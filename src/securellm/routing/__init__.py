"""Where to: the ordered plan of a request, and what follows a failed attempt."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.routing.model import Candidate, FollowUp, Plan, PlannedAttempt
    from securellm.routing.pins import pinned_of, spelled
    from securellm.routing.rules import backoff, follow_up, may_retry, offered, plan, wait_before
    from securellm.routing.service import Router
    from securellm.routing.store import MODELS
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "MODELS",
    "Candidate",
    "FollowUp",
    "Plan",
    "PlannedAttempt",
    "Router",
    "backoff",
    "follow_up",
    "may_retry",
    "offered",
    "pinned_of",
    "plan",
    "spelled",
    "wait_before",
]
