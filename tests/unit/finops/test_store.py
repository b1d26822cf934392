"""The ledger in its tables: every movement balanced, every table derivable from the records, every change noticed."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.unit.finops.ledger import JournalDownError, ManualClock, MemoryJournal, quote, reserve, tokens

from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.finops import (
    SCHEMA,
    Balance,
    Finops,
    Hold,
    LedgerReplay,
    LedgerState,
    Reservation,
    Settlement,
    attempt_fields,
    attempting,
    holding,
    intent_fields,
    load,
    outcome_fields,
    settling,
)
from securellm.storage import GroupCommitWriter, StorageConflict, damage, open_readonly


def reservation(request_id: str = "r1", amount: int = 60) -> Reservation:
    return Reservation(
        request_id=request_id, tenant="acme", period="2026-11", currency="USD", amount=Nanos(amount), bounded=True
    )


def settlement(of: Reservation, settled: int = 0, presumed: int = 0, *, known: bool = True) -> Settlement:
    return Settlement(reservation=of, settled=Nanos(settled), presumed=Nanos(presumed), cost_known=known)


def begin(journal: MemoryJournal, held: Reservation) -> Reservation:
    journal.commit("INTENT", intent_fields(held), holding(held))
    return held


def end(journal: MemoryJournal, ending: Settlement) -> None:
    journal.commit("OUTCOME", outcome_fields(ending), settling(ending))


def movements(journal: MemoryJournal) -> list[tuple[str, str, str, int]]:
    return journal.connection.execute("SELECT kind, debit, credit, amount FROM ledger ORDER BY seq").fetchall()


def a_busy_journal() -> MemoryJournal:
    """Every kind of record: settled, presumed, retried, overrun, unknown, free, and one still open."""
    journal = MemoryJournal()
    end(journal, settlement(begin(journal, reservation("r1")), settled=20))
    end(journal, settlement(begin(journal, reservation("r2")), presumed=60, known=False))
    end(journal, settlement(begin(journal, reservation("r3")), settled=75))
    end(journal, settlement(begin(journal, reservation("r4", 0)), known=False))
    end(journal, settlement(begin(journal, reservation("r5", 0))))
    begin(journal, reservation("r6"))

    async def retried() -> None:
        service = Finops(clock=ManualClock())
        first = begin(journal, await reserve(service, "r7", 30, limit=100))
        second = service.next_attempt(first, quote("b/gpt"), presumed=True)
        journal.commit("ATTEMPT", attempt_fields(second), attempting(second))
        end(journal, service.settle(second, Usage(input=10)))

    asyncio.run(retried())
    journal.entries.append({"type": "DENY", "request_id": "r8"})
    return journal


@pytest.mark.requirement("FN-2")
def test_every_movement_takes_from_one_account_what_it_gives_to_another() -> None:
    journal = MemoryJournal()
    end(journal, settlement(begin(journal, reservation()), settled=20, presumed=30, known=False))
    assert movements(journal) == [
        ("hold", "held", "budget", 60),
        ("settled", "spent", "held", 20),
        ("presumed", "presumed", "held", 30),
        ("released", "budget", "held", 10),
    ]
    assert load(journal.connection) == LedgerState((Balance("acme", "2026-11", "USD", 20, 30, 1),), ())


def test_an_overrun_takes_what_the_hold_lacked_from_the_budget() -> None:
    journal = MemoryJournal()
    end(journal, settlement(begin(journal, reservation()), settled=75))
    assert movements(journal)[1:] == [("settled", "spent", "held", 60), ("overrun", "spent", "budget", 15)]


def test_open_holds_and_totals_are_what_a_start_needs() -> None:
    state = load(a_busy_journal().connection)
    assert state.balances == (Balance("acme", "2026-11", "USD", 105, 90, 2),)
    assert state.holds == (Hold("r6", "acme", "2026-11", "USD", 60),)


@pytest.mark.requirement("FN-2")
def test_a_hold_found_at_start_becomes_presumed_spent() -> None:
    journal = a_busy_journal()
    service = Finops(clock=ManualClock())
    (found,) = service.restore(load(journal.connection))
    ending = service.settle(found, None, presumed=True)
    end(journal, ending)
    service.apply(ending)
    assert load(journal.connection).holds == service.snapshot().holds == ()
    assert load(journal.connection).balances == service.snapshot().balances
    assert journal.problems() == []


def test_an_operation_that_does_not_fit_the_tables_changes_nothing() -> None:
    journal = a_busy_journal()
    before = list(journal.connection.iterdump())
    for operation in (
        holding(reservation("r6")),
        settling(settlement(reservation("r6", 59))),
        settling(settlement(reservation("r1"))),
        attempting(reservation("r1")),
    ):
        with pytest.raises((sqlite3.IntegrityError, StorageConflict)), journal.transaction():
            operation(journal.connection)
    assert list(journal.connection.iterdump()) == before


def test_the_ledger_only_grows() -> None:
    journal = a_busy_journal()
    for statement in ("UPDATE ledger SET amount = 1", "DELETE FROM ledger WHERE seq = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            journal.connection.execute(statement)


@pytest.mark.requirement("FN-2")
def test_the_tables_can_be_recomputed_from_the_records() -> None:
    assert a_busy_journal().problems() == []
    assert MemoryJournal().problems() == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger SET amount = amount + 1 WHERE seq = 3",
        "UPDATE ledger SET tenant = 'other' WHERE seq = 1",
        "UPDATE ledger SET kind = 'settled' WHERE seq = 1",
        "UPDATE ledger SET debit = 'spent' WHERE seq = 1",
        "UPDATE ledger SET period = '2026-10' WHERE seq = 1",
        "UPDATE ledger SET request_id = 'r2' WHERE seq = 1",
        "UPDATE ledger SET seq = 10000 WHERE seq = (SELECT max(seq) FROM ledger)",
        "DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)",
        "DELETE FROM ledger",
        "INSERT INTO ledger VALUES (NULL, 'r9', 'hold', 'held', 'budget', 'acme', '2026-11', 'USD', 1)",
        "UPDATE balances SET settled = settled - 1",
        "UPDATE balances SET presumed = presumed + 1",
        "UPDATE balances SET unknown = 0",
        "UPDATE balances SET currency = 'BRL'",
        "DELETE FROM balances",
        "INSERT INTO balances VALUES ('other', '2026-11', 'USD', 0, 0, 0)",
        "UPDATE holds SET amount = 1",
        "UPDATE holds SET tenant = 'other'",
        "DELETE FROM holds",
        "INSERT INTO holds VALUES ('r9', 'acme', '2026-11', 'USD', 1)",
    ],
)
def test_any_change_of_a_table_is_noticed(change: str) -> None:
    journal = a_busy_journal()
    journal.connection.execute("DROP TRIGGER ledger_keeps")
    journal.connection.execute("DROP TRIGGER ledger_stays")
    journal.connection.execute(change)
    assert journal.problems()


def test_a_change_in_a_long_ledger_is_placed() -> None:
    journal = MemoryJournal()
    for index in range(400):
        end(journal, settlement(begin(journal, reservation(f"r{index}")), settled=60))
    assert journal.problems() == []
    journal.connection.execute("DROP TRIGGER ledger_keeps")
    journal.connection.execute("UPDATE ledger SET amount = 61 WHERE seq = 300")
    assert journal.problems() == ["ledger: rows 257 to 512 differ from the records"]


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "INTENT", "request_id": "r6", "tenant": "a", "period": "p", "currency": "c", "hold": 1},
        {"type": "INTENT", "request_id": "r9", "tenant": "a", "period": "p", "currency": "c", "hold": -1},
        {"type": "INTENT", "request_id": "r9", "tenant": "a", "period": "p", "currency": "c", "hold": True},
        {"type": "INTENT", "request_id": "r9", "tenant": "a", "period": "p", "currency": "c", "hold": "1"},
        {"type": "INTENT", "request_id": 9, "tenant": "a", "period": "p", "currency": "c", "hold": 1},
        {"type": "ATTEMPT", "request_id": "r9", "presumed": 0, "hold": 1},
        {"type": "ATTEMPT", "request_id": "r6", "presumed": 1, "hold": 1},
        {"type": "OUTCOME", "request_id": "r1", "settled": 1, "presumed": 0},
        {"type": "OUTCOME", "request_id": "r6", "settled": 1, "presumed": 60},
        {"type": "OUTCOME", "request_id": "r6", "settled": 1},
    ],
)
def test_a_record_that_cannot_stand_in_a_ledger_is_a_problem(entry: dict[str, object]) -> None:
    journal = a_busy_journal()
    journal.entries.append(entry)
    assert any(problem.startswith(f"record {len(journal.entries)}:") for problem in journal.problems())


def test_records_without_money_are_no_concern_of_the_ledger() -> None:
    replay = LedgerReplay()
    for entry in ({"type": "BOOT"}, {"type": "OUTCOME", "request_id": "cached"}, {}, {"type": 7, "hold": 1}):
        replay.record(1, entry)
    assert list(replay.problems(MemoryJournal().connection)) == []


def test_a_commit_that_fails_before_the_call_is_undone_and_one_after_it_counts_as_spent() -> None:
    async def scene() -> None:
        journal, service = MemoryJournal(), Finops(clock=ManualClock())
        journal.failing = True
        unrecorded = await reserve(service, "r1", 60, limit=100)
        with pytest.raises(JournalDownError):
            begin(journal, unrecorded)
        service.release(unrecorded)
        assert service.snapshot().holds == ()
        journal.failing = False
        recorded = begin(journal, await reserve(service, "r2", 60, limit=100))
        journal.failing = True
        with pytest.raises(JournalDownError):
            end(journal, service.settle(recorded, Usage(input=1)))
        assert service.snapshot().holds == load(journal.connection).holds != ()

    asyncio.run(scene())


def test_an_unbudgeted_request_is_in_the_ledger_too() -> None:
    async def scene() -> None:
        journal, service = MemoryJournal(), Finops(clock=ManualClock())
        free = await service.reserve(request_id="r1", tenant="acme", budget=None, estimate=tokens(60), quotes=[quote()])
        end(journal, service.settle(begin(journal, free), Usage(input=60)))
        assert movements(journal) == [("overrun", "spent", "budget", 60)]
        assert journal.problems() == []

    asyncio.run(scene())


def test_the_journal_keeps_what_the_operations_write(tmp_path: Path) -> None:
    async def scene(writer: GroupCommitWriter) -> None:
        held = reservation()
        await writer.submit(holding(held))
        await writer.submit(settling(settlement(held, settled=20)), holding(reservation("r2")))

    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)
    asyncio.run(scene(writer))
    writer.close()
    with open_readonly(path) as connection:
        assert damage(connection, path, SCHEMA) == []
        state = load(connection)
    assert state.balances == (Balance("acme", "2026-11", "USD", 20, 0, 0),)
    assert state.holds == (Hold("r2", "acme", "2026-11", "USD", 60),)
