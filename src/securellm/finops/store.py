"""Keep the ledger: append-only movements, running balances and open holds, each derivable from the audit records."""

from collections.abc import Iterable, Mapping

from securellm.finops.model import Balance, Correction, Hold, LedgerState, Pledge, Reservation, Settlement
from securellm.storage import Connection, Operation, RowDigests, StorageConflict

_LEDGER = (
    "CREATE TABLE ledger (seq INTEGER PRIMARY KEY, request_id TEXT NOT NULL, kind TEXT NOT NULL, "
    "debit TEXT NOT NULL, credit TEXT NOT NULL, tenant TEXT NOT NULL, period TEXT NOT NULL, currency TEXT NOT NULL, "
    "amount INTEGER NOT NULL CHECK (amount > 0)) STRICT"
)
_BALANCES = (
    "CREATE TABLE balances (tenant TEXT NOT NULL, period TEXT NOT NULL, currency TEXT NOT NULL, "
    "settled INTEGER NOT NULL, presumed INTEGER NOT NULL, unknown INTEGER NOT NULL, "
    "PRIMARY KEY (tenant, period, currency)) STRICT, WITHOUT ROWID"
)
_HOLDS = (
    "CREATE TABLE holds (request_id TEXT PRIMARY KEY NOT NULL, tenant TEXT NOT NULL, period TEXT NOT NULL, "
    "currency TEXT NOT NULL, amount INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
_PLEDGES = (
    "CREATE TABLE pledges (request_id TEXT PRIMARY KEY NOT NULL, tenant TEXT NOT NULL, period TEXT NOT NULL, "
    "currency TEXT NOT NULL, amount INTEGER NOT NULL, provider TEXT NOT NULL, thing TEXT NOT NULL) "
    "STRICT, WITHOUT ROWID"
)
_APPEND_ONLY = (
    "CREATE TRIGGER ledger_keeps BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    "CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
)
SCHEMA: tuple[str, ...] = (_LEDGER, _BALANCES, _HOLDS, _PLEDGES, *_APPEND_ONLY)
"""The tables of `audit.db` that belong to finops. A ledger row moves `amount` nanos from `credit` to `debit`, two of
the accounts budget, held, presumed and spent: what one loses the other gains, so every request sums to zero."""

_MOVEMENT = (
    "INSERT INTO ledger (request_id, kind, debit, credit, tenant, period, currency, amount) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_CREDIT = (
    "INSERT INTO balances (tenant, period, currency, settled, presumed, unknown) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (tenant, period, currency) DO UPDATE SET settled = settled + excluded.settled, "
    "presumed = presumed + excluded.presumed, unknown = unknown + excluded.unknown"
)

_Movement = tuple[str, str, str, int]
"""(kind, account debited, account credited, nanos)."""


def holding(reservation: Reservation) -> Operation:
    """Write a hold. Goes into the transaction of its INTENT record."""
    movements = _of_intent(reservation.amount)

    def operation(connection: Connection) -> None:
        connection.execute("INSERT INTO holds VALUES (?, ?, ?, ?, ?)", _hold_row(reservation))
        _append(connection, reservation, movements)

    return operation


def attempting(reservation: Reservation) -> Operation:
    """Replace the former attempt's hold by this one's. Goes into the transaction of its ATTEMPT record."""
    movements = _of_attempt(reservation.former, presumed=reservation.carried, hold=reservation.amount)

    def operation(connection: Connection) -> None:
        changed = connection.execute(
            "UPDATE holds SET amount = ? WHERE request_id = ? AND amount = ?",
            (reservation.amount, reservation.request_id, reservation.former),
        )
        _expect_one(changed.rowcount, reservation)
        _append(connection, reservation, movements)
        _credit(connection, reservation, settled=0, presumed=reservation.carried, unknown=0)

    return operation


def settling(settlement: Settlement) -> Operation:
    """End a hold. Goes into the transaction of its OUTCOME record."""
    reservation = settlement.reservation
    movements = _of_outcome(reservation.amount, settled=settlement.settled, presumed=settlement.presumed)

    def operation(connection: Connection) -> None:
        changed = connection.execute(
            "DELETE FROM holds WHERE request_id = ? AND amount = ?", (reservation.request_id, reservation.amount)
        )
        _expect_one(changed.rowcount, reservation)
        _append(connection, reservation, movements)
        _credit(
            connection,
            reservation,
            settled=settlement.settled,
            presumed=settlement.presumed,
            unknown=int(not settlement.cost_known),
        )
        if settlement.pledge is not None:
            connection.execute("INSERT INTO pledges VALUES (?, ?, ?, ?, ?, ?, ?)", settlement.pledge)

    return operation


def correcting(correction: Correction) -> Operation:
    """End a pledge. Goes into the transaction of the OUTCOME record that says what it did cost."""
    pledge = correction.pledge
    account = (pledge.tenant, pledge.period, pledge.currency)
    movements = _of_correction(pledge.amount, settled=correction.settled)

    def operation(connection: Connection) -> None:
        changed = connection.execute(
            "DELETE FROM pledges WHERE request_id = ? AND amount = ?", (pledge.request_id, pledge.amount)
        )
        if changed.rowcount != 1:
            raise StorageConflict(
                f"the ledger has no pledge of {pledge.amount} for {pledge.request_id}",
                remedy="Restart the gateway, and run `securellm audit verify`.",
            )
        connection.executemany(_MOVEMENT, [_row(pledge.request_id, account, movement) for movement in movements])
        connection.execute(_CREDIT, (*account, correction.settled, -pledge.amount, -1))

    return operation


def load(connection: Connection) -> LedgerState:
    """Read the totals, the open holds and the open pledges; the history stays unread."""
    balances = connection.execute("SELECT tenant, period, currency, settled, presumed, unknown FROM balances")
    holds = connection.execute("SELECT request_id, tenant, period, currency, amount FROM holds ORDER BY request_id")
    pledges = connection.execute(
        "SELECT request_id, tenant, period, currency, amount, provider, thing FROM pledges ORDER BY request_id"
    )
    return LedgerState(
        tuple(map(Balance._make, balances)), tuple(map(Hold._make, holds)), tuple(map(Pledge._make, pledges))
    )


class LedgerReplay:
    """Recompute the four tables from the audit records: an observer for `securellm audit verify`.

    Memory stays small on a long log: of the ledger only one digest for each block of rows is kept.
    """

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}
        self._pledges: dict[str, Pledge] = {}
        self._balances: dict[tuple[str, str, str], list[int]] = {}
        self._ledger = RowDigests("ledger")
        self._problems: list[str] = []

    def record(self, seq: int, entry: Mapping[str, object]) -> None:
        """Take one record, in the order of the log."""
        kind = entry.get("type")
        try:
            if kind == "INTENT" and "hold" in entry:
                self._intent(entry)
            elif kind == "ATTEMPT" and "hold" in entry:
                self._attempt(entry)
            elif kind == "OUTCOME" and "settled" in entry:
                self._outcome(entry)
        except _EntryError as error:
            self._problems.append(f"record {seq}: {error}")

    def problems(self, connection: Connection) -> Iterable[str]:
        """Every difference between the tables and the records taken so far."""
        yield from self._problems
        rows = connection.execute(
            "SELECT seq, request_id, kind, debit, credit, tenant, period, currency, amount FROM ledger ORDER BY seq"
        )
        yield from self._ledger.differences(rows)
        state = load(connection)
        balances = {balance[:3]: list(balance[3:]) for balance in state.balances}
        for key in sorted(balances.keys() | self._balances.keys()):
            if balances.get(key) != self._balances.get(key):
                yield f"balance {'/'.join(key)}: stored {balances.get(key)}, the records say {self._balances.get(key)}"
        holds = {hold.request_id: hold for hold in state.holds}
        for request_id in sorted(holds.keys() | self._holds.keys()):
            if holds.get(request_id) != self._holds.get(request_id):
                yield f"hold {request_id}: stored and recorded differ"
        pledges = {pledge.request_id: pledge for pledge in state.pledges}
        for request_id in sorted(pledges.keys() | self._pledges.keys()):
            if pledges.get(request_id) != self._pledges.get(request_id):
                yield f"pledge {request_id}: stored and recorded differ"

    def _intent(self, entry: Mapping[str, object]) -> None:
        hold = Hold(
            _text(entry, "request_id"),
            _text(entry, "tenant"),
            _text(entry, "period"),
            _text(entry, "currency"),
            _nanos(entry, "hold"),
        )
        if hold.request_id in self._holds:
            raise _EntryError(f"a second INTENT for {hold.request_id}")
        self._holds[hold.request_id] = hold
        self._move(hold, _of_intent(hold.amount))

    def _attempt(self, entry: Mapping[str, object]) -> None:
        hold = self._open(entry)
        presumed, amount = _nanos(entry, "presumed"), _nanos(entry, "hold")
        if presumed not in (0, hold.amount):
            raise _EntryError(f"an ATTEMPT for {hold.request_id} presumes a part of its hold")
        self._holds[hold.request_id] = hold._replace(amount=amount)
        self._move(hold, _of_attempt(hold.amount, presumed=presumed, hold=amount))
        self._credit(hold, settled=0, presumed=presumed, unknown=0)

    def _outcome(self, entry: Mapping[str, object]) -> None:
        hold = self._open(entry)
        settled, presumed = _nanos(entry, "settled"), _nanos(entry, "presumed")
        if presumed > max(0, hold.amount - settled):
            raise _EntryError(f"an OUTCOME for {hold.request_id} presumes more than its hold")
        pledged, corrects = entry.get("pledged"), entry.get("corrects")
        if pledged is not None and (settled, presumed, entry.get("cost_known")) != (0, hold.amount, False):
            raise _EntryError(f"an OUTCOME for {hold.request_id} pledges another sum than it held")
        del self._holds[hold.request_id]
        self._move(hold, _of_outcome(hold.amount, settled=settled, presumed=presumed))
        self._credit(hold, settled=settled, presumed=presumed, unknown=int(entry.get("cost_known") is False))
        if pledged is not None:
            pledge = Pledge(*hold, provider=_text(entry, "provider"), thing=_text(entry, "pledged"))
            self._pledges[hold.request_id] = pledge
        if corrects is not None:
            self._correction(hold, corrects)

    def _correction(self, hold: Hold, corrects: object) -> None:
        """What an OUTCOME says that an earlier batch of its tenant did cost."""
        if not isinstance(corrects, Mapping):
            raise _EntryError("corrects is not an object")
        pledge = self._pledges.pop(_text(corrects, "request_id"), None)
        if pledge is None or pledge.tenant != hold.tenant:
            raise _EntryError(f"an OUTCOME for {hold.request_id} corrects what its tenant has not pledged")
        settled = _nanos(corrects, "settled")
        made = Hold._make(pledge[:5])
        self._move(made, _of_correction(pledge.amount, settled=settled))
        self._credit(made, settled=settled, presumed=-pledge.amount, unknown=-1)

    def _open(self, entry: Mapping[str, object]) -> Hold:
        request_id = _text(entry, "request_id")
        hold = self._holds.get(request_id)
        if hold is None:
            raise _EntryError(f"{entry['type']} without an open INTENT for {request_id}")
        return hold

    def _move(self, hold: Hold, movements: Iterable[_Movement]) -> None:
        for movement in movements:
            self._ledger.add(_row(hold.request_id, (hold.tenant, hold.period, hold.currency), movement))

    def _credit(self, hold: Hold, *, settled: int, presumed: int, unknown: int) -> None:
        if settled or presumed or unknown:
            totals = self._balances.setdefault((hold.tenant, hold.period, hold.currency), [0, 0, 0])
            totals[:] = [totals[0] + settled, totals[1] + presumed, totals[2] + unknown]


