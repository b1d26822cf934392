"""Pure decisions of identity: how a token is written and digested, and when a key is refused.

A presented token is digested with a key the caller does not know before anything is compared, so the time a
look-up takes says nothing about how near a guess came.
"""

import base64
import hashlib
import hmac
import re

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity.model import KeyPage, VirtualKey

PEPPER_BYTES = 32
"""The shortest pepper taken."""

TOKEN_ENTROPY = 5 + 32
"""Random bytes a new token is made of: its recognisable prefix and its secret."""

_CREDENTIAL = re.compile(r"[!-~]{8,512}", re.ASCII)
_OURS = re.compile(r"slb_[0-9a-hjkmnp-tv-z]{8}_", re.ASCII)
_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")


def is_credential(text: str) -> bool:
    """Whether `text` can be a virtual key at all: 8 to 512 printable ASCII characters without spaces."""
    return _CREDENTIAL.fullmatch(text) is not None


def digest_of(token: str, *, pepper: bytes) -> bytes:
    """HMAC-SHA256 of the whole token."""
    return hmac.digest(pepper, token.encode("ascii"), hashlib.sha256)


def fingerprint_of(pepper: bytes) -> bytes:
    """What tells one pepper from another without giving it away."""
    return hmac.digest(pepper, b"securellm-bridge: fingerprint of the pepper, v1", hashlib.sha256)


def token_of(entropy: bytes) -> str:
    """`slb_<8 characters>_<43 characters>`, from `TOKEN_ENTROPY` random bytes."""
    if len(entropy) != TOKEN_ENTROPY:
        raise ValueError(f"a token is made of {TOKEN_ENTROPY} bytes")
    shown = base64.b32encode(entropy[:5]).translate(_CROCKFORD)
    secret = base64.urlsafe_b64encode(entropy[5:]).rstrip(b"=")
    return f"slb_{shown.decode('ascii')}_{secret.decode('ascii')}"


def prefix_of(token: str) -> str:
    """What may be shown of a token: the part made for it, or of a foreign token the first four characters."""
    return token[:12] if _OURS.match(token) else token[:4]


def declared_key(
    token: str,
    *,
    pepper: bytes,
    tenant: str,
    models: tuple[str, ...],
    name: str = "",
    surfaces: tuple[Surface, ...] = (),
    expires_us: int | None = None,
) -> VirtualKey:
    """A key the configuration file declares. Its id follows from the token, so it is the same at each start.

    Raises ValueError when `token` cannot be a virtual key.
    """
    if not is_credential(token):
        raise ValueError("a virtual key is 8 to 512 printable ASCII characters without spaces")
    digest = digest_of(token, pepper=pepper)
    return VirtualKey(
        id=f"key_file_{hashlib.sha256(b'id:' + digest).hexdigest()[:16]}",
        tenant=tenant,
        name=name,
        prefix=prefix_of(token),
        digest=digest,
        models=models,
        surfaces=surfaces,
        created_us=0,
        expires_us=expires_us,
        managed_by="file",
    )


def check(key: VirtualKey, *, now_us: int, surface: Surface | None) -> None:
    """Raises `Refusal` when the key is revoked, expired or not scoped to `surface` (None: any will do)."""
    if key.revoked_us is not None:
        raise Refusal(Code.REVOKED_KEY, "the virtual key was revoked")
    if key.expires_us is not None and now_us >= key.expires_us:
        raise Refusal(Code.EXPIRED_KEY, "the virtual key has expired")
    if surface is not None and key.surfaces and surface not in key.surfaces:
        raise Refusal(Code.SURFACE_NOT_ALLOWED, f"the virtual key is not scoped to {surface}")


def page_of(keys: list[VirtualKey], *, after: str | None, limit: int, tenant: str | None) -> KeyPage:
    """The first `limit` keys beyond `after`, in the order of their ids, of one tenant or of all."""
    beyond = sorted(
        (key for key in keys if (after is None or key.id > after) and (tenant is None or key.tenant == tenant)),
        key=lambda key: key.id,
    )
    shown = tuple(beyond[:limit])
    return KeyPage(keys=shown, after=shown[-1].id if len(beyond) > limit else None)
