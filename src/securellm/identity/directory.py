"""Projects, people, services and their roles, kept in the control plane; and who may change what about whom.

Every method runs inside the caller's transaction and blocks as it does. What is changed or taken away is handed over
as it was read: when it has changed since, that is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, delete, func, or_, select

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity.authority import eligible, refuse_above, refuse_beyond_home, refuse_over
from securellm.identity.people import Actor, Grant, Project, ServiceIdentity, User
from securellm.identity.permissions import PERMISSIONS, Permission, Role
from securellm.identity.rows import Rows, add, replace, take
from securellm.identity.rules import check_networks
from securellm.identity.tables import (
    ACCESS_TOKENS,
    GRANTS,
    INSTALLATION,
    ONE_TIME,
    PROJECTS,
    SERVICES,
    SESSIONS,
    USERS,
    noun_of,
)
from securellm.settings.fields import ID_PATTERN, ID_SHAPE
from securellm.storage import Session

_ID = re.compile(ID_PATTERN, re.ASCII)
_SUBJECT = re.compile(r"[ -~]{1,255}", re.ASCII)


class Directory:
    """The verbs. Raises `Refusal` (NOT_FOUND, CONFLICT, PRECONDITION_FAILED, FORBIDDEN, INVALID_REQUEST)."""

    def __init__(
        self, clock: Clock, randomness: Randomness, *, issuers: Mapping[str, str | None] | None = None
    ) -> None:
        """`issuers`: the configured OpenID issuers, each with the tenant it vouches for, None for the installation."""
        self._clock = clock
        self._ids = Ids(clock, randomness)
        self._issuers = {} if issuers is None else issuers
        self.projects = Rows(PROJECTS, Project, kind="project")
        self.users = Rows(USERS, User, kind="user")
        self.services = Rows(SERVICES, ServiceIdentity, kind="service")
        self.grants = Rows(GRANTS, Grant, kind="grant")

    # Projects

    def create_project(self, session: Session, *, tenant: str, id: str, name: str = "") -> Project:  # noqa: A002 - its word
        if _ID.fullmatch(id) is None:
            raise Refusal(Code.INVALID_REQUEST, f"an id is {ID_SHAPE}", param="id")
        if _count(session, PROJECTS, PROJECTS.c.tenant == tenant, PROJECTS.c.id == id):
            raise Refusal(Code.CONFLICT, "this tenant has a project of this id")
        project = Project(id=id, tenant=tenant, name=name, created_us=self._clock.now_us())
        return add(session, self.projects, project)

    def rename_project(self, session: Session, project: Project, name: str) -> Project:
        return replace(session, self.projects, project, msgspec.structs.replace(project, name=name))

    def delete_project(self, session: Session, project: Project) -> None:
        """Refused (CONFLICT) while a role or a service is bound to it; of its keys the caller takes care."""
        for table in (GRANTS, SERVICES):
            if _count(session, table, table.c.tenant == project.tenant, table.c.project == project.id):
                raise Refusal(Code.CONFLICT, f"{table.name} are bound to this project")
        take(session, self.projects, project)

    # People

    def create_user(
        self,
        session: Session,
        *,
        tenant: str | None,
        name: str = "",
        email: str = "",
        issuer: str | None = None,
        subject: str | None = None,
        by: Actor | None = None,
    ) -> User:
        """A new person without any role. `by` is who vouches for the link to an issuer, where one is given."""
        user = User(
            id=self._ids.new("usr"),
            tenant=tenant,
            name=name,
            email=email,
            issuer=issuer,
            subject=subject,
            created_us=self._clock.now_us(),
        )
        self._check_link(session, user, by)
        return add(session, self.users, user)

    def user_of(self, session: Session, issuer: str, subject: str) -> User | None:
        """Whom an issuer means by `subject`."""
        return self.users.find(session, USERS.c.issuer == issuer, USERS.c.subject == subject)

    def replace_user(self, session: Session, actor: Actor, before: User, after: User) -> User:
        """Change a person. A login is given to who has none and no role; who shuts them out must hold all they hold."""
        held = self.grants_of(session, before.principal)
        if _link(after) != _link(before):
            if _link(before) != (None, None):
                # Else one human would log in again as a new person, and be the second of two.
                raise Refusal(Code.CONFLICT, "a login is never exchanged or taken away: delete the person instead")
            if held:
                raise Refusal(Code.CONFLICT, "whoever holds a role is given no login: take the roles first")
            if self._has_way_in(session, before):
                # Else whoever took their invitation up would stay them, beside the one who logs in.
                raise Refusal(Code.CONFLICT, "whoever has an access token is given no login: they revoke it first")
            self._check_link(session, after, actor)
        if after.disabled != before.disabled:
            refuse_over(actor, held)
        if after.disabled:
            session.run(delete(SESSIONS).where(SESSIONS.c.principal == after.principal))
        return replace(session, self.users, before, after)

    def delete_user(self, session: Session, actor: Actor, user: User) -> None:
        """Take a person away with their roles, access tokens and sessions; not one who is the second of two."""
        holders = self.holders(session, Permission.PROVIDERS_PLACE, tenant=None)
        if user.principal in holders and len(holders) > 1:
            # Else whoever remains would be alone, and say alone where credentials are sent.
            raise Refusal(Code.CONFLICT, "others need them as the second person: disable them, or take that role first")
        self._forget(session, actor, user.principal)
        session.run(delete(ONE_TIME).where(ONE_TIME.c.subject == user.principal))
        take(session, self.users, user)

    # Services

    def create_service(
        self,
        session: Session,
        *,
        tenant: str | None,
        name: str = "",
        project: str | None = None,
        issuer: str | None = None,
        subject: str | None = None,
        models: Sequence[str] = (),
        surfaces: Sequence[Surface] = (),
        ip_ranges: Sequence[str] = (),
        by: Actor | None = None,
    ) -> ServiceIdentity:
        """A new service without any role. `by` is who vouches for the link to an issuer, where one is given."""
        service = ServiceIdentity(
            id=self._ids.new("svc"),
            tenant=tenant,
            project=project,
            name=name,
            issuer=issuer,
            subject=subject,
            models=tuple(models),
            surfaces=tuple(surfaces),
            ip_ranges=check_networks(ip_ranges),
            created_us=self._clock.now_us(),
        )
        self._check_link(session, service, by)
        self._check_project(session, tenant, project)
        return add(session, self.services, service)

    def service_of(self, session: Session, issuer: str, subject: str) -> ServiceIdentity | None:
        """Which program an issuer means by `subject`."""
        return self.services.find(session, SERVICES.c.issuer == issuer, SERVICES.c.subject == subject)

    def replace_service(
        self, session: Session, actor: Actor, before: ServiceIdentity, after: ServiceIdentity
    ) -> ServiceIdentity:
        """Change a service. Who says how it signs in, or shuts it out, must hold all that it holds."""
        relinked = _link(after) != _link(before)
        if relinked or after.disabled != before.disabled:
            refuse_over(actor, self.grants_of(session, before.principal))
        if relinked:
            self._check_link(session, after, actor)
        self._check_project(session, after.tenant, after.project)
        checked = msgspec.structs.replace(after, ip_ranges=check_networks(after.ip_ranges))
        return replace(session, self.services, before, checked)

    def delete_service(self, session: Session, actor: Actor, service: ServiceIdentity) -> None:
        """Take a service away with its roles and access tokens."""
        self._forget(session, actor, service.principal)
        take(session, self.services, service)

    # Roles

    def check_grant(
        self,
        session: Session,
        grantor: Actor,
        *,
        principal: str,
        role: Role,
        tenant: str | None,
        project: str | None = None,
    ) -> None:
        """Raises what `add_grant` would raise: ask before proposing, and again when it is approved."""
        holder = self.holder(session, principal)
        if isinstance(holder, User) and not self._has_way_in(session, holder):
            raise Refusal(Code.CONFLICT, "this person has no way in yet: they accept their invitation or log in first")
        refuse_beyond_home(holder.tenant, tenant=tenant)
        refuse_above(grantor, role, tenant=tenant, project=project)
        if project is not None and tenant is None:
            raise Refusal(Code.INVALID_REQUEST, "a project is one of a tenant", param="project")
        self._check_project(session, tenant, project)
        for held in self.grants_of(session, principal):
            if (held.role, held.tenant, held.project) == (role, tenant, project):
                raise Refusal(Code.CONFLICT, "they hold this role there already")

    def add_grant(
        self,
        session: Session,
        grantor: Actor,
        *,
        principal: str,
        role: Role,
        tenant: str | None,
        project: str | None = None,
    ) -> Grant:
        """Give a role, never above the grantor's own, to a person or service that exists."""
        self.check_grant(session, grantor, principal=principal, role=role, tenant=tenant, project=project)
        return self._grant(session, principal, role, tenant=tenant, project=project, by=grantor.principal)

    def grant_first_owner(self, session: Session, user: User) -> Grant:
        """The one grant that nobody gave: of whoever redeems the set-up token."""
        return self._grant(session, user.principal, Role.OWNER, tenant=None, project=None, by="setup")

    def drop_grant(self, session: Session, grantor: Actor, grant: Grant) -> None:
        """Take a role away; as giving it, it takes no less than the role."""
        refuse_above(grantor, grant.role, tenant=grant.tenant, project=grant.project)
        take(session, self.grants, grant)

    def grants_of(self, session: Session, principal: str) -> tuple[Grant, ...]:
        """Every role that a principal was given, as far as the scope of the transaction reaches."""
        return self.granted(session, limit=10_000, principal=principal)

    def granted(
        self,
        session: Session,
        *,
        after: str | None = None,
        limit: int = 50,
        tenant: str | None = None,
        principal: str | None = None,
    ) -> tuple[Grant, ...]:
        """As `Rows.page`: the roles that anybody was given, or `principal`."""
        where = () if principal is None else (GRANTS.c.principal == principal,)
        return self.grants.page(session, after=after, limit=limit, tenant=tenant, where=where)

    def holder(self, session: Session, principal: str) -> User | ServiceIdentity:
        """Whom a principal names. Raises `Refusal` (NOT_FOUND)."""
        kind, _, name = principal.partition(":")
        if kind == "user":
            return self.users.get(session, name)
        if kind == "service":
            return self.services.get(session, name)
        raise Refusal(Code.NOT_FOUND, "no user or service has this id")

    def eligible(
        self, session: Session, permission: Permission, *, tenant: str | None, project: str | None = None
    ) -> frozenset[str]:
        """The people who can be one of two: enabled, with a way in, and holding `permission` there by a stored role.

        Needs a transaction over everything, for roles in the installation count in each tenant.
        """
        held = _held(session, permission, tenant=tenant)
        active: set[str] = set()
        for principal in {grant.principal for grant in held if grant.principal.startswith("user:")}:
            user = self.users.find(session, USERS.c.id == principal.removeprefix("user:"))
            if user is not None and not user.disabled and self._has_way_in(session, user):
                active.add(principal)
        return eligible(held, permission, tenant=tenant, project=project, active=active)

    def holders(self, session: Session, permission: Permission, *, tenant: str | None) -> frozenset[str]:
        """As `eligible`, with the people who are shut out or have no way in just now."""
        held = _held(session, permission, tenant=tenant)
        return eligible(held, permission, tenant=tenant, active={grant.principal for grant in held})

    def has_people(self, session: Session) -> bool:
        """Whether any person is known."""
        return session.row(select(USERS.c.id).limit(1)) is not None

    # Within

    def _check_project(self, session: Session, tenant: str | None, project: str | None) -> None:
        if project is not None and not _count(session, PROJECTS, PROJECTS.c.tenant == tenant, PROJECTS.c.id == project):
            raise Refusal(Code.NOT_FOUND, "the tenant has no project of this id", param="project")

    def _check_link(self, session: Session, linked: User | ServiceIdentity, by: Actor | None) -> None:
        """Refuse a link that is malformed, not this tenant's to make, or taken."""
        if linked.issuer is None and linked.subject is None:
            return
        if linked.issuer is None or linked.subject is None or _SUBJECT.fullmatch(linked.subject) is None:
            raise Refusal(Code.INVALID_REQUEST, "issuer and subject stand together", param="subject")
        home = self._issuers.get(linked.issuer, "unknown")
        if linked.issuer not in self._issuers or (home is not None and home != linked.tenant):
            raise Refusal(
                Code.INVALID_REQUEST, "no configured issuer of this name vouches for this tenant", param="issuer"
            )
        permission = Permission.USERS_WRITE if isinstance(linked, User) else Permission.SERVICES_WRITE
        if by is not None and not by.may(permission, tenant=home):
            # Else a tenant could claim another tenant's people, and learn from a conflict who they are.
            raise Refusal(Code.FORBIDDEN, "this issuer vouches for the installation, so its links are made there")
        for table in (USERS, SERVICES):
            if _count(
                session,
                table,
                table.c.issuer == linked.issuer,
                table.c.subject == linked.subject,
                table.c.id != linked.id,
            ):
                raise Refusal(Code.CONFLICT, "this subject of the issuer is someone already")

    def _has_way_in(self, session: Session, user: User) -> bool:
        now_us = self._clock.now_us()
        live = (
            ACCESS_TOKENS.c.principal == user.principal,
            ACCESS_TOKENS.c.revoked_us.is_(None),
            ACCESS_TOKENS.c.expires_us > now_us,
        )
        return user.subject is not None or _count(session, ACCESS_TOKENS, *live) > 0

    def _grant(
        self, session: Session, principal: str, role: Role, *, tenant: str | None, project: str | None, by: str
    ) -> Grant:
        grant = Grant(
            id=self._ids.new("grt"),
            principal=principal,
            role=role,
            tenant=tenant,
            project=project,
            created_us=self._clock.now_us(),
            created_by=by,
        )
        return add(session, self.grants, grant)

    def _forget(self, session: Session, actor: Actor, principal: str) -> None:
        grants = self.grants_of(session, principal)
        refuse_over(actor, grants)
        for grant in grants:
            take(session, self.grants, grant)
        for table in (ACCESS_TOKENS, SESSIONS):
            session.run(delete(table).where(table.c.principal == principal))


def stored_services(session: Session) -> tuple[ServiceIdentity, ...]:
    """Every service that may call models, for the snapshot."""
    query = select(SERVICES).where(SERVICES.c.tenant != INSTALLATION, SERVICES.c.subject.is_not(None))
    return tuple(noun_of(row, ServiceIdentity) for row in session.rows(query.order_by(SERVICES.c.id)))


def _held(session: Session, permission: Permission, *, tenant: str | None) -> list[Grant]:
    """The roles by which anybody may hold `permission` in the tenant, of some project perhaps."""
    roles = [role for role in Role if permission in PERMISSIONS[role]]
    query = select(GRANTS).where(
        GRANTS.c.role.in_(roles), or_(GRANTS.c.tenant == (tenant or INSTALLATION), GRANTS.c.tenant == INSTALLATION)
    )
    return [noun_of(row, Grant) for row in session.rows(query)]


def _link(linked: User | ServiceIdentity) -> tuple[str | None, str | None]:
    return linked.issuer, linked.subject


def _count(session: Session, table: Table, *where: Any) -> int:
    row = session.row(select(func.count()).select_from(table).where(*where))
    return 0 if row is None else int(row[0])
