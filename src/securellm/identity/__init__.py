"""Who asks: people, services and virtual keys, their roles, and the proof that a credential of theirs was presented."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.identity.authority import eligible, missing_eyes, refuse_above, refuse_over
    from securellm.identity.callers import Callers
    from securellm.identity.directory import Directory, stored_services
    from securellm.identity.issuers import Issuers, Vouched
    from securellm.identity.model import (
        Identity,
        IssuedKey,
        KeyConflict,
        KeyScopes,
        PepperMismatch,
        VirtualKey,
    )
    from securellm.identity.oidc import Begun, Entered, Login, Proven
    from securellm.identity.outbound import HttpOutbound, Outbound
    from securellm.identity.people import (
        HOST,
        NO_SERVICES,
        AccessToken,
        Actor,
        Credential,
        Grant,
        IssuedToken,
        Project,
        ServiceIdentity,
        ServiceTable,
        User,
    )
    from securellm.identity.permissions import PERMISSIONS, Permission, Role
    from securellm.identity.rules import check_networks, declared_key, digest_of, is_credential
    from securellm.identity.service import Identities
    from securellm.identity.sessions import Sessions, read_cookie, session_cookie_name, set_cookie
    from securellm.identity.store import Keyring, all_stored_keys, bind_pepper, revoked_keys, stored_keys
    from securellm.identity.table import KeyTable
    from securellm.identity.tenants import TENANTS, inhabitants
    from securellm.identity.tokens import Tokens
    from securellm.identity.vouching import Flaw, flaws_of, origin_of
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "HOST",
    "NO_SERVICES",
    "PERMISSIONS",
    "TENANTS",
    "AccessToken",
    "Actor",
    "Begun",
    "Callers",
    "Credential",
    "Directory",
    "Entered",
    "Flaw",
    "Grant",
    "HttpOutbound",
    "Identities",
    "Identity",
    "IssuedKey",
    "IssuedToken",
    "Issuers",
    "KeyConflict",
    "KeyScopes",
    "KeyTable",
    "Keyring",
    "Login",
    "Outbound",
    "PepperMismatch",
    "Permission",
    "Project",
    "Proven",
    "Role",
    "ServiceIdentity",
    "ServiceTable",
    "Sessions",
    "Tokens",
    "User",
    "VirtualKey",
    "Vouched",
    "all_stored_keys",
    "bind_pepper",
    "check_networks",
    "declared_key",
    "digest_of",
    "eligible",
    "flaws_of",
    "inhabitants",
    "is_credential",
    "missing_eyes",
    "origin_of",
    "read_cookie",
    "refuse_above",
    "refuse_over",
    "revoked_keys",
    "session_cookie_name",
    "set_cookie",
    "stored_keys",
    "stored_services",
]
