"""Keep who was given which id: an append-only table that can be derived from the audit records."""

from collections.abc import Iterable, Mapping

from securellm.custody.model import Deposit, Grant
from securellm.storage import Connection, Operation, RowDigests

_CUSTODY = (
    "CREATE TABLE custody (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, provider TEXT NOT NULL, kind TEXT NOT NULL, "
    "tenant TEXT NOT NULL, request_id TEXT NOT NULL) STRICT"
)
_BY_ID = "CREATE INDEX custody_by_id ON custody (id)"
_APPEND_ONLY = (
    "CREATE TRIGGER custody_keeps BEFORE UPDATE ON custody BEGIN SELECT RAISE(ABORT, 'custody is append-only'); END",
    "CREATE TRIGGER custody_stays BEFORE DELETE ON custody BEGIN SELECT RAISE(ABORT, 'custody is append-only'); END",
)
SCHEMA: tuple[str, ...] = (_CUSTODY, _BY_ID, *_APPEND_ONLY)
"""The table of `audit.db` that belongs to custody: a row for each time that a provider gave an id to a tenant."""

_INSERT = "INSERT INTO custody (id, provider, kind, tenant, request_id) VALUES (?, ?, ?, ?, ?)"


def keeping(deposit: Deposit) -> Operation:
    """Write a deposit, and note in it who else was given its ids. Goes into the transaction of its OUTCOME record."""
    rows = [
        (thing.id, deposit.provider, thing.kind.value, deposit.tenant, deposit.request_id) for thing in deposit.things
    ]

    def operation(connection: Connection) -> None:
        connection.executemany(_INSERT, rows)
        deposit.grants.update(grants(connection, (thing.id for thing in deposit.things)))

    return operation


def grants(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Grant, ...]]:
    """Every grant of each id, oldest first; none for one that no provider has given out."""
    query = "SELECT provider, tenant FROM custody WHERE id = ? ORDER BY seq"
    return {name: tuple(map(Grant._make, connection.execute(query, (name,)))) for name in ids}


class CustodyReplay:
    """Recompute the table from the audit records: an observer for `securellm audit verify`."""

    def __init__(self) -> None:
        self._tenants: dict[str, str] = {}
        """Of the requests that are open."""
        self._rows = RowDigests("custody")
        self._problems: list[str] = []

    def record(self, seq: int, entry: Mapping[str, object]) -> None:
        """Take one record, in the order of the log."""
        request_id, tenant = entry.get("request_id"), entry.get("tenant")
        if not isinstance(request_id, str):
            return
        if entry.get("type") == "INTENT" and isinstance(tenant, str):
            self._tenants[request_id] = tenant
        elif entry.get("type") == "OUTCOME":
            owner = self._tenants.pop(request_id, None)
            for row in _rows(entry, owner, request_id):
                if row is None:
                    self._problems.append(f"record {seq}: what it says is kept cannot be")
                else:
                    self._rows.add(row)

    def problems(self, connection: Connection) -> Iterable[str]:
        """Every difference between the table and the records taken so far."""
        yield from self._problems
        rows = connection.execute("SELECT seq, id, provider, kind, tenant, request_id FROM custody ORDER BY seq")
        yield from self._rows.differences(rows)


def _rows(
    entry: Mapping[str, object], tenant: str | None, request_id: str
) -> Iterable[tuple[str, str, str, str, str] | None]:
    """What an OUTCOME adds to the table; None for what no gateway writes."""
    kept = entry.get("kept", ())
    if not isinstance(kept, list | tuple):
        yield None
        return
    for thing in kept:
        facts = (thing.get("id"), entry.get("provider"), thing.get("kind")) if isinstance(thing, Mapping) else ()
        match facts:
            case (str(name), str(provider), str(kind)) if tenant is not None:
                yield name, provider, kind, tenant, request_id
            case _:
                yield None
