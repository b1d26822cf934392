"""Pure checks of signed tokens (RFC 7515, 7519, 8725): what is not exactly as expected is refused.

The text is taken apart strictly before any library sees it, the signature is checked with the one key that the
issuer's set names and one algorithm that the configuration allows, and no member of a header is ever followed:
`jku`, `x5u`, `jwk` and `x5c` are read by nobody, and a `kid` is compared, never looked up anywhere else.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from securellm.core.document import Document, Value
from securellm.core.errors import Refusal

LONGEST = 16 * 1024
"""Characters a token may have."""

MOST_KEYS = 64

ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""Every algorithm that can be allowed, with the type and curve of its keys. None of them has a shared secret."""

_SEGMENTS = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}", re.ASCII)
_TEXT = re.compile(r"[ -~]{1,255}", re.ASCII)
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
_LAST_SECOND = 1 << 53
_SMALLEST_RSA = 2048


class TokenRefused(Exception):
    """The token proves nothing. The reason is safe to show."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expired = expired


class UnknownKey(TokenRefused):
    """The key that the token names is not in the set at hand: a newer set may have it."""


class SignedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token taken apart, of which nothing is proven."""

    text: str
    algorithm: str
    kid: str | None
    claims: Mapping[str, Value]

    @property
    def issuer(self) -> str | None:
        """Who the token says signed it: good for choosing whose keys to try, for nothing else."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """One public key of an issuer."""

    kid: str | None
    algorithm: str | None
    """The only one it may be used with, where the issuer says so."""
    kind: str
    curve: str | None
    key: Any

    def fits(self, algorithm: str) -> bool:
        kind, curve = ALGORITHMS[algorithm]
        return self.kind == kind and (curve is None or self.curve == curve) and self.algorithm in (None, algorithm)


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a token must say."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    skew: float = 30.0
    """Seconds by which clocks may differ."""
    acr: tuple[str, ...] = ()
    """Accepted authentication contexts; empty asks for none."""
    amr: tuple[str, ...] = ()
    """Authentication methods of which at least one must have been used; empty asks for none."""


def is_signed_token(text: str) -> bool:
    """Whether `text` has the shape of a token in compact form."""
    return len(text) <= LONGEST and text.startswith("eyJ") and _SEGMENTS.fullmatch(text) is not None


def read_token(text: str) -> SignedToken:
    """Take a token apart. Raises `TokenRefused`."""
    if len(text) > LONGEST:
        raise TokenRefused(f"a token has at most {LONGEST} characters")
    if _SEGMENTS.fullmatch(text) is None:
        raise TokenRefused("this is not a signed token in compact form")
    first, second, third = text.split(".")
    header, claims = _object(first, "header"), _object(second, "claims")
    _bytes(third)
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused("the token's algorithm is not one that can be allowed")
    if "crit" in header or "b64" in header:
        raise TokenRefused("the token's header asks for an extension")
    if "enc" in header or "cty" in header:
        raise TokenRefused("the token is encrypted, or holds another one")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("the token's type is not that of a JWT")
    if kid is not None and (not isinstance(kid, str) or _TEXT.fullmatch(kid) is None):
        raise TokenRefused("the token's key id is not a plain text")
    return SignedToken(text=text, algorithm=algorithm, kid=kid, claims=claims)


def read_keys(body: bytes) -> tuple[SigningKey, ...]:
    """The keys of a set (RFC 7517) that can check signatures; others are left out. Raises `TokenRefused`."""
    try:
        members = Document(body, max_depth=8).members()
    except Refusal as refusal:
        raise TokenRefused(f"the issuer's key set cannot be read: {refusal.reason}") from None
    entries = members.get("keys")
    if not isinstance(entries, list) or len(entries) > MOST_KEYS:
        raise TokenRefused(f"the issuer's key set is not a list of at most {MOST_KEYS} keys")
    return tuple(key for entry in entries if isinstance(entry, dict) and (key := _key(entry)) is not None)


def verify(token: SignedToken, keys: Collection[SigningKey], expected: Expected, *, now_us: int) -> Mapping[str, Value]:
    """The claims, proven. Raises `TokenRefused`; `UnknownKey` when the set at hand lacks the token's key."""
    if token.algorithm not in expected.algorithms:
        raise TokenRefused("the token's algorithm is not allowed for this issuer")
    # Imported here and below, because a gateway without issuers should not pay for it.
    from securellm.identity.signatures import is_signed

    key = _chosen(token, keys)
    if not is_signed(token.text, key.key, algorithm=token.algorithm, longest=LONGEST):
        raise TokenRefused("the token's signature is not the issuer's")
    _check_claims(token.claims, expected, now_us=now_us)
    return token.claims


