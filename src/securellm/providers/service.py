"""Calls to providers: our headers and credential on, the caller's off, errors in our own words."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.providers.dialects import DIALECTS
from securellm.providers.failures import envelope, failure, told
from securellm.providers.model import ID, Dialect, Errand, ProviderKind
from securellm.providers.ports import Sender, UpstreamReply
from securellm.secrets import Credential, SecretValue
from securellm.transport import Headers, OutboundRequest, Target, Timeouts

_LONGEST_ERROR = 64 * 1024
_NEVER_FORWARDED = frozenset(
    {"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization"}
)


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One configured provider."""

    id: str
    kind: ProviderKind
    base: Target
    credential: Credential | None
    timeouts: Timeouts
    sender: Sender
    cap_fields: Mapping[Surface, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Where this provider bounds output by other members than its kind."""

    def __post_init__(self) -> None:
        if self.credential is None and self.kind.credential_required:
            raise ValueError(f"provider {self.id} needs a credential")

    def caps(self, surface: Surface) -> tuple[str, ...]:
        """The members that bound output on `surface`; the first is the one we write."""
        return self.cap_fields.get(surface) or self.kind.cap_fields.get(surface, ())

    def serves(self, surface: Surface) -> bool:
        return surface in self.kind.surfaces

    def shown(self) -> SecretValue | None:
        """The credential as it stands now. Raises Fault(CREDENTIAL_UNAVAILABLE) when it may not be used."""
        return None if self.credential is None else self.credential.current()


class Providers:
    """The providers of this gateway, by id."""

    def __init__(
        self, providers: Iterable[Provider], *, clock: Clock, redact: Callable[[str], str] | None = None
    ) -> None:
        self._by_id = {provider.id: provider for provider in providers}
        self._clock = clock
        self._redact = redact

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._by_id.values())

    def get(self, provider_id: str) -> Provider:
        """The provider of that id. Raises Fault: a plan that names an unknown one is a bug."""
        try:
            return self._by_id[provider_id]
        except KeyError:
            raise Fault(Code.INTERNAL, f"the plan names provider {provider_id}, which is not configured") from None

    async def call(
        self,
        provider_id: str,
        surface: Surface,
        body: bytes,
        *,
        content_type: str = "application/json",
        model: str = "",
        client_headers: Mapping[str, str],
        request_id: str,
        traceparent: str,
        query: str = "",
        stream: bool = False,
        timeouts: Timeouts | None = None,
        errand: Errand | None = None,
        names: Sequence[str] = (),
        credential: SecretValue | None = None,
    ) -> UpstreamReply:
        """The provider's answer, once its head says success; the caller closes it.

        An `errand` is run for the things of these `names`. Without a `credential` it is the present one.

        Raises `UpstreamFailure` for every other answer and for none at all, `Fault` when the call cannot be made.
        """
        provider = self.get(provider_id)
        request = build_request(
            provider,
            surface,
            body,
            content_type=content_type,
            model=model,
            client_headers=client_headers,
            request_id=request_id,
            traceparent=traceparent,
            query=query,
            stream=stream,
            errand=errand,
            names=names,
            credential=credential,
        )
        reply = await provider.sender.send(request, timeouts=timeouts if timeouts is not None else provider.timeouts)
        try:
            wrong = await self._wrong(provider, _dialect(surface, errand), reply, stream=stream)
            if wrong is not None and names:
                wrong = _of_what_is_kept(wrong)
        except BaseException:
            await reply.aclose()
            raise
        if wrong is not None:
            await reply.aclose()
            raise wrong
        return reply

    async def _wrong(
        self, provider: Provider, dialect: Dialect, reply: UpstreamReply, *, stream: bool
    ) -> UpstreamFailure | None:
        headers = readable(reply.headers)
        if reply.status != 200:
            body = await _error_body(reply)
            return failure(provider.kind, reply.status, headers, body, now_us=self._clock.now_us(), redact=self._redact)
        if headers.get("content-encoding", "identity") != "identity":
            return UpstreamFailure(Code.BAD_REPLY, "the provider compressed its reply, unasked", provider_status=200)
        due = _accepted(dialect, stream=stream)
        kind = headers.get("content-type", due).partition(";")[0].strip().lower()
        streamed = stream and dialect.framing is not None
        media = dialect.raw or (dialect.read_media is not None and not streamed and not kind.startswith("text/html"))
        if media or kind == due or (not streamed and kind.endswith("+json")):
            return None
        if streamed and envelope(body := await _error_body(reply)) is not None:
            return _told(body)
        return UpstreamFailure(
            Code.BAD_REPLY, f"the provider answered with something else than {due}", provider_status=200
        )


def build_request(
    provider: Provider,
    surface: Surface,
    body: bytes,
    *,
    content_type: str = "application/json",
    model: str = "",
    client_headers: Mapping[str, str],
    request_id: str,
    traceparent: str,
    query: str = "",
    stream: bool = False,
    errand: Errand | None = None,
    names: Sequence[str] = (),
    credential: SecretValue | None = None,
) -> OutboundRequest:
    """The request as it leaves. `client_headers` have lower-case names; only what the kind lists travels on.

    `model` is the upstream's name for the model, for surfaces that have it in their path; `names` are the ids in the
    path of an `errand`.
    """
    kind = provider.kind
    if surface not in kind.surfaces:
        raise Fault(Code.INTERNAL, f"the plan sends {surface} to provider {provider.id}, which does not serve it")
    template = kind.surfaces[surface]
    if stream:
        template = kind.stream_paths.get(surface, template)
    if errand is not None:
        template += _named(errand, names)
    if "{model}" in template:
        template = template.replace("{model}", _in_path(model))
    path, _, own_query = template.partition("?")
    dialect = _dialect(surface, errand)
    written = {"content-type": content_type} if errand is None or errand.takes != "nothing" else {}
    headers = {
        **kind.extra_headers,
        **{
            name: value
            for name, value in client_headers.items()
            if name in kind.forwarded_headers and name not in _NEVER_FORWARDED
        },
        **written,
        "accept": _accepted(dialect, stream=stream),
        "x-client-request-id": request_id,
        "traceparent": traceparent,
    }
    forwarded = kind.forwarded_query if errand is None else kind.forwarded_query | errand.query
    kept = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] in forwarded]
    asked = "&".join(part for part in (own_query, urlencode(kept)) if part)
    return OutboundRequest(
        method="POST" if errand is None else errand.method,
        path=_below(provider.base.path, path) + (f"?{asked}" if asked else ""),
        headers=(
            *((name.encode("ascii"), _header(value)) for name, value in headers.items()),
            *_auth(provider, credential),
        ),
        body=body,
    )


def _dialect(surface: Surface, errand: Errand | None) -> Dialect:
    return DIALECTS[surface] if errand is None else errand.dialect


def _in_path(model: str) -> str:
    """The model's name as segments of a path, none of which leads out of the place where it stands."""
    if not {".", ".."}.isdisjoint(model.split("/")):
        raise Fault(Code.INTERNAL, "the plan names a model that leads out of its path")
    return quote(model, safe="/")


def _named(errand: Errand, names: Sequence[str]) -> str:
    """The errand's path for the things of these names, each one segment whatever it is made of."""
    around = errand.path.split(ID)
    if len(around) != len(names) + 1 or not {"", ".", ".."}.isdisjoint(names):
        raise Fault(Code.INTERNAL, f"{errand.name} does not name {len(names)} things in its path")
    pairs = zip(names, around[1:], strict=True)
    return around[0] + "".join(quote(name, safe="") + after for name, after in pairs)


def _of_what_is_kept(wrong: UpstreamFailure) -> UpstreamFailure:
    """A provider's own 404 for an id that it gave out here: it has forgotten what it kept."""
    if wrong.provider_status != 404 or wrong.code is not Code.BAD_REQUEST:
        return wrong
    return UpstreamFailure(
        Code.NOT_KEPT,
        "the provider keeps no such thing any more",
        provider_code=wrong.provider_code,
        provider_status=404,
    )


def _accepted(dialect: Dialect, *, stream: bool) -> str:
    if stream and dialect.framing is not None:
        return dialect.framing.content_type
    return "application/json" if dialect.read_media is None else "*/*"


def _below(base: str, path: str) -> str:
    """`path` below the base address, or with `../` below the base address without its last segment."""
    if path.startswith("../"):
        return base.rpartition("/")[0] + path[2:]
    return base + path


def readable(headers: Headers) -> dict[str, str]:
    """Header values by lower-case name; of a repeated one the first."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return found


def _told(body: bytes) -> UpstreamFailure:
    """The failure told by an error body that came with a success."""
    said = envelope(body)
    return told({"code": said.code, "type": said.kind, "message": said.message} if said is not None else None)


def _auth(provider: Provider, credential: SecretValue | None) -> Headers:
    if provider.credential is None or provider.kind.auth == "none":
        return ()
    shown = _credential(provider.id, credential if credential is not None else provider.credential.current())
    if provider.kind.auth != "bearer":
        return ((provider.kind.auth.encode("ascii"), shown),)
    return ((b"authorization", b"Bearer " + shown),)


def _credential(provider_id: str, credential: SecretValue) -> bytes:
    try:
        return _header(credential.reveal())
    except Fault:
        raise Fault(
            Code.CREDENTIAL_UNAVAILABLE, f"the credential of provider {provider_id} holds characters no header can"
        ) from None


def _header(value: str) -> bytes:
    if not value.isascii() or not value.isprintable():
        raise Fault(Code.INTERNAL, "a header value is not printable ASCII")
    return value.encode("ascii")


async def _error_body(reply: UpstreamReply) -> bytes:
    """As much of an error as is worth reading; its failure to arrive is not the news."""
    try:
        return await reply.read(_LONGEST_ERROR)
    except UpstreamFailure:
        return b""
