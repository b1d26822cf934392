"""One request, from a credential to a settled ledger entry."""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from securellm.cache import Cache, Cached, CacheFacts, cache_key, cacheable, recallable
from securellm.core.clock import Clock
from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.core.messages import Leaf
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.finops import Estimate, Finops, Price, Quote, Reservation, Settlement
from securellm.gateway.attempts import INCLUDE_USAGE, Upstream, attempt
from securellm.gateway.case import Case
from securellm.gateway.gates import ask
from securellm.gateway.histories import Histories
from securellm.gateway.journal import Journal, Undecided
from securellm.gateway.lossless import blank, redact, refuse_colliding_keys
from securellm.gateway.model import Headers, Received, Reply
from securellm.gateway.ratelimits import rate_headers
from securellm.gateway.relay import StreamRelay
from securellm.gateway.snapshot import ServedModel, Snapshot, Snapshots, TenantFacts
from securellm.gateway.stages import Admitted, Funded, Identified, Permitted, Routed, Screened, Settled
from securellm.guard import Guard, Screening
from securellm.identity import Identities, Identity
from securellm.limits import Limits
from securellm.policy import Facts, Policy
from securellm.providers import DIALECTS, Providers
from securellm.routing import PlannedAttempt, Router
from securellm.telemetry.metrics import Metrics

T = TypeVar("T")

_READ_OUT = 0.1
"""Seconds."""

_UNBILLED = frozenset(range(300, 600)) - {504, 524}
"""By these statuses a provider says that it does not bill; by the two left out, a proxy that it stopped waiting."""

