"""Keep who was given which id: an append-only table that can be derived from the audit records."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from securellm.core.batches import Workload
from securellm.core.canonical import canonical_bytes
from securellm.core.kept import KeptKind
from securellm.custody.model import Deposit, Grant
from securellm.storage import Connection, Operation, RowDigests

_CUSTODY = (
    "CREATE TABLE custody (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, provider TEXT NOT NULL, kind TEXT NOT NULL, "
    "tenant TEXT NOT NULL, request_id TEXT NOT NULL, workload TEXT NOT NULL) STRICT"
)
_BY_ID = "CREATE INDEX custody_by_id ON custody (id)"
_BY_TENANT = "CREATE INDEX custody_by_tenant ON custody (tenant, kind)"
_APPEND_ONLY = (
    "CREATE TRIGGER custody_keeps BEFORE UPDATE ON custody BEGIN SELECT RAISE(ABORT, 'custody is append-only'); END",
    "CREATE TRIGGER custody_stays BEFORE DELETE ON custody BEGIN SELECT RAISE(ABORT, 'custody is append-only'); END",
)
SCHEMA: tuple[str, ...] = (_CUSTODY, _BY_ID, _BY_TENANT, *_APPEND_ONLY)
"""The table of `audit.db` that belongs to custody: a row for each time that a provider gave an id to a tenant, and for
each time that a tenant had what it names forgotten."""

_GONE = "gone"
"""In the place of a kind: a row that takes back what the rows before it gave."""

_INSERT = "INSERT INTO custody (id, provider, kind, tenant, request_id, workload) VALUES (?, ?, ?, ?, ?, ?)"
_MINE = (
    "SELECT max(seq), id, provider FROM custody AS mine WHERE tenant = :tenant AND kind = :kind "
    "AND NOT EXISTS (SELECT 1 FROM custody AS later WHERE later.id = mine.id AND later.provider = mine.provider "
    "AND later.tenant = mine.tenant AND later.kind = 'gone' AND later.seq > mine.seq) GROUP BY id, provider"
)


def keeping(deposit: Deposit) -> Operation:
    """Write a deposit, and note in it who else was given its ids. Goes into the transaction of its OUTCOME record."""
    named = [(thing.id, thing.kind.value) for thing in deposit.things] + [(name, _GONE) for name in deposit.gone]
    stated = written(deposit.workload)
    rows = [(name, deposit.provider, kind, deposit.tenant, deposit.request_id, stated) for name, kind in named]

    def operation(connection: Connection) -> None:
        connection.executemany(_INSERT, rows)
        deposit.grants.update(grants(connection, (name for name, _ in named)))

    return operation


def grants(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Grant, ...]]:
    """Every grant of each id, oldest first; none for one that no provider has given out."""
    query = "SELECT provider, tenant, kind = 'gone' FROM custody WHERE id = ? ORDER BY seq"
    return {name: tuple(map(Grant._make, connection.execute(query, (name,)))) for name in ids}


def workload(connection: Connection, tenant: str, provider: str, name: str) -> Workload | None:
    """What the batch asks for that this thing belongs to, as it was last said."""
    query = (
        "SELECT workload FROM custody WHERE id = ? AND provider = ? AND tenant = ? AND workload <> '' "
        "ORDER BY seq DESC LIMIT 1"
    )
    row = connection.execute(query, (name, provider, tenant)).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Workload)


def mine(connection: Connection, tenant: str, kind: KeptKind) -> list[tuple[int, str, str]]:
    """(number, id, provider) of all that is kept of this kind for a tenant, the oldest first."""
    return sorted(connection.execute(_MINE, {"tenant": tenant, "kind": kind.value}))


def written(workload: Workload | None) -> str:
    """A workload as it stands in the table; empty for none."""
    return "" if workload is None else _canonical(msgspec.to_builtins(workload))


def _canonical(value: Any) -> str:
    return canonical_bytes(value).decode("utf-8")


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
        rows = connection.execute(
            "SELECT seq, id, provider, kind, tenant, request_id, workload FROM custody ORDER BY seq"
        )
        yield from self._rows.differences(rows)


def _rows(
    entry: Mapping[str, object], tenant: str | None, request_id: str
) -> Iterable[tuple[str, str, str, str, str, str] | None]:
    """What an OUTCOME adds to the table; None for what no gateway writes."""
    kept, gone, stated = entry.get("kept", ()), entry.get("gone", ()), entry.get("workload")
    if not isinstance(kept, list | tuple) or not isinstance(gone, list | tuple):
        yield None
        return
    for thing in (*kept, *({"id": name, "kind": _GONE} for name in gone)):
        facts = (thing.get("id"), entry.get("provider"), thing.get("kind")) if isinstance(thing, Mapping) else ()
        match facts:
            case (str(name), str(provider), str(kind)) if tenant is not None:
                yield name, provider, kind, tenant, request_id, "" if stated is None else _canonical(stated)
            case _:
                yield None
