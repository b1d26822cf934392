"""Pure decisions about roles: what may be given, by whom, and which two people make four eyes."""

from collections.abc import Collection, Iterable

from securellm.core.errors import Code, Refusal
from securellm.identity.people import Actor, Grant
from securellm.identity.permissions import PERMISSIONS, Permission, Role

EYES = 2
"""People who must agree on a change of roles or of policy."""


def refuse_above(grantor: Actor, role: Role, *, tenant: str | None, project: str | None = None) -> None:
    """Raises `Refusal` (FORBIDDEN) unless the grantor may give this role there, or take it.

    They must be allowed to change grants in that scope, and hold there every permission the role contains: so no
    sequence of grants makes a permission that nobody held.
    """
    if not grantor.may(Permission.GRANTS_WRITE, tenant=tenant, project=project):
        raise Refusal(Code.FORBIDDEN, f"this asks for {Permission.GRANTS_WRITE} there")
    beyond = sorted(
        permission for permission in PERMISSIONS[role] if not grantor.may(permission, tenant=tenant, project=project)
    )
    if beyond:
        raise Refusal(Code.FORBIDDEN, f"the role {role} contains {beyond[0]}, which the grantor does not hold there")


def refuse_beyond_home(home: str | None, *, tenant: str | None) -> None:
    """Raises `Refusal` (FORBIDDEN) for a grant that would lead a tenant's own principal out of their tenant."""
    if home is not None and home != tenant:
        raise Refusal(Code.FORBIDDEN, "who belongs to a tenant holds roles in that tenant only")


def refuse_over(actor: Actor, grants: Iterable[Grant]) -> None:
    """Raises `Refusal` (FORBIDDEN) unless `actor` may do all that the holder of these grants may.

    Whoever issues a service's token, or says who may sign in as it, can act as it; and whoever shuts someone out
    takes their roles away.
    """
    for grant in grants:
        for permission in sorted(PERMISSIONS[grant.role]):
            if not actor.may(permission, tenant=grant.tenant, project=grant.project):
                raise Refusal(Code.FORBIDDEN, f"they hold {permission} where the caller does not")


def eligible(
    grants: Iterable[Grant],
    permission: Permission,
    *,
    tenant: str | None,
    project: str | None = None,
    active: Collection[str],
) -> frozenset[str]:
    """The principals among `active` that are people and hold `permission` in this scope."""
    return frozenset(
        grant.principal
        for grant in grants
        if grant.principal.startswith("user:")
        and grant.principal in active
        and grant.permits(permission, tenant=tenant, project=project)
    )


def missing_eyes(proposer: str, approvers: Iterable[str]) -> int:
    """How many more people must approve. A service proposes for nobody, and its approval is nobody's."""
    people = {principal for principal in (proposer, *approvers) if principal.startswith("user:")}
    return max(0, EYES - len(people))
