"""Log people in through their OpenID issuer: authorization code with PKCE (OpenID Connect Core, RFC 7636, RFC 9207).

What a login needs to remember travels in a cookie of the browser that began it, under our seal: the state, the nonce
and the PKCE verifier all follow from its seed, so nothing is stored for logins that nobody finishes.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote_plus, urlencode

import msgspec
from sqlalchemy import delete, insert

from securellm.core.clock import Clock
from securellm.core.document import Document, Value
from securellm.core.errors import Code, Fault, Refusal, UpstreamFailure
from securellm.core.randomness import Randomness
from securellm.identity.directory import Directory
from securellm.identity.issuers import Issuers, Metadata
from securellm.identity.jwt import TokenRefused, read_token
from securellm.identity.people import User
from securellm.identity.sessions import Sessions
from securellm.identity.settings import IssuerSettings, LoginSettings
from securellm.identity.tables import INSTALLATION, ONE_TIME
from securellm.identity.vouching import groups_of, split_address
from securellm.storage import ControlStore, Session, StorageConflict, in_thread

LIFE = 600
"""Seconds that a login may take."""

COOKIE = "slb_login"
"""Sent along when the issuer sends the browser back, so it is `SameSite=Lax`; it opens nothing by itself."""

_PURPOSE = "login"
_LOCAL = re.compile(r"/(?![/\\])[!-\[\]-~]{0,511}", re.ASCII)
_ERROR = re.compile(r"[a-z_]{1,64}", re.ASCII)
_CODE = re.compile(r"[!-~]{1,4096}", re.ASCII)
_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A login that was begun: where to send the browser, and the cookie it is to bring back."""

    location: str
    cookie: str


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """A login that the issuer has finished: who it was. Nobody is let in by it yet."""

    issuer: IssuerSettings
    subject: str
    name: str
    email: str
    groups: tuple[str, ...]
    return_to: str


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """A login let in: the person, whether we met them for the first time, and their session's secret."""

    user: User
    made: bool
    secret: str

    def __repr__(self) -> str:
        return f"Entered({self.user.id})"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What the browser's cookie says of a login."""

    seed: bytes
    issuer: str
    begun_us: int
    return_to: str


