"""What a provider says of a batch: how far it is, what it cost, and each of its answers."""

import asyncio
import json
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from securellm.audit import Corrected
from securellm.core.batches import Load, Workload
from securellm.core.document import Document, Patch, Value
from securellm.core.errors import Code, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.core.messages import Leaf, Path, Replacement, Role
from securellm.core.money import Nanos
from securellm.core.surfaces import FREE, Surface
from securellm.core.usage import Usage
from securellm.finops import batch_cost
from securellm.gateway.batching import price_of
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case, Paid
from securellm.gateway.lossless import blank, mended, redact
from securellm.gateway.model import Request
from securellm.gateway.relay import MAX_REPLY_DEPTH
from securellm.gateway.snapshot import Snapshot
from securellm.guard import Blocked, Screening
from securellm.providers import BATCHINGS, DIALECTS, Batching, BatchPart, Progress, ReplyFacts, every_text, without
from securellm.routing import PlannedAttempt

WITHHELD = "withheld_lines"
"""The name of putting an error in the place of an answer that the guard blocked, in the closed list of changes."""

_ASKED_ON = {Surface.FILES: Surface.BATCHES}
"""Where else than on the surface of a batch its answers are read."""


_EVERY = every_text()


async def note_progress(
    request: Request, members: dict[str, Value], target: PlannedAttempt, snapshot: Snapshot, gates: Gates, case: Case
) -> None:
    """Take up what a batch says of itself: that it has begun, or that it has ended and what it cost."""
    errand, identity = request.errand, case.identity
    if errand is None or identity is None or errand.batch not in (BatchPart.BEGUN, BatchPart.SEEN):
        return
    progress = BATCHINGS[errand.surface].progress(members)
    if progress is None:
        raise UpstreamFailure(Code.BAD_REPLY, "the provider's answer is no batch")
    if errand.batch is BatchPart.BEGUN:
        case.pledging = progress.id
        if case.workload is not None:
            case.workload = msgspec.structs.replace(case.workload, batch=progress.id)
        return
    if progress.id != request.names[-1]:
        raise UpstreamFailure(Code.BAD_REPLY, "the provider answered with another batch")
    workload = await gates.ask("custody", gates.custody.workload(identity.tenant, target.provider, progress.id))
    case.workload = workload
    if workload is not None and progress.ended:
        case.paid = _told(progress, workload, target.provider, snapshot)


def _told(progress: Progress, workload: Workload, provider: str, snapshot: Snapshot) -> Paid | None:
    """The cost that a batch tells itself; None where only its answers can tell.

    Its figures are those of all requests together: they can be priced where each token has one price.
    """
    if progress.free:
        return Paid(progress.id, Nanos(0), "", Usage())
    prices = [price_of(load, workload.surface, provider, snapshot) for load in workload.loads]
    price = prices[0]
    if progress.usage is None or price is None or any(other != price for other in prices):
        return None
    longest = max(load.longest_input for load in workload.loads)
    tools = any(name.startswith("tools.") for load in workload.loads for name in load.unpriced)
    if tools or price.per_request or any(longest > tier.above_tokens for tier in price.long_context):
        return None
    cost = batch_cost(progress.usage, price)
    return None if cost is None else Paid(progress.id, cost, price.currency, progress.usage)


def claim_correction(snapshot: Snapshot, gates: Gates, case: Case) -> None:
    """Claim the right to say what the batch did cost, if nobody has said so before. To be recorded at once."""
    paid, target, identity = case.paid, case.target, case.identity
    if paid is None or target is None or identity is None:
        return
    pledge = gates.finops.pledged(identity.tenant, target.provider, paid.batch)
    if pledge is None or paid.currency not in ("", pledge.currency):
        return  # Priced anew in another currency since it was begun, it cannot be set against what is presumed.
    case.correction = gates.finops.claim(pledge, paid.cost)
    if case.correction is not None:
        case.corrects = Corrected(
            request_id=case.correction.pledge.request_id,
            batch=paid.batch,
            settled=case.correction.settled,
            usage=paid.usage,
            price_version=next(iter(snapshot.models.values())).price_version,
        )


def addresses(request: Request, members: dict[str, Value]) -> list[tuple[Path, Value]]:
    """Where an answer names an address of its provider's, and what stands there instead: the same, here.

    It is relative, since only the caller knows under which name it reached us. A client that followed the provider's
    own would show its virtual key there.
    """
    if request.errand is None or request.errand.surface is not Surface.MESSAGE_BATCHES:
        return []
    if not isinstance(members.get("results_url"), str):
        return []
    return [(("results_url",), f"/v1/messages/batches/{members.get('id')}/results")]


