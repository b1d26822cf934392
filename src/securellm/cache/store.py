"""Keep which idempotency keys are taken: an append-only table that can be derived from the audit records."""

from collections.abc import Iterable, Mapping

from securellm.cache.model import Claim, KeyEvent
from securellm.storage import Connection, Operation, RowDigests

TAKEN, FREED = "taken", "freed"

_EVENTS = (
    "CREATE TABLE idempotency (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, event TEXT NOT NULL, "
    "fingerprint BLOB NOT NULL, request_id TEXT NOT NULL, expires_us INTEGER NOT NULL) STRICT"
)
_BY_KEY = "CREATE INDEX idempotency_by_key ON idempotency (key)"
_APPEND_ONLY = tuple(
    f"CREATE TRIGGER idempotency_{name} BEFORE {change} ON idempotency "
    "BEGIN SELECT RAISE(ABORT, 'idempotency is append-only'); END"
    for name, change in (("keeps", "UPDATE"), ("stays", "DELETE"))
)
SCHEMA: tuple[str, ...] = (_EVENTS, _BY_KEY, *_APPEND_ONLY)
"""The table of `audit.db` that belongs to the cache. A key is what its newest row says, until `expires_us`.

Rows that have expired stay: the table holds digests only, and what is never deleted can be derived again.
"""

_INSERT = "INSERT INTO idempotency (key, event, fingerprint, request_id, expires_us) VALUES (?, ?, ?, ?, ?)"


def taking(claim: Claim) -> Operation:
    """Write that a key is taken. Goes into the transaction of its INTENT record."""
    return _inserting(claim, TAKEN)


def freeing(claim: Claim) -> Operation:
    """Write that a key may be used again. Goes into the transaction of its OUTCOME record."""
    return _inserting(claim, FREED)


def _inserting(claim: Claim, event: str) -> Operation:
    row = KeyEvent(claim.key, event, claim.fingerprint, claim.request_id, claim.expires_us)

    def operation(connection: Connection) -> None:
        connection.execute(_INSERT, row)

    return operation


def newest(connection: Connection, most: int) -> list[KeyEvent]:
    """The last `most` rows, oldest first."""
    query = "SELECT key, event, fingerprint, request_id, expires_us FROM idempotency ORDER BY seq DESC LIMIT ?"
    return [KeyEvent._make(row) for row in reversed(connection.execute(query, (most,)).fetchall())]


def latest(connection: Connection, key: bytes) -> KeyEvent | None:
    """The last that happened to one key."""
    query = (
        "SELECT key, event, fingerprint, request_id, expires_us FROM idempotency "
        "WHERE key = ? ORDER BY seq DESC LIMIT 1"
    )
    row = connection.execute(query, (key,)).fetchone()
    return None if row is None else KeyEvent._make(row)


class IdempotencyReplay:
    """Recompute the table from the audit records: an observer for `securellm audit verify`."""

    def __init__(self) -> None:
        self._open: dict[str, KeyEvent] = {}
        """By request, the keys of those that have not ended."""
        self._rows = RowDigests("idempotency")
        self._problems: list[str] = []

    def record(self, seq: int, entry: Mapping[str, object]) -> None:
        """Take one record, in the order of the log."""
        request_id = entry.get("request_id")
        if not isinstance(request_id, str):
            return
        try:
            if entry.get("type") == "INTENT" and entry.get("idempotency") is not None:
                taken = _taken(entry["idempotency"], request_id)
                self._open[request_id] = taken
                self._rows.add(taken)
            elif entry.get("type") == "OUTCOME":
                ended = self._open.pop(request_id, None)
                if entry.get("key_freed", False) is not False:
                    if ended is None:
                        raise ValueError("it frees a key that it does not hold")
                    self._rows.add(ended._replace(event=FREED))
        except (KeyError, TypeError, ValueError) as error:
            self._problems.append(f"record {seq}: what it says of its idempotency key cannot be: {error}")

    def problems(self, connection: Connection) -> Iterable[str]:
        """Every difference between the table and the records taken so far."""
        yield from self._problems
        rows = connection.execute(
            "SELECT seq, key, event, fingerprint, request_id, expires_us FROM idempotency ORDER BY seq"
        )
        yield from self._rows.differences(rows)


def _taken(stated: object, request_id: str) -> KeyEvent:
    """Raises KeyError, TypeError or ValueError for what no gateway writes."""
    if not isinstance(stated, Mapping):
        raise TypeError("it is no object")
    expires_us = stated["expires_us"]
    if type(expires_us) is not int:
        raise TypeError("expires_us is no integer")
    return KeyEvent(bytes.fromhex(stated["key"]), TAKEN, bytes.fromhex(stated["fingerprint"]), request_id, expires_us)
