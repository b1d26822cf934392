"""One request, from a credential to a settled ledger entry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from securellm.cache import Cached, CacheFacts, Claim, Finished, cache_key, cacheable, recallable
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.custody import not_found
from securellm.finops import Estimate, Price, Quote, Reservation
from securellm.gateway.answering import answer, quote
from securellm.gateway.batching import (
    blocked_at,
    load_up,
    narrowed,
    permit_file,
    permit_inner,
    refuse_collisions,
)
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.closing import abandon, cause_of
from securellm.gateway.deadlines import refuse_late, time_left
from securellm.gateway.deciding import facts_of, release
from securellm.gateway.errands import served
from securellm.gateway.gates import ask
from securellm.gateway.headings import rate_headers_of
from securellm.gateway.journal import Undecided
from securellm.gateway.model import Headers, Received, Reply, Request
from securellm.gateway.recording import RecordingReply
from securellm.gateway.snapshot import ServedModel, Snapshot, TenantFacts
from securellm.gateway.stages import Admitted, Funded, Identified, Permitted, Routed, Screened
from securellm.gateway.translating import translate_for
from securellm.guard import Screening
from securellm.identity import Identity
from securellm.policy import Permit
from securellm.routing import pinned_of, spelled


async def complete(received: Received, reply: Reply, gates: Gates) -> None:
    """Serve one request, or refuse it before it costs anyone anything.

    Read this top to bottom: it is the whole request. Each step takes what the step above produced, so a step
    cannot be skipped or reordered without a type error. We push into `reply` rather than yield, so that leaving
    this function, by return, error or a vanished client, always settles and records.
    """
    case = Case(received, gates.clock)
    try:
        snapshot = gates.snapshots.read()
        identified = await _identify(received, snapshot, gates, case)
        reply.rates = partial(rate_headers_of, identified.identity, received.surface, snapshot, gates)
        permitted = await _permit(identified, snapshot, gates, case)
        tenant = snapshot.tenants[permitted.identified.identity.tenant]
        model = narrowed(served(permitted, tenant, snapshot), permitted.request, snapshot, case)
        admitted = await _admit(permitted, tenant, snapshot, gates)
        case.admission = admitted.admission
    except GatewayError as error:
        await _deny(gates, case, error)
        raise
    except BaseException as error:
        gates.journal.afterwards(_deny(gates, case, cause_of(error, case)))
        raise
    try:
        try:
            with gates.running.holding(case):
                await _find_keeper(admitted, model, gates, case)
                await permit_file(permitted.request, snapshot, gates, case)
                screened = await _screen(admitted, tenant, gates, case)
                hit = await _claim(screened, model, gates, case)
                if case.claim is not None:
                    reply = RecordingReply(reply, partial(_keep_answer, gates, case, case.claim))
                hit = hit or await _recall(screened, model, gates, case)
                if hit is not None:
                    await _replay(screened, hit, tenant, model, snapshot, reply, gates, case)
                    return
                routed = await _route(screened, model, snapshot, gates, case)
                funded = await _fund(routed, tenant, model, snapshot, gates, case)
        except GatewayError as error:
            if not case.closed:
                await _deny(gates, case, error)
            raise
        except BaseException as error:
            if not case.closed:
                gates.journal.afterwards(_deny(gates, case, cause_of(error, case)))
            raise
        await answer(funded, model, snapshot, reply, gates, case)
    finally:
        if case.claim is not None:
            gates.idempotency.left(case.claim, recorded=case.closed)
        gates.limits.release(admitted.admission)


@asynccontextmanager
async def listing(received: Received, gates: Gates) -> AsyncIterator[tuple[str, frozenset[str]]]:
    """Whose list this is, and the providers that it may be made of. It counts as a request of the caller's.

    A refusal is recorded as any other, one that is raised inside too.
    """
    case = Case(received, gates.clock)
    try:
        snapshot = gates.snapshots.read()
        permitted = await _permit(await _identify(received, snapshot, gates, case), snapshot, gates, case)
        ended = gates.running.ended(permitted.identified.identity)
        if ended is not None:
            raise ended()
        tenant = snapshot.tenants[permitted.identified.identity.tenant]
        places = served(permitted, tenant, snapshot).candidates
        admitted = await _admit(permitted, tenant, snapshot, gates)
        gates.limits.release(admitted.admission)  # Whatever is looked at for it takes a parallel place of its own.
        yield tenant.id, frozenset(place.provider for place in places)
    except GatewayError as error:
        await _deny(gates, case, error)
        raise
    except BaseException as error:
        gates.journal.afterwards(_deny(gates, case, cause_of(error, case)))
        raise


async def _deny(gates: Gates, case: Case, error: GatewayError) -> None:
    """Record a refusal that cost nothing; the caller learns the id it is recorded under."""
    if case.identity is not None:
        error.decision_id = error.decision_id or case.decision_id
    await gates.journal.deny(case, error)


async def recognise(gates: Gates, snapshot: Snapshot, credential: str | None, client_ip: str) -> Identity:
    """Who presents this credential. An address that presents too many bad ones is told to wait instead."""
    try:
        identified = gates.identities.identify(
            snapshot.keys, credential, surface=None, client_ip=client_ip, services=snapshot.services
        )
        return await gates.ask("identity", identified)
    except Refusal as refusal:
        wait = gates.limits.refused_credential(client_ip)
        if wait > 0:
            raise Refusal(
                Code.RATE_LIMITED, "too many requests without a valid key from this address", retry_after=wait
            ) from refusal
        raise


async def _identify(received: Received, snapshot: Snapshot, gates: Gates, case: Case) -> Identified:
    identity = await recognise(gates, snapshot, received.credential, received.client_ip)
    identified = Identified(received, identity)
    # From here on it is known who is refused, and refusals are recorded one by one.
    case.identity = identity
    if identity.surfaces and received.surface not in identity.surfaces:
        raise Refusal(Code.SURFACE_NOT_ALLOWED, f"the virtual key is not scoped to {received.surface}")
    return identified


async def _permit(identified: Identified, snapshot: Snapshot, gates: Gates, case: Case) -> Permitted:
    received = identified.received
    request = await received.read(received)
    case.request = request
    identity = identified.identity
    tenant = snapshot.tenants.get(identity.tenant)
    if tenant is None:
        raise Refusal(Code.INVALID_KEY, "the key's tenant does not exist any more")
    errand = request.errand
    name, spelled_pin = (
        _spelled(request.model or snapshot.default_model, snapshot, tenant) if errand is None else ("", None)
    )
    case.pinned = pinned_of(received.pinned_provider, spelled_pin)
    facts = case.facts = facts_of(identified, request, name, tenant, snapshot)
    case.model = facts.model
    case.policy_version = gates.policy.basis(facts)
    permit = await gates.ask("policy", gates.policy.permit(facts, decision_id=case.decision_id))
    permit = await permit_inner(permit, request, snapshot, gates, case)
    permitted = Permitted(identified, request, permit)
    case.rules = permit.reasons
    return permitted


def _spelled(name: str, snapshot: Snapshot, tenant: TenantFacts) -> tuple[str, str | None]:
    """The model's own name, and the provider that `provider/model` pins, among the models that the tenant may see."""
    if name in snapshot.models or "/" not in name:
        return name, None
    routes = {model: snapshot.models[model].candidates for model in tenant.models if model in snapshot.models}
    return spelled(name, known_models=snapshot.models.keys(), routes=routes)


