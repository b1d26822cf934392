"""The table of tenants that the API declared, each a document in the file's words; and who is left in one."""

from typing import Any

from sqlalchemy import func, select

from securellm.identity.store import VIRTUAL_KEYS
from securellm.identity.tables import ACCESS_TOKENS, GRANTS, PROJECTS, SERVICES, USERS
from securellm.storage import Session, Shelf

TENANTS: Shelf[dict[str, Any]] = Shelf("tenants", dict[str, Any], kind="tenant", tenant_scoped=False)


def inhabitants(session: Session, tenant: str) -> tuple[str, ...]:
    """What of identity still belongs to `tenant`, in words. Revoked keys do not: they never work again.

    A tenant that were removed with them would wake them all when another of its name is made.
    """
    counted = {
        "virtual keys": select(func.count())
        .select_from(VIRTUAL_KEYS)
        .where(VIRTUAL_KEYS.c.tenant == tenant, VIRTUAL_KEYS.c.revoked_us.is_(None)),
        "access tokens": select(func.count())
        .select_from(ACCESS_TOKENS)
        .where(ACCESS_TOKENS.c.tenant == tenant, ACCESS_TOKENS.c.revoked_us.is_(None)),
    }
    for name, table in (("projects", PROJECTS), ("users", USERS), ("services", SERVICES), ("roles", GRANTS)):
        counted[name] = select(func.count()).select_from(table).where(table.c.tenant == tenant)
    found = ((name, session.row(query)) for name, query in counted.items())
    return tuple(f"{row[0]} {name}" for name, row in found if row is not None and row[0])
