"""The journal on its way to a real PostgreSQL: each record once, in order, byte for byte, behind the tenants' wall."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from tests.postgres import ROLES, Database, Postgres, migrate
from tests.unit.audit.logs import Counted, ManualClock, every_kind, intent, opened, outcome

from securellm.audit import LogSource, Record, export
from securellm.core.clock import SystemClock
from securellm.core.errors import Code, Fault
from securellm.storage import ControlStore, ShippingRefused, StorageDamaged, StorageRefused
from securellm.storage.shipping import Shipper

pytestmark = [pytest.mark.postgres, pytest.mark.requirement("ST-1")]

MONTH = 31 * 86_400

SHIPPING = """
import sys
from pathlib import Path
from securellm.audit import LogSource
from securellm.storage.shipping import Shipper
url, password, path = sys.argv[1:]
Shipper(url, password=lambda: password, source=LogSource(Path(path))).ship()
"""


class Journal:
    """A log in a folder of its own, which is written to and closed again with each call."""

    def __init__(self, folder: Path, *, number: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "audit.db"
        self.clock = ManualClock()
        self.clock.seconds = SystemClock().now_us() // 1_000_000
        self._randomness = Counted(number)

    def write(self, records: Sequence[Record]) -> None:
        with opened(self.path, clock=self.clock, randomness=self._randomness) as (writer, log):
            for record in records:
                writer.perform(log.appending(record))
                self.clock.seconds += 0.001

    @property
    def entries(self) -> list[bytes]:
        return [line.removesuffix(b"\n") for line in export(self.path)]

    @property
    def name(self) -> str:
        return LogSource(self.path).writer


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "one")
    made.write([*every_kind(), *(intent(number) for number in range(40))])
    return made


@contextmanager
def shipper_of(journal: Journal, database: Database) -> Iterator[Shipper]:
    made = Shipper(database.url(), password=lambda: ROLES["gateway"], source=LogSource(journal.path))
    with closing(made):
        yield made


def ship(journal: Journal, database: Database, *, limit: int = 1_000) -> int:
    """Ship all there is, over a connection of its own; how many records."""
    count = 0
    with shipper_of(journal, database) as shipper:
        while shipped := shipper.ship(limit=limit).count:
            count += shipped
    return count


def stored(database: Database, journal: Journal) -> list[bytes]:
    with database.connect() as connection:
        query = "SELECT entry FROM audit_records WHERE writer = %s ORDER BY seq"
        return [entry for (entry,) in connection.execute(query, (journal.name,)).fetchall()]


def mark(database: Database, journal: Journal) -> Any:
    with database.connect() as connection:
        query = "SELECT seq, head FROM audit_shipped WHERE writer = %s"
        return connection.execute(query, (journal.name,)).fetchone()


def same(database: Database, journal: Journal) -> bool:
    """Whether the database holds what `audit export` gives, and knows that it does."""
    entries = journal.entries
    found = stored(database, journal) == entries
    return found and mark(database, journal) == (len(entries), hashlib.sha256(entries[-1]).digest())


def forget(database: Database, journal: Journal) -> None:
    """Lose the mark, as a database restored from a backup may have."""
    with database.connect() as connection:
        nothing = hashlib.sha256(b"").digest()
        connection.execute("UPDATE audit_shipped SET seq = 0, head = %s WHERE writer = %s", (nothing, journal.name))


def refused(journal: Journal, database: Database) -> str:
    before = stored(database, journal), mark(database, journal)
    with pytest.raises(ShippingRefused) as error:
        ship(journal, database)
    assert (stored(database, journal), mark(database, journal)) == before, "what is stored is never written over"
    return error.value.reason


# Once, in order, byte for byte


def test_every_record_arrives_once_in_order_as_the_bytes_that_were_exported(
    journal: Journal, postgres: Database
) -> None:
    entries = journal.entries
    assert ship(journal, postgres, limit=7) == len(entries)
    assert same(postgres, journal)
    assert ship(journal, postgres) == 0
    with postgres.connect() as connection:
        rows = connection.execute(
            "SELECT seq, at_us, type, tenant, request_id, record FROM audit_records ORDER BY seq"
        ).fetchall()
    for entry, (seq, at_us, kind, tenant, request_id, record) in zip(entries, rows, strict=True):
        said = msgspec.json.decode(entry)
        assert record == said
        assert (seq, at_us, kind, request_id) == (said["seq"], said["at"], said["type"], said.get("request_id"))
        assert said.get("tenant") in (tenant, None)


def test_what_is_written_later_follows_also_after_a_restart(journal: Journal, postgres: Database) -> None:
    with shipper_of(journal, postgres) as shipper:
        shipper.ship()
        journal.write([intent(100)])
        assert shipper.ship().count == 1
    journal.write([intent(101), outcome(101)])
    assert ship(journal, postgres) == 2
    assert same(postgres, journal)


def test_a_replay_adds_nothing(journal: Journal, postgres: Database) -> None:
    ship(journal, postgres)
    forget(postgres, journal)
    assert ship(journal, postgres, limit=5) == len(journal.entries)
    assert same(postgres, journal)


def test_two_gateways_that_call_themselves_alike_share_a_database(
    journal: Journal, tmp_path: Path, postgres: Database
) -> None:
    other = Journal(tmp_path / "two", number=1_000)
    other.write([intent(number) for number in range(9)])
    assert other.name != journal.name
    with shipper_of(journal, postgres) as one, shipper_of(other, postgres) as two:
        while one.ship(limit=4).count + two.ship(limit=4).count:
            pass
    assert same(postgres, journal)
    assert same(postgres, other)


def test_a_character_that_postgresql_cannot_hold_stops_nothing(tmp_path: Path, postgres: Database) -> None:
    journal = Journal(tmp_path / "nul")
    journal.write([intent(model="a\0b\\u0000c\ud800"), intent(2)])
    ship(journal, postgres)
    assert same(postgres, journal)
    with postgres.connect() as connection:
        (model,) = connection.execute("SELECT record->>'model' FROM audit_records WHERE seq = 1").fetchone() or ("",)
    assert model.startswith("a\ufffdb")


# Whose it is


@pytest.mark.requirement("ID-4")
def test_a_tenant_reaches_its_own_records_and_no_others_through_no_partition(
    tmp_path: Path, postgres: Database
) -> None:
    journal = Journal(tmp_path / "mixed")
    records: list[Record] = []
    for number, tenant in enumerate(("acme", "globex", "acme")):
        records += [msgspec.structs.replace(intent(number), tenant=tenant), outcome(number)]
    journal.write(records)
    ship(journal, postgres, limit=1)
    with postgres.connect("gateway") as connection:
        parts = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_records'::regclass"
        ).fetchall()
        assert len(parts) >= 2
        for tenant, kinds in (("acme", 4), ("globex", 2), ("", 0), ("nobody", 0), ("*", 6)):
            with connection.transaction():
                connection.execute("SELECT set_config('app.tenant', %s, true)", (tenant,))
                assert connection.execute("SELECT count(*) FROM audit_records").fetchone() == (kinds,), tenant
        assert connection.execute("SELECT count(*) FROM audit_records").fetchone() == (0,)
        for (part,) in parts:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"SELECT FROM {part}")


def test_who_serves_can_add_records_but_neither_change_nor_remove_one(journal: Journal, postgres: Database) -> None:
    ship(journal, postgres)
    with postgres.connect("gateway") as connection:
        for forbidden in (
            "UPDATE audit_records SET type = 'BOOT'",
            "DELETE FROM audit_records",
            "TRUNCATE audit_records",
            "DELETE FROM audit_shipped",
            "CREATE TABLE audit_records_1999_01 PARTITION OF audit_records FOR VALUES FROM (1) TO (2)",
            "ALTER TABLE audit_records DETACH PARTITION audit_records_rest",
            "DROP FUNCTION audit_records_month",
        ):
            with connection.transaction(force_rollback=True):
                connection.execute("SELECT set_config('app.tenant', '*', true)")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(forbidden)
    assert same(postgres, journal)


# Months


def parts_of(database: Database) -> dict[str, int]:
    """The partitions, and how many records each holds."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_records'::regclass"
        ).fetchall()
        found: dict[str, int] = {}
        for (name,) in rows:
            (found[name],) = connection.execute(f"SELECT count(*) FROM {name}").fetchone() or (0,)
        return found


