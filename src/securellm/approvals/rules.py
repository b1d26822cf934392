"""Pure decisions of approvals: what a proposal binds, who may decide it, and when one person alone may act."""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

import msgspec

from securellm.approvals.model import Proposal, State, Verdict
from securellm.core.canonical import canonical_bytes
from securellm.core.errors import Code, Refusal

HOST = "service:host"
"""The admin token of this host: whoever holds the machine, and nobody in particular."""

EYES = 2
"""Eligible people from which on nobody acts alone."""

_PERSON = "user:"
_ENDINGS = {Verdict.APPROVE: State.EXECUTED, Verdict.REJECT: State.REJECTED, Verdict.WITHDRAW: State.WITHDRAWN}


def is_person(principal: str) -> bool:
    """Whether `principal` is somebody: services and the host never count."""
    return principal.startswith(_PERSON) and len(principal) > len(_PERSON)


def digest_of(*, action: str, tenant: str | None, arguments: dict[str, Any], requester: str) -> str:
    """What an approver approves, in 64 hex digits. Raises ValueError for what has no canonical form."""
    bound = {"action": action, "tenant": tenant, "arguments": arguments, "requester": requester}
    return hashlib.sha256(canonical_bytes(bound)).hexdigest()


def missing_eyes(requester: str, approvals: Iterable[str]) -> int:
    """How many more people must approve. A service that proposes is nobody: any one person may stand behind it."""
    return max(0, EYES - len({principal for principal in (requester, *approvals) if is_person(principal)}))


def state_at(proposal: Proposal, *, now_us: int) -> State:
    """The state as of now: what nobody decided in time has expired."""
    if proposal.state is State.PENDING and now_us >= proposal.expires_us:
        return State.EXPIRED
    return proposal.state


def decide(
    proposal: Proposal, verdict: Verdict, *, by: str, digest: str | None, note: str, now_us: int, alone: bool = False
) -> Proposal:
    """The proposal after `by` has decided it; approved by too few people, it still waits.

    `alone` says that the host breaks the glass for it.

    Raises `Refusal`: CONFLICT when it was decided or has expired, FORBIDDEN when `by` may not decide so,
    PRECONDITION_FAILED when what is kept is not what was proposed or what `by` has seen.
    """
    state = state_at(proposal, now_us=now_us)
    if state is not State.PENDING:
        raise Refusal(Code.CONFLICT, f"the proposal is {state.value} already")
    if verdict is Verdict.WITHDRAW:
        if by != proposal.requester:
            raise Refusal(Code.FORBIDDEN, "only who proposed it may withdraw it")
    elif not alone:
        if not is_person(by):
            raise Refusal(Code.FORBIDDEN, "only a person may decide a proposal")
        if by == proposal.requester:
            raise Refusal(Code.FORBIDDEN, "who proposed it cannot decide it")
        if by in proposal.approvals and verdict is Verdict.APPROVE:
            raise Refusal(Code.CONFLICT, "the same person approved it already")
    changed: dict[str, Any] = {"revision": proposal.revision + 1}
    if verdict is Verdict.APPROVE:
        _demand_same(proposal, digest)
        changed["approvals"] = (*proposal.approvals, by)
        if not alone and missing_eyes(proposal.requester, changed["approvals"]):
            return msgspec.structs.replace(proposal, **changed)
    changed |= {"state": _ENDINGS[verdict], "decided_by": by, "decided_us": now_us, "note": note}
    return msgspec.structs.replace(proposal, **changed)


def demand_alone(*, principal: str, reason: str, eligible: int) -> None:
    """Raises `Refusal` (FORBIDDEN) unless the host may do alone, for `reason`, what takes two."""
    if principal != HOST:
        raise Refusal(Code.FORBIDDEN, "only the host's own admin token may break the glass")
    if not reason.strip():
        raise Refusal(Code.FORBIDDEN, "breaking the glass needs a reason")
    if eligible >= EYES:
        raise Refusal(Code.FORBIDDEN, f"{eligible} people may approve this, so the glass stays whole")


def _demand_same(proposal: Proposal, digest: str | None) -> None:
    kept = digest_of(
        action=proposal.action, tenant=proposal.tenant, arguments=proposal.arguments, requester=proposal.requester
    )
    if not hmac.compare_digest(kept, proposal.digest):
        raise Refusal(Code.PRECONDITION_FAILED, "the proposal is not what was proposed any more")
    if digest is None or not hmac.compare_digest(digest.encode(), kept.encode()):
        raise Refusal(Code.PRECONDITION_FAILED, "the digest is not that of this proposal", param="digest")
