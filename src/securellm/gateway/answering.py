"""The second half of the story: attempts, the reply on its way through the guard, settlement, last bytes."""

import asyncio

from securellm.cache import Cached
from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.core.surfaces import FREE
from securellm.core.usage import Usage
from securellm.finops import NOTHING, Quote
from securellm.gateway.attempts import INCLUDE_USAGE, Upstream, attempt
from securellm.gateway.background import note_background
from securellm.gateway.batch_answers import (
    addresses,
    claim_correction,
    holds_answers,
    note_progress,
    read_answers,
    screen_reply,
)
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.closing import abandon, cause_of, close, settle
from securellm.gateway.deadlines import patience, refuse_late, time_left, too_late
from securellm.gateway.errands import dialect_of, note_kept, told_name
from securellm.gateway.headings import common_headers, cost_header, header_text, lane_headers, rate_headers_of
from securellm.gateway.journal import Undecided
from securellm.gateway.lossless import blank, mended, redact
from securellm.gateway.model import Headers, Reply
from securellm.gateway.relay import MAX_REPLY_DEPTH, StreamRelay
from securellm.gateway.snapshot import ServedModel, Snapshot
from securellm.gateway.stages import Funded
from securellm.gateway.translating import direction_of, occasion_of
from securellm.providers import StreamTranslation, translate_answer
from securellm.routing import PlannedAttempt

_READ_OUT = 0.1
"""Seconds."""

_UNBILLED = frozenset(range(300, 600)) - {504, 524}
"""By these statuses a provider says that it does not bill; by the two left out, a proxy that it stopped waiting."""

_JSON = "application/json"

MAX_REPLY = 32 * 1024 * 1024
"""Bytes of a whole reply that are held while it is screened."""


