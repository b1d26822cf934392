"""The tables of preferences: one row of them for each person, one for each memory."""

from typing import Any

from sqlalchemy import Column, PrimaryKeyConstraint, Row, delete, func, insert, select, update

from securellm.preferences.model import Kept, Memory, Person, Preferences, Stated
from securellm.storage import INTEGER, TEXT, Session, tenant_table

PREFERENCES = tenant_table(
    "user_preferences",
    Column("principal", TEXT, nullable=False),
    Column("tone", TEXT),
    Column("format", TEXT),
    Column("language", TEXT),
    Column("created_us", INTEGER, nullable=False),
    Column("updated_us", INTEGER, nullable=False),
    PrimaryKeyConstraint("tenant", "principal"),
    followed=False,
)
MEMORIES = tenant_table(
    "user_memories",
    Column("principal", TEXT, nullable=False),
    Column("id", TEXT, nullable=False),
    Column("text", TEXT, nullable=False),
    Column("created_us", INTEGER, nullable=False),
    Column("consented_in", TEXT, nullable=False),
    Column("offered_in", TEXT),
    PrimaryKeyConstraint("tenant", "principal", "id"),
    followed=False,
)


def stated(session: Session, person: Person) -> Stated:
    """What a person prefers; of one who has stated nothing, nothing."""
    row = session.row(select(PREFERENCES).where(*_of(PREFERENCES, person)))
    if row is None:
        return Stated()
    preferences = Preferences(tone=row.tone, format=row.format, language=row.language)
    return Stated(preferences=preferences, etag=row.updated_us)


def put(session: Session, person: Person, preferences: Preferences, *, before: Stated, now_us: int) -> Stated:
    """Keep these in the place of what was there `before`."""
    made = Stated(preferences=preferences, etag=max(now_us, before.etag + 1))
    values: dict[str, Any] = {
        "tone": preferences.tone,
        "format": preferences.format,
        "language": preferences.language,
        "updated_us": made.etag,
    }
    if before.etag:
        session.run(update(PREFERENCES).where(*_of(PREFERENCES, person)).values(**values))
    else:
        key = {"tenant": person.tenant, "principal": person.principal}
        session.run(insert(PREFERENCES).values(**key, **values, created_us=now_us))
    return made


def drop(session: Session, person: Person) -> int:
    return session.run(delete(PREFERENCES).where(*_of(PREFERENCES, person)))


def memories(session: Session, person: Person) -> tuple[Memory, ...]:
    """In the order in which the person agreed to them."""
    query = select(MEMORIES).where(*_of(MEMORIES, person)).order_by(MEMORIES.c.created_us, MEMORIES.c.id)
    return tuple(map(_memory, session.rows(query)))


def remember(session: Session, person: Person, memory: Memory) -> None:
    session.run(
        insert(MEMORIES).values(
            tenant=person.tenant,
            principal=person.principal,
            id=memory.id,
            text=memory.text,
            created_us=memory.created_us,
            consented_in=memory.consented_in,
            offered_in=memory.offered_in,
        )
    )


def forget(session: Session, person: Person, memory_id: str | None = None) -> int:
    """One memory or all of them; how many there were."""
    which = [] if memory_id is None else [MEMORIES.c.id == memory_id]
    return session.run(delete(MEMORIES).where(*_of(MEMORIES, person), *which))


def people(session: Session, tenant: str, *, after: str | None, limit: int) -> tuple[str, ...]:
    """Principals of whom something is kept, in their order."""
    both = (
        select(PREFERENCES.c.principal)
        .where(PREFERENCES.c.tenant == tenant, *_beyond(PREFERENCES, after))
        .union(select(MEMORIES.c.principal).where(MEMORIES.c.tenant == tenant, *_beyond(MEMORIES, after)))
    )
    return tuple(sorted(row.principal for row in session.rows(both))[:limit])


def kept(session: Session, person: Person) -> Kept | None:
    """All that is kept of a person; None where that is nothing."""
    row = session.row(select(func.count()).where(*_of(MEMORIES, person)))
    assert row is not None
    found = Kept(person, stated(session, person), int(row[0]))
    return found if found.stated.etag or found.memories else None


def erase(session: Session, person: Person) -> Kept | None:
    """Keep nothing of a person any more; what was kept, None where that was nothing."""
    before = kept(session, person)
    drop(session, person)
    forget(session, person)
    return before


def _of(table: Any, person: Person) -> list[Any]:
    return [table.c.tenant == person.tenant, table.c.principal == person.principal]


def _beyond(table: Any, after: str | None) -> list[Any]:
    return [] if after is None else [table.c.principal > after]


def _memory(row: Row[Any]) -> Memory:
    return Memory(
        id=row.id,
        text=row.text,
        created_us=row.created_us,
        consented_in=row.consented_in,
        offered_in=row.offered_in,
    )