MAX_REPLY = 32 * 1024 * 1024
"""Bytes of a whole reply that are held while it is screened."""


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """Every capability the story uses, wired by `bootstrap`. A broken one refuses; none can be left out."""

    snapshots: Snapshots
    identities: Identities
    policy: Policy
    limits: Limits
    guard: Guard
    cache: Cache
    router: Router
    finops: Finops
    histories: Histories
    providers: Providers
    journal: Journal
    clock: Clock
    metrics: Metrics
    gate_seconds: float = 10.0
    reservation_seconds: float = 30.0
    """How long a reservation may wait for other requests' holds to be released."""

    def ask(
        self, gate: str, question: Coroutine[Any, Any, T], *, code: Code = Code.GATE_FAILED
    ) -> Coroutine[Any, Any, T]:
        return ask(gate, question, seconds=self.gate_seconds, code=code)

    def record(self, question: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Ask the journal, which has a bound of its own: only well beyond that is it taken for dead."""
        return ask("journal", question, seconds=1.5 * self.gate_seconds, code=Code.AUDIT_UNAVAILABLE)


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
        reply.rates = partial(_rate_headers, identified, snapshot, gates)
        permitted = await _permit(identified, snapshot, gates, case)
        tenant = snapshot.tenants[permitted.identified.identity.tenant]
        model = snapshot.models[permitted.permit.model]
        admitted = await _admit(permitted, tenant, gates)
        case.admission = admitted.admission
    except GatewayError as error:
        await _deny(gates, case, error)
        raise
    except BaseException as error:
        gates.journal.afterwards(_deny(gates, case, _cause(error, received)))
        raise
    try:
        try:
            screened = await _screen(admitted, tenant, gates, case)
            hit = await _recall(screened, model, gates, case)
            if hit is not None:
                await _replay(screened, hit, tenant, model, snapshot, reply, gates, case)
                return
            routed = await _route(screened, model, snapshot, gates, case)
            funded = await _fund(routed, tenant, model, gates, case)
        except GatewayError as error:
            if not case.closed:
                await _deny(gates, case, error)
            raise
        except BaseException as error:
            if not case.closed:
                gates.journal.afterwards(_deny(gates, case, _cause(error, received)))
            raise
        await _answer(funded, model, snapshot, reply, gates, case)
    finally:
        gates.limits.release(admitted.admission)


async def _deny(gates: Gates, case: Case, error: GatewayError) -> None:
    """Record a refusal that cost nothing; the caller learns the id it is recorded under."""
    if case.identity is not None:
        error.decision_id = error.decision_id or case.decision_id
    await gates.journal.deny(case, error)


async def recognise(gates: Gates, snapshot: Snapshot, credential: str | None, client_ip: str) -> Identity:
    """Who presents this credential. An address that presents too many bad ones is told to wait instead."""
    try:
        return await gates.ask("identity", gates.identities.identify(snapshot.keys, credential, surface=None))
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
    request = await identified.received.read()
    case.request = request
    identity = identified.identity
    tenant = snapshot.tenants.get(identity.tenant)
    if tenant is None:
        raise Refusal(Code.INVALID_KEY, "the key's tenant does not exist any more")
    facts = Facts(
        tenant=identity.tenant,
        key_id=identity.key_id,
        model=request.model or snapshot.default_model,
        surface=identified.received.surface,
        key_models=identity.models,
        tenant_models=tenant.models,
        known_models=snapshot.models.keys(),
        bundle=snapshot.policy_version,
    )
    case.model = facts.model
    permit = await gates.ask("policy", gates.policy.permit(facts, decision_id=case.decision_id))
    permitted = Permitted(identified, request, permit)
    gates.histories.refuse_foreign(identity.tenant, request.histories, alone=len(snapshot.tenants) == 1)
    case.policy_version = permit.bundle
    return permitted


async def _admit(permitted: Permitted, tenant: TenantFacts, gates: Gates) -> Admitted:
    _refuse_late(permitted.identified.received, gates.clock)
    admission = await gates.ask(
        "limits",
        gates.limits.admit(
            tenant=tenant.id,
            key_id=permitted.identified.identity.key_id,
            limits=tenant.rates,
            key_limits=None,
            tokens=permitted.request.estimate.input_tokens,
        ),
    )
    return Admitted(permitted, admission)


async def _screen(admitted: Admitted, tenant: TenantFacts, gates: Gates, case: Case) -> Screened:
    request = admitted.permitted.request
    try:
        screening = await gates.ask(
            "guard",
            gates.guard.screen_prompt(tenant.guard, request.leaves, decision_id=case.decision_id),
            code=Code.GUARD_UNAVAILABLE,
        )
    except Refusal:
        gates.metrics.verdicts.labels("prompt", "block").inc()
        raise
    screened = Screened(admitted, screening)
    refuse_colliding_keys(request.document, request.leaves, screening.replacements)
    gates.metrics.verdicts.labels("prompt", screening.verdict.value).inc()
    case.screened(screening)
    return screened


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
        body=_asked(permitted, model, gates),
        bundle=permitted.permit.bundle,
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


def _asked(permitted: Permitted, model: ServedModel, gates: Gates) -> bytes:
    """All that an answer may depend on: the body, and what travels on beside it."""
    received = permitted.identified.received
    forwarded: set[str] = set()
    for candidate in model.candidates:
        forwarded |= gates.providers.get(candidate.provider).kind.forwarded_headers
    beside = [f"{name}: {received.headers[name]}" for name in sorted(forwarded) if name in received.headers]
    beside += [received.query, received.pinned_provider or ""]
    # No JSON text holds a NUL, and no header or query can.
    return "\0".join((permitted.request.document.text, *beside)).encode("utf-8", "backslashreplace")


async def _replay(
    screened: Screened,
    hit: Cached,
    tenant: TenantFacts,
    model: ServedModel,
    snapshot: Snapshot,
    reply: Reply,
    gates: Gates,
    case: Case,
) -> None:
    """Answer from the cache: no provider is asked, nothing is spent, and it is recorded all the same."""
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
    headers = (
        (b"content-type", hit.content_type.encode("ascii")),
        (b"x-securellm-cache", b"hit"),
        (b"x-securellm-decision-id", case.decision_id.encode("ascii")),
        *_rate_headers(screened.admitted.permitted.identified, snapshot, gates),
    )
    await reply.send(hit.status, headers, hit.body)


async def _route(
    screened: Screened, model: ServedModel, snapshot: Snapshot, gates: Gates, case: Case, *, send: bool = True
) -> Routed:
    """Plan the attempts; with `send`, a place in the first provider's own rate is taken."""
    received = screened.admitted.permitted.identified.received
    crowded: dict[str, float] = {}
    while True:
        plan = await gates.ask(
            "routing",
            gates.router.plan(
                model.name,
                received.surface,
                candidates=[
                    msgspec.structs.replace(candidate, healthy=False) if candidate.provider in crowded else candidate
                    for candidate in model.candidates
                ],
                pinned=received.pinned_provider,
            ),
        )
        routed = Routed(screened, plan)
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


async def _fund(routed: Routed, tenant: TenantFacts, model: ServedModel, gates: Gates, case: Case) -> Funded:
    """Hold the money, then make the record that says so durable: the INTENT is the reservation."""
    estimate = _estimate(routed, model)
    received = routed.screened.admitted.permitted.identified.received
    left = _time_left(received, gates.clock)
    # The reservation waits for other requests' holds on purpose, within its own bound: the gate's is added to it.
    reservation = await ask(
        "finops",
        gates.finops.reserve(
            request_id=received.request_id,
            tenant=tenant.id,
            budget=tenant.budget,
            estimate=estimate,
            quotes=[_quote(target, model) for target in routed.plan.attempts],
            wait=None if left is None else min(left, gates.reservation_seconds),
        ),
        seconds=gates.gate_seconds + gates.reservation_seconds,
    )
    if type(reservation) is not Reservation:
        raise Fault(Code.GATE_FAILED, "the money gate returned no reservation")
    case.reservation = reservation
    try:
        recorded = await gates.record(gates.journal.intent(case, reservation))
        return Funded(routed, reservation, recorded)
    except Undecided as error:
        _abandon(gates, case, error)
        raise
    except GatewayError:
        # Not recorded, so not held. Should the journal have died between its disk and us, a restart finds the hold.
        gates.finops.release(reservation)
        raise
    except BaseException as error:
        # The client left while the record was on its way to the disk: it will stand there, so it gets its end.
        _abandon(gates, case, _cause(error, received))
        raise


async def _answer(
    funded: Funded,
    model: ServedModel,
    snapshot: Snapshot,
    reply: Reply,
    gates: Gates,
    case: Case,
) -> None:
    """Attempt, screen, settle, record; then, and only then, let the last bytes go."""
    request = funded.request
    identified = funded.routed.screened.admitted.permitted.identified
    common = (*_common_headers(case, funded), *_rate_headers(identified, snapshot, gates))
    try:
        if request.stream:
            await reply.expect_stream(common)
        funded, upstream = await _first_answer(funded, model, snapshot, gates, case)
        try:
            if request.stream:
                await _stream(funded, upstream, common, model, reply, gates, case)
            else:
                await _whole(funded, upstream, common, model, reply, gates, case)
        except UpstreamFailure as failure:
            gates.metrics.llm_errors.labels(upstream.target.provider, failure.code.value).inc()
            raise
        finally:
            await upstream.reply.aclose()
    except GatewayError as error:
        error.decision_id = error.decision_id or case.decision_id
        if not case.closed:
            await _close(gates, case, error)
        raise
    except BaseException as error:
        # The client has left, or the process is ending: nobody waits, but what happened is settled and recorded.
        if not case.closed:
            _abandon(gates, case, _cause(error, funded.received))
        raise


async def _first_answer(
    funded: Funded, model: ServedModel, snapshot: Snapshot, gates: Gates, case: Case
) -> tuple[Funded, Upstream]:
    """Work through the plan until a provider begins to answer. Raises the last failure when none does."""
    plan, received = funded.routed.plan, funded.received
    target = plan.attempts[0]
    made = 0
    while True:
        _refuse_late(received, gates.clock)
        case.target = target
        case.attempt_started = gates.clock.monotonic()
        case.may_be_billed = True
        try:
            async with asyncio.timeout(_time_left(received, gates.clock)):
                upstream = await attempt(
                    funded,
                    target,
                    gates.providers,
                    case,
                    timeouts=model.timeouts[target.provider, target.upstream_model],
                )
        except TimeoutError:
            raise _too_late() from None
        except UpstreamFailure as failure:
            case.may_be_billed = failure.sent and failure.provider_status not in _UNBILLED
            gates.metrics.llm_errors.labels(target.provider, failure.code.value).inc()
            made += 1
            following = gates.router.follow_up(
                plan,
                failure.code,
                made=made,
                retries=model.retries,
                first_byte=False,
                retry_after=failure.retry_after,
                remaining=_time_left(received, gates.clock),
            )
            if following is None:
                raise
            await asyncio.sleep(following.delay)
            provider = following.attempt.provider
            if gates.limits.provider(provider, snapshot.provider_rates[provider]) > 0:
                raise
            target = following.attempt
            funded = await _fund_next(funded, target, model, gates, case, failure)
        else:
            return funded, upstream


async def _fund_next(
    funded: Funded, target: PlannedAttempt, model: ServedModel, gates: Gates, case: Case, failure: UpstreamFailure
) -> Funded:
    """Before another attempt: its hold, and the ATTEMPT record that says so, durable."""
    try:
        reservation = gates.finops.next_attempt(funded.reservation, _quote(target, model), presumed=case.may_be_billed)
    except GatewayError:
        raise failure from None
    before = case.may_be_billed
    # Taken over first: a record on its way to the disk will stand there, whether or not its client still waits.
    case.reservation, case.target, case.may_be_billed = reservation, target, False
    try:
        recorded = await gates.record(gates.journal.attempt(reservation, target, failure))
    except Undecided:
        raise
    except GatewayError:
        gates.finops.release(reservation)
        case.reservation, case.may_be_billed = funded.reservation, before
        raise
    return Funded(funded.routed, reservation, recorded)


async def _whole(
    funded: Funded, upstream: Upstream, common: Headers, model: ServedModel, reply: Reply, gates: Gates, case: Case
) -> None:
    """Read, screen, settle and send an answer that is not streamed."""
    surface = funded.received.surface
    try:
        async with asyncio.timeout(_time_left(funded.received, gates.clock)):
            body = await upstream.reply.read(MAX_REPLY)
    except TimeoutError:
        raise _too_late() from None
    case.note_first_byte()
    upstream.echoes.refuse_in(body)
    try:
        document = Document(body, max_depth=128)
    except Refusal as refusal:
        raise UpstreamFailure(Code.BAD_REPLY, f"the provider's answer is not valid: {refusal.reason}") from None
    facts = DIALECTS[surface].read_reply(document)
    case.usage, case.finish, case.model_served = facts.usage, facts.finish, facts.model
    case.server_tool_uses, case.service_tier = facts.server_tool_uses, facts.service_tier
    if facts.failure is not None:
        raise facts.failure
    case.whole = True
    if surface is Surface.RESPONSES and facts.id is not None:
        gates.histories.note(funded.reservation.tenant, facts.id)
    screening = await _screen_reply(facts.leaves, gates, case)
    patch = Patch(document)
    redact(patch, facts.leaves, screening.replacements, facts.mirrors)
    if screening.replacements:
        blank(patch, facts.mirrors)
    if facts.model_path is not None and facts.model == upstream.target.upstream_model != model.name:
        patch.set(facts.model_path, model.name)
    answer = patch.apply() if patch else body
    settled = await _settle(funded, gates, case)
    headers = (
        (b"content-type", b"application/json"),
        (b"x-securellm-provider", upstream.target.provider.encode("ascii")),
        (b"x-securellm-model", _header_text(facts.model or upstream.target.upstream_model)),
        (b"x-securellm-cache", case.cache.encode("ascii")),
        *_cost_header(settled),
        *common,
    )
    if case.cache_key is not None and not screening.replacements:
        await gates.cache.store(
            case.cache_key,
            Cached(
                status=200,
                body=answer,
                content_type="application/json",
                usage=facts.usage or Usage(),
                model_served=facts.model or "",
                request_id=funded.received.request_id,
            ),
            ttl=model.cache_ttl,
        )
    await reply.send(200, headers, answer)


async def _stream(
    funded: Funded, upstream: Upstream, common: Headers, model: ServedModel, reply: Reply, gates: Gates, case: Case
) -> None:
    """Relay events as they are cleared; hold everything from the finish on until the outcome is durable."""
    dialect = DIALECTS[funded.received.surface]
    if dialect.open_stream is None:
        raise Fault(Code.INTERNAL, "this surface does not stream")
    reader = dialect.open_stream(
        injected_usage=INCLUDE_USAGE in upstream.changes, choices=funded.request.estimate.choices
    )
    screen = case.stream_screen = gates.guard.open_stream(case.guard_mode, decision_id=case.decision_id)
    relay = StreamRelay(
        reader=reader,
        screen=screen,
        screen_whole=lambda leaves: _screen_reply(leaves, gates, case),
        echoes=upstream.echoes,
        upstream_model=upstream.target.upstream_model,
        model=model.name,
    )
    served = (
        (b"x-securellm-provider", upstream.target.provider.encode("ascii")),
        (b"x-securellm-model", _header_text(upstream.target.upstream_model)),
    )
    await reply.begin((*served, *common))
    try:
        async with asyncio.timeout(_time_left(funded.received, gates.clock)):
            async for data in upstream.reply:
                case.note_first_byte()
                ready = await relay.feed(data)
                if ready:
                    reply.sequence = relay.sequence
                    await reply.write(ready)
                if relay.failure is not None:
                    raise relay.failure
                if relay.terminal:
                    break
            else:
                await relay.end()
        case.whole = True
        relay.settle_text()
    except TimeoutError:
        raise _too_late() from None
    finally:
        case.usage, case.finish, case.model_served = reader.usage, reader.finish, reader.model
        case.server_tool_uses, case.service_tier = reader.server_tool_uses, reader.service_tier
        if reader.id is not None:
            gates.histories.note(funded.reservation.tenant, reader.id)
    await _settle(funded, gates, case)
    await reply.end(relay.rest())
    await _read_out(upstream)


async def _read_out(upstream: Upstream) -> None:
    """Give the provider a moment to end its body, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_READ_OUT):
            async for _ in upstream.reply:
                pass
    except (TimeoutError, UpstreamFailure):
        pass  # Only the connection is lost; the answer was whole.


async def _screen_reply(leaves: Sequence[Leaf], gates: Gates, case: Case) -> Screening:
    try:
        screening = await gates.ask(
            "guard",
            gates.guard.screen_reply(case.guard_mode, leaves, decision_id=case.decision_id),
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


async def _settle(funded: Funded, gates: Gates, case: Case) -> Settled:
    """The answer is whole and usable: pay, and make the OUTCOME durable. Nothing final leaves before this."""
    settlement = _paid(gates, case, funded.reservation)
    case.closed = True
    late = partial(_account, gates, case, settlement)
    recorded = await gates.record(gates.journal.outcome(case, settlement, None, late=late))
    settled = Settled(funded, settlement, recorded)
    _account(gates, case, settlement)
    return settled


def _paid(gates: Gates, case: Case, reservation: Reservation) -> Settlement:
    """The settlement of an answer that came whole."""
    return gates.finops.settle(
        reservation,
        case.usage,
        presumed=case.usage is None,
        service_tier=case.service_tier,
        tool_uses=dict(case.server_tool_uses),
    )


async def _close(gates: Gates, case: Case, error: GatewayError) -> None:
    """The request ended without a usable answer: whatever may have been billed stays presumed, and is recorded."""
    reservation = case.reservation
    assert reservation is not None
    case.closed = True
    if case.whole:
        settlement = _paid(gates, case, reservation)
    elif case.may_be_billed:
        settlement = gates.finops.settle(reservation, case.usage, presumed=True)
    else:
        settlement = gates.finops.settle(reservation, None)
    await gates.journal.outcome(case, settlement, error, late=partial(_account, gates, case, settlement))
    _account(gates, case, settlement)


def _abandon(gates: Gates, case: Case, error: GatewayError) -> None:
    """Nobody waits for this request any more: its end is settled and recorded in its own time."""
    case.closed = True
    gates.journal.afterwards(_close(gates, case, error))


def _cause(error: BaseException, received: Received) -> GatewayError:
    """What to record for whatever is not one of our errors."""
    if isinstance(error, Exception):
        return Fault(Code.INTERNAL, "an unexpected error stopped this request")
    if received.left():
        return Refusal(Code.CLIENT_DISCONNECTED, "the client left before the end")
    return Fault(Code.SHUTTING_DOWN, "the process was stopped before the end")


def _account(gates: Gates, case: Case, settlement: Settlement) -> None:
    """After the record: move the money, the limits and the metrics."""
    reservation = settlement.reservation
    gates.finops.apply(settlement)
    if case.usage is not None and case.admission is not None:
        gates.limits.charge(case.admission, case.usage.total_tokens)
    target = case.target
    if target is not None:
        if case.usage is not None:
            gates.metrics.count_usage(case.usage, provider=target.provider, model=target.upstream_model)
        gates.metrics.llm_latency.labels(target.provider, target.upstream_model).observe(case.attempt_seconds())
    tenant, currency = reservation.tenant, reservation.currency
    if settlement.settled:
        gates.metrics.spend.labels(tenant, currency).inc(settlement.settled)
    if settlement.presumed:
        gates.metrics.presumed.labels(tenant, currency).inc(settlement.presumed)
    if settlement.overrun:
        gates.metrics.overruns.labels(tenant).inc()


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


def _quote(target: PlannedAttempt, model: ServedModel) -> Quote:
    return Quote(
        route=f"{target.provider}/{target.upstream_model}",
        price=model.prices.get((target.provider, target.upstream_model)),
        price_version=model.price_version,
        default_max_output=model.default_max_output,
    )


def _time_left(received: Received, clock: Clock) -> float | None:
    return None if received.deadline is None else max(0.0, received.deadline - clock.monotonic())


def _refuse_late(received: Received, clock: Clock) -> None:
    if _time_left(received, clock) == 0.0:
        raise _too_late()


def _too_late() -> Refusal:
    return Refusal(Code.DEADLINE_EXCEEDED, "the time in x-request-deadline has passed")


def _rate_headers(identified: Identified, snapshot: Snapshot, gates: Gates) -> Headers:
    identity = identified.identity
    tenant = snapshot.tenants.get(identity.tenant)
    if tenant is None:
        return ()
    remaining = gates.limits.remaining(tenant=tenant.id, key_id=identity.key_id, limits=tenant.rates, key_limits=None)
    return rate_headers(remaining, identified.received.surface, now_us=gates.clock.now_us())


def _common_headers(case: Case, funded: Funded) -> Headers:
    headers = [(b"x-securellm-decision-id", case.decision_id.encode("ascii"))]
    if funded.reservation.cap_injected and funded.reservation.output_cap:
        headers.append((b"x-securellm-max-output", str(funded.reservation.output_cap).encode("ascii")))
    return tuple(headers)


def _cost_header(settled: Settled) -> Headers:
    settlement = settled.settlement
    if not settlement.cost_known:
        return ()
    return ((b"x-securellm-cost-nanos", str(settlement.settled).encode("ascii")),)


def _header_text(text: str) -> bytes:
    """Text of a provider, fit for a header."""
    return bytes(byte if 32 < byte < 127 else 63 for byte in text.encode("ascii", "replace")[:128])
