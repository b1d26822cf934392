"""The versions of policy bundles, by scope and hash."""

from securellm.core.errors import Code, Refusal
from securellm.policy.bundles import Bundle, hash_of
from securellm.policy.inforce import Declared
from securellm.policy.lifecycle import (
    State,
    Version,
    enforced,
    proposed,
    recalled,
    retired,
    shadowed,
    withdrawn,
)
from securellm.storage import Session, Shelf, Shelved

VERSIONS: Shelf[Version] = Shelf("policies", Version, kind="policy", tenant_scoped=True)

_PAGE = 200


def propose(session: Session, bundle: Bundle, *, tenant: str, by: str, reason: str, now_us: int) -> Shelved[Version]:
    """Keep a draft. Raises Refusal: INVALID_REQUEST without a reason, CONFLICT for a bundle that was proposed before.

    Whoever asks has had the bundle tried (`prove`).
    """
    draft = proposed(bundle, hash_of(bundle), tenant=tenant, by=by, reason=reason, now_us=now_us)
    if VERSIONS.get(session, draft.id, tenant=tenant) is not None:
        raise Refusal(Code.CONFLICT, "this very bundle was proposed before; use that version")
    return VERSIONS.create(session, draft, id=draft.id, tenant=tenant, now_us=now_us)


def version(session: Session, id: str, *, tenant: str) -> Shelved[Version]:  # noqa: A002 - its name
    """Raises Refusal (NOT_FOUND)."""
    found = VERSIONS.get(session, id, tenant=tenant)
    if found is None:
        raise Refusal(Code.NOT_FOUND, "there is no version of this id")
    return found


def versions(session: Session, *, tenant: str, after: str | None, limit: int) -> tuple[Shelved[Version], ...]:
    """Some versions of one scope in the order of their ids."""
    return VERSIONS.page(session, after=after, limit=limit, tenant=tenant)


def to_shadow(
    session: Session,
    id: str,  # noqa: A002 - the word for it
    *,
    tenant: str,
    by: str,
    now_us: int,
    etag: int | None = None,
) -> Shelved[Version]:
    """Try it beside what is in force; another that was in the shadow leaves it. Raises Refusal."""
    found = version(session, id, tenant=tenant)
    changed = shadowed(found.document, by=by, now_us=now_us)
    for other in _standing(session, tenant, State.SHADOW):
        _replace(session, recalled(other.document), now_us=now_us)
    return _replace(session, changed, now_us=now_us, etag=etag)


def enforce(
    session: Session,
    id: str,  # noqa: A002 - the word for it
    *,
    tenant: str,
    by: str,
    now_us: int,
    break_glass: str | None = None,
    etag: int | None = None,
) -> Shelved[Version]:
    """Put it in force in the place of the one that is, which is retired. Raises Refusal as `versions.enforced`."""
    found = version(session, id, tenant=tenant)
    changed = enforced(found.document, by=by, now_us=now_us, break_glass=break_glass)
    for other in _standing(session, tenant, State.ENFORCED):
        _replace(session, retired(other.document, by=by, now_us=now_us), now_us=now_us)
    return _replace(session, changed, now_us=now_us, etag=etag)


def withdraw(
    session: Session,
    id: str,  # noqa: A002 - the word for it
    *,
    tenant: str,
    by: str,
    now_us: int,
    break_glass: str | None = None,
    etag: int | None = None,
) -> Shelved[Version]:
    """End it. Of what was in force, the allow-lists alone decide again. Raises Refusal as `versions.withdrawn`."""
    found = version(session, id, tenant=tenant)
    changed = withdrawn(found.document, by=by, now_us=now_us, break_glass=break_glass)
    return _replace(session, changed, now_us=now_us, etag=etag)


def stored_policies(session: Session) -> tuple[Declared, ...]:
    """What every scope has in force and in the shadow; from a session that sees all tenants."""
    found: list[Declared] = []
    for shelved in _every(session, None):
        document = shelved.document
        if document.state is State.ENFORCED:
            found.append(Declared(tenant=document.tenant, state="enforced", bundle=document.bundle))
        elif document.state is State.SHADOW:
            found.append(Declared(tenant=document.tenant, state="shadow", bundle=document.bundle))
    return tuple(found)


def _standing(session: Session, tenant: str, state: State) -> list[Shelved[Version]]:
    return [shelved for shelved in _every(session, tenant) if shelved.document.state is state]


def _every(session: Session, tenant: str | None) -> list[Shelved[Version]]:
    found: list[Shelved[Version]] = []
    while True:
        after = None if not found else (found[-1].id if tenant is not None else found[-1].place)
        page = VERSIONS.page(session, after=after, limit=_PAGE, tenant=tenant)
        found += page
        if len(page) < _PAGE:
            return found


def _replace(session: Session, changed: Version, *, now_us: int, etag: int | None = None) -> Shelved[Version]:
    return VERSIONS.replace(session, changed, id=changed.id, tenant=changed.tenant, etag=etag, now_us=now_us)
