"""Responses that are answered after their request has ended: their money stays presumed until their end is seen."""

from securellm.core.batches import Load, Workload
from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import request_cost
from securellm.gateway.batching import price_of
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case, Paid
from securellm.gateway.model import Request
from securellm.gateway.snapshot import ServedModel, Snapshot
from securellm.providers import DIALECTS, ReplyFacts
from securellm.routing import PlannedAttempt

_GOES_ON = ("queued", "in_progress")


async def note_background(
    request: Request,
    document: Document,
    facts: ReplyFacts,
    target: PlannedAttempt,
    model: ServedModel,
    snapshot: Snapshot,
    gates: Gates,
    case: Case,
) -> None:
    """Take up what a response says of itself: that it goes on, or that it has ended and what it cost.

    The hold of one that goes on is a pledge from now on. Whoever is first shown its end has the pledge corrected.
    """
    if not request.background and request.errand is None:
        return
    goes_on = document.members().get("status") in _GOES_ON
    if request.background and goes_on and facts.id is not None:
        case.pledging = facts.id
        case.workload = _workload(request, facts.id, target, model)
    elif request.errand is not None and request.errand.surface is Surface.STORED_RESPONSES and not goes_on:
        await _note_end(request.names[-1], document, target, snapshot, gates, case)


def _workload(request: Request, name: str, target: PlannedAttempt, model: ServedModel) -> Workload:
    """Which model is at work: what its end is priced by."""
    load = Load(
        model=model.name,
        upstream_model=target.upstream_model,
        requests=1,
        input_tokens=request.estimate.input_tokens,
        longest_input=request.estimate.input_tokens,
        output_tokens=request.estimate.output_cap,
    )
    return Workload(surface=Surface.RESPONSES, loads=(load,), batch=name)


async def _note_end(
    name: str, document: Document, target: PlannedAttempt, snapshot: Snapshot, gates: Gates, case: Case
) -> None:
    identity = case.identity
    if identity is None or gates.finops.pledged(identity.tenant, target.provider, name) is None:
        return
    workload = await gates.ask("custody", gates.custody.workload(identity.tenant, target.provider, name))
    said = DIALECTS[Surface.RESPONSES].read_reply(document)
    price = None if workload is None else price_of(workload.loads[0], workload.surface, target.provider, snapshot)
    if said.usage is None or price is None:
        return  # One that failed or was stopped may have cost something: what is presumed for it stays.
    cost = request_cost(said.usage, price, service_tier=said.service_tier, tool_uses=dict(said.server_tool_uses))
    if cost is not None:
        case.paid = Paid(name, cost, price.currency, said.usage)
