"""The table of the admin API: each change that was made, and the idempotency key it was made under."""

from sqlalchemy import Column, delete, insert, select

from securellm.admin.repeats import LIFETIME, Claim
from securellm.storage import INTEGER, TEXT, Session, tenant_table

CHANGED = tenant_table(
    "admin_changes",
    Column("request_id", TEXT, primary_key=True),
    Column("digest", TEXT, unique=True),
    Column("fingerprint", TEXT),
    Column("made_us", INTEGER, nullable=False),
    followed=False,
)

_KEPT_US = int(LIFETIME * 1_000_000)


def note_made(session: Session, *, request_id: str, tenant: str | None, claim: Claim | None, now_us: int) -> None:
    """Say, in the transaction of a change, that it was made. Raises `StorageConflict` when the key has been used."""
    stale = delete(CHANGED).where(CHANGED.c.made_us < now_us - _KEPT_US)
    session.run(stale)
    session.run(
        insert(CHANGED).values(
            request_id=request_id,
            tenant=tenant or "",
            digest=None if claim is None else claim.digest,
            fingerprint=None if claim is None else claim.fingerprint,
            made_us=now_us,
        )
    )


def was_made(session: Session, request_id: str) -> bool:
    return session.row(select(CHANGED.c.request_id).where(CHANGED.c.request_id == request_id)) is not None


def fingerprint_of(session: Session, claim: Claim, *, now_us: int) -> str | None:
    """What was asked for under this key, while the key lives."""
    row = session.row(
        select(CHANGED.c.fingerprint).where(CHANGED.c.digest == claim.digest, CHANGED.c.made_us >= now_us - _KEPT_US)
    )
    return None if row is None else str(row[0])