class Login:
    """The verbs. Raises `Refusal` (ADMIN_REQUIRED for a login that proves nothing), `Fault` (ISSUER_UNAVAILABLE)."""

    def __init__(
        self,
        control: ControlStore,
        *,
        issuers: Issuers,
        directory: Directory,
        sessions: Sessions,
        pepper: bytes,
        client_secret: Callable[[IssuerSettings], str | None],
        clock: Clock,
        randomness: Randomness,
        secure: bool,
    ) -> None:
        """`client_secret`: the secret of the issuer's client, now; it may block. `secure`: whether browsers use TLS."""
        self._control = control
        self._issuers = issuers
        self._directory = directory
        self._sessions = sessions
        self._key = hmac.digest(pepper, b"securellm-bridge: logins, v1", hashlib.sha256)
        self._client_secret = client_secret
        self._clock = clock
        self._randomness = randomness
        self.cookie_name = f"__Host-{COOKIE}" if secure else COOKIE

    async def begin(self, issuer_id: str, *, return_to: str = "/") -> Begun:
        """Begin a login. `return_to`: the path of ours to show afterwards; anything else becomes `/`."""
        issuer = self._issuers.named(issuer_id)
        client = _client(issuer)
        metadata = await self._issuers.metadata(issuer)
        attempt = Attempt(
            seed=self._randomness.token(32),
            issuer=issuer.id,
            begun_us=self._clock.now_us(),
            return_to=return_to if _LOCAL.fullmatch(return_to) else "/",
        )
        asked = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uri,
            "scope": " ".join(client.scopes),
            "state": self._derived(attempt, "state"),
            "nonce": self._derived(attempt, "nonce"),
            "code_challenge": challenge_of(self._derived(attempt, "pkce")),
            "code_challenge_method": "S256",
        }
        if issuer.acr:
            asked["acr_values"] = " ".join(issuer.acr)
        address = _asked(issuer, metadata.authorization_endpoint)
        return Begun(
            location=f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", cookie=self._seal(attempt)
        )

    async def finish(self, query: str, cookie: str | None) -> Proven:
        """Take what the issuer sent the browser back with. Whatever comes of it, this login is then used up."""
        attempt = self._unseal(cookie)
        issuer = self._issuers.named(attempt.issuer)
        client = _client(issuer)
        answer = _answer(query)
        if not _same(answer.get("state"), self._derived(attempt, "state")):
            raise _refused("the answer belongs to another login")
        metadata = await self._issuers.metadata(issuer)
        if answer.get("iss", issuer.issuer if not metadata.answers_with_issuer else None) != issuer.issuer:
            raise _refused("the answer is another issuer's")
        await in_thread(lambda: self._use_up(attempt))
        if "error" in answer:
            said = answer["error"] if _ERROR.fullmatch(answer["error"]) else "an error"
            raise _refused(f"the issuer did not log them in: {said}")
        code = answer.get("code", "")
        if _CODE.fullmatch(code) is None:
            raise _refused("the issuer's answer holds no code")
        tokens = await self._exchange(issuer, client, metadata, code, self._derived(attempt, "pkce"))
        return await self._prove(issuer, client, tokens, nonce=self._derived(attempt, "nonce"), attempt=attempt)

    def enter(self, session: Session, proven: Proven) -> Entered:
        """Let a proven person in, inside the caller's transaction, so that it can record them."""
        issuer = proven.issuer
        user = self._directory.user_of(session, issuer.issuer, proven.subject)
        made = user is None
        if user is None:
            if not (issuer.provision and proven.groups):
                raise Refusal(Code.FORBIDDEN, "the login is valid, and this person is not known here")
            user = self._directory.create_user(
                session,
                tenant=issuer.tenant,
                name=proven.name,
                email=proven.email,
                issuer=issuer.issuer,
                subject=proven.subject,
            )
        if user.disabled:
            raise Refusal(Code.CREDENTIAL_REVOKED, "this person is disabled")
        if issuer.tenant is not None and user.tenant != issuer.tenant:
            raise Refusal(Code.FORBIDDEN, "this issuer does not vouch for this person any more")
        secret = self._sessions.open(session, user, issuer=issuer.issuer, groups=proven.groups)
        return Entered(user=user, made=made, secret=secret)

    async def _exchange(
        self, issuer: IssuerSettings, client: LoginSettings, metadata: Metadata, code: str, verifier: str
    ) -> Mapping[str, Value]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_uri,
            "code_verifier": verifier,
        }
        # In a thread: it may have to be read from a secret manager.
        secret, authorization = await in_thread(lambda: self._client_secret(issuer)), None
        if secret is None:
            form["client_id"] = client.client_id
        elif metadata.secret_in_body:
            form |= {"client_id": client.client_id, "client_secret": secret}
        else:
            pair = f"{quote_plus(client.client_id)}:{quote_plus(secret)}"
            authorization = f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"
        try:
            body = await self._issuers.outbound(issuer).post(
                _asked(issuer, metadata.token_endpoint), form, like=issuer.issuer, authorization=authorization
            )
            answer = Document(body, max_depth=16).members()
        except UpstreamFailure as failure:
            if failure.provider_status in (400, 401, 403):
                raise _refused("the issuer did not take the code") from failure
            raise Fault(Code.ISSUER_UNAVAILABLE, f"the issuer {issuer.id} did not exchange the code") from failure
        except Refusal as refusal:
            raise Fault(Code.ISSUER_UNAVAILABLE, f"the issuer {issuer.id} did not answer in JSON") from refusal
        kind = answer.get("token_type")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise _refused("the issuer gave tokens of another kind")
        return answer

    async def _prove(
        self,
        issuer: IssuerSettings,
        client: LoginSettings,
        tokens: Mapping[str, Value],
        *,
        nonce: str,
        attempt: Attempt,
    ) -> Proven:
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str):
            raise _refused("the issuer gave no ID token")
        try:
            vouched = await self._issuers.check(issuer, id_token, audience=client.client_id)
            check_id_token(
                vouched.claims,
                algorithm=read_token(id_token).algorithm,
                client_id=client.client_id,
                nonce=nonce,
                access_token=access_token if isinstance(access_token, str) else None,
            )
        except TokenRefused as refused:
            raise _refused(refused.reason) from None
        return Proven(
            issuer=issuer,
            subject=vouched.subject,
            name=_shown(vouched.claims, "name"),
            email=_shown(vouched.claims, "email"),
            groups=groups_of(issuer, vouched.claims),
            return_to=attempt.return_to,
        )

    def _use_up(self, attempt: Attempt) -> None:
        now_us = self._clock.now_us()
        digest = hmac.digest(self._key, b"used" + attempt.seed, hashlib.sha256)

        def burn(session: Session) -> None:
            session.run(delete(ONE_TIME).where(ONE_TIME.c.purpose == _PURPOSE, ONE_TIME.c.expires_us <= now_us))
            session.run(
                insert(ONE_TIME).values(
                    digest=digest,
                    tenant=INSTALLATION,
                    purpose=_PURPOSE,
                    subject="",
                    expires_us=attempt.begun_us + LIFE * 1_000_000,
                )
            )

        try:
            self._control.write(burn)
        except StorageConflict:
            raise _refused("this login was finished already") from None

    def _derived(self, attempt: Attempt, purpose: str) -> str:
        return _b64(hmac.digest(self._key, purpose.encode() + b":" + attempt.seed, hashlib.sha256))

    def _seal(self, attempt: Attempt) -> str:
        content = msgspec.json.encode(attempt)
        return f"{_b64(content)}.{_b64(hmac.digest(self._key, b'seal:' + content, hashlib.sha256))}"

    def _unseal(self, cookie: str | None) -> Attempt:
        content, _, seal = (cookie or "").partition(".")
        try:
            text = base64.b64decode(content + "=" * (-len(content) % 4), altchars=b"-_", validate=True)
        except ValueError:
            text = b""
        if not _same(seal, _b64(hmac.digest(self._key, b"seal:" + text, hashlib.sha256))):
            raise _refused("no login was begun in this browser")
        attempt = msgspec.json.decode(text, type=Attempt)
        if not 0 <= self._clock.now_us() - attempt.begun_us < LIFE * 1_000_000:
            raise _refused("the login took too long")
        return attempt


