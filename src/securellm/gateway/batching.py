"""Requests that hold requests: who may ask them, which provider takes them all, what they can cost, what is sent."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from securellm.core.batches import Load, Workload
from securellm.core.capabilities import Capability
from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, Refusal
from securellm.core.messages import Attachment, Kind, Replacement
from securellm.core.surfaces import FREE, Surface
from securellm.finops import NOTHING, Estimate, Price
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Asked, Case
from securellm.gateway.lossless import (
    FOREIGN_REASONING,
    REDACTION,
    mended,
    redact,
    refuse_colliding_keys,
    without_strays,
)
from securellm.gateway.model import Inner, Request
from securellm.gateway.snapshot import ServedModel, Snapshot, TenantFacts
from securellm.gateway.stages import Routed
from securellm.guard import Blocked
from securellm.policy import Permit, bound
from securellm.providers import DIALECTS, BatchPart, Provider
from securellm.routing import Candidate

MOST_MODELS = 64
"""Models that one batch may ask."""

_UNPRICED = 16
"""Names of fields without a price that are kept: one is enough to refuse."""


async def permit_inner(permit: Permit, request: Request, snapshot: Snapshot, gates: Gates, case: Case) -> Permit:
    """Each request of a batch must be allowed as if it had come alone; the batch is bound by all that they are."""
    if request.speaks is None or not request.inner or type(permit) is not Permit:
        return permit  # What is no permit is refused as one.
    places: dict[str, str] = {}
    for one in request.inner:
        places.setdefault(one.request.model, one.place)
    if len(places) > MOST_MODELS:
        raise Refusal(Code.INVALID_REQUEST, f"the requests name more than {MOST_MODELS} models")
    for name, place in places.items():
        needs = frozenset(need.value for need in _needs(request, name)[0])
        case.asked.append(await _permit(name, request.speaks, place, needs, snapshot, gates, case))
    return together(permit, case.asked)


def together(permit: Permit, asked: Sequence[Asked]) -> Permit:
    """The permit of a batch, with what its requests are bound to."""
    each = [permit, *(one.permit for one in asked)]
    if any(type(one) is not Permit for one in each):
        raise Fault(Code.GATE_FAILED, "policy returned something else than a permit")
    return msgspec.structs.replace(
        permit,
        obligations=bound(one.obligations for one in each),
        awaits_guard=any(one.awaits_guard for one in each),
        release_due=any(one.release_due for one in each),
    )


async def release_inner(permit: Permit, found: Sequence[tuple[str, int]] | None, gates: Gates, case: Case) -> Permit:
    """Ask again for each model, now that it is known what the guard found in the whole batch."""
    released = []
    for one in case.asked:
        answer = await gates.ask("policy", gates.policy.release(one.facts, found, decision_id=case.decision_id))
        released.append(one._replace(permit=answer))
    case.asked = released
    return together(permit, released)


async def permit_file(request: Request, snapshot: Snapshot, gates: Gates, case: Case) -> None:
    """A batch that is made from a file: what the file asks for must be allowed now, and be served as it was then.

    What the guard found in it was decided on when it was uploaded: it is the same file.
    """
    errand, keeper, identity = request.errand, case.pinned, case.identity
    if errand is None or errand.batch is not BatchPart.BEGUN or request.inner or keeper is None or identity is None:
        return
    file = request.histories[0]
    workload = await gates.ask("custody", gates.custody.workload(identity.tenant, keeper, file))
    if workload is None or workload.batch is not None:
        raise Refusal(Code.INVALID_REQUEST, "the file was not uploaded for a batch", param="input_file_id")
    if workload.surface is not request.speaks:
        raise Refusal(Code.INVALID_REQUEST, "the requests of the file are for another endpoint", param="endpoint")
    for load in workload.loads:
        asked = await _permit(load.model, workload.surface, load.model, frozenset(), snapshot, gates, case)
        allowed = asked.permit.obligations.route
        if allowed is not None and keeper not in allowed:
            raise Refusal(Code.NO_ROUTE, f"{load.model} may not be asked where the file was uploaded to")
        served = snapshot.models[load.model].candidates
        if not any((place.provider, place.upstream_model) == (keeper, load.upstream_model) for place in served):
            raise Refusal(
                Code.NO_ROUTE, f"{load.model} is served elsewhere since the file was uploaded", param="input_file_id"
            )
    case.workload = workload


async def _permit(
    name: str, surface: Surface, place: str, needs: frozenset[str], snapshot: Snapshot, gates: Gates, case: Case
) -> Asked:
    identity, facts = case.identity, case.facts
    if identity is None or facts is None:
        raise Fault(Code.GATE_FAILED, "nobody knows who asks for this batch")
    if identity.surfaces and surface not in identity.surfaces:
        raise Refusal(Code.SURFACE_NOT_ALLOWED, f"{place}: the virtual key is not scoped to {surface}")
    served = snapshot.models.get(name)
    asked = msgspec.structs.replace(
        facts,
        model=name,
        surface=surface,
        errand=None,
        needs=needs,
        providers=frozenset(place.provider for place in served.candidates) if served else frozenset(),
    )
    case.inner_facts.append(asked)
    try:
        return Asked(asked, await gates.ask("policy", gates.policy.permit(asked, decision_id=case.decision_id)), place)
    except Refusal as refusal:
        refusal.reason = f"{place}: {refusal.reason}"
        raise


def narrowed(model: ServedModel, request: Request, snapshot: Snapshot, case: Case) -> ServedModel:
    """Only the places that can take every request of the batch as it is, and the batch itself.

    Raises Refusal(NO_ROUTE) where there is none.
    """
    if not request.inner or request.speaks is None:
        return model
    left = model.candidates
    for asked in case.asked:
        needs, longest = _needs(request, asked.facts.model)
        allowed = asked.permit.obligations.route
        fit = []
        for place in left:
            found = _place(snapshot, asked.facts.model, place.provider, request.speaks, needs, longest)
            if found is not None and (allowed is None or place.provider in allowed):
                fit.append(place)
        left = tuple(fit)
        if not left:
            others = ", as the requests before it need" if asked is not case.asked[0] else ""
            raise Refusal(
                Code.NO_ROUTE,
                f"{asked.place}: no one provider of {asked.facts.model} takes batches of {request.speaks}{others}",
            )
    return msgspec.structs.replace(model, candidates=left)


def _needs(request: Request, name: str) -> tuple[frozenset[Capability], int]:
    """What the requests to one model need together, and the longest output that one of them asks for."""
    mine = [one.request for one in request.inner if one.request.model == name]
    needs = frozenset[Capability]().union(*(one.needs for one in mine))
    return needs, max((one.estimate.output_cap or 0 for one in mine), default=0)


def _place(
    snapshot: Snapshot, name: str, provider: str, surface: Surface, needs: frozenset[Capability], longest: int
) -> Candidate | None:
    """Where the provider serves that model as it is asked for."""
    for place in snapshot.models[name].candidates:
        able = place.offers is None or needs <= place.offers
        long_enough = place.max_output is None or longest <= place.max_output
        batched = surface is Surface.MESSAGES or Surface.BATCHES in place.surfaces
        if place.provider == provider and surface in place.surfaces and able and long_enough and batched:
            return place
    return None


def load_up(
    routed: Routed, tenant: TenantFacts, snapshot: Snapshot, case: Case
) -> Sequence[tuple[Load, Price | None]] | None:
    """Add up what the requests of a batch ask, and say what is to be held for it; None where nothing begins.

    Under a hard budget each output that has no cap gets that of its model.
    """
    request, provider = routed.screened.admitted.permitted.request, routed.plan.attempts[0].provider
    hard = tenant.budget is not None and tenant.budget.hard
    if request.inner and request.speaks is not None:
        loads = _loads(request, request.speaks, provider, snapshot, case, hard=hard)
        case.workload = Workload(surface=request.speaks, loads=loads)
    errand, workload = request.errand, case.workload
    if errand is None or errand.batch is not BatchPart.BEGUN or workload is None:
        return None
    return [(load, price_of(load, workload.surface, provider, snapshot)) for load in workload.loads]


def _loads(
    request: Request, surface: Surface, provider: str, snapshot: Snapshot, case: Case, *, hard: bool
) -> tuple[Load, ...]:
    loads: list[Load] = []
    for asked in case.asked:
        name = asked.facts.model
        model = snapshot.models[name]
        needs, longest = _needs(request, name)
        place = _place(snapshot, name, provider, surface, needs, longest)
        if place is None:
            raise Refusal(Code.NO_ROUTE, f"{asked.place}: {provider} does not take this batch")
        default = model.default_max_output if hard else None
        case.caps[name] = default
        mine = [one.request for one in request.inner if one.request.model == name]
        loads.append(_load(model, place, mine, default))
    return tuple(loads)


def _load(model: ServedModel, place: Candidate, requests: Sequence[Request], default: int | None) -> Load:
    price = model.prices.get((place.provider, place.upstream_model))
    window = model.context_window or (price.context_window if price is not None else None)
    tokens = longest = output = 0
    unbounded = False
    traits: set[str] = set()
    unpriced: dict[str, None] = {}
    for request in requests:
        estimate = request.estimate
        went_in, whole = estimate.input_tokens, estimate.whole_context
        if request.images and model.max_image_tokens is None:
            whole = True
        elif request.images:
            went_in += request.images * (model.max_image_tokens or 0)
        if whole and window is None:
            unpriced["context_window"] = None
        if whole:
            went_in = max(went_in, window or 0)
        tokens += went_in
        longest = max(longest, went_in)
        cap = estimate.output_cap if estimate.output_cap is not None else default
        unbounded = unbounded or cap is None
        output += estimate.choices * (cap or 0)
        traits |= set(_traits(estimate, whole=whole))
        unpriced |= dict.fromkeys(name[:64] for name in estimate.features)
        unpriced |= dict.fromkeys(f"tools.{tool}"[:64] for tool, _ in estimate.server_tool_uses)
    return Load(
        model=model.name,
        upstream_model=place.upstream_model,
        requests=len(requests),
        input_tokens=tokens,
        longest_input=longest,
        output_tokens=None if unbounded else output,
        traits=tuple(sorted(traits)),
        unpriced=tuple(unpriced)[:_UNPRICED],
    )


def _traits(estimate: Estimate, *, whole: bool) -> Iterator[str]:
    for name in ("audio_input", "image_input", "audio_output", "cache_writes"):
        if getattr(estimate, name):
            yield name
    if whole:
        yield "whole_context"


def price_of(load: Load, surface: Surface, provider: str, snapshot: Snapshot) -> Price | None:
    """What the model of a load costs now, alone."""
    if surface in FREE:
        return NOTHING
    model = snapshot.models.get(load.model)
    return None if model is None else model.prices.get((provider, load.upstream_model))


def blocked_at(error: Refusal, request: Request) -> None:
    """Have the guard's refusal say which request of the batch it is about."""
    if isinstance(error, Blocked) and request.inner:
        leaf = next((finding.leaf for finding in error.findings if finding.action.value == "block"), None)
        if leaf is not None and leaf >= request.inner[0].first:
            error.reason = f"{_holder(request, leaf).place}: {error.reason}"


