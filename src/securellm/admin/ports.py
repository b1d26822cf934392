"""What the admin API needs of the rest of the product, as plain callables and protocols that bootstrap passes in."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from securellm.admin.cursors import Cursors
from securellm.admin.declared import Declared
from securellm.admin.repeats import Claim, Repeats
from securellm.approvals import Approvals
from securellm.audit import AdminDenied, AdminRead, Record
from securellm.core.clock import Clock
from securellm.core.errors import GatewayError
from securellm.core.hosts import Hosts
from securellm.core.ids import Ids
from securellm.identity import Actor, Credential, Directory, Keyring, Login, Sessions, Tokens
from securellm.policy import Declared as DeclaredPolicy
from securellm.storage import Scope, Session

T = TypeVar("T")


class Changed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What a change did: its result for the caller, and what the audit must know."""

    result: T
    id: str
    """Of the thing that was changed."""
    before: object = None
    """As it was, without secrets; None where there was nothing. Only its digest is kept."""
    after: object = None
    """As it is now; None where nothing is left."""
    records: tuple[Record, ...] = ()
    """What is recorded beside the ADMIN record, in the same durable step."""


class Recogniser(Protocol):
    """Who calls. Never waits on a disk in the event loop."""

    async def recognise(self, credential: Credential, *, client_ip: str) -> Actor:
        """Raises `Refusal` (MISSING_KEY, INVALID_KEY, REVOKED_KEY, EXPIRED_KEY)."""
        ...

    def as_of_now(self, session: Session, principal: str) -> Actor:
        """Somebody who is not here, with the roles they hold now. Blocking. Raises `Refusal` (CREDENTIAL_REVOKED)."""
        ...


class ControlPlane(Protocol):
    """The control database, without waiting for it in the event loop. No record, no change, no answer."""

    async def read(self, query: Callable[[Session], T], *, scope: Scope) -> T:
        """Raises what `query` raises, and `Fault` (STORAGE_UNAVAILABLE)."""
        ...

    async def change(
        self,
        actor: Actor,
        *,
        action: str,
        resource: str,
        tenant: str | None,
        work: Callable[[Session], Changed[T]],
        request_id: str,
        client_ip: str,
        scope: Scope,
        approval: str | None = None,
        break_glass: str | None = None,
        claim: Claim | None = None,
        alone: bool = False,
    ) -> T:
        """Do `work` in one transaction whose ADMIN record is durable before it, and in force before this returns.

        Raises what `work` raises, `Fault` (AUDIT_UNAVAILABLE, STORAGE_UNAVAILABLE) and `StorageConflict`.
        """
        ...

    async def claimed(self, claim: Claim) -> str | None:
        """The fingerprint of the request that changed something under this key, if one did."""
        ...


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that readiness depends on."""

    name: str
    well: bool
    detail: str = ""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the admin API is wired to."""

    callers: Recogniser
    control: ControlPlane
    declared: Declared
    keyring: Callable[[], Keyring]
    """The one that knows what the file declares now."""
    directory: Directory
    tokens: Tokens
    sessions: Sessions
    session_life: float
    """Seconds."""
    login: Callable[[], Login]
    approvals: Approvals
    cursors: Cursors
    repeats: Repeats
    declared_policies: Callable[[], tuple[DeclaredPolicy, ...]]
    """The bundles of the file: whose scope they are, nobody else changes."""
    audit: Path
    """The local audit log, to be read only."""
    parts: Callable[[], Collection[Part]]
    """Readiness: every part is well."""
    metrics: Callable[[], bytes]
    """Prometheus text exposition, version 0.0.4."""
    refused_credential: Callable[[str], float]
    """Counts a failed authentication of an address: 0.0, or the seconds it must wait."""
    denied: Callable[[AdminDenied], Awaitable[None]]
    """Makes the record of a refusal durable, or raises `Fault` (AUDIT_UNAVAILABLE)."""
    looked: Callable[[AdminRead], Awaitable[None]]
    """Makes the record of a look durable, or raises `Fault` (AUDIT_UNAVAILABLE)."""
    denied_unknown: Callable[[GatewayError, str], None]
    """Counts a refusal of an address where nobody is known to call; it is recorded among others."""
    set_up_done: Callable[[], None]
    """Called once the set-up token has been used."""
    ids: Ids
    clock: Clock
    version: str
    secure: bool = True
    """Whether the listener speaks TLS: how its cookies are called."""
    hosts: Callable[[], Hosts | None] = lambda: None
    """The names that are answered; None is any."""
    max_body: int = (1 << 20) + (64 << 10)
    """Bytes."""
    request_timeout: float = 30.0
    """Seconds until a body must be whole."""