def month_of(seconds: float) -> str:
    return "audit_records_" + time.strftime("%Y_%m", time.gmtime(seconds))


def test_each_month_has_a_partition_and_what_has_none_is_kept_with_the_rest(tmp_path: Path, postgres: Database) -> None:
    journal = Journal(tmp_path / "months")
    present = journal.clock.seconds
    moments = {"old": present - 40 * MONTH, "past": present - 2 * MONTH, "present": present, "odd": 40 * present}
    for number, moment in enumerate(moments.values()):
        journal.clock.seconds = moment
        journal.write([intent(number)])
    ship(journal, postgres)
    assert same(postgres, journal)
    parts = parts_of(postgres)
    assert parts.pop("audit_records_rest") == 2
    assert parts.pop(month_of(moments["past"])) == 1
    assert parts.pop(month_of(moments["present"])) == 1
    assert set(parts.values()) <= {0}
    with postgres.connect() as connection:
        walls = connection.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity, pg_get_userbyid(relowner), relacl FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND relname LIKE 'audit\\_records%'"
        ).fetchall()
    assert all(walled and owner == "keeper" for _, walled, owner, _ in walls)
    assert [name for name, _, _, rights in walls if rights and "gateway" in str(rights)] == ["audit_records"]


def test_a_partition_that_cannot_be_made_in_time_holds_nothing_up(journal: Journal, postgres: Database) -> None:
    with postgres.connect() as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner")
        connection.execute("ALTER FUNCTION audit_records_month RENAME TO gone")
        connection.execute(
            "CREATE FUNCTION audit_records_month(BIGINT) RETURNS BOOLEAN RETURN false;"
            "GRANT EXECUTE ON FUNCTION audit_records_month TO gateway"
        )
    ship(journal, postgres)
    assert same(postgres, journal)
    assert parts_of(postgres) == {"audit_records_rest": len(journal.entries)}
    with postgres.connect() as connection:
        connection.execute("DROP FUNCTION audit_records_month; ALTER FUNCTION gone RENAME TO audit_records_month")
        connection.execute("GRANT CREATE ON SCHEMA public TO pg_database_owner")
    journal.write([intent(200)])
    ship(journal, postgres)
    assert same(postgres, journal), "a month whose records came before its partition goes on with the rest"
    assert parts_of(postgres)["audit_records_rest"] == len(journal.entries)