def holds_answers(request: Request) -> bool:
    """Whether what is asked for is a file, which may hold the answers of a batch."""
    return request.errand is not None and request.errand.batch is BatchPart.ANSWERS


async def read_answers(
    body: bytes, request: Request, target: PlannedAttempt, snapshot: Snapshot, gates: Gates, case: Case
) -> bytes:
    """A file as it is given out: answers one by one, the requests of a batch, or whatever else it is.

    Raises Refusal(REPLY_BLOCKED) where the guard blocks a file that is no list of answers.
    """
    identity = case.identity
    if identity is None:
        raise Fault(Code.GATE_FAILED, "nobody knows whose file this is")
    name = request.names[-1]
    workload = await gates.ask("custody", gates.custody.workload(identity.tenant, target.provider, name))
    if workload is None:
        return await _plain(body, gates, case)
    surface = _ASKED_ON.get(target.surface, target.surface)
    lines = await asyncio.to_thread(_read, body, workload, BATCHINGS[surface])
    await _screen(lines, gates, case)
    if workload.batch is not None:
        things = [thing for line in lines for thing in line.facts.kept]
        case.keep(await gates.ask("custody", gates.custody.unknown(identity.tenant, things, provider=target.provider)))
        case.paid = _summed(lines, workload, workload.batch, target, snapshot)
    return await asyncio.to_thread(_write, lines, workload, BATCHINGS[surface])


