"""The verbs of OpenID issuers: keep their keys at hand, and say of a bearer token whom it proves."""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from securellm.core.clock import Clock
from securellm.core.document import Document, Value
from securellm.core.errors import Code, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.core.randomness import Randomness
from securellm.identity.jwt import (
    Expected,
    SignedToken,
    SigningKey,
    TokenRefused,
    UnknownKey,
    is_signed_token,
    read_keys,
    read_token,
    verify,
)
from securellm.identity.outbound import Outbound
from securellm.identity.settings import IssuerSettings
from securellm.telemetry.logs import logger

_log = logger("identity")

PAUSE = 30.0
"""Seconds between two readings of an issuer's keys, whoever asks for a key it has never named."""

MOST_TOKENS = 4096
"""Proven tokens remembered."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What discovery says of an issuer (OpenID Connect Discovery 1.0, RFC 9207)."""

    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    end_session_endpoint: str = ""
    answers_with_issuer: bool = False
    secret_in_body: bool = False
    """Whether the client's secret belongs into the form: the issuer takes no HTTP Basic."""


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an issuer's token proves."""

    issuer: IssuerSettings
    subject: str
    claims: Mapping[str, Value]


class _Known:
    """What is known of one issuer now."""

    def __init__(self, settings: IssuerSettings, outbound: Outbound) -> None:
        self.settings = settings
        self.outbound = outbound
        self.metadata: Metadata | None = None
        self.keys: tuple[SigningKey, ...] | None = None
        self.spelling = b""
        self.generation = 0
        self.read_at = 0.0
        self.tried_at: float | None = None
        self.reading: asyncio.Task[None] | None = None


