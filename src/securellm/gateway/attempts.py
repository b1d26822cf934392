"""One attempt at one provider. Nothing but a `Funded` request gets here, and nothing else reaches a provider."""

import msgspec

from securellm.core.document import Patch
from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.gateway.case import Case
from securellm.gateway.echoes import Echoes
from securellm.gateway.lossless import REDACTION, redact
from securellm.gateway.stages import Funded
from securellm.providers import DIALECTS, Provider, Providers, UpstreamReply
from securellm.routing import PlannedAttempt
from securellm.transport import Timeouts

INCLUDE_USAGE = "include_usage"
"""The edit by which we asked for usage ourselves, so that its traces are taken out of the stream again."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that has begun to answer with success."""

    target: PlannedAttempt
    reply: UpstreamReply
    changes: tuple[str, ...]
    """The closed list of edits made to the request, by name."""
    echoes: Echoes
    """What must not come back."""


async def attempt(
    funded: Funded, target: PlannedAttempt, providers: Providers, case: Case, *, timeouts: Timeouts
) -> Upstream:
    """Send the request to `target` and wait until it begins to answer with success; `case` keeps what was changed.

    Raises UpstreamFailure: the provider could not be reached, broke, or answered with an error (which was read:
    a provider that says no is known not to have billed).
    """
    if type(funded) is not Funded:
        raise Fault(Code.GATE_FAILED, "a provider call takes a funded request only")
    received = funded.received
    provider = providers.get(target.provider)
    echoes = Echoes(provider.credential)
    body, changes = prepare(funded, target, provider)
    case.changes = changes
    try:
        reply = await providers.call(
            target.provider,
            received.surface,
            body,
            client_headers=received.headers,
            request_id=received.request_id,
            traceparent=received.traceparent,
            query=received.query,
            stream=funded.request.stream,
            timeouts=timeouts,
        )
    except UpstreamFailure as failure:
        echoes.scrub(failure)
        raise
    return Upstream(target=target, reply=reply, changes=changes, echoes=echoes)


def prepare(funded: Funded, target: PlannedAttempt, provider: Provider) -> tuple[bytes, tuple[str, ...]]:
    """The bytes for the provider, and the names of the edits that made them."""
    received, request, reservation = funded.received, funded.request, funded.reservation
    screening = funded.routed.screened.screening
    patch = Patch(request.document)
    redact(patch, request.leaves, screening.replacements)
    inject = request.stream and not request.wants_usage
    model = target.upstream_model if target.upstream_model != request.model else None
    changes = DIALECTS[received.surface].prepare(
        patch,
        request.document,
        upstream_model=model,
        output_cap=reservation.output_cap,
        cap_fields=provider.caps(received.surface),
        inject_usage=inject,
    )
    named = ((REDACTION,) if screening.replacements else ()) + changes
    body = patch.apply() if patch else request.document.text.encode("utf-8")
    return body, named
