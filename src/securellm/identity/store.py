"""Virtual keys in the control plane: issued, scoped, rotated and revoked there; and the pepper's fingerprint."""

import hmac
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import CheckConstraint, Column, Row, insert, select, update

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity.model import IssuedKey, KeyScopes, PepperMismatch, VirtualKey
from securellm.identity.rules import TOKEN_ENTROPY, check_networks, digest_of, fingerprint_of, prefix_of, token_of
from securellm.identity.tables import PROJECTS
from securellm.storage import BYTES, INTEGER, JSON, TEXT, ControlStore, Session, installation_table, tenant_table

VIRTUAL_KEYS = tenant_table(
    "virtual_keys",
    Column("id", TEXT, primary_key=True),
    Column("project", TEXT),
    Column("user", TEXT),
    Column("name", TEXT, nullable=False),
    Column("prefix", TEXT, nullable=False),
    Column("digest", BYTES, nullable=False, unique=True),
    Column("models", JSON, nullable=False),
    Column("surfaces", JSON, nullable=False),
    Column("ip_ranges", JSON, nullable=False),
    Column("created_us", INTEGER, nullable=False),
    Column("expires_us", INTEGER),
    Column("revoked_us", INTEGER),
    Column("former_digest", BYTES, unique=True),
    Column("former_until_us", INTEGER),
    Column("etag", INTEGER, nullable=False),
)

PEPPER = installation_table(
    "pepper",
    Column("one", INTEGER, primary_key=True, autoincrement=False),
    Column("fingerprint", BYTES, nullable=False),
    CheckConstraint("one = 1", name="one_row"),
    followed=False,
)

LONGEST_OVERLAP = 30 * 86_400.0
"""Seconds that a rotated key's former token may go on."""

_PIECE = 250
"""Rows read at once: making more of them in one call would keep every other thread waiting."""


class Keyring:
    """The verbs of virtual keys, inside the caller's transaction. Those declared in the file are shown, never changed.

    Raises `Refusal` (NOT_FOUND, MANAGED_BY_FILE, CONFLICT, PRECONDITION_FAILED, INVALID_REQUEST).
    """

    def __init__(
        self, pepper: bytes, clock: Clock, randomness: Randomness, *, declared: Iterable[VirtualKey] = ()
    ) -> None:
        self._pepper = pepper
        self._clock = clock
        self._randomness = randomness
        self._ids = Ids(clock, randomness)
        self._declared = {key.id: key for key in declared}

    def issue(
        self,
        session: Session,
        *,
        tenant: str,
        name: str,
        models: tuple[str, ...],
        surfaces: tuple[Surface, ...] = (),
        expires_us: int | None = None,
        project: str | None = None,
        user: str | None = None,
        ip_ranges: Iterable[str] = (),
    ) -> IssuedKey:
        """A new key; its token is returned once and kept nowhere."""
        if project is not None:
            query = select(PROJECTS.c.id).where(PROJECTS.c.tenant == tenant, PROJECTS.c.id == project)
            if session.row(query) is None:
                raise Refusal(Code.NOT_FOUND, "the tenant has no project of this id", param="project")
        token = token_of(self._randomness.token(TOKEN_ENTROPY))
        key = VirtualKey(
            id=self._ids.new("key"),
            tenant=tenant,
            name=name,
            prefix=prefix_of(token),
            digest=digest_of(token, pepper=self._pepper),
            models=models,
            surfaces=surfaces,
            project=project,
            user=user,
            ip_ranges=check_networks(ip_ranges),
            created_us=self._clock.now_us(),
            expires_us=expires_us,
            managed_by="api",
        )
        session.run(insert(VIRTUAL_KEYS).values(**_values(key)))
        session.note("key", tenant=key.tenant, name=key.id)
        return IssuedKey(key=key, token=token)

    def get(self, session: Session, key_id: str) -> VirtualKey:
        key = self._declared.get(key_id) or _get(session, key_id)
        if key is None:
            raise Refusal(Code.NOT_FOUND, "no virtual key has this id")
        return key

    def page(
        self,
        session: Session,
        *,
        after: str | None = None,
        limit: int = 50,
        tenant: str | None = None,
        projects: Collection[str] | None = None,
    ) -> tuple[VirtualKey, ...]:
        """Up to `limit` keys beyond the id `after`, in the order of ids; with `projects`, only theirs."""
        query = select(VIRTUAL_KEYS).order_by(VIRTUAL_KEYS.c.id).limit(limit)
        if after is not None:
            query = query.where(VIRTUAL_KEYS.c.id > after)
        if tenant is not None:
            query = query.where(VIRTUAL_KEYS.c.tenant == tenant)
        if projects is not None:
            query = query.where(VIRTUAL_KEYS.c.project.in_(projects))
        declared = [
            key
            for key in self._declared.values()
            if (after is None or key.id > after)
            and (tenant is None or key.tenant == tenant)
            and (projects is None or key.project in projects)
        ]
        return tuple(sorted([*declared, *map(_key, session.rows(query))], key=lambda key: key.id)[:limit])

    def update(self, session: Session, key_id: str, scopes: KeyScopes, *, etag: int | None = None) -> VirtualKey:
        """Bind a key to other scopes."""
        key = self._changeable(session, key_id, etag)
        return _replace(
            session,
            key,
            name=scopes.name,
            models=scopes.models,
            surfaces=scopes.surfaces,
            expires_us=scopes.expires_us,
            ip_ranges=check_networks(scopes.ip_ranges),
        )

    def rotate(self, session: Session, key_id: str, *, overlap: float, etag: int | None = None) -> IssuedKey:
        """Give a key a new token. The present one goes on for `overlap` seconds, one before that ends at once."""
        if not 0 <= overlap <= LONGEST_OVERLAP:
            raise Refusal(Code.INVALID_REQUEST, "the overlap is from 0 to 30 days", param="overlap")
        key = self._changeable(session, key_id, etag)
        now_us = self._clock.now_us()
        if key.revoked_us is not None or (key.expires_us is not None and key.expires_us <= now_us):
            raise Refusal(Code.CONFLICT, "this key is no longer valid: issue another one")
        token = token_of(self._randomness.token(TOKEN_ENTROPY))
        rotated = _replace(
            session,
            key,
            prefix=prefix_of(token),
            digest=digest_of(token, pepper=self._pepper),
            former_digest=key.digest if overlap else None,
            former_until_us=now_us + round(overlap * 1_000_000) if overlap else None,
        )
        return IssuedKey(key=rotated, token=token)

    def revoke(self, session: Session, key_id: str) -> VirtualKey:
        """Refuse a key from now on; the first moment stands."""
        key = self._changeable(session, key_id, None)
        return key if key.revoked_us is not None else _replace(session, key, revoked_us=self._clock.now_us())

    def _changeable(self, session: Session, key_id: str, etag: int | None) -> VirtualKey:
        key = self.get(session, key_id)
        if key.managed_by == "file":
            raise Refusal(Code.MANAGED_BY_FILE, "this virtual key is declared in the configuration file")
        if etag is not None and etag != key.etag:
            raise Refusal(Code.PRECONDITION_FAILED, "the key has changed since it was read")
        return key


