"""Changes that take two people: proposed by one, executed when another approves, or done alone by breaking the glass.

What is executed is what was proposed, to the letter, and with the rights that its requester holds at that moment.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.responses import Response

from securellm.admin.calls import Call
from securellm.admin.digests import digest_of
from securellm.admin.permissions import API_ROOT
from securellm.admin.ports import Changed, Ports
from securellm.admin.proposal import ProposalView, proposal_view
from securellm.admin.shapes import Responses, answer
from securellm.approvals import HOST, Proposal, demand_alone
from securellm.audit import AdminChange
from securellm.core.errors import Code, Refusal
from securellm.identity import Actor, Permission
from securellm.storage import Session

Arguments = dict[str, Any]


class Hands(msgspec.Struct, frozen=True, kw_only=True):
    """Who does a critical change."""

    requester: Actor
    """With the rights they hold now."""
    approver: str | None = None
    break_glass: str | None = None

    def other_than(self, principal: str | None) -> str:
        """One of the two who is not `principal`, where one of them is not."""
        if self.approver is not None and self.approver != principal:
            return self.approver
        return self.requester.principal


class Critical(msgspec.Struct, frozen=True, kw_only=True):
    """One operation that takes two people."""

    action: str
    """The operation's id, such as `create_grant`."""
    verb: str
    resource: str
    approval: Permission
    """What whoever approves must hold in the same scope."""
    check: Callable[[Session, Actor, Arguments], None]
    """Raises whatever `perform` would raise; asked before a proposal is kept."""
    perform: Callable[[Session, Hands, Arguments], Changed[Any]]
    answer: Callable[[Any], Response]
    """What is answered when it was done alone."""
    prepare: Callable[[Call, Arguments], Awaitable[None]] | None = None
    """What takes too long for a transaction, and raises where it finds that this cannot be done."""


class Criticals:
    """Every critical operation, by its action."""

    def __init__(self) -> None:
        self._all: dict[str, Critical] = {}

    def add(self, critical: Critical) -> Critical:
        assert critical.action not in self._all
        self._all[critical.action] = critical
        return critical

    def of(self, proposal: Proposal) -> Critical:
        """Raises `Refusal` (CONFLICT) for an operation that this release does not know."""
        critical = self._all.get(proposal.action)
        if critical is None:
            raise Refusal(Code.CONFLICT, "this release knows no such operation any more")
        return critical


async def propose(call: Call, critical: Critical, *, tenant: str | None, arguments: Arguments, reason: str) -> Response:
    """Keep the change as a proposal (202), or do it at once where the host may break the glass."""
    ports = call.ports
    if critical.prepare is not None:
        await critical.prepare(call, arguments)
    if call.break_glass is not None:
        result = await call.change(
            critical.verb, critical.resource, lambda session: _alone(session, call, critical, tenant, arguments),
            tenant=tenant,
        )  # fmt: skip
        return critical.answer(result)
    if call.actor.principal == HOST:
        raise Refusal(Code.APPROVAL_REQUIRED, "this takes two people; alone, the host says why (X-Break-Glass)")

    def work(session: Session) -> Changed[Proposal]:
        critical.check(session, call.actor, arguments)
        proposal = ports.approvals.propose(
            session,
            action=critical.action,
            tenant=tenant,
            permission=critical.approval.value,
            arguments=arguments,
            requester=call.actor.principal,
            reason=reason,
        )
        return Changed(result=proposal, id=proposal.id, after=proposal)

    proposal = await call.change("propose", "proposals", work, tenant=tenant)
    return answer(proposal_view(proposal), status=202, location=f"{API_ROOT}/proposals/{proposal.id}")


def execute(session: Session, call: Call, critical: Critical, proposal: Proposal) -> tuple[str, AdminChange]:
    """Do what was proposed: the id of what it made or changed, and its own record."""
    for principal in proposal.approvals:
        # Who was forgotten and came back would count twice.
        actor_of(session, call.ports, principal, did="approved")
    hands = Hands(
        requester=actor_of(session, call.ports, proposal.requester),
        approver=call.actor.principal,
        break_glass=call.break_glass,
    )
    changed = critical.perform(session, hands, proposal.arguments)
    record = AdminChange(
        action=critical.verb,
        resource=critical.resource,
        resource_id=changed.id,
        tenant=proposal.tenant,
        actor=proposal.requester,
        request_id=call.request_id,
        client_ip=call.client_ip or None,
        before=digest_of(changed.before),
        after=digest_of(changed.after),
        approval=proposal.id,
        break_glass=call.break_glass,
    )
    return changed.id, record


def demand_glass(session: Session, call: Call, approval: Permission, tenant: str | None) -> None:
    """Raises `Refusal` (FORBIDDEN) unless this call may do alone what takes two."""
    eligible = call.ports.directory.eligible(session, approval, tenant=tenant)
    demand_alone(principal=call.actor.principal, reason=call.break_glass or "", eligible=len(eligible))


def actor_of(session: Session, ports: Ports, principal: str, *, did: str = "proposed") -> Actor:
    """A principal with the roles they hold now. Raises `Refusal` (CONFLICT) when they are gone or disabled."""
    try:
        return ports.callers.as_of_now(session, principal)
    except Refusal:
        raise Refusal(Code.CONFLICT, f"who {did} it is not known any more, or disabled") from None


def _alone(session: Session, call: Call, critical: Critical, tenant: str | None, arguments: Arguments) -> Changed[Any]:
    demand_glass(session, call, critical.approval, tenant)
    return critical.perform(session, Hands(requester=call.actor, break_glass=call.break_glass), arguments)


ANSWERS_PROPOSAL: Responses = {
    202: {"model": ProposalView, "description": "A proposal, which waits for another person"}
}
