"""The nouns of approvals: a change that waits for another person, and what became of it."""

from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    PENDING = "pending"
    EXECUTED = "executed"
    """Approved, and done in the same transaction."""
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Nobody decided in time, which is a no."""


class Verdict(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    WITHDRAW = "withdraw"


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """One change with its exact arguments. Executed at most once."""

    id: str
    tenant: str | None
    """None is the installation itself."""
    action: str
    """Such as `create_grant`: the operation that waits."""
    permission: str
    """What whoever approves must hold, such as `grants:approve`."""
    arguments: dict[str, Any]
    """What the operation was asked for, to the letter; never a secret."""
    digest: str
    """SHA-256 that binds action, tenant, arguments and requester."""
    requester: str
    reason: str
    """Why the requester wants it, in their words."""
    created_us: int
    expires_us: int
    """The first moment at which it counts as refused."""
    state: State = State.PENDING
    revision: int = 1
    """Rises with each decision; two that are made at once cannot both be kept."""
    approvals: tuple[str, ...] = ()
    """Who has approved it so far."""
    decided_by: str | None = None
    decided_us: int | None = None
    note: str = ""
    """Why it was decided so, in the decider's words."""
    result: str | None = None
    """The id of what its execution made or changed."""