def bind_pepper(control: ControlStore, pepper: bytes) -> None:
    """Let the control plane take no other pepper from now on. Raises `PepperMismatch` when it was made with another."""
    fingerprint = fingerprint_of(pepper)
    if not control.read(lambda session: _is_kept(session, fingerprint)):
        control.write(lambda session: _keep(session, fingerprint))


def _is_kept(session: Session, fingerprint: bytes) -> bool:
    """Whether a pepper is on record. Raises `PepperMismatch` when it is another one."""
    row = session.row(select(PEPPER.c.fingerprint))
    if row is not None and hmac.compare_digest(row.fingerprint, fingerprint):
        return True
    if row is not None:
        raise PepperMismatch("the pepper differs from the one that this control plane was made with")
    if session.row(select(VIRTUAL_KEYS.c.id).limit(1)) is not None:
        raise PepperMismatch("virtual keys are stored and no pepper's fingerprint is on record")
    return False


def _keep(session: Session, fingerprint: bytes) -> None:
    if not _is_kept(session, fingerprint):
        session.run(insert(PEPPER).values(one=1, fingerprint=fingerprint))


def _values(key: VirtualKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in VIRTUAL_KEYS.c.keys()}  # noqa: SIM118 - columns by name


def _replace(session: Session, key: VirtualKey, **changes: Any) -> VirtualKey:
    changed = msgspec.structs.replace(key, **changes, etag=key.etag + 1)
    session.run(update(VIRTUAL_KEYS).where(VIRTUAL_KEYS.c.id == key.id).values(**_values(changed)))
    session.note("key", tenant=key.tenant, name=key.id)
    return changed


def _get(session: Session, key_id: str) -> VirtualKey | None:
    row = session.row(select(VIRTUAL_KEYS).where(VIRTUAL_KEYS.c.id == key_id))
    return None if row is None else _key(row)


def _key(row: Row[Any]) -> VirtualKey:
    return VirtualKey(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        prefix=row.prefix,
        digest=row.digest,
        models=tuple(row.models),
        surfaces=msgspec.convert(row.surfaces, tuple[Surface, ...]),
        project=row.project,
        user=row.user,
        ip_ranges=tuple(row.ip_ranges),
        created_us=row.created_us,
        expires_us=row.expires_us,
        revoked_us=row.revoked_us,
        former_digest=row.former_digest,
        former_until_us=row.former_until_us,
        managed_by="api",
        etag=row.etag,
    )


def stored_keys(session: Session, ids: Collection[str]) -> tuple[VirtualKey, ...]:
    """The keys with these ids, as far as there are such."""
    return tuple(_key(row) for row in session.rows(select(VIRTUAL_KEYS).where(VIRTUAL_KEYS.c.id.in_(ids))))


def all_stored_keys(session: Session) -> Iterator[VirtualKey]:
    """Every key in the order of its id, read in pieces that hold up nobody."""
    after = ""
    while rows := session.rows(
        select(VIRTUAL_KEYS).where(VIRTUAL_KEYS.c.id > after).order_by(VIRTUAL_KEYS.c.id).limit(_PIECE)
    ):
        yield from map(_key, rows)
        after = rows[-1].id


def revoked_keys(session: Session, *, since_us: int) -> tuple[str, ...]:
    """The ids of keys revoked at that moment or later: few, however many keys there are."""
    query = select(VIRTUAL_KEYS.c.id).where(VIRTUAL_KEYS.c.revoked_us >= since_us)
    return tuple(row.id for row in session.rows(query))
