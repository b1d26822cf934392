"""The verbs of preferences: state them, take them back; agree to a memory, have it forgotten. Nothing is inferred."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.preferences import store
from securellm.preferences.model import Changed, Memory, Origin, Person, Preferences, Stated
from securellm.preferences.rules import MOST_MEMORIES
from securellm.storage import Scope, Session, in_thread

T = TypeVar("T")

Work = Callable[[Session], tuple[T, Changed | None]]
"""What a change does: its result, and what the record says; None where nothing has changed."""


class Control(Protocol):
    """The control database. Blocks."""

    def read(self, query: Callable[[Session], T], *, scope: Scope) -> T:
        """Raises Fault (STORAGE_UNAVAILABLE)."""
        ...

    def write(self, work: Work[T], *, scope: Scope, origin: Origin) -> T:
        """Do `work` in one transaction whose record is durable before it is committed. Raises what `work` raises."""
        ...


class PreferenceBook:
    """What every person stated. Each method waits for the control database in a thread, in the person's own tenant."""

    def __init__(self, control: Control, *, clock: Clock, ids: Ids) -> None:
        self._control = control
        self._clock = clock
        self._ids = ids

    async def stated(self, person: Person) -> Stated:
        return await self._read(person, lambda session: store.stated(session, person))

    async def known(self, person: Person) -> tuple[Preferences, tuple[Memory, ...]]:
        """All that a model may be told of a person."""
        return await self._read(
            person, lambda session: (store.stated(session, person).preferences, store.memories(session, person))
        )

    async def state(
        self, person: Person, change: Callable[[Preferences], Preferences], *, etag: int | None, origin: Origin
    ) -> Stated:
        """Keep what `change` makes of the present preferences, which must be of the revision `etag` if one is given.

        Raises Refusal (PRECONDITION_FAILED), and what `change` raises.
        """

        def work(session: Session) -> tuple[Stated, Changed | None]:
            before = _present(session, person, etag)
            preferences = change(before.preferences)
            if before.etag and preferences == before.preferences:
                return before, None
            made = store.put(session, person, preferences, before=before, now_us=self._clock.now_us())
            was = before.preferences if before.etag else None
            return made, Changed(
                action="replace", resource="preferences", person=person, before=was, after=made.preferences
            )

        return await self._write(person, work, origin)

    async def withdraw(self, person: Person, *, etag: int | None, origin: Origin) -> None:
        """Keep no preferences any more. Raises Refusal (PRECONDITION_FAILED)."""

        def work(session: Session) -> tuple[None, Changed | None]:
            before = _present(session, person, etag)
            if not store.drop(session, person):
                return None, None
            changed = Changed(action="delete", resource="preferences", person=person, before=before.preferences)
            return None, changed

        await self._write(person, work, origin)

    async def memories(self, person: Person) -> tuple[Memory, ...]:
        return await self._read(person, lambda session: store.memories(session, person))

    async def remember(self, person: Person, text: str, *, offered_in: str | None, origin: Origin) -> Memory:
        """Keep what the person has agreed to; the same text is kept once. Raises Refusal (CONFLICT) for too many."""

        def work(session: Session) -> tuple[Memory, Changed | None]:
            known = store.memories(session, person)
            for memory in known:
                if memory.text == text:
                    return memory, None
            if len(known) >= MOST_MEMORIES:
                raise Refusal(Code.CONFLICT, f"{MOST_MEMORIES} memories are kept already: delete one first")
            made = Memory(
                id=self._ids.new("mem"),
                text=text,
                created_us=self._clock.now_us(),
                consented_in=origin.request_id,
                offered_in=offered_in,
            )
            store.remember(session, person, made)
            changed = Changed(action="remember", resource="memories", person=person, after=_without_text(made))
            return made, changed

        return await self._write(person, work, origin)

    async def forget(self, person: Person, memory_id: str | None, *, origin: Origin) -> None:
        """Keep one memory, or with None any, no longer. Raises Refusal (NOT_FOUND) for one that there is not."""

        def work(session: Session) -> tuple[None, Changed | None]:
            known = store.memories(session, person)
            gone = [memory for memory in known if memory_id in (None, memory.id)]
            if not store.forget(session, person, memory_id):
                if memory_id is not None:
                    raise Refusal(Code.NOT_FOUND, "no memory of yours has this id")
                return None, None
            before = [_without_text(memory) for memory in gone]
            return None, Changed(action="forget", resource="memories", person=person, before=before)

        await self._write(person, work, origin)

    async def _read(self, person: Person, query: Callable[[Session], T]) -> T:
        return await in_thread(lambda: self._control.read(query, scope=Scope(person.tenant)))

    async def _write(self, person: Person, work: Work[T], origin: Origin) -> T:
        return await in_thread(lambda: self._control.write(work, scope=Scope(person.tenant), origin=origin))


def _present(session: Session, person: Person, etag: int | None) -> Stated:
    before = store.stated(session, person)
    if etag is not None and etag != before.etag:
        raise Refusal(Code.PRECONDITION_FAILED, "the preferences have changed since they were read")
    return before


def _without_text(memory: Memory) -> dict[str, object]:
    """What a record may be made of: a text could be guessed by its digest."""
    return {"id": memory.id, "created_us": memory.created_us, "offered_in": memory.offered_in}