def _holder(request: Request, leaf: int) -> Inner:
    """The request of the batch that a leaf is of."""
    return request.inner[bisect_right(request.inner, leaf, key=lambda one: one.first) - 1]


def own(request: Request, replacements: Sequence[Replacement]) -> list[Replacement]:
    """The replacements in the request's own document: neither in what it holds nor in its file."""
    ends = request.inner[0].first if request.inner else len(request.leaves)
    return [due for due in replacements if due.leaf < ends and due.leaf != request.text]


def refuse_collisions(request: Request, replacements: Sequence[Replacement]) -> None:
    """Raises Refusal(GUARD_BLOCKED) for what cannot be redacted: names that would become one, and `custom_id`."""
    refuse_colliding_keys(request.document, request.leaves, own(request, replacements))
    for one, due in _by_request(request, replacements).items():
        inner = request.inner[one]
        if any(replacement.leaf < 0 for replacement in due):
            raise Refusal(
                Code.GUARD_BLOCKED, f"{inner.place}: custom_id holds what would be redacted", param=inner.place
            )
        if any(inner.request.leaves[replacement.leaf].kind is Kind.KEY for replacement in due):
            refuse_colliding_keys(inner.request.document, inner.request.leaves, due)


def _by_request(request: Request, replacements: Sequence[Replacement]) -> dict[int, list[Replacement]]:
    """The replacements in each request of a batch, by its number; leaf -1 is its `custom_id`."""
    found: dict[int, list[Replacement]] = {}
    if request.inner:
        starts = [one.first for one in request.inner]
        for due in replacements:
            number = bisect_right(starts, due.leaf) - 1
            if number >= 0:
                mine = msgspec.structs.replace(due, leaf=due.leaf - starts[number] - 1)
                found.setdefault(number, []).append(mine)
    return found