class _EntryError(Exception):
    """A record that cannot stand in a ledger."""


def _of_intent(hold: int) -> tuple[_Movement, ...]:
    return _moving(("hold", "held", "budget", hold))


def _of_attempt(former: int, *, presumed: int, hold: int) -> tuple[_Movement, ...]:
    return _moving(
        ("presumed", "presumed", "held", presumed),
        ("released", "budget", "held", former - presumed),
        ("hold", "held", "budget", hold),
    )


def _of_outcome(hold: int, *, settled: int, presumed: int) -> tuple[_Movement, ...]:
    covered = min(settled, hold)
    return _moving(
        ("settled", "spent", "held", covered),
        ("overrun", "spent", "budget", settled - covered),
        ("presumed", "presumed", "held", presumed),
        ("released", "budget", "held", hold - covered - presumed),
    )


def _of_correction(pledged: int, *, settled: int) -> tuple[_Movement, ...]:
    covered = min(settled, pledged)
    return _moving(
        ("corrected", "spent", "presumed", covered),
        ("overrun", "spent", "budget", settled - covered),
        ("returned", "budget", "presumed", pledged - covered),
    )


def _moving(*movements: _Movement) -> tuple[_Movement, ...]:
    return tuple(movement for movement in movements if movement[3])


def _row(request_id: str, account: tuple[str, str, str], movement: _Movement) -> tuple[object, ...]:
    kind, debit, credit, amount = movement
    return (request_id, kind, debit, credit, *account, amount)


def _hold_row(reservation: Reservation) -> Hold:
    return Hold(
        reservation.request_id, reservation.tenant, reservation.period, reservation.currency, reservation.amount
    )


def _append(connection: Connection, reservation: Reservation, movements: Iterable[_Movement]) -> None:
    account = (reservation.tenant, reservation.period, reservation.currency)
    connection.executemany(_MOVEMENT, [_row(reservation.request_id, account, movement) for movement in movements])


def _credit(connection: Connection, reservation: Reservation, *, settled: int, presumed: int, unknown: int) -> None:
    if settled or presumed or unknown:
        account = (reservation.tenant, reservation.period, reservation.currency)
        connection.execute(_CREDIT, (*account, settled, presumed, unknown))


def _expect_one(changed: int, reservation: Reservation) -> None:
    if changed != 1:
        raise StorageConflict(
            f"the ledger has no hold of {reservation.amount} for {reservation.request_id}",
            remedy="Restart the gateway, and run `securellm audit verify`.",
        )


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise _EntryError(f"{name} is not a text")
    return value


def _nanos(entry: Mapping[str, object], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _EntryError(f"{name} is not an amount")
    return value
