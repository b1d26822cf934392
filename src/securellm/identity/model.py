"""The nouns of identity: virtual keys, and the proof of who asks."""

from typing import Literal

import msgspec

from securellm.core.surfaces import Surface
from securellm.storage import StorageRefused

ManagedBy = Literal["file", "api"]


class VirtualKey(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A credential we issue, as we keep it: never the token, only its keyed digest."""

    id: str
    tenant: str
    name: str
    prefix: str
    """The first characters of the token, for recognition by people; never looked up."""
    digest: bytes
    models: tuple[str, ...]
    """Names of models; `"*"` is every model of the tenant."""
    surfaces: tuple[Surface, ...] = ()
    """Empty is every surface."""
    project: str | None = None
    user: str | None = None
    """The id of the person it was issued for."""
    ip_ranges: tuple[str, ...] = ()
    """Networks in CIDR form that it may be presented from; empty is any."""
    created_us: int
    expires_us: int | None = None
    """The first moment at which it is refused."""
    revoked_us: int | None = None
    former_digest: bytes | None = None
    """The digest of the token that a rotation replaced."""
    former_until_us: int | None = None
    """The first moment at which that former token is refused."""
    managed_by: ManagedBy
    etag: int = 1
    """Rises with each change."""

    @property
    def digests(self) -> tuple[bytes, ...]:
        """Whatever it may be presented by: its token, and during a rotation the former one."""
        return (self.digest,) if self.former_digest is None else (self.digest, self.former_digest)


class KeyScopes(msgspec.Struct, frozen=True, kw_only=True):
    """What of a virtual key can be changed: all of it is said each time."""

    name: str
    models: tuple[str, ...]
    surfaces: tuple[Surface, ...] = ()
    expires_us: int | None = None
    ip_ranges: tuple[str, ...] = ()


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key and its token: the only moment at which both are known."""

    key: VirtualKey
    token: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.id})"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a valid virtual key, or a service's own token, was presented."""

    tenant: str
    key_id: str
    """What limits, records and ledger entries are kept under: the key's id, or the service's."""
    principal: str
    """`key:<id>` or `service:<id>`."""
    models: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    project: str | None = None
    user: str | None = None
    expires_us: int | None = None
    """When what was presented stops being good: the token's own end, or that of a rotated key's overlap."""


class KeyConflict(StorageRefused):
    """Two keys share an id or a token; which one was meant cannot be told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, remedy="Remove one of the two keys, or give it another secret.")


class PepperMismatch(StorageRefused):
    """The pepper is not the one that the stored keys were digested with; none of them could be recognised."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            reason,
            remedy="Restore the pepper from your backup, or begin with an empty control plane and new keys.",
        )