async def _plain(body: bytes, gates: Gates, case: Case) -> bytes:
    """A text is screened as one; what is no text, nobody can screen on its way out either."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return body
    leaves = (Leaf((), text, Role.ASSISTANT),)
    screening = await screen_reply(leaves, gates, case)
    return mended(body, leaves, screening.replacements)


class Line:
    """One line of a file, and what is found of it."""

    def __init__(self, document: Document, facts: ReplyFacts, leaves: tuple[Leaf, ...], place: Path) -> None:
        self.document = document
        self.facts = facts
        """Of the reply in it; its places are counted from the line."""
        self.leaves = leaves
        """All there is to screen."""
        self.place = place
        """Where the reply stands; empty where there is none."""
        self.replacements: list[Replacement] = []
        self.error: GatewayError | None = facts.failure
        """Why it is withheld."""


def _read(body: bytes, workload: Workload, batching: Batching) -> list[Line]:
    lines: list[Line] = []
    for number, text in enumerate(body.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            document = Document(text, max_depth=MAX_REPLY_DEPTH)
            members = document.members()
        except Refusal as refusal:
            reason = f"line {number} of the provider's file is not valid: {refusal.reason}"
            raise UpstreamFailure(Code.BAD_REPLY, reason) from None
        if workload.batch is None:
            lines.append(_of_requests(document))
        elif batching.is_line(members):
            lines.append(_of_answers(document, members, workload, batching))
        else:
            raise UpstreamFailure(Code.BAD_REPLY, f"line {number} of the provider's file is no answer")
    return lines


def _of_requests(document: Document) -> Line:
    """A line that was uploaded here: every text of it is screened, now on its way out."""
    return Line(document, ReplyFacts(), tuple(_EVERY.find(document).leaves), ("body",))


def _of_answers(document: Document, members: dict[str, Value], workload: Workload, batching: Batching) -> Line:
    place = batching.reply(members)
    if place is None:
        return Line(document, ReplyFacts(), tuple(batching.texts.find(document).leaves), ())
    outside = batching.texts.find(_hollow(document, members, place)).leaves
    said: Value = members
    for step in place:
        said = said[step] if isinstance(said, dict) and isinstance(step, str) else None
    facts = DIALECTS[workload.surface].read_reply(document.part(document.span(place), said))
    facts = msgspec.structs.replace(
        facts,
        leaves=tuple(msgspec.structs.replace(leaf, path=(*place, *leaf.path)) for leaf in facts.leaves),
        mirrors=tuple(msgspec.structs.replace(mirror, path=(*place, *mirror.path)) for mirror in facts.mirrors),
    )
    return Line(document, facts, (*facts.leaves, *outside), place)


def _hollow(document: Document, members: dict[str, Value], place: Path) -> Document:
    """The line without its reply, whose texts its own dialect finds."""
    return document.part((0, len(document.text)), without(members, place))


async def _screen(lines: Sequence[Line], gates: Gates, case: Case) -> None:
    """Screen all at once, and where something is to be blocked line by line: only that line is withheld."""
    try:
        screening = await screen_reply([leaf for line in lines for leaf in line.leaves], gates, case)
    except Blocked:
        for line in lines:
            try:
                line.replacements = list((await screen_reply(line.leaves, gates, case)).replacements)
            except Blocked as error:
                case.withheld(error.findings)
                line.error = error
        case.changes = (*case.changes, WITHHELD)
        return
    starts: list[int] = []
    at = 0
    for line in lines:
        starts.append(at)
        at += len(line.leaves)
    for due in screening.replacements:
        number = bisect_right(starts, due.leaf) - 1
        while not lines[number].leaves:
            number -= 1
        lines[number].replacements.append(msgspec.structs.replace(due, leaf=due.leaf - starts[number]))


def _write(lines: Sequence[Line], workload: Workload, batching: Batching) -> bytes:
    names = {load.upstream_model: load.model for load in reversed(workload.loads)}
    return b"".join(_written(line, names, batching) + b"\n" for line in lines)


def _written(line: Line, names: dict[str, str], batching: Batching) -> bytes:
    if line.error is not None:
        return json.dumps(batching.withheld(line.document.members(), line.error), ensure_ascii=False).encode("utf-8")
    patch = Patch(line.document)
    mirrors = line.facts.mirrors
    redact(patch, line.leaves, line.replacements, mirrors)
    if line.replacements:
        blank(patch, mirrors)
    at = (*line.place, "model")
    named = _at(line.document.root, at) if line.place else None
    redacted = any(line.leaves[due.leaf].path == at for due in line.replacements)
    if isinstance(named, str) and names.get(named, named) != named and not redacted:
        patch.set(at, names[named])
    return patch.apply() if patch else line.document.text.encode("utf-8")


def _at(value: Value, path: Path) -> Value:
    for step in path:
        value = value.get(step) if isinstance(value, dict) and isinstance(step, str) else None
    return value


def _summed(
    lines: Sequence[Line], workload: Workload, batch: str, target: PlannedAttempt, snapshot: Snapshot
) -> Paid | None:
    """What all answers did cost together; None where one of them does not say, or they may not be all."""
    answered = [line for line in lines if line.place]
    named = {_at(line.document.root, ("custom_id",)) for line in lines}
    if len(named) != len(lines) or len(lines) > sum(load.requests for load in workload.loads):
        return None
    if not answered and target.surface is Surface.FILES:
        return None  # It may be the file of errors, beside which there is one of answers.
    cost, counted = 0, Usage()
    currencies: set[str] = set()
    for line in answered:
        usage = line.facts.usage
        load = _load_of(line.facts.model, workload)
        price = None if load is None else price_of(load, workload.surface, target.provider, snapshot)
        if workload.surface in FREE:
            usage = Usage()
        if usage is None or price is None:
            return None
        one = batch_cost(usage, price, tool_uses=dict(line.facts.server_tool_uses))
        if one is None:
            return None
        cost += one
        currencies.add(price.currency)
        counted = Usage(**{name: getattr(counted, name) + getattr(usage, name) for name in Usage.__struct_fields__})
    if len(currencies - {""}) > 1:
        return None
    return Paid(batch, Nanos(cost), "".join(currencies), counted)


def _load_of(model: str | None, workload: Workload) -> Load | None:
    """Which of the models asked is the one that answered: it may tell its name with the day of its release."""
    if len(workload.loads) == 1:
        return workload.loads[0]
    begins = [load for load in workload.loads if model is not None and model.startswith(load.upstream_model)]
    return max(begins, key=lambda load: len(load.upstream_model), default=None)


async def screen_reply(leaves: Sequence[Leaf], gates: Gates, case: Case) -> Screening:
    """Screen what a provider says. Raises Refusal(REPLY_BLOCKED), Fault(GUARD_UNAVAILABLE)."""
    try:
        screening = await gates.ask(
            "guard",
            gates.guard.screen_reply(case.guard_mode, leaves, decision_id=case.decision_id, redact=case.redact),
            code=Code.GUARD_UNAVAILABLE,
        )
    except Refusal:
        gates.metrics.verdicts.labels("reply", "block").inc()
        raise
    if type(screening) is not Screening:
        raise Fault(Code.GUARD_UNAVAILABLE, "the guard returned no screening of the reply")
    gates.metrics.verdicts.labels("reply", screening.verdict.value).inc()
    case.reply_screened(screening)
    return screening
