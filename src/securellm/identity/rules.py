"""Pure decisions of identity: how a token is written and digested, and when a key is refused.

A presented token is digested with a key the caller does not know before anything is compared, so the time a
look-up takes says nothing about how near a guess came.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity.model import VirtualKey

PEPPER_BYTES = 32
"""The shortest pepper taken."""

MAX_RANGES = 64
"""Networks one credential can be bound to."""

TOKEN_ENTROPY = 5 + 32
"""Random bytes a new token is made of: its recognisable prefix and its secret."""

_CREDENTIAL = re.compile(r"[!-~]{8,512}", re.ASCII)
_OURS = re.compile(r"sl[a-z]_[0-9a-hjkmnp-tv-z]{8}_", re.ASCII)
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


def token_of(entropy: bytes, *, family: str = "slb") -> str:
    """`<family>_<8 characters>_<43 characters>`, from `TOKEN_ENTROPY` random bytes.

    Families: `slb` virtual keys, `sla` access tokens, `sli` invitations, `slt` set-up tokens, `sls` sessions.
    """
    if len(entropy) != TOKEN_ENTROPY:
        raise ValueError(f"a token is made of {TOKEN_ENTROPY} bytes")
    shown = base64.b32encode(entropy[:5]).translate(_CROCKFORD)
    secret = base64.urlsafe_b64encode(entropy[5:]).rstrip(b"=")
    return f"{family}_{shown.decode('ascii')}_{secret.decode('ascii')}"


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


def check(key: VirtualKey, *, digest: bytes, now_us: int, surface: Surface | None, client_ip: str) -> None:
    """Raises `Refusal` when the key may not be used now, from there, or on `surface` (None: any will do).

    `digest` is that of the token presented: its present one, or the one that a rotation replaced.
    """
    if key.revoked_us is not None:
        raise Refusal(Code.REVOKED_KEY, "the virtual key was revoked")
    if key.expires_us is not None and now_us >= key.expires_us:
        raise Refusal(Code.EXPIRED_KEY, "the virtual key has expired")
    if digest == key.former_digest and (key.former_until_us is None or now_us >= key.former_until_us):
        raise Refusal(Code.EXPIRED_KEY, "this token of the virtual key was replaced, and its time is over")
    refuse_elsewhere(key.ip_ranges, client_ip)
    refuse_surface(key.surfaces, surface)


def refuse_surface(surfaces: tuple[Surface, ...], surface: Surface | None) -> None:
    """Raises `Refusal` (SURFACE_NOT_ALLOWED) when the credential is scoped to other surfaces."""
    if surface is not None and surfaces and surface not in surfaces:
        raise Refusal(Code.SURFACE_NOT_ALLOWED, f"the virtual key is not scoped to {surface}")


def check_networks(ranges: Iterable[str]) -> tuple[str, ...]:
    """Networks as they are kept, each once. Raises `Refusal` (INVALID_REQUEST) for what is not plain CIDR form."""
    kept: dict[str, None] = {}
    for text in ranges:
        try:
            network = ipaddress.ip_network(text, strict=True)
        except ValueError:
            raise Refusal(
                Code.INVALID_REQUEST, "a range is a network such as 10.0.0.0/8 or 2001:db8::/32", param="ip_ranges"
            ) from None
        kept[str(network)] = None
    if len(kept) > MAX_RANGES:
        raise Refusal(Code.INVALID_REQUEST, f"at most {MAX_RANGES} ranges bind a credential", param="ip_ranges")
    return tuple(kept)


def refuse_elsewhere(ranges: tuple[str, ...], client_ip: str) -> None:
    """Raises `Refusal` (IP_NOT_ALLOWED) unless the address lies in one of the networks, or there are none.

    An IPv4 address written as IPv6 is that IPv4 address; an address nobody knows lies nowhere.
    """
    if not ranges:
        return
    try:
        address = ipaddress.ip_address(client_ip)
    except ValueError:
        raise Refusal(Code.IP_NOT_ALLOWED, "the credential is bound to networks") from None
    mapped = getattr(address, "ipv4_mapped", None)
    if not any((mapped or address) in _network(text) for text in ranges):
        raise Refusal(Code.IP_NOT_ALLOWED, "the credential is bound to other networks")


@lru_cache(maxsize=4096)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)