async def _admit(permitted: Permitted, tenant: TenantFacts, snapshot: Snapshot, gates: Gates) -> Admitted:
    refuse_late(permitted.identified.received, gates.clock)
    key_id = permitted.identified.identity.key_id
    admission = await gates.ask(
        "limits",
        gates.limits.admit(
            tenant=tenant.id,
            key_id=key_id,
            limits=tenant.rates,
            key_limits=snapshot.key_rates.get((tenant.id, key_id)),
            tokens=permitted.request.estimate.input_tokens,
        ),
    )
    return Admitted(permitted, admission)


async def _screen(admitted: Admitted, tenant: TenantFacts, gates: Gates, case: Case) -> Screened:
    request, permit = admitted.permitted.request, admitted.permitted.permit
    screening = await _look(request, permit, tenant, gates, case)
    if permit.release_due:
        admitted = await release(admitted, screening, gates, case)
        permit = admitted.permitted.permit
        case.rules = permit.reasons
        if not permit.obligations.redact <= screening.redact:
            screening = await _look(request, permit, tenant, gates, case)
    screened = Screened(admitted, screening)
    refuse_collisions(request, screening.replacements)
    gates.metrics.verdicts.labels("prompt", screening.verdict.value).inc()
    case.screened(screening)
    return screened


