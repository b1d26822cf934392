"""The resource /admin/v1/proposals: what waits for a second person, and their word on it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import Call, CurrentCall
from securellm.admin.critical import Criticals, demand_glass, execute
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.proposal import ProposalView, proposal_view
from securellm.admin.shapes import Input, ListedOfTenant, PathId, Reason, answer, shown
from securellm.approvals import Proposal, State, Verdict
from securellm.audit import Record
from securellm.identity import Permission
from securellm.storage import Session

Work = Callable[[Session], Changed[Proposal]]


class Approval(Input):
    """A yes to exactly what was shown."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    note: Reason = ""


class Answer(Input):
    """A no, or a second thought."""

    note: Reason = ""


class ProposalList(BaseModel):
    data: list[ProposalView]
    next_cursor: str | None


class ListProposals(ListedOfTenant):
    """Which proposals to list."""

    pending: bool = False


def add_proposals(app: FastAPI, ports: Ports, criticals: Criticals) -> None:
    """Serve the resource."""
    approvals = ports.approvals
    root = f"{API_ROOT}/proposals"
    one = f"{root}/{{proposal_id}}"
    reads = asks(Permission.PROPOSALS_READ, of="tenant")
    decides = asks(Permission.PROPOSALS_WRITE, of="tenant")
    approves = asks(Permission.PROPOSALS_WRITE, of="tenant", four_eyes=True)

    def owned(session: Session, call: Call, proposal_id: str) -> Proposal:
        proposal = approvals.get(session, proposal_id)
        call.allow_or_hide(proposal.tenant, "proposal")
        return proposal

    @app.get(root, operation_id="list_proposals", tags=["proposals"], openapi_extra=reads)
    async def list_proposals(call: CurrentCall, asked: Annotated[ListProposals, Query()]) -> ProposalList:
        """List proposals in the order they were made, decided or not."""
        tenant = call.among(asked.tenant)
        found, cursor = await page_of(
            call,
            asked,
            lambda session, after, most: approvals.page(
                session, after=after, limit=most, tenant=tenant, pending=asked.pending
            ),
            key=lambda proposal: proposal.id,
            tenant=tenant,
            query={"pending": str(asked.pending)},
        )
        return ProposalList(data=[proposal_view(item) for item in found], next_cursor=cursor)

    @app.get(one, operation_id="get_proposal", tags=["proposals"], openapi_extra=reads)
    async def get_proposal(call: CurrentCall, proposal_id: PathId) -> ProposalView:
        """One proposal with its exact arguments."""
        return proposal_view(await call.read(lambda session: owned(session, call, proposal_id), scope=call.home))

    @app.post(
        f"{one}/approve",
        operation_id="approve_proposal",
        tags=["proposals"],
        openapi_extra=approves,
        responses=shown(ProposalView, tagged=False),
        response_model=None,
    )
    async def approve_proposal(call: CurrentCall, proposal_id: PathId, asked: Approval) -> Response:
        """Say yes to exactly what was shown. With enough people it is done in the same step, or nothing is."""

        await prepare(call, proposal_id)

        def work(session: Session) -> Changed[Proposal]:
            proposal = owned(session, call, proposal_id)
            approval = Permission(proposal.permission)
            call.allow(proposal.tenant, permission=approval)
            alone = call.break_glass is not None
            if alone:
                demand_glass(session, call, approval, proposal.tenant)
            records: list[Record] = []

            def do(approved: Proposal) -> str:
                made, record = execute(session, call, criticals.of(approved), approved)
                records.append(record)
                return made

            decided = approvals.decide(
                session,
                proposal_id,
                Verdict.APPROVE,
                by=call.actor.principal,
                digest=asked.digest,
                note=asked.note,
                alone=alone,
                execute=do,
            )
            return Changed(result=decided, id=proposal_id, before=proposal, after=decided, records=tuple(records))

        return await decide(call, proposal_id, "approve", work)

    @app.post(
        f"{one}/reject",
        operation_id="reject_proposal",
        tags=["proposals"],
        openapi_extra=decides,
        responses=shown(ProposalView, tagged=False),
        response_model=None,
    )
    async def reject_proposal(call: CurrentCall, proposal_id: PathId, asked: Answer) -> Response:
        """Say no, for good."""

        def work(session: Session) -> Changed[Proposal]:
            proposal = owned(session, call, proposal_id)
            call.allow(proposal.tenant, permission=Permission(proposal.permission))
            return end(session, call, proposal, Verdict.REJECT, asked.note)

        return await decide(call, proposal_id, "reject", work)

    @app.post(
        f"{one}/withdraw",
        operation_id="withdraw_proposal",
        tags=["proposals"],
        openapi_extra=decides,
        responses=shown(ProposalView, tagged=False),
        response_model=None,
    )
    async def withdraw_proposal(call: CurrentCall, proposal_id: PathId, asked: Answer) -> Response:
        """Take one's own proposal back."""

        def work(session: Session) -> Changed[Proposal]:
            return end(session, call, owned(session, call, proposal_id), Verdict.WITHDRAW, asked.note)

        return await decide(call, proposal_id, "withdraw", work)

    async def prepare(call: Call, proposal_id: str) -> None:
        proposal = await call.read(lambda session: owned(session, call, proposal_id), scope=call.home)
        call.allow(proposal.tenant, permission=Permission(proposal.permission))
        critical = criticals.of(proposal)
        if proposal.state is State.PENDING and critical.prepare is not None:
            await critical.prepare(call, proposal.arguments)

    def end(session: Session, call: Call, proposal: Proposal, verdict: Verdict, note: str) -> Changed[Proposal]:
        decided = approvals.decide(session, proposal.id, verdict, by=call.actor.principal, note=note)
        return Changed(result=decided, id=proposal.id, before=proposal, after=decided)

    async def decide(call: Call, proposal_id: str, verb: str, work: Work) -> Response:
        proposal = await call.read(lambda session: owned(session, call, proposal_id), scope=call.home)
        approval = proposal.id if verb == "approve" and proposal.state is State.PENDING else None
        decided = await call.change(verb, "proposals", work, tenant=proposal.tenant, approval=approval)
        return answer(proposal_view(decided))