def _chosen(token: SignedToken, keys: Collection[SigningKey]) -> SigningKey:
    named = [key for key in keys if token.kid is None or key.kid == token.kid]
    if not named:
        raise UnknownKey("the issuer has no key of the token's key id")
    fitting = [key for key in named if key.fits(token.algorithm)]
    if len(fitting) != 1:
        raise TokenRefused("the token's algorithm and key id do not name one key of the issuer")
    return fitting[0]


def _check_claims(claims: Mapping[str, Value], expected: Expected, *, now_us: int) -> None:
    if claims.get("iss") != expected.issuer:
        raise TokenRefused("the token is from another issuer")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        raise TokenRefused("the token names no audience")
    if expected.audience not in audiences:
        raise TokenRefused("the token is for another audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or _TEXT.fullmatch(subject) is None:
        raise TokenRefused("the token names no subject")
    now, skew = now_us / 1_000_000, expected.skew
    expires, begins, issued = (_second(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise TokenRefused("the token never ends")
    if now >= expires + skew:
        raise TokenRefused("the token has expired", expired=True)
    if begins is not None and now < begins - skew:
        raise TokenRefused("the token is not valid yet")
    if issued is not None and now < issued - skew:
        raise TokenRefused("the token is from the future")
    if expected.acr and claims.get("acr") not in expected.acr:
        raise TokenRefused("the login was not of the strength that is asked for")
    methods = claims.get("amr")
    if expected.amr and not (isinstance(methods, list) and any(method in expected.amr for method in methods)):
        raise TokenRefused("the login was not by a method that is asked for")


def _second(claims: Mapping[str, Value], name: str) -> int | None:
    """A moment in whole seconds. Fractions are refused: two readers might round them apart."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LAST_SECOND:
        raise TokenRefused(f"the token's {name} is not a whole number of seconds")
    return value


def _key(entry: Mapping[str, Value]) -> SigningKey | None:
    kind, curve, kid, algorithm = entry.get("kty"), entry.get("crv"), entry.get("kid"), entry.get("alg")
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    if (kid is not None and not isinstance(kid, str)) or (algorithm is not None and algorithm not in ALGORITHMS):
        return None
    # A set that shows private or shared secrets names keys that are no longer anyone's.
    if not isinstance(kind, str) or not entry.keys().isdisjoint({"d", "p", "q", "dp", "dq", "qi", "oth", "k"}):
        return None
    members = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if isinstance(entry.get(name), str)}
    if (kind == "RSA" and not _is_long(members)) or (kind == "OKP" and curve != "Ed25519"):
        return None
    from securellm.identity.signatures import public_key

    key = public_key(kind, members)
    if key is None:
        return None
    return SigningKey(
        kid=kid,
        algorithm=None if algorithm is None else str(algorithm),
        kind=kind,
        curve=curve if isinstance(curve, str) else None,
        key=key,
    )


def _is_long(members: Mapping[str, Any]) -> bool:
    try:
        return len(_bytes(str(members.get("n", "")))) * 8 >= _SMALLEST_RSA
    except TokenRefused:
        return False


def _object(segment: str, name: str) -> dict[str, Value]:
    try:
        return Document(_bytes(segment), max_depth=16).members()
    except Refusal:
        raise TokenRefused(f"the token's {name} is not one strict JSON object") from None


def _bytes(segment: str) -> bytes:
    """The bytes of a segment in its one spelling: a token must not have two."""
    try:
        decoded = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenRefused("a part of the token is not base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode("ascii") != segment:
        raise TokenRefused("a part of the token is not in its one spelling")
    return decoded