class Issuers:
    """Every configured issuer. Everything runs on the one event loop."""

    def __init__(
        self,
        settings: Iterable[IssuerSettings],
        *,
        outbound: Callable[[IssuerSettings], Outbound],
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._clock = clock
        self._make_outbound = outbound
        self._known: Mapping[str, _Known] = {}
        self._left: set[asyncio.Task[None]] = set()
        self._secret = randomness.token(32)
        self._proven: OrderedDict[bytes, tuple[int, Vouched]] = OrderedDict()
        self._configure(settings)
        self.homes: Mapping[str, str | None] = _Homes(self)
        """The tenant each issuer vouches for, None for the installation: always those configured now."""

    def follow(self, settings: Iterable[IssuerSettings]) -> None:
        """Go on with another configuration. Issuers that stayed as they were keep their keys."""
        for known in self._configure(settings):
            task = asyncio.get_running_loop().create_task(_leave(known))
            self._left.add(task)
            task.add_done_callback(self._left.discard)

    def _configure(self, settings: Iterable[IssuerSettings]) -> Sequence[_Known]:
        """Put these issuers in force; those that are not any more."""
        before = self._known
        now: dict[str, _Known] = {}
        for issuer in settings:
            kept = before.get(issuer.issuer)
            stays = kept is not None and kept.settings == issuer
            now[issuer.issuer] = kept if kept is not None and stays else _Known(issuer, self._make_outbound(issuer))
        self._known = now
        # What was proven was proven by the rules of then.
        self._proven.clear()
        return [known for known in before.values() if now.get(known.settings.issuer) is not known]

    @property
    def settings(self) -> tuple[IssuerSettings, ...]:
        return tuple(known.settings for known in self._known.values())

    def named(self, issuer_id: str) -> IssuerSettings:
        """The issuer with this id. Raises `Refusal` (NOT_FOUND)."""
        for known in self._known.values():
            if known.settings.id == issuer_id:
                return known.settings
        raise Refusal(Code.NOT_FOUND, "no issuer of this name is configured")

    def by_url(self, url: str) -> IssuerSettings | None:
        known = self._known.get(url)
        return None if known is None else known.settings

    def takes(self, credential: str) -> bool:
        """Whether a bearer credential of this shape is an issuer's to judge."""
        return any(known.settings.audience for known in self._known.values()) and is_signed_token(credential)

    async def vouch(self, bearer: str) -> Vouched:
        """Whom a bearer token proves. Raises `TokenRefused`, `Fault` (ISSUER_UNAVAILABLE)."""
        token = read_token(bearer)
        known = self._known.get(token.issuer or "")
        if known is None or known.settings.audience is None:
            raise TokenRefused("the token is from an issuer nobody configured for this")
        await self._keys(known)
        digest = self._digest(known, token)
        remembered = self._proven.get(digest)
        if remembered is not None and self._clock.now_us() < remembered[0]:
            self._proven.move_to_end(digest)
            return remembered[1]
        vouched = await self._prove(known, token, known.settings.audience)
        ends_us = int(str(vouched.claims["exp"])) * 1_000_000
        if self._clock.now_us() < ends_us:
            # The set may have been read anew on the way, and the token is then remembered under that one.
            self._proven[self._digest(known, token)] = (ends_us, vouched)
            while len(self._proven) > MOST_TOKENS:
                self._proven.popitem(last=False)
        return vouched

    async def check(self, issuer: IssuerSettings, text: str, *, audience: str) -> Vouched:
        """Whom a token that is not a credential proves: an ID token, for its client. Raises as `vouch`."""
        known = self._configured(issuer)
        token = read_token(text)
        return await self._prove(known, token, audience)

    async def metadata(self, issuer: IssuerSettings) -> Metadata:
        """What discovery says. Raises `Fault` (ISSUER_UNAVAILABLE)."""
        known = self._configured(issuer)
        await self._keys(known)
        assert known.metadata is not None
        return known.metadata

    def outbound(self, issuer: IssuerSettings) -> Outbound:
        return self._configured(issuer).outbound

    async def aclose(self) -> None:
        """End what is being read, and close every connection."""
        for known in self._known.values():
            await _leave(known)
        await asyncio.gather(*self._left)

    def _configured(self, issuer: IssuerSettings) -> _Known:
        known = self._known.get(issuer.issuer)
        if known is None:
            raise Refusal(Code.NOT_FOUND, "this issuer is not configured any more")
        return known

    async def _prove(self, known: _Known, token: SignedToken, audience: str) -> Vouched:
        settings = known.settings
        expected = Expected(
            issuer=settings.issuer,
            audience=audience,
            algorithms=settings.algorithms,
            skew=settings.clock_skew,
            acr=settings.acr,
            amr=settings.amr,
        )
        keys = await self._keys(known)
        try:
            claims = verify(token, keys, expected, now_us=self._clock.now_us())
        except UnknownKey:
            if not self._may_read(known):
                raise
            await self._read(known)
            claims = verify(token, await self._keys(known), expected, now_us=self._clock.now_us())
        return Vouched(issuer=settings, subject=str(claims["sub"]), claims=claims)

    def _digest(self, known: _Known, token: SignedToken) -> bytes:
        """Under what a proven token is remembered: all of it, whose it is, and the set of keys that proved it."""
        settings = known.settings
        parts = (settings.issuer, settings.tenant or "", str(known.generation), token.text)
        text = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return hmac.digest(self._secret, text, hashlib.sha256)

    # Keys

    async def _keys(self, known: _Known) -> tuple[SigningKey, ...]:
        """The keys at hand, read anew when they are old. Raises `Fault` (ISSUER_UNAVAILABLE) when too old."""
        age = self._clock.monotonic() - known.read_at
        if known.keys is None or age >= known.settings.max_age:
            if known.reading is not None or self._may_read(known):
                await self._read(known)
            if known.keys is None or self._clock.monotonic() - known.read_at >= known.settings.max_age:
                raise Fault(Code.ISSUER_UNAVAILABLE, f"the keys of the issuer {known.settings.id} cannot be had")
        elif age >= known.settings.refresh and self._may_read(known):
            self._begin(known)
        return known.keys

    def _may_read(self, known: _Known) -> bool:
        return known.tried_at is None or self._clock.monotonic() - known.tried_at >= PAUSE

    async def _read(self, known: _Known) -> None:
        # Shielded: whoever gives up waiting must not end the reading that others wait for.
        await asyncio.shield(self._begin(known))

    def _begin(self, known: _Known) -> asyncio.Task[None]:
        if known.reading is None:
            known.tried_at = self._clock.monotonic()
            known.reading = asyncio.get_running_loop().create_task(self._reading(known))
        return known.reading

    async def _reading(self, known: _Known) -> None:
        try:
            settings, outbound = known.settings, known.outbound
            metadata = await self._discovered(settings, outbound)
            body = await outbound.get(metadata.jwks_uri, like=settings.issuer)
            keys = read_keys(body)
            if not keys:
                raise TokenRefused("the issuer's key set holds no key that can check a signature")
            if body != known.spelling:
                known.generation += 1
            known.metadata, known.keys, known.spelling = metadata, keys, body
            known.read_at = self._clock.monotonic()
        except (GatewayError, TokenRefused, ValueError) as error:
            reason = getattr(error, "reason", None) or "an address of the issuer cannot be asked"
            _log.warning("issuer_unavailable", issuer=known.settings.id, reason=reason)
        finally:
            known.reading = None

    async def _discovered(self, settings: IssuerSettings, outbound: Outbound) -> Metadata:
        if settings.jwks_uri is not None and settings.login is None:
            return Metadata(jwks_uri=settings.jwks_uri)
        url = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        members = Document(await outbound.get(url, like=settings.issuer), max_depth=16).members()
        if members.get("issuer") != settings.issuer:
            raise UpstreamFailure(Code.BAD_REPLY, "the issuer calls itself by another name")
        methods = members.get("token_endpoint_auth_methods_supported")
        return Metadata(
            jwks_uri=settings.jwks_uri or _text(members, "jwks_uri"),
            authorization_endpoint=_text(members, "authorization_endpoint"),
            token_endpoint=_text(members, "token_endpoint"),
            end_session_endpoint=_text(members, "end_session_endpoint"),
            answers_with_issuer=members.get("authorization_response_iss_parameter_supported") is True,
            secret_in_body=isinstance(methods, list)
            and "client_secret_basic" not in methods
            and "client_secret_post" in methods,
        )


class _Homes(Mapping[str, str | None]):
    """The tenants of whatever issuers are configured now, by the issuer's address."""

    def __init__(self, issuers: Issuers) -> None:
        self._issuers = issuers

    def __getitem__(self, url: str) -> str | None:
        issuer = self._issuers.by_url(url)
        if issuer is None:
            raise KeyError(url)
        return issuer.tenant

    def __iter__(self) -> Iterator[str]:
        return iter([issuer.issuer for issuer in self._issuers.settings])

    def __len__(self) -> int:
        return len(self._issuers.settings)


async def _leave(known: _Known) -> None:
    if known.reading is not None:
        known.reading.cancel()
        await asyncio.gather(known.reading, return_exceptions=True)
    await known.outbound.aclose()


def _text(members: Mapping[str, Value], name: str) -> str:
    value = members.get(name, "")
    return value if isinstance(value, str) else ""
