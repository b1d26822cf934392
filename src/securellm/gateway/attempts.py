"""One attempt at one provider. Nothing but a `Funded` request gets here, and nothing else reaches a provider."""

import asyncio

import msgspec

from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.core.messages import Path
from securellm.gateway.batching import carry, own
from securellm.gateway.case import Case
from securellm.gateway.echoes import Echoes
from securellm.gateway.errands import dialect_of
from securellm.gateway.headings import header_text
from securellm.gateway.lossless import FOREIGN_REASONING, REDACTION, redact, without_strays
from securellm.gateway.stages import Funded
from securellm.providers import Provider, Providers, UpstreamReply
from securellm.routing import PlannedAttempt
from securellm.secrets import SecretValue
from securellm.transport import Timeouts

INCLUDE_USAGE = "include_usage"
"""The edit by which we asked for usage ourselves, so that its traces are taken out of the stream again."""

_CAP = "max_completion_tokens"
"""What translation bounds output by in chat completions."""
_DEPTH = 10_000
"""Levels of nesting: the client's body was bounded when it came, and translation adds a few to it."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that has begun to answer with success."""

    target: PlannedAttempt
    reply: UpstreamReply
    changes: tuple[str, ...]
    """The closed list of edits made to the request, by name."""
    echoes: Echoes
    """What must not come back."""

    @property
    def content_type(self) -> str:
        """Of its answer, without parameters, in lower case; JSON where it says nothing."""
        return header_text(self._written_type.partition(";")[0].strip().lower()).decode("ascii")

    @property
    def described_type(self) -> str:
        """The same with its parameters, without which some sound cannot be played; a text is in UTF-8."""
        if self.content_type.startswith("text/"):
            return f"{self.content_type}; charset=utf-8"
        return header_text(";".join(part.strip() for part in self._written_type.split(";"))).decode("ascii")

    @property
    def _written_type(self) -> str:
        written = (value for name, value in self.reply.headers if name == b"content-type")
        return next(written, b"application/json").decode("latin-1")


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
    lossless = target.surface == received.surface
    body, changes = prepare(funded, target, provider)
    request = funded.request
    attachments = request.attachments
    if request.inner or request.text is not None:
        found = funded.routed.screened.screening.replacements
        body, attachments, made = await asyncio.to_thread(
            carry, body, request, found, provider, workload=case.workload, caps=case.caps
        )
        changes = tuple(dict.fromkeys((*changes, *made)))
    case.changes = changes
    encode = dialect_of(request, target).encode
    content_type = "application/json"
    if encode is not None:
        body, content_type = encode(body, attachments)
    elif request.errand is not None and request.errand.takes == "nothing":
        body = b""
    shown, again = provider.shown(), False
    while True:
        echoes = Echoes(shown)
        try:
            reply = await providers.call(
                target.provider,
                target.surface,
                body,
                content_type=content_type,
                model=target.upstream_model,
                client_headers=received.headers if lossless else {},
                request_id=received.request_id,
                traceparent=received.traceparent,
                query=received.query if lossless else "",
                stream=request.stream,
                timeouts=timeouts,
                errand=request.errand,
                names=request.names,
                credential=shown,
            )
        except UpstreamFailure as failure:
            echoes.scrub(failure)
            if not lossless:
                failure.param = None  # A place in a body that the caller never saw.
            shown = None if again else await _another(provider, shown, failure)
            if shown is None:
                raise
            again = True
        else:
            return Upstream(target=target, reply=reply, changes=changes, echoes=echoes)


async def _another(provider: Provider, shown: SecretValue | None, failure: UpstreamFailure) -> SecretValue | None:
    """After a credential was refused: the one it was rotated to, or from. A call refused with 401 is never billed."""
    if provider.credential is None or shown is None or failure.provider_status != 401:
        return None
    return await provider.credential.other(shown)


def prepare(funded: Funded, target: PlannedAttempt, provider: Provider) -> tuple[bytes, tuple[str, ...]]:
    """The bytes for the provider, and the names of the edits that made them."""
    received, request = funded.received, funded.request
    replacements = funded.routed.screened.screening.replacements
    named = (*request.edits, *((REDACTION,) if replacements else ()))
    translated = funded.routed.translations.get(target.surface) if target.surface != received.surface else None
    if translated is None:
        document, patch = request.document, Patch(request.document)
        gone = without_strays(patch, document, received.surface)
        named += (FOREIGN_REASONING,) if gone else ()
        due = [due for due in own(request, replacements) if not _is_in(request.leaves[due.leaf].path, gone)]
        redact(patch, request.leaves, due)
        inject = request.stream and not request.wants_usage
    else:
        document = _bounded_once(translated.body, funded.reservation.output_cap, provider.caps(target.surface))
        patch, inject = Patch(document), False
        named += (f"translate:{target.surface}", *(f"drop:{path}" for path in translated.dropped))
    changes = dialect_of(request, target).prepare(
        patch,
        document,
        upstream_model=target.upstream_model,
        output_cap=funded.reservation.output_cap,
        cap_fields=provider.caps(target.surface),
        inject_usage=inject,
    )
    body = patch.apply() if patch else document.text.encode("utf-8")
    return body, named + changes


def _bounded_once(body: bytes, output_cap: int | None, caps: tuple[str, ...]) -> Document:
    """A translated request without a cap in a member that this upstream does not obey: one that it obeys follows.

    In the lossless lane the caller's member stays beside ours; here both would be ours, and servers refuse both.
    """
    document = Document(body, max_depth=_DEPTH)
    if output_cap is None or _CAP in caps or _CAP not in document.members():
        return document
    patch = Patch(document)
    patch.remove((_CAP,))
    return Document(patch.apply(), max_depth=_DEPTH)


def _is_in(path: Path, places: tuple[Path, ...]) -> bool:
    return any(path[: len(place)] == place for place in places)
