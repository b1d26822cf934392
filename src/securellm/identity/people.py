"""The nouns of the control plane: who may call it, with which roles, proven how."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from securellm.core.surfaces import Surface
from securellm.identity.permissions import PERMISSIONS, Permission, Role

HOST = "service:host"
"""The principal of the admin token of this host: an owner of the installation, and nobody's second person."""

Method = Literal["host", "token", "jwt", "session", "setup"]
"""How a caller proved who they are."""


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a tenant that keys, budgets and roles can be bound to."""

    id: str
    tenant: str
    name: str = ""
    created_us: int
    etag: int = 1


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person."""

    id: str
    tenant: str | None
    """None belongs to the installation; one of a tenant never reaches beyond it."""
    name: str = ""
    email: str = ""
    """For people to read. No login is ever matched by it: whoever controls a mailbox is not yet this person."""
    issuer: str | None = None
    """The configured OpenID issuer that vouches for them."""
    subject: str | None = None
    """Their `sub` there."""
    disabled: bool = False
    created_us: int
    etag: int = 1

    @property
    def principal(self) -> str:
        return f"user:{self.id}"


class ServiceIdentity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A program: it calls the control plane with its roles, and models within its scopes."""

    id: str
    tenant: str | None
    """None belongs to the installation, and may call no model: there is no one to bill."""
    project: str | None = None
    name: str = ""
    issuer: str | None = None
    subject: str | None = None
    models: tuple[str, ...] = ()
    """Names of models; `"*"` is every model of the tenant. Empty is none: the data plane is closed to it."""
    surfaces: tuple[Surface, ...] = ()
    """Empty is every surface."""
    ip_ranges: tuple[str, ...] = ()
    """Networks in CIDR form that it may call from; empty is any."""
    disabled: bool = False
    created_us: int
    etag: int = 1

    @property
    def principal(self) -> str:
        return f"service:{self.id}"


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One role for one principal, in the installation, a tenant or a project."""

    id: str
    principal: str
    """`user:<id>` or `service:<id>`."""
    role: Role
    tenant: str | None
    """None is the installation: every tenant and what belongs to none."""
    project: str | None = None
    created_us: int
    created_by: str

    def covers(self, *, tenant: str | None, project: str | None = None) -> bool:
        """Whether this scope contains that one. A grant of a project holds for that project only."""
        if self.tenant is None:
            return True
        return self.tenant == tenant and (self.project is None or self.project == project)

    def permits(self, permission: Permission, *, tenant: str | None, project: str | None = None) -> bool:
        return self.covers(tenant=tenant, project=project) and permission in PERMISSIONS[self.role]


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """A credential of the control plane as we keep it: never the token, only its keyed digest."""

    id: str
    principal: str
    tenant: str | None
    """The principal's own."""
    name: str
    prefix: str
    digest: bytes
    created_us: int
    created_by: str
    expires_us: int
    """The first moment at which it is refused."""
    revoked_us: int | None = None


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A new access token and its text: the only moment at which both are known."""

    token: AccessToken
    secret: str

    def __repr__(self) -> str:
        return f"IssuedToken({self.token.id})"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls the control plane, proven."""

    principal: str
    """`user:<id>`, `service:<id>` or `service:host`."""
    tenant: str | None
    """None belongs to the installation."""
    grants: tuple[Grant, ...]
    method: Method

    @property
    def person(self) -> bool:
        """Whether this is a human being: only they count where two must agree."""
        return self.principal.startswith("user:")

    def may(self, permission: Permission, *, tenant: str | None, project: str | None = None) -> bool:
        """Whether some grant permits it there. With no `tenant`, in what belongs to the installation itself."""
        if permission is Permission.SELF or permission is Permission.SCHEMA_READ:
            return True
        if not self._reaches(tenant):
            return False
        return any(grant.permits(permission, tenant=tenant, project=project) for grant in self.grants)

    def sees(self, tenant: str | None, *, project: str | None = None) -> bool:
        """Whether any grant reaches into `tenant`; to everyone else it does not exist."""
        if not self._reaches(tenant):
            return False
        if tenant is None:
            return any(grant.tenant is None for grant in self.grants)
        return any(
            grant.tenant is None
            or (grant.tenant == tenant and (grant.project is None or project is None or grant.project == project))
            for grant in self.grants
        )

    def reach(self, permission: Permission) -> frozenset[str] | None:
        """The tenants in all of which it is permitted; None is everywhere. Grants of single projects do not count."""
        holding = [grant for grant in self.grants if grant.project is None and permission in PERMISSIONS[grant.role]]
        if self.tenant is None and any(grant.tenant is None for grant in holding):
            return None
        return frozenset(grant.tenant for grant in holding if grant.tenant is not None and self._reaches(grant.tenant))

    def projects(self, permission: Permission, *, tenant: str) -> frozenset[str] | None:
        """The projects of `tenant` in which it is permitted; None is all of them and what is in none."""
        if self.may(permission, tenant=tenant):
            return None
        return frozenset(
            grant.project
            for grant in self.grants
            if grant.project is not None and self.may(permission, tenant=tenant, project=grant.project)
        )

    def _reaches(self, tenant: str | None) -> bool:
        # A second wall: whatever grants say, who belongs to a tenant never leaves it.
        return self.tenant is None or self.tenant == tenant


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller of the control plane presented."""

    bearer: str | None = None
    session: str | None = None
    """The value of the session's cookie."""
    origin: str | None = None
    """The `Origin` header, as it was sent."""
    unsafe: bool = False
    """Whether the method may change something: neither GET, HEAD nor OPTIONS."""

    def __repr__(self) -> str:
        return "Credential(…)"


class ServiceTable(msgspec.Struct, frozen=True):
    """Service identities that call models, found by who vouches for them. Never changes."""

    by_subject: dict[tuple[str, str], ServiceIdentity]
    by_id: dict[str, ServiceIdentity] = {}

    @classmethod
    def of(cls, services: Iterable[ServiceIdentity]) -> "ServiceTable":
        by_subject = {
            (service.issuer, service.subject): service
            for service in services
            if service.issuer is not None and service.subject is not None
        }
        return cls(by_subject, {service.id: service for service in by_subject.values()})

    def find(self, issuer: str, subject: str) -> ServiceIdentity | None:
        return self.by_subject.get((issuer, subject))


NO_SERVICES = ServiceTable({})
