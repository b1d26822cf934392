"""The nouns of identity: virtual keys, the table they are looked up in, and the proof of who asks."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from securellm.core.surfaces import Surface
from securellm.storage import StorageRefused

ManagedBy = Literal["file", "api"]


class VirtualKey(msgspec.Struct, frozen=True, kw_only=True):
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
    created_us: int
    expires_us: int | None = None
    """The first moment at which it is refused."""
    revoked_us: int | None = None
    managed_by: ManagedBy


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key and its token: the only moment at which both are known."""

    key: VirtualKey
    token: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.id})"


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some keys in the order of their ids; `after` continues the list, None ends it."""

    keys: tuple[VirtualKey, ...]
    after: str | None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a valid virtual key was presented."""

    tenant: str
    key_id: str
    principal: str
    models: tuple[str, ...]
    surfaces: tuple[Surface, ...]


class KeyConflict(StorageRefused):
    """Two keys share an id or a token; which one was meant cannot be told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, remedy="Remove one of the two keys, or give it another secret.")


class PepperMismatch(StorageRefused):
    """The pepper is not the one that the stored keys were digested with; none of them could be recognised."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            reason, remedy="Restore the pepper from your backup, or remove control.db and issue every key anew."
        )


class KeyTable(msgspec.Struct, frozen=True):
    """Every virtual key, found by the digest of its token. Never changes; a new one takes its place."""

    by_digest: Mapping[bytes, VirtualKey]

    @classmethod
    def of(cls, keys: Iterable[VirtualKey]) -> "KeyTable":
        """Raises `KeyConflict` when two keys share an id or a digest."""
        ids: set[str] = set()
        by_digest: dict[bytes, VirtualKey] = {}
        for key in keys:
            if key.id in ids:
                raise KeyConflict(f"two virtual keys have the id {key.id}")
            twin = by_digest.get(key.digest)
            if twin is not None:
                raise KeyConflict(f"the virtual keys {twin.id} and {key.id} are one token")
            ids.add(key.id)
            by_digest[key.digest] = key
        return cls(MappingProxyType(by_digest))

    def find(self, digest: bytes) -> VirtualKey | None:
        return self.by_digest.get(digest)