async def _look(request: Request, permit: Permit, tenant: TenantFacts, gates: Gates, case: Case) -> Screening:
    try:
        screening = await gates.ask(
            "guard",
            gates.guard.screen_prompt(
                tenant.guard,
                request.leaves,
                decision_id=case.decision_id,
                redact=permit.obligations.redact,
                look=permit.awaits_guard,
            ),
            code=Code.GUARD_UNAVAILABLE,
        )
    except Refusal as refusal:
        gates.metrics.verdicts.labels("prompt", "block").inc()
        blocked_at(refusal, request)
        raise
    if type(screening) is not Screening:
        raise Fault(Code.GATE_FAILED, "the guard returned something else than a screening")
    return screening


async def _find_keeper(admitted: Admitted, model: ServedModel, gates: Gates, case: Case) -> None:
    """What the request names must be the tenant's own; the provider that keeps it is the one that can answer."""
    named, mentions = admitted.permitted.request.histories, admitted.permitted.request.mentions
    tenant = admitted.permitted.identified.identity.tenant
    if mentions:
        others = await gates.ask("custody", gates.custody.others(tenant, mentions))
        if type(others) is not frozenset:
            raise Fault(Code.GATE_FAILED, "custody returned something else than a set of names")
        if others:
            raise not_found()
    if not named:
        return
    keeper = await gates.ask("custody", gates.custody.keeper(tenant, named, pinned=case.pinned))
    if type(keeper) is not str:
        raise Fault(Code.GATE_FAILED, "custody returned something else than a provider")
    if all(place.provider != keeper for place in model.candidates):
        serves = "this model" if admitted.permitted.request.errand is None else "any model that this key may use"
        raise Refusal(Code.NO_ROUTE, f"the provider that keeps what the request names does not serve {serves}")
    case.pinned = keeper


async def _claim(screened: Screened, model: ServedModel, gates: Gates, case: Case) -> Cached | Finished | None:
    """Take the request's idempotency key, if it has one, or find the answer that was given under it."""
    permitted = screened.admitted.permitted
    received, identity = permitted.identified.received, permitted.identified.identity
    if received.idempotency_key is None:
        return None
    found = await gates.ask(
        "idempotency",
        gates.idempotency.claim(
            received.idempotency_key,
            tenant=identity.tenant,
            principal=identity.principal,
            surface=received.surface,
            model=permitted.request.model,
            stream=permitted.request.stream,
            asked=_asked(permitted, model, gates, case.pinned),
            request_id=received.request_id,
        ),
    )
    if type(found) is Finished:
        return found
    if type(found) is not Claim:
        raise Fault(Code.GATE_FAILED, "the idempotency keys returned neither a claim nor an answer")
    case.claim = found
    return None


def _keep_answer(
    gates: Gates, case: Case, claim: Claim, status: int, headers: Headers, body: bytes, streamed: bool
) -> None:
    """The answer is about to leave: whoever asks the same again under the same key is given it."""
    finished = Finished(
        status=status,
        headers=headers,
        body=body,
        streamed=streamed,
        model_served=case.model_served or "",
        request_id=case.received.request_id,
    )
    gates.idempotency.answered(claim, finished)


