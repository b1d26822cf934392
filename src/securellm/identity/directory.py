"""Projects, people, services and their roles, kept in the control plane; and who may change what about whom.

Every method runs inside the caller's transaction and blocks as it does. Lists go by keyset: `after` is the last id
seen, `tenant` None all that is in scope and "" what belongs to the installation.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Table, delete, func, insert, or_, select, update

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity.authority import eligible, refuse_above, refuse_beyond_home, refuse_over
from securellm.identity.people import Actor, Grant, Project, ServiceIdentity, User
from securellm.identity.permissions import PERMISSIONS, Permission, Role
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
    found,
    listed,
    noun_of,
    values_of,
)
from securellm.settings.fields import ID_PATTERN, ID_SHAPE
from securellm.storage import Session

N = TypeVar("N", Project, User, ServiceIdentity)
T = TypeVar("T")

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

    # Projects

    def create_project(self, session: Session, *, tenant: str, id: str, name: str = "") -> Project:  # noqa: A002 - its word
        if _ID.fullmatch(id) is None:
            raise Refusal(Code.INVALID_REQUEST, f"an id is {ID_SHAPE}", param="id")
        project = Project(id=id, tenant=tenant, name=name, created_us=self._clock.now_us())
        if self._project(session, id, tenant) is not None:
            raise Refusal(Code.CONFLICT, "this tenant has a project of this id")
        session.run(insert(PROJECTS).values(**values_of(project)))
        session.note("project", tenant=tenant, name=id)
        return project

    def get_project(self, session: Session, project_id: str, *, tenant: str) -> Project:
        return _present(self._project(session, project_id, tenant), "project")

    def projects(
        self, session: Session, *, tenant: str, after: str | None = None, limit: int = 50
    ) -> tuple[Project, ...]:
        return listed(session, PROJECTS, Project, after=after, limit=limit, tenant=tenant)

    def replace_project(
        self, session: Session, project_id: str, *, tenant: str, name: str, etag: int | None = None
    ) -> Project:
        return _replace(
            session, PROJECTS, "project", self.get_project(session, project_id, tenant=tenant), etag, name=name
        )

    def delete_project(self, session: Session, project_id: str, *, tenant: str, etag: int | None = None) -> Project:
        """Refused (CONFLICT) while a role or a service is bound to it; of its keys the caller takes care."""
        project = self.get_project(session, project_id, tenant=tenant)
        _refuse_stale("project", project.etag, etag)
        for table in (GRANTS, SERVICES):
            if _count(session, table, table.c.tenant == tenant, table.c.project == project_id):
                raise Refusal(Code.CONFLICT, f"{table.name} are bound to this project")
        session.run(delete(PROJECTS).where(PROJECTS.c.tenant == tenant, PROJECTS.c.id == project_id))
        session.note("project", tenant=tenant, name=project_id)
        return project

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
        session.run(insert(USERS).values(**values_of(user)))
        session.note("user", tenant=tenant or INSTALLATION, name=user.id)
        return user

    def get_user(self, session: Session, user_id: str, *, tenant: str | None = None) -> User:
        """With a `tenant`, only one of that tenant ("": of the installation)."""
        return _present(_by_id(session, USERS, User, user_id, tenant), "user")

    def users(
        self, session: Session, *, after: str | None = None, limit: int = 50, tenant: str | None = None
    ) -> tuple[User, ...]:
        return listed(session, USERS, User, after=after, limit=limit, tenant=tenant)

    def user_of(self, session: Session, issuer: str, subject: str) -> User | None:
        """Whom an issuer means by `subject`."""
        return found(session, select(USERS).where(USERS.c.issuer == issuer, USERS.c.subject == subject), User)

    def replace_user(
        self,
        session: Session,
        actor: Actor,
        user_id: str,
        *,
        tenant: str | None = None,
        name: str,
        email: str,
        issuer: str | None,
        subject: str | None,
        disabled: bool,
        etag: int | None = None,
    ) -> User:
        """Change a person. Who holds any role keeps the link by which they log in; shutting them out takes no less."""
        user = self.get_user(session, user_id, tenant=tenant)
        held = self.grants_of(session, user.principal)
        if (issuer, subject) != (user.issuer, user.subject):
            if held:
                raise Refusal(Code.CONFLICT, "whoever holds a role keeps their login: take the roles first")
            self._check_link(session, msgspec.structs.replace(user, issuer=issuer, subject=subject), actor)
        if disabled != user.disabled:
            refuse_over(actor, held)
        changed = _replace(
            session,
            USERS,
            "user",
            user,
            etag,
            name=name,
            email=email,
            issuer=issuer,
            subject=subject,
            disabled=disabled,
        )
        if disabled:
            session.run(delete(SESSIONS).where(SESSIONS.c.principal == user.principal))
        return changed

    def delete_user(
        self, session: Session, actor: Actor, user_id: str, *, tenant: str | None = None, etag: int | None = None
    ) -> User:
        """Take a person away with their roles, access tokens and sessions."""
        user = self.get_user(session, user_id, tenant=tenant)
        _refuse_stale("user", user.etag, etag)
        refuse_over(actor, self.grants_of(session, user.principal))
        self._forget(session, user.principal)
        session.run(delete(ONE_TIME).where(ONE_TIME.c.subject == user.principal))
        session.run(delete(USERS).where(USERS.c.id == user_id))
        session.note("user", tenant=user.tenant or INSTALLATION, name=user_id)
        return user

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
        session.run(insert(SERVICES).values(**values_of(service)))
        session.note("service", tenant=tenant or INSTALLATION, name=service.id)
        return service

    def get_service(self, session: Session, service_id: str, *, tenant: str | None = None) -> ServiceIdentity:
        """With a `tenant`, only one of that tenant ("": of the installation)."""
        return _present(_by_id(session, SERVICES, ServiceIdentity, service_id, tenant), "service")

    def services(
        self, session: Session, *, after: str | None = None, limit: int = 50, tenant: str | None = None
    ) -> tuple[ServiceIdentity, ...]:
        return listed(session, SERVICES, ServiceIdentity, after=after, limit=limit, tenant=tenant)

    def service_of(self, session: Session, issuer: str, subject: str) -> ServiceIdentity | None:
        """Which program an issuer means by `subject`."""
        query = select(SERVICES).where(SERVICES.c.issuer == issuer, SERVICES.c.subject == subject)
        return found(session, query, ServiceIdentity)

    def replace_service(
        self,
        session: Session,
        actor: Actor,
        service_id: str,
        *,
        tenant: str | None = None,
        name: str,
        issuer: str | None,
        subject: str | None,
        models: Sequence[str],
        surfaces: Sequence[Surface],
        ip_ranges: Sequence[str],
        disabled: bool,
        etag: int | None = None,
    ) -> ServiceIdentity:
        """Change a service. Who says how it signs in, or shuts it out, must hold all that it holds."""
        service = self.get_service(session, service_id, tenant=tenant)
        if (issuer, subject) != (service.issuer, service.subject):
            refuse_over(actor, self.grants_of(session, service.principal))
            self._check_link(session, msgspec.structs.replace(service, issuer=issuer, subject=subject), actor)
        if disabled != service.disabled:
            refuse_over(actor, self.grants_of(session, service.principal))
        return _replace(
            session,
            SERVICES,
            "service",
            service,
            etag,
            name=name,
            issuer=issuer,
            subject=subject,
            models=tuple(models),
            surfaces=tuple(surfaces),
            ip_ranges=check_networks(ip_ranges),
            disabled=disabled,
        )

    def delete_service(
        self, session: Session, actor: Actor, service_id: str, *, tenant: str | None = None, etag: int | None = None
    ) -> ServiceIdentity:
        """Take a service away with its roles and access tokens."""
        service = self.get_service(session, service_id, tenant=tenant)
        _refuse_stale("service", service.etag, etag)
        refuse_over(actor, self.grants_of(session, service.principal))
        self._forget(session, service.principal)
        session.run(delete(SERVICES).where(SERVICES.c.id == service_id))
        session.note("service", tenant=service.tenant or INSTALLATION, name=service_id)
        return service

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

    def drop_grant(self, session: Session, grantor: Actor, grant_id: str, *, tenant: str | None = None) -> Grant:
        """Take a role away; as giving it, it takes no less than the role."""
        grant = self.get_grant(session, grant_id, tenant=tenant)
        refuse_above(grantor, grant.role, tenant=grant.tenant, project=grant.project)
        session.run(delete(GRANTS).where(GRANTS.c.id == grant_id))
        session.note("grant", tenant=grant.tenant or INSTALLATION, name=grant_id)
        return grant

    def get_grant(self, session: Session, grant_id: str, *, tenant: str | None = None) -> Grant:
        return _present(_by_id(session, GRANTS, Grant, grant_id, tenant), "grant")

    def grants(
        self,
        session: Session,
        *,
        after: str | None = None,
        limit: int = 50,
        tenant: str | None = None,
        principal: str | None = None,
    ) -> tuple[Grant, ...]:
        where = () if principal is None else (GRANTS.c.principal == principal,)
        return listed(session, GRANTS, Grant, after=after, limit=limit, tenant=tenant, where=where)

    def grants_of(self, session: Session, principal: str) -> tuple[Grant, ...]:
        """Every role that a principal was given, as far as the scope of the transaction reaches."""
        return listed(
            session, GRANTS, Grant, after=None, limit=10_000, tenant=None, where=(GRANTS.c.principal == principal,)
        )

    def holder(self, session: Session, principal: str) -> User | ServiceIdentity:
        """Whom a principal names. Raises `Refusal` (NOT_FOUND)."""
        kind, _, name = principal.partition(":")
        if kind == "user":
            return self.get_user(session, name)
        if kind == "service":
            return self.get_service(session, name)
        raise Refusal(Code.NOT_FOUND, "no user or service has this id")

    def eligible(
        self, session: Session, permission: Permission, *, tenant: str | None, project: str | None = None
    ) -> frozenset[str]:
        """The people who can be one of two: enabled, with a way in, and holding `permission` there by a stored role.

        Needs a transaction over everything, for roles in the installation count in each tenant.
        """
        roles = [role for role in Role if permission in PERMISSIONS[role]]
        query = select(GRANTS).where(
            GRANTS.c.role.in_(roles), or_(GRANTS.c.tenant == (tenant or INSTALLATION), GRANTS.c.tenant == INSTALLATION)
        )
        held = [noun_of(row, Grant) for row in session.rows(query)]
        active: set[str] = set()
        for principal in {grant.principal for grant in held if grant.principal.startswith("user:")}:
            user = _by_id(session, USERS, User, principal.removeprefix("user:"), None)
            if user is not None and not user.disabled and self._has_way_in(session, user):
                active.add(principal)
        return eligible(held, permission, tenant=tenant, project=project, active=active)

    def has_people(self, session: Session) -> bool:
        """Whether any person is known."""
        return session.row(select(USERS.c.id).limit(1)) is not None

    # Within

    def _project(self, session: Session, project_id: str, tenant: str) -> Project | None:
        return found(session, select(PROJECTS).where(PROJECTS.c.tenant == tenant, PROJECTS.c.id == project_id), Project)

    def _check_project(self, session: Session, tenant: str | None, project: str | None) -> None:
        if project is not None and (tenant is None or self._project(session, project, tenant) is None):
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
        session.run(insert(GRANTS).values(**values_of(grant)))
        session.note("grant", tenant=tenant or INSTALLATION, name=grant.id)
        return grant

    def _forget(self, session: Session, principal: str) -> None:
        for grant in self.grants_of(session, principal):
            session.note("grant", tenant=grant.tenant or INSTALLATION, name=grant.id)
        for table in (GRANTS, ACCESS_TOKENS, SESSIONS):
            session.run(delete(table).where(table.c.principal == principal))


def stored_services(session: Session) -> tuple[ServiceIdentity, ...]:
    """Every service that may call models, for the snapshot."""
    query = select(SERVICES).where(SERVICES.c.tenant != INSTALLATION, SERVICES.c.subject.is_not(None))
    return tuple(noun_of(row, ServiceIdentity) for row in session.rows(query.order_by(SERVICES.c.id)))


def _by_id(session: Session, table: Table, noun: type[T], id: str, tenant: str | None) -> T | None:  # noqa: A002 - the word for it
    query = select(table).where(table.c.id == id)
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    return found(session, query, noun)


def _present(noun: T | None, kind: str) -> T:
    if noun is None:
        raise Refusal(Code.NOT_FOUND, f"no {kind} has this id")
    return noun


def _refuse_stale(kind: str, present: int, etag: int | None) -> None:
    if etag is not None and etag != present:
        raise Refusal(Code.PRECONDITION_FAILED, f"the {kind} has changed since it was read")


def _replace(session: Session, table: Table, kind: str, noun: N, etag: int | None, **changes: Any) -> N:
    """`noun` with `changes`, one revision on."""
    _refuse_stale(kind, noun.etag, etag)
    changed = msgspec.structs.replace(noun, **changes, etag=noun.etag + 1)
    where = (table.c.tenant == (noun.tenant or INSTALLATION), table.c.id == noun.id)
    session.run(update(table).where(*where).values(**values_of(changed)))
    session.note(kind, tenant=noun.tenant or INSTALLATION, name=noun.id)
    return changed


def _count(session: Session, table: Table, *where: Any) -> int:
    row = session.row(select(func.count()).select_from(table).where(*where))
    return 0 if row is None else int(row[0])
