"""What the admin API needs of the rest of the product, as plain callables that bootstrap passes in."""

from collections.abc import Awaitable, Callable, Collection
from typing import Literal, Protocol

import msgspec

from securellm.core.clock import Clock
from securellm.core.surfaces import Surface
from securellm.identity import IssuedKey, KeyPage, VirtualKey


class Keys(Protocol):
    """Virtual keys, without waiting on a disk in the event loop. Each method raises what `KeyRegistry` raises."""

    async def create(
        self, *, tenant: str, name: str, models: tuple[str, ...], surfaces: tuple[Surface, ...], expires_us: int | None
    ) -> IssuedKey: ...

    async def page(self, *, after: str | None, limit: int, tenant: str | None) -> KeyPage: ...

    async def get(self, key_id: str) -> VirtualKey: ...

    async def revoke(self, key_id: str) -> VirtualKey: ...


class KeyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A change an operator made to a virtual key, as the audit must know it."""

    action: Literal["create", "revoke"]
    key: VirtualKey
    actor: str
    request_id: str
    client_ip: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that readiness depends on."""

    name: str
    well: bool
    detail: str = ""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the admin API is wired to."""

    admin_token: Callable[[], str]
    """The token that is valid now."""
    keys: Keys
    record: Callable[[KeyEvent], Awaitable[None]]
    """Makes the KEY record durable, or raises; the answer waits for it."""
    tenants: Callable[[], Collection[str]]
    parts: Callable[[], Collection[Part]]
    """Readiness: every part is well."""
    metrics: Callable[[], bytes]
    """Prometheus text exposition, version 0.0.4."""
    refused_credential: Callable[[str], float]
    """Counts a failed authentication of an address: 0.0, or the seconds it must wait."""
    new_id: Callable[[], str]
    clock: Clock
    version: str
    max_body: int = 64 * 1024
    """Bytes."""
    request_timeout: float = 30.0
    """Seconds until a body must be whole."""
