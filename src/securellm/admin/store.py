"""The table of the admin API: each change that was made, and the idempotency key it was made under."""

from collections.abc import Collection

from sqlalchemy import Column, delete, insert, select, update

from securellm.admin.repeats import LIFETIME, Claim
from securellm.storage import INTEGER, TEXT, Session, tenant_table

CHANGED = tenant_table(
    "admin_changes",
    Column("request_id", TEXT, primary_key=True),
    Column("digest", TEXT, unique=True),
    Column("fingerprint", TEXT),
    Column("made_us", INTEGER, nullable=False, index=True),
    followed=False,
)

KEPT_US = 30 * 24 * 3600 * 1_000_000
"""Microseconds for which a change is known to have been made: a gateway may have died that long ago."""

_CLAIMED_US = int(LIFETIME * 1_000_000)


def note_made(session: Session, *, request_id: str, tenant: str | None, claim: Claim | None, now_us: int) -> None:
    """Say, in the transaction of a change, that it was made. Raises `StorageConflict` when the key has been used."""
    stale = delete(CHANGED).where(CHANGED.c.made_us < now_us - KEPT_US)
    session.run(stale)
    if claim is not None:
        former = update(CHANGED).where(CHANGED.c.digest == claim.digest, CHANGED.c.made_us < now_us - _CLAIMED_US)
        session.run(former.values(digest=None, fingerprint=None))
    session.run(
        insert(CHANGED).values(
            request_id=request_id,
            tenant=tenant or "",
            digest=None if claim is None else claim.digest,
            fingerprint=None if claim is None else claim.fingerprint,
            made_us=now_us,
        )
    )


def newest_made(session: Session) -> str | None:
    """The request of the last change that was made."""
    row = session.row(select(CHANGED.c.request_id).order_by(CHANGED.c.made_us.desc()).limit(1))
    return None if row is None else str(row[0])


def made_among(session: Session, request_ids: Collection[str]) -> frozenset[str]:
    """Those whose change was made."""
    rows = session.rows(select(CHANGED.c.request_id).where(CHANGED.c.request_id.in_(request_ids)))
    return frozenset(str(row[0]) for row in rows)


def fingerprint_of(session: Session, claim: Claim, *, now_us: int) -> str | None:
    """What was asked for under this key, while the key lives."""
    row = session.row(
        select(CHANGED.c.fingerprint).where(CHANGED.c.digest == claim.digest, CHANGED.c.made_us >= now_us - _CLAIMED_US)
    )
    return None if row is None else str(row[0])