async def answer(
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
    rates = rate_headers_of(identified.identity, identified.received.surface, snapshot, gates)
    common = (*common_headers(case, funded), *rates)
    try:
        with gates.running.holding(case):
            if request.stream:
                await reply.expect_stream(common)
            funded, upstream = await _first_answer(funded, model, snapshot, gates, case)
            try:
                if request.stream:
                    await _stream(funded, upstream, common, model, reply, gates, case)
                else:
                    await _whole(funded, upstream, common, model, snapshot, reply, gates, case)
            except UpstreamFailure as failure:
                upstream.echoes.scrub(failure)
                gates.metrics.llm_errors.labels(upstream.target.provider, failure.code.value).inc()
                raise
            finally:
                await upstream.reply.aclose()
    except GatewayError as error:
        error.decision_id = error.decision_id or case.decision_id
        if not case.closed:
            await close(gates, case, error)
        raise
    except BaseException as error:
        # The client has left, or the process is ending: nobody waits, but what happened is settled and recorded.
        if not case.closed:
            abandon(gates, case, cause_of(error, case))
        raise


async def _first_answer(
    funded: Funded, model: ServedModel, snapshot: Snapshot, gates: Gates, case: Case
) -> tuple[Funded, Upstream]:
    """Work through the plan until a provider begins to answer. Raises the last failure when none does."""
    plan, received = funded.routed.plan, funded.received
    target = plan.attempts[0]
    made = 0
    while True:
        refuse_late(received, gates.clock)
        case.target = target
        case.attempt_started = gates.clock.monotonic()
        case.may_be_billed = True
        try:
            async with patience(received, gates.clock):
                upstream = await attempt(
                    funded,
                    target,
                    gates.providers,
                    case,
                    timeouts=model.timeouts[target.provider, target.upstream_model],
                )
        except TimeoutError:
            raise too_late() from None
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
                remaining=time_left(received, gates.clock),
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
        reservation = gates.finops.next_attempt(funded.reservation, quote(target, model), presumed=case.may_be_billed)
    except GatewayError:
        raise failure from None
    before = case.may_be_billed
    case.billable_before = case.billable_before or before
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
    funded: Funded,
    upstream: Upstream,
    common: Headers,
    model: ServedModel,
    snapshot: Snapshot,
    reply: Reply,
    gates: Gates,
    case: Case,
) -> None:
    """Read, screen, settle and send an answer that is not streamed."""
    request, target = funded.request, upstream.target
    direction = direction_of(funded, target)
    dialect = dialect_of(request, target)
    try:
        async with patience(funded.received, gates.clock):
            body = await upstream.reply.read(MAX_REPLY)
    except TimeoutError:
        raise too_late() from None
    case.note_first_byte()
    upstream.echoes.refuse_in(body)
    content_type = upstream.content_type
    if dialect.read_media is not None and (dialect.raw or content_type != _JSON):
        document = None
        facts = dialect.read_media(request.document, body, content_type)
        content_type = upstream.described_type
    else:
        content_type = _JSON
        try:
            document = Document(body, max_depth=MAX_REPLY_DEPTH)
        except Refusal as refusal:
            raise UpstreamFailure(Code.BAD_REPLY, f"the provider's answer is not valid: {refusal.reason}") from None
        facts = dialect.read_reply(document)
    case.usage, case.finish, case.model_served = facts.usage, facts.finish, facts.model
    case.server_tool_uses, case.service_tier = facts.server_tool_uses, facts.service_tier
    if facts.failure is not None:
        raise facts.failure
    case.whole = True
    if document is not None:
        await note_progress(request, document.members(), target, snapshot, gates, case)
        await note_background(request, document, facts, target, model, snapshot, gates, case)
    if direction is None:
        await note_kept(facts, request, target, gates, case)
    screening = await screen_reply(facts.leaves, gates, case)
    if holds_answers(request):
        answer = await read_answers(body, request, target, snapshot, gates, case)
    elif document is None:
        answer = mended(body, facts.leaves, screening.replacements, facts.runs)
    else:
        patch = Patch(document)
        redact(patch, facts.leaves, screening.replacements, facts.mirrors, facts.runs)
        if screening.replacements:
            blank(patch, facts.mirrors)
        if direction is None and facts.model_path is not None:
            told = told_name(model, target, facts.model)
            if told is not None:
                patch.set(facts.model_path, told)
        for place, address in addresses(request, document.members()):
            patch.set(place, address)
        answer = patch.apply() if patch else body
        if direction is not None:
            said = Document(answer, max_depth=MAX_REPLY_DEPTH) if patch else document
            answer = translate_answer(direction, said.members(), occasion_of(funded, target, model.name, gates.clock))
    claim_correction(snapshot, gates, case)
    settled = await settle(funded, gates, case)
    served = facts.model or target.upstream_model
    headers = (
        (b"content-type", content_type.encode("ascii")),
        (b"x-securellm-provider", target.provider.encode("ascii")),
        *(((b"x-securellm-model", header_text(served)),) if served else ()),
        *lane_headers(funded, target),
        (b"x-securellm-cache", case.cache.encode("ascii")),
        *cost_header(settled),
        *common,
    )
    if case.cache_key is not None and not screening.replacements:
        await gates.cache.store(
            case.cache_key,
            Cached(
                status=200,
                body=answer,
                content_type=content_type,
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
    target = upstream.target
    dialect = dialect_of(funded.request, target)
    if dialect.open_stream is None or dialect.framing is None:
        raise Fault(Code.INTERNAL, "this surface does not stream")
    direction = direction_of(funded, target)
    reader = dialect.open_stream(
        injected_usage=INCLUDE_USAGE in upstream.changes, choices=funded.request.estimate.choices
    )
    screen = case.stream_screen = gates.guard.open_stream(
        case.guard_mode, decision_id=case.decision_id, redact=case.redact
    )
    relay = StreamRelay(
        reader=reader,
        framing=dialect.framing,
        screen=screen,
        screen_whole=lambda leaves: screen_reply(leaves, gates, case),
        echoes=upstream.echoes,
        upstream_model=target.upstream_model,
        model=model.name,
        translation=None
        if direction is None
        else StreamTranslation(direction, occasion_of(funded, target, model.name, gates.clock)),
    )
    served = (
        (b"x-securellm-provider", target.provider.encode("ascii")),
        (b"x-securellm-model", header_text(target.upstream_model)),
        *lane_headers(funded, target),
    )
    await reply.begin((*served, *common))
    try:
        async with patience(funded.received, gates.clock):
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
        relay.conclude()
    except TimeoutError:
        raise too_late() from None
    finally:
        case.usage, case.finish, case.model_served = reader.usage, reader.finish, reader.model
        case.server_tool_uses, case.service_tier = reader.server_tool_uses, reader.service_tier
        if direction is None:
            case.keep(reader.kept)
    await settle(funded, gates, case)
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


def quote(target: PlannedAttempt, model: ServedModel) -> Quote:
    known = model.prices.get((target.provider, target.upstream_model))
    return Quote(
        route=target.place,
        price=NOTHING if target.surface in FREE else known,
        price_version=model.price_version,
        default_max_output=model.default_max_output,
    )