def test_a_server_without_the_tables_for_journals_is_refused_at_the_start(postgres: Database) -> None:
    with postgres.connect() as connection:
        connection.execute("DROP TABLE audit_shipped")
    with pytest.raises(StorageRefused) as refusal:
        ControlStore.open(postgres.url(), migrate=False, password=lambda: ROLES["gateway"])
    assert "journals are shipped" in refusal.value.reason


# Death between any two steps


@contextmanager
def gate(database: Database, *, at: str) -> "Iterator[psycopg.Connection[Any]]":
    """Make shipping wait before the mark moves (`at` = its table), or before a record is stored, as long as we hold."""
    kind = "INSERT" if at == "audit_records" else "UPDATE"
    with database.connect() as connection:
        connection.execute(
            "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN new; END $$"
        )
        connection.execute(f"CREATE TRIGGER gate BEFORE {kind} ON {at} FOR EACH ROW EXECUTE FUNCTION gate()")
        connection.execute("SELECT pg_advisory_lock(7)")
        try:
            yield connection
        finally:
            connection.execute("SELECT pg_advisory_unlock_all()")


def until_waiting(connection: "psycopg.Connection[Any]") -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    end = time.monotonic() + 20
    while connection.execute(waiting).fetchone() == (0,):
        assert time.monotonic() < end, "shipping never came to the gate"
        time.sleep(0.01)


@pytest.mark.parametrize("at", ["audit_records", "audit_shipped"])
def test_a_gateway_killed_between_any_two_steps_ships_each_record_once(
    journal: Journal, postgres: Database, at: str
) -> None:
    with gate(postgres, at=at) as connection:
        words = [sys.executable, "-c", SHIPPING, postgres.url(), ROLES["gateway"], str(journal.path)]
        process = subprocess.Popen(words)
        try:
            until_waiting(connection)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        assert stored(postgres, journal) == []
    # The dead one's transaction may still hold the row for a moment; nobody else may pass it.
    assert ship(journal, postgres) in (0, len(journal.entries))
    ship(journal, postgres)
    assert same(postgres, journal)