async def _recall(screened: Screened, model: ServedModel, gates: Gates, case: Case) -> Cached | None:
    permitted = screened.admitted.permitted
    request = permitted.request
    facts = CacheFacts(
        stream=request.stream,
        deterministic=request.deterministic,
        redacted=bool(screened.screening.replacements),
        control=request.cache_control,
    )
    if not model.cached or not cacheable(facts):
        gates.metrics.cache.labels("bypass").inc()
        return None
    key = case.cache_key = cache_key(
        tenant=permitted.identified.identity.tenant,
        surface=permitted.identified.received.surface,
        model=permitted.permit.model,
        body=_asked(permitted, model, gates, case.pinned),
        bundle=permitted.permit.terms,
        guard_pack=f"{screened.screening.pack}/{screened.screening.mode}",
        price_version=model.price_version,
    )
    if not recallable(facts):
        gates.metrics.cache.labels("bypass").inc()
        return None
    case.cache = "miss"
    hit = await gates.ask("cache", gates.cache.find(key))
    if hit is not None and type(hit) is not Cached:
        raise Fault(Code.GATE_FAILED, "the cache returned something else than an answer")
    gates.metrics.cache.labels("hit" if hit is not None else "miss").inc()
    return hit


def _asked(permitted: Permitted, model: ServedModel, gates: Gates, pinned: str | None) -> bytes:
    """All that an answer may depend on: the body, and what travels on beside it."""
    received = permitted.identified.received
    forwarded: set[str] = set()
    for candidate in model.candidates:
        forwarded |= gates.providers.get(candidate.provider).kind.forwarded_headers
    beside = [f"{name}: {received.headers[name]}" for name in sorted(forwarded) if name in received.headers]
    beside += [received.query, pinned or ""]
    if permitted.request.errand is not None:
        beside += [permitted.request.errand.name, *permitted.request.names]
    # No JSON text holds a NUL, and no header or query can.
    return "\0".join((permitted.request.document.text, *beside)).encode("utf-8", "backslashreplace")


async def _replay(
    screened: Screened,
    hit: Cached | Finished,
    tenant: TenantFacts,
    model: ServedModel,
    snapshot: Snapshot,
    reply: Reply,
    gates: Gates,
    case: Case,
) -> None:
    """Give an answer again: no provider is asked, nothing is spent, and it is recorded all the same."""
    identified = screened.admitted.permitted.identified
    await _route(screened, model, snapshot, gates, case, send=False)
    reservation = await gates.ask(
        "finops",
        gates.finops.reserve(
            request_id=case.received.request_id,
            tenant=tenant.id,
            budget=None,
            estimate=Estimate(input_tokens=0, output_cap=0),
            quotes=(Quote(route="cache", price=Price(input=0, output=0), price_version=model.price_version),),
        ),
    )
    case.reservation = reservation
    settlement = gates.finops.settle(reservation, None)
    case.closed = True
    try:
        await gates.journal.cached(case, hit, settlement)
    except Undecided:
        raise
    except GatewayError:
        case.closed = False  # Nothing was recorded: it is a refusal like any other.
        raise
    finally:
        gates.finops.apply(settlement)
        if case.claim is not None and case.closed:
            gates.idempotency.ended(case.claim, freed=False)
    common = (
        (b"x-securellm-decision-id", case.decision_id.encode("ascii")),
        *rate_headers_of(identified.identity, identified.received.surface, snapshot, gates),
    )
    if isinstance(hit, Cached):
        case.model_served = hit.model_served
        of_the_answer: Headers = ((b"content-type", hit.content_type.encode("ascii")), (b"x-securellm-cache", b"hit"))
        await reply.send(hit.status, (*of_the_answer, *common), hit.body)
        return
    of_the_answer = (
        *hit.headers,
        (b"x-securellm-idempotent-replay", b"true"),
        (b"x-securellm-original-request-id", hit.request_id.encode("ascii")),
    )
    if hit.streamed:
        await reply.begin((*of_the_answer, *common))
        await reply.end(hit.body)
    else:
        await reply.send(hit.status, (*of_the_answer, *common), hit.body)


