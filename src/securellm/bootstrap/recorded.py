"""Changes of the control database with their records: none without one, and none that says what is not so for long."""

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import msgspec

from securellm.admin.store import made_among, newest_made
from securellm.audit import AdminChange, Record, RecordType, Wanted, search, story
from securellm.core.errors import GatewayError
from securellm.storage import EVERYWHERE, ControlStore, Scope, Session
from securellm.telemetry.logs import logger

T = TypeVar("T")

_log = logger("control")

_ADMIN = frozenset({RecordType.ADMIN.value})
_FIELDS = AdminChange.__struct_fields__
_MOST_SETTLED = 2_000


class Recorded:
    """The one way to write to the control database while a gateway serves. Blocking; threads share it.

    The order is: the change, its ADMIN record durable, COMMIT. Each change leaves a row that says it was made
    (`note_made`), so that a record without one can be marked `undone`: at once when a COMMIT fails, before the next
    change when the database could not be asked, by `settle` when the process died in between.
    """

    def __init__(self, store: Callable[[], ControlStore], *, record: Callable[[tuple[Record, ...]], None]) -> None:
        """`store` raises `Fault` while there is none. `record` makes records durable, or raises."""
        self._store = store
        self._record = record
        self._settling = threading.Lock()
        self._doubts: dict[str, tuple[AdminChange, ...]] = {}
        """By request: what was recorded, and may not have been made."""

    def read(self, query: Callable[[Session], T], *, scope: Scope = EVERYWHERE) -> T:
        """What `query` finds in one consistent view."""
        return self._store().read(query, scope=scope)

    def write(
        self,
        work: Callable[[Session], T],
        records_of: Callable[[T], tuple[Record, ...]],
        *,
        scope: Scope = EVERYWHERE,
    ) -> T:
        """Do `work` and record it in one step; what needs no record has none.

        Raises what `work` raises, `Fault` and `StorageConflict`; after a `Fault` (STORAGE_UNAVAILABLE) the change may
        have been made all the same.
        """
        if self._doubts:
            with self._settling:
                self._settle_doubts()
        written: list[tuple[T, tuple[AdminChange, ...]]] = []

        def record(result: T) -> None:
            records = records_of(result)
            if records:
                self._record(records)
                written.append((result, tuple(item for item in records if isinstance(item, AdminChange))))

        try:
            return self._store().write(work, scope=scope, before_commit=record)
        except BaseException as error:
            made = bool(written) and self._was_made(written[0][1])
            if not made or not isinstance(error, GatewayError):
                raise
        # The connection was lost during COMMIT, and the COMMIT was not.
        return written[0][0]

    def settle(self, audit: Path, *, since_us: int) -> int:
        """Mark every change that was recorded after `since_us` and never made; how many. At start, before any other.

        Looks at the newest records only: a change is in doubt when a process died, so at the end of the log. Raises
        `Fault` where the database cannot be asked; then it is asked before the next change.
        """
        found = search(audit, Wanted(types=_ADMIN, since_us=since_us), limit=_MOST_SETTLED)
        # A record of a former release may lack what this one says.
        known = ({name: item[name] for name in _FIELDS if name in item} for item in found.records)
        records = [msgspec.convert(item, AdminChange) for item in known]
        ended = {record.request_id for record in records if record.undone}
        with self._settling:
            for record in reversed(records):
                if record.request_id not in ended:
                    self._doubts[record.request_id] = (*self._doubts.get(record.request_id, ()), record)
            return len(self._settle_doubts())

    def is_ahead_of(self, audit: Path) -> bool:
        """Whether the log lacks the last change that was made: it is from before it. Where one log has all changes."""
        newest = self.read(newest_made)
        return newest is not None and not story(audit, newest, Wanted(types=_ADMIN))

    def _was_made(self, changes: tuple[AdminChange, ...]) -> bool:
        """Whether what did not answer its COMMIT was made; where nobody can say, it is asked again later."""
        request_id = changes[-1].request_id
        with self._settling:
            self._doubts[request_id] = changes
            try:
                return request_id not in self._settle_doubts()
            except GatewayError as error:
                _log.error("change_in_doubt", action=changes[-1].action, request_id=request_id, error=str(error))
                return False

    def _settle_doubts(self) -> Collection[str]:
        """The ids of those that were never made, now marked."""
        unmade = self._unmade(tuple(self._doubts))
        for request_id in unmade:
            changes = self._doubts[request_id]
            self._record(tuple(msgspec.structs.replace(change, undone=True) for change in changes))
            last = changes[-1]
            _log.warning("change_undone", action=last.action, resource=last.resource, request_id=request_id)
            del self._doubts[request_id]
        self._doubts.clear()
        return unmade

    def _unmade(self, request_ids: Collection[str]) -> Collection[str]:
        def missing(session: Session) -> list[str]:
            made = made_among(session, request_ids)
            return [request_id for request_id in request_ids if request_id not in made]

        if not request_ids or not self._store().read(missing):
            return ()
        # A server may still be at a COMMIT that nobody waits for any more, and a file's may come back with its log:
        # behind either in the line of writers the answer is final.
        return self._store().write(missing)
