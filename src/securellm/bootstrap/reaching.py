"""The control store as those see it who are put together before it has been reached."""

from collections.abc import Callable
from typing import TypeVar

from securellm.core.errors import Code, Fault
from securellm.storage import EVERYWHERE, Changes, ControlStore, Scope, Session

T = TypeVar("T")


class LateStore(ControlStore):
    """Stands for a store that a gateway started without. Until it is reached, everything fails as in an outage."""

    def __init__(self, reached: Callable[[], ControlStore | None]) -> None:
        self._reached = reached

    @property
    def version(self) -> int:
        return self._store.version

    def changes(self, after: int, *, stamp: str | None = None) -> Changes:
        return self._store.changes(after, stamp=stamp)

    def read(self, query: Callable[[Session], T], *, scope: Scope = EVERYWHERE) -> T:
        return self._store.read(query, scope=scope)

    def write(
        self,
        change: Callable[[Session], T],
        *,
        scope: Scope = EVERYWHERE,
        before_commit: Callable[[T], None] | None = None,
    ) -> T:
        return self._store.write(change, scope=scope, before_commit=before_commit)

    def listen(self, callback: Callable[[int], None]) -> Callable[[], None]:
        return self._store.listen(callback)

    def close(self) -> None:
        """Closed by who reaches it."""

    @property
    def _store(self) -> ControlStore:
        store = self._reached()
        if store is None:
            raise Fault(Code.STORAGE_UNAVAILABLE, "the control database has not been reached since the start")
        return store