async def _route(
    screened: Screened, model: ServedModel, snapshot: Snapshot, gates: Gates, case: Case, *, send: bool = True
) -> Routed:
    """Plan the attempts; with `send`, a place in the first provider's own rate is taken."""
    permitted = screened.admitted.permitted
    received, request = permitted.identified.received, permitted.request
    translations = translate_for(screened, model)
    crowded: dict[str, float] = {}
    while True:
        try:
            plan = await gates.ask(
                "routing",
                gates.router.plan(
                    model.name,
                    received.surface,
                    candidates=[
                        msgspec.structs.replace(place, healthy=False) if place.provider in crowded else place
                        for place in model.candidates
                    ],
                    pinned=case.pinned,
                    needs=request.needs,
                    output_cap=request.estimate.output_cap,
                    translatable=tuple(translations.said),
                    allowed=permitted.permit.obligations.route,
                ),
            )
        except Refusal as refusal:
            if refusal.code is Code.NO_ROUTE and refusal.param == "model" and translations.refused is not None:
                raise translations.refused from refusal
            raise
        routed = Routed(screened, plan, translations.said)
        case.plan = plan
        first = plan.attempts[0].provider
        if not send:
            return routed
        if first in crowded:
            raise Refusal(
                Code.RATE_LIMITED,
                "every provider of this model is at the rate it may be sent to",
                retry_after=min(crowded.values()),
            )
        wait = gates.limits.provider(first, snapshot.provider_rates[first])
        if wait <= 0:
            case.target = plan.attempts[0]
            return routed
        crowded[first] = wait


async def _fund(
    routed: Routed, tenant: TenantFacts, model: ServedModel, snapshot: Snapshot, gates: Gates, case: Case
) -> Funded:
    """Hold the money, then make the record that says so durable: the INTENT is the reservation."""
    received = routed.screened.admitted.permitted.identified.received
    left = time_left(received, gates.clock)
    wait = None if left is None else min(left, gates.reservation_seconds)
    loads = load_up(routed, tenant, snapshot, case)
    if loads is None:
        holding = gates.finops.reserve(
            request_id=received.request_id,
            tenant=tenant.id,
            budget=tenant.budget,
            estimate=_estimate(routed, model),
            quotes=[quote(target, model) for target in routed.plan.attempts],
            wait=wait,
        )
    else:
        holding = gates.finops.reserve_batch(
            request_id=received.request_id,
            tenant=tenant.id,
            budget=tenant.budget,
            provider=routed.plan.attempts[0].provider,
            loads=loads,
            price_version=model.price_version,
            wait=wait,
        )
    # The reservation waits for other requests' holds on purpose, within its own bound: the gate's is added to it.
    reservation = await ask("finops", holding, seconds=gates.gate_seconds + gates.reservation_seconds)
    if type(reservation) is not Reservation:
        raise Fault(Code.GATE_FAILED, "the money gate returned no reservation")
    case.reservation = reservation
    try:
        recorded = await gates.record(gates.journal.intent(case, reservation))
        return Funded(routed, reservation, recorded)
    except Undecided as error:
        abandon(gates, case, error)
        raise
    except GatewayError:
        # Not recorded, so not held. Should the journal have died between its disk and us, a restart finds the hold.
        gates.finops.release(reservation)
        raise
    except BaseException as error:
        # The client left while the record was on its way to the disk: it will stand there, so it gets its end.
        abandon(gates, case, cause_of(error, case))
        raise


def _estimate(routed: Routed, model: ServedModel) -> Estimate:
    request = routed.screened.admitted.permitted.request
    estimate = request.estimate
    window = model.context_window
    if not request.images:
        return msgspec.structs.replace(estimate, context_window=window)
    if model.max_image_tokens is None:
        return msgspec.structs.replace(estimate, context_window=window, whole_context=True)
    return msgspec.structs.replace(
        estimate,
        context_window=window,
        input_tokens=estimate.input_tokens + request.images * model.max_image_tokens,
    )