class Carried(NamedTuple):
    """What leaves in the place of a request that holds others, or a text."""

    body: bytes
    attachments: tuple[Attachment, ...]
    changes: tuple[str, ...]


def carry(
    body: bytes,
    request: Request,
    replacements: Sequence[Replacement],
    provider: Provider,
    *,
    workload: Workload | None,
    caps: Mapping[str, int | None],
) -> Carried:
    """`body`, the request's own part as it leaves, with each request it holds as that leaves."""
    if request.text is not None:
        found = [msgspec.structs.replace(due, leaf=0) for due in replacements if due.leaf == request.text]
        data = mended(request.attachments[0].data, request.leaves[request.text :], found)
        return Carried(*_with_file(body, request, data), changes=())
    if workload is None:
        return Carried(body, request.attachments, ())
    upstream = {load.model: load.upstream_model for load in workload.loads}
    due = _by_request(request, replacements)
    changes: dict[str, None] = {}
    written: list[str] = []
    for number, one in enumerate(request.inner):
        name = one.request.model
        text, made = _inner(one, due.get(number, []), provider, workload.surface, upstream[name], caps.get(name))
        written.append(text)
        changes |= dict.fromkeys(made)
    if request.attachments:
        lines = "".join(f"{text.rstrip(_SPACE)}\n" for text in written)
        return Carried(*_with_file(body, request, lines.encode("utf-8")), changes=tuple(changes))
    spans = request.document.elements(("requests",))
    text = request.document.text
    parts: list[str] = []
    at = 0
    for (start, end), instead in zip(spans, written, strict=True):
        parts += (text[at:start], instead)
        at = end
    return Carried("".join((*parts, text[at:])).encode("utf-8"), (), tuple(changes))


