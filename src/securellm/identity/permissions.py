"""What can be permitted, and which of it each built-in role holds."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Permission(StrEnum):
    """`<resource>:<verb>` of the control plane."""

    TENANTS_READ = "tenants:read"
    TENANTS_WRITE = "tenants:write"
    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    SERVICES_READ = "services:read"
    SERVICES_WRITE = "services:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    """Issue, scope, rotate and revoke virtual keys."""
    GRANTS_READ = "grants:read"
    GRANTS_WRITE = "grants:write"
    """Give and take roles, never above one's own."""
    GRANTS_APPROVE = "grants:approve"
    """Be the second person of a change of roles."""
    PROVIDERS_READ = "providers:read"
    PROVIDERS_WRITE = "providers:write"
    PROVIDERS_PLACE = "providers:place"
    """Choose where a provider is and which credential it is sent: base_url, proxy, ca_file and credential."""
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    BUDGETS_READ = "budgets:read"
    BUDGETS_WRITE = "budgets:write"
    LIMITS_READ = "limits:read"
    LIMITS_WRITE = "limits:write"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"
    POLICIES_APPROVE = "policies:approve"
    """Be the second person of a change of policy."""
    PREFERENCES_READ = "preferences:read"
    PREFERENCES_WRITE = "preferences:write"
    DECISIONS_READ = "decisions:read"
    AUDIT_READ = "audit:read"
    PROPOSALS_READ = "proposals:read"
    PROPOSALS_WRITE = "proposals:write"
    """Propose, withdraw and reject; approving asks for the approval of the matter too."""
    SCHEMA_READ = "schema:read"
    SELF = "self:use"
    """Know who one is, end one's session, manage one's own access tokens: everyone proven may."""


class Role(StrEnum):
    """The built-in roles. There are no others: what each may do is in this file and nowhere else."""

    OWNER = "owner"
    ADMIN = "admin"
    SECURITY_OFFICER = "security_officer"
    FINOPS = "finops"
    DEVELOPER = "developer"
    APPROVER = "approver"
    AUDITOR = "auditor"
    DPO = "dpo"


def _set(*permissions: Permission) -> frozenset[Permission]:
    """What every role may, and `permissions`."""
    return frozenset({Permission.SCHEMA_READ, Permission.SELF, *permissions})


_ALL = frozenset(Permission)

PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.OWNER: _ALL,
        # Runs the installation, and is neither the second person nor the one who says where credentials are sent.
        Role.ADMIN: _ALL
        - {
            Permission.GRANTS_APPROVE,
            Permission.POLICIES_APPROVE,
            Permission.POLICIES_WRITE,
            Permission.PROVIDERS_PLACE,
        },
        Role.SECURITY_OFFICER: _set(
            Permission.TENANTS_READ,
            Permission.PROJECTS_READ,
            Permission.USERS_READ,
            Permission.SERVICES_READ,
            Permission.KEYS_READ,
            Permission.KEYS_WRITE,
            Permission.GRANTS_READ,
            Permission.GRANTS_APPROVE,
            Permission.PROVIDERS_READ,
            Permission.PROVIDERS_PLACE,
            Permission.MODELS_READ,
            Permission.BUDGETS_READ,
            Permission.LIMITS_READ,
            Permission.LIMITS_WRITE,
            Permission.POLICIES_READ,
            Permission.POLICIES_WRITE,
            Permission.POLICIES_APPROVE,
            Permission.DECISIONS_READ,
            Permission.AUDIT_READ,
            Permission.PROPOSALS_READ,
            Permission.PROPOSALS_WRITE,
        ),
        Role.FINOPS: _set(
            Permission.TENANTS_READ,
            Permission.PROJECTS_READ,
            Permission.KEYS_READ,
            Permission.MODELS_READ,
            Permission.BUDGETS_READ,
            Permission.BUDGETS_WRITE,
            Permission.LIMITS_READ,
        ),
        Role.DEVELOPER: _set(
            Permission.PROJECTS_READ,
            Permission.KEYS_READ,
            Permission.KEYS_WRITE,
            Permission.MODELS_READ,
            Permission.BUDGETS_READ,
            Permission.LIMITS_READ,
        ),
        Role.APPROVER: _set(
            Permission.TENANTS_READ,
            Permission.PROJECTS_READ,
            Permission.USERS_READ,
            Permission.SERVICES_READ,
            Permission.GRANTS_READ,
            Permission.GRANTS_APPROVE,
            Permission.POLICIES_READ,
            Permission.POLICIES_APPROVE,
            Permission.DECISIONS_READ,
            Permission.PROPOSALS_READ,
            Permission.PROPOSALS_WRITE,
        ),
        # Sees what was done and by whom; not what a person asked us to remember.
        Role.AUDITOR: _set(*(permission for permission in Permission if permission.value.endswith(":read")))
        - {Permission.PREFERENCES_READ},
        Role.DPO: _set(
            Permission.TENANTS_READ,
            Permission.PROJECTS_READ,
            Permission.USERS_READ,
            Permission.SERVICES_READ,
            Permission.GRANTS_READ,
            Permission.PROVIDERS_READ,
            Permission.MODELS_READ,
            Permission.POLICIES_READ,
            Permission.PREFERENCES_READ,
            Permission.PREFERENCES_WRITE,
            Permission.DECISIONS_READ,
            Permission.AUDIT_READ,
            Permission.PROPOSALS_READ,
        ),
    }
)
"""Every permission of every role; a permission that stands nowhere here is nobody's."""