def check_id_token(
    claims: Mapping[str, Value], *, algorithm: str, client_id: str, nonce: str, access_token: str | None
) -> None:
    """The rules for ID tokens beyond those for every token (OpenID Connect Core 3.1.3.7). Raises `TokenRefused`."""
    presented, authorized, audience = claims.get("nonce"), claims.get("azp"), claims.get("aud")
    if not _same(presented if isinstance(presented, str) else None, nonce):
        raise TokenRefused("the ID token answers another login")
    if "iat" not in claims:
        raise TokenRefused("the ID token does not say when it was made")
    if isinstance(audience, list) and len(audience) > 1 and authorized is None:
        raise TokenRefused("the ID token has several audiences and does not say for whom it was made")
    if authorized is not None and authorized != client_id:
        raise TokenRefused("the ID token was made for another client")
    if "at_hash" in claims:
        if access_token is None or not access_token.isascii():
            raise TokenRefused("the ID token speaks of an access token that is not there")
        # Ed25519 signs with SHA-512; every other algorithm carries its hash in its name.
        digest = _HASHES.get(algorithm[2:], hashlib.sha512)(access_token.encode("ascii")).digest()
        hashed = claims["at_hash"]
        if not _same(hashed if isinstance(hashed, str) else None, _b64(digest[: len(digest) // 2])):
            raise TokenRefused("the ID token speaks of another access token")


def challenge_of(verifier: str) -> str:
    """The PKCE challenge of a verifier, by S256."""
    return _b64(hashlib.sha256(verifier.encode("ascii")).digest())


def _answer(query: str) -> Mapping[str, str]:
    if len(query) > 8192:
        raise _refused("the issuer's answer is too long")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError:
        raise _refused("the issuer's answer cannot be read") from None
    answer = dict(pairs)
    if len(answer) != len(pairs):
        raise _refused("the issuer's answer says something twice")
    return answer


def _client(issuer: IssuerSettings) -> LoginSettings:
    if issuer.login is None:
        raise Refusal(Code.NOT_FOUND, "nobody logs in through this issuer")
    return issuer.login


def _asked(issuer: IssuerSettings, address: str) -> str:
    try:
        split_address(address, like=issuer.issuer)
    except ValueError as error:
        raise Fault(Code.ISSUER_UNAVAILABLE, f"the issuer {issuer.id} names no usable address: {error}") from None
    return address


def _shown(claims: Mapping[str, Value], name: str) -> str:
    value = claims.get(name)
    return "".join(one for one in value if one.isprintable())[:100] if isinstance(value, str) else ""


def _same(presented: str | None, expected: str) -> bool:
    return presented is not None and hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), expected.encode())


def _refused(reason: str) -> Refusal:
    return Refusal(Code.ADMIN_REQUIRED, reason)


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