_SPACE = " \t\r"


def _inner(
    one: Inner,
    replacements: Sequence[Replacement],
    provider: Provider,
    surface: Surface,
    upstream_model: str,
    default_cap: int | None,
) -> tuple[str, tuple[str, ...]]:
    """One request of a batch as it leaves, and the names of the edits that made it."""
    document = one.request.document
    patch = Patch(document)
    gone = without_strays(patch, document, surface)
    redact(
        patch,
        one.request.leaves,
        [
            due
            for due in replacements
            if not any(one.request.leaves[due.leaf].path[: len(place)] == place for place in gone)
        ],
    )
    cap = one.request.estimate.output_cap
    changes = DIALECTS[surface].prepare(
        patch,
        document,
        upstream_model=upstream_model,
        output_cap=default_cap if cap is None else cap,
        cap_fields=provider.caps(surface),
        inject_usage=False,
    )
    named = (*((REDACTION,) if replacements else ()), *((FOREIGN_REASONING,) if gone else ()), *changes)
    if not patch:
        return one.document.text, named
    start, end = one.document.span((one.member,))
    text = one.document.text
    return text[:start] + patch.apply().decode("utf-8") + text[end:], named


def _with_file(body: bytes, request: Request, data: bytes) -> tuple[bytes, tuple[Attachment, ...]]:
    """The form's fields and its one file, with other bytes in it."""
    file = request.attachments[0]
    document = Document(body, max_depth=10_000)
    patch = Patch(document)
    patch.set((file.field, "bytes"), len(data))
    patch.set((file.field, "sha256"), hashlib.sha256(data).hexdigest())
    return patch.apply(), (msgspec.structs.replace(file, data=data),)