def test_a_connection_that_breaks_before_the_mark_moves_leaves_nothing_behind(
    journal: Journal, postgres: Database
) -> None:
    with postgres.connect() as connection:
        connection.execute(
            "CREATE FUNCTION breaking() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$"
        )
        connection.execute(
            "CREATE TRIGGER breaking BEFORE UPDATE ON audit_shipped FOR EACH ROW EXECUTE FUNCTION breaking()"
        )
        with shipper_of(journal, postgres) as shipper:
            with pytest.raises(Fault) as fault:
                shipper.ship()
            assert fault.value.code is Code.STORAGE_UNAVAILABLE
            assert stored(postgres, journal) == []
            connection.execute("DROP TRIGGER breaking ON audit_shipped")
            assert shipper.ship().count == len(journal.entries)
    assert same(postgres, journal)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_server_that_dies_or_freezes_and_returns_misses_and_doubles_nothing(
    journal: Journal, own_postgres: Postgres, frozen: bool
) -> None:
    with own_postgres.database() as database:
        migrate(database)
        with shipper_of(journal, database) as shipper:
            shipper.ship(limit=10)
            if frozen:
                own_postgres.send(signal.SIGSTOP)
            else:
                own_postgres.kill()
            for _ in range(2):
                with pytest.raises(Fault) as fault:
                    shipper.ship(limit=10)
                assert fault.value.code is Code.STORAGE_UNAVAILABLE
            journal.write([intent(300)])
            if frozen:
                own_postgres.send(signal.SIGCONT)
            else:
                own_postgres.start()
            while shipper.ship(limit=10).count:
                pass
        assert same(database, journal)


# Somebody changed something


def test_a_stored_record_that_differs_is_refused_and_never_written_over(journal: Journal, postgres: Database) -> None:
    ship(journal, postgres)
    forget(postgres, journal)
    with postgres.connect() as connection:
        connection.execute("UPDATE audit_records SET entry = entry || ' ' WHERE seq = 12")
    assert "record 12 of it is stored with another content" in refused(journal, postgres)


def test_a_record_stored_under_another_time_is_refused_too(journal: Journal, postgres: Database) -> None:
    ship(journal, postgres)
    forget(postgres, journal)
    with postgres.connect() as connection:
        connection.execute("UPDATE audit_records SET at_us = 5, entry = 'x' WHERE seq = 3")
    assert "record 3 of it" in refused(journal, postgres)


def test_a_journal_that_was_rolled_back_or_goes_on_twice_is_refused(
    journal: Journal, tmp_path: Path, postgres: Database
) -> None:
    twin = Journal(tmp_path / "twin")
    twin.path.write_bytes(journal.path.read_bytes())
    journal.write([intent(400)])
    ship(journal, postgres)
    assert "does not hold at position" in refused(twin, postgres)
    twin.write([intent(401)])
    assert "does not hold at position" in refused(twin, postgres)
    assert same(postgres, journal)


def test_a_restored_journal_is_shipped_anew_once_its_owner_has_put_the_former_one_aside(
    journal: Journal, tmp_path: Path, postgres: Database
) -> None:
    backup = Journal(tmp_path / "backup")
    backup.path.write_bytes(journal.path.read_bytes())
    journal.write([intent(400)])
    ship(journal, postgres)
    backup.write([intent(401)])
    refused(backup, postgres)
    with postgres.connect("keeper") as connection:
        for statement in owners_words(journal.name):
            connection.execute(statement)
    ship(backup, postgres)
    assert same(postgres, backup)
    with postgres.connect() as connection:
        query = "SELECT entry FROM audit_records WHERE writer = %s ORDER BY seq"
        former = connection.execute(query, (f"{journal.name} before 2026-11-21",)).fetchall()
    assert [entry for (entry,) in former] == journal.entries


def owners_words(name: str) -> list[str]:
    """The statements that the how-to gives to the owner, for the journal called `name`."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md").read_text(encoding="utf-8")
    (block,) = [block for block in page.split("```") if "UPDATE audit_records" in block]
    return [line.replace("6f0c2a9be41d7758", name) for line in block.removeprefix("sql").strip().splitlines()]


def test_a_journal_that_was_changed_on_disk_is_not_shipped(journal: Journal, postgres: Database) -> None:
    with closing(sqlite3.connect(journal.path)) as raw:
        changed = raw.execute(
            "UPDATE records SET entry = CAST(replace(entry, 'gpt-4o', 'gpt-4x') AS BLOB)"
            " WHERE seq = (SELECT min(seq) FROM records WHERE instr(entry, 'gpt-4o'))"
        )
        assert changed.rowcount == 1
        raw.commit()
    with pytest.raises(StorageDamaged):
        ship(journal, postgres)
    assert stored(postgres, journal) == []
