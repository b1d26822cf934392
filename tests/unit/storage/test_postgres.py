"""The control plane on a real PostgreSQL: its walls, its roles, its migrations, and what an outage does."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
import tests.postgres as servers
from sqlalchemy import func, select
from tests.contract.shops import postgres_place
from tests.postgres import ROLES, Database, Postgres, migrate
from tests.unit.storage.declared import declared

from securellm.core.errors import Code, Fault
from securellm.storage import METADATA, CommitUncertain, ControlStore, Session, StorageRefused, control, engines
from securellm.storage import postgres as driver
from securellm.storage.keeper import Keeper, look
from securellm.storage.migrating import REVISIONS, Standing


def store_on(database: Database, *, role: str = "gateway") -> ControlStore:
    return ControlStore.open(database.url(role), migrate=False, password=lambda: ROLES[role])


def refused(database: Database, *, role: str = "gateway") -> StorageRefused:
    with pytest.raises(StorageRefused) as error:
        store_on(database, role=role)
    return error.value


def unavailable(work: Callable[[], object]) -> Fault:
    with pytest.raises(Fault) as fault:
        work()
    assert fault.value.code is Code.STORAGE_UNAVAILABLE
    assert not any(password in str(fault.value) for password in ROLES.values())
    return fault.value


def note(session: Session) -> None:
    session.note("key", tenant="acme", name="k")


@pytest.fixture
def store(postgres: Database) -> Iterator[ControlStore]:
    with closing(store_on(postgres)) as opened:
        yield opened


# Walls


@pytest.mark.requirement("ID-4", "ST-1")
def test_every_tenants_table_stands_behind_forced_row_level_security_and_no_role_of_ours_may_go_around(
    postgres: Database,
) -> None:
    walk = """SELECT relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner),
      (SELECT count(*) FROM pg_policy WHERE polrelid = pg_class.oid),
      EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'tenant' AND NOT attisdropped)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"""
    with postgres.connect() as connection:
        declared()
        rows = {row[0]: row[1:] for row in connection.execute(walk).fetchall()}
        roles = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = 'gateway'"
        ).fetchall()
        granted = connection.execute(
            "SELECT DISTINCT privilege_type FROM information_schema.table_privileges WHERE grantee = 'gateway'"
        ).fetchall()
    assert set(METADATA.tables) <= set(rows)
    for name, (secured, forced, owner, policies, has_tenant) in rows.items():
        shipped_to = name.startswith("audit_records")
        scoped = shipped_to or (name in METADATA.tables and METADATA.tables[name].info["tenant_scoped"])
        assert (secured, forced, policies) == ((True, True, 1) if scoped else (False, False, 0)), name
        assert owner == "keeper"
        assert scoped or not has_tenant or name == "changes", f"{name} has tenants and no wall"
    assert roles == [(False, False, False)]
    assert {row[0] for row in granted} == {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_the_walls_hold_for_raw_sql_and_whoever_says_nothing_sees_nothing(postgres: Database) -> None:
    visit = "INSERT INTO visits (tenant, id) VALUES (%s, %s)"
    with postgres_place(postgres), postgres.connect("gateway") as connection:

        def scope(tenant: str) -> None:
            connection.execute("SELECT set_config('app.tenant', %s, true)", (tenant,))

        def count() -> Any:
            return connection.execute("SELECT count(*) FROM visits").fetchall()[0][0]

        with connection.transaction():
            scope("*")
            for tenant in ("acme", "globex", ""):
                connection.execute(visit, (tenant, f"visit of {tenant}"))
        assert count() == 0
        with connection.transaction():
            scope("acme")
            assert count() == 1
            assert connection.execute("UPDATE visits SET count = 2").rowcount == 1
            assert connection.execute("DELETE FROM visits WHERE tenant = 'globex'").rowcount == 0
        assert count() == 0, "what a transaction said is forgotten after it"
        with connection.transaction():
            scope("")
            assert count() == 0
        for forbidden in (
            "INSERT INTO visits (tenant, id) VALUES ('globex', 'q')",
            "UPDATE visits SET tenant = 'globex'",
            "ALTER TABLE visits DISABLE ROW LEVEL SECURITY",
            "DROP POLICY tenant_scope ON visits",
            "TRUNCATE visits",
            "SET ROLE keeper",
            "UPDATE control_schema SET version_num = '0'",
            "CREATE TABLE mine (x int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"BEGIN; SELECT set_config('app.tenant', 'acme', true); {forbidden}")
            connection.rollback()


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize(
    "breach",
    [
        "ALTER TABLE budgets DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE budgets NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant_scope ON budgets",
        "CREATE POLICY more ON budgets USING (true)",
        "ALTER POLICY tenant_scope ON budgets USING (true)",
        "ALTER POLICY tenant_scope ON budgets USING (tenant <> 'acme')",
        "ALTER POLICY tenant_scope ON budgets WITH CHECK (true)",
        "ALTER POLICY tenant_scope ON budgets TO keeper",
    ],
)
def test_a_wall_that_has_gone_refuses_the_start(postgres: Database, breach: str) -> None:
    with postgres.connect() as connection:
        connection.execute(breach)
    assert "budgets" in refused(postgres).reason


@pytest.mark.requirement("ID-4")
def test_no_one_serves_as_a_role_that_could_go_around_the_walls(postgres: Database) -> None:
    for role in ("keeper", "postgres"):
        assert "reach around" in refused(postgres, role=role).reason
    with postgres.connect() as connection:
        connection.execute("GRANT keeper TO gateway WITH INHERIT FALSE")
        try:
            assert "reach around" in refused(postgres).reason
        finally:
            connection.execute("REVOKE keeper FROM gateway")
    store_on(postgres).close()


# Migrations


@pytest.mark.requirement("ST-1")
def test_a_database_without_a_schema_refuses_the_start_and_names_the_command(empty_postgres: Database) -> None:
    reach = empty_postgres.url()
    assert look(reach, password=lambda: ROLES["gateway"]) == Standing(revision=None, pending=REVISIONS)
    assert "securellm db migrate" in refused(empty_postgres).remedy
    keeper = Keeper(empty_postgres.url("keeper"), password=lambda: ROLES["keeper"])
    assert keeper.migrate(serving="gateway") == REVISIONS
    assert keeper.migrate(serving="gateway") == ()
    assert look(reach, password=lambda: ROLES["gateway"]) == Standing(revision=REVISIONS[-1], pending=())
    store_on(empty_postgres).close()


@pytest.mark.requirement("ST-1")
def test_an_unknown_schema_is_refused_by_everybody(empty_postgres: Database, postgres: Database) -> None:
    with empty_postgres.connect("keeper") as connection:
        connection.execute("CREATE TABLE theirs (x int)")
    with postgres.connect("keeper") as connection:
        connection.execute("UPDATE control_schema SET version_num = '9999'")
    for database in (empty_postgres, postgres):
        assert "does not know" in refused(database).reason
        with pytest.raises(StorageRefused, match="does not know"):
            migrate(database)
        with pytest.raises(StorageRefused, match="does not know"):
            look(database.url(), password=lambda: ROLES["gateway"])


def test_a_migration_wants_a_role_to_serve_that_exists_and_is_not_its_own(empty_postgres: Database) -> None:
    keeper = Keeper(empty_postgres.url("keeper"), password=lambda: ROLES["keeper"])
    for role, reason in (("keeper", "reach around"), ("postgres", "reach around"), ("nobody at all", "does not exist")):
        with pytest.raises(StorageRefused, match=reason):
            keeper.migrate(serving=role)
    with empty_postgres.connect("keeper") as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchall() == [(0,)]


def test_two_migrations_at_once_are_made_once(empty_postgres: Database) -> None:
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(
                Keeper(empty_postgres.url("keeper"), password=lambda: ROLES["keeper"]).migrate(serving="gateway")
            )
        except StorageRefused as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes.count(REVISIONS) == 1
    assert all(outcome in ((), REVISIONS) or "another migration" in str(outcome) for outcome in outcomes)
    store_on(empty_postgres).close()


# Outages


@contextmanager
def serving(server: Postgres) -> Iterator[ControlStore]:
    with server.database() as database:
        migrate(database)
        with closing(store_on(database)) as store:
            yield store


@pytest.mark.requirement("ST-1")
def test_a_dead_server_is_a_fault_and_its_return_needs_no_help(own_postgres: Postgres) -> None:
    with serving(own_postgres) as store:
        store.write(note)
        for end in (own_postgres.kill, own_postgres.stop):
            end()
            for work in (lambda: store.version, lambda: store.write(note), lambda: store.changes(0)):
                unavailable(work)
            own_postgres.start()
            assert store.version == 1


@pytest.mark.requirement("ST-1")
def test_a_frozen_server_is_a_fault_within_seconds(own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver._Bounded, "patience", 1.0)
    with serving(own_postgres) as store:
        assert store.version == 0
        own_postgres.send(signal.SIGSTOP)
        unavailable(lambda: store.version)
        own_postgres.send(signal.SIGCONT)
        assert store.version == 0

        def freeze(session: Session) -> None:
            own_postgres.send(signal.SIGSTOP)

        unavailable(lambda: store.write(freeze))
        own_postgres.send(signal.SIGCONT)
        assert store.version == 0


@pytest.mark.requirement("ID-2", "ST-1")
def test_a_standby_that_may_lag_behind_is_no_server_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(servers._SETTINGS, "wal_level", "replica")
    with Postgres() as server, serving(server) as store:
        assert store.version == 0
        server.stop()
        server.stand_by()
        server.start()
        with server.superuser() as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        unavailable(lambda: store.version)
        server.stop()
        server.stand_by(False)
        server.start()
        assert store.version == 0


def test_a_cut_connection_is_replaced_before_it_is_used(postgres: Database, store: ControlStore) -> None:
    for _ in range(3):
        assert store.version == 0
        cut(postgres)


def cut(database: Database) -> None:
    """End every connection of the application."""
    with database.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'gateway'")


def test_a_transaction_that_is_cut_off_before_its_commit_is_known_to_be_undone(
    postgres: Database, store: ControlStore
) -> None:
    def change(session: Session) -> None:
        cut(postgres)
        session.rows(control._VERSION)

    with pytest.raises(Fault) as fault:
        store.write(change)
    assert not isinstance(fault.value, CommitUncertain)
    assert store.version == 0


def test_a_connection_that_breaks_in_the_commit_leaves_the_outcome_uncertain(
    postgres: Database, store: ControlStore
) -> None:
    with pytest.raises(CommitUncertain) as fault:
        store.write(note, before_commit=lambda _: cut(postgres))
    assert fault.value.code is Code.STORAGE_UNAVAILABLE
    assert store.version == 0


def test_a_turn_to_write_that_another_holds_is_waited_for_a_moment_only(
    postgres: Database, store: ControlStore
) -> None:
    with postgres.connect("gateway") as other, other.transaction():
        other.execute("UPDATE data_version SET version = version")
        unavailable(lambda: store.write(note))
        assert store.version == 0
    store.write(note)


def test_those_who_wait_to_write_leave_connections_for_those_who_read(
    postgres: Database, store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PATIENCE", 0.5)
    failures: list[Fault] = []
    with postgres.connect("gateway") as other, other.transaction():
        other.execute("UPDATE data_version SET version = version")
        writers = [
            threading.Thread(target=lambda: failures.append(unavailable(lambda: store.write(note)))) for _ in range(8)
        ]
        for writer in writers:
            writer.start()
        for _ in range(20):
            assert store.version == 0
        for writer in writers:
            writer.join(60)
    assert len(failures) == 8
    store.write(note)


def test_a_process_that_falls_silent_in_a_write_loses_its_turn(
    postgres: Database, store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "BEGIN", driver.BEGIN.replace("'10s'", "'200ms'"))
    with closing(store_on(postgres)) as other:

        def silent(session: Session) -> None:
            other.write(note)

        unavailable(lambda: store.write(silent))
    assert store.version == 1


def test_a_query_that_takes_too_long_is_ended(
    postgres: Database, store: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        driver, "BEGIN", driver.BEGIN.replace("'statement_timeout', '5s'", "'statement_timeout', '50ms'")
    )
    unavailable(lambda: store.read(lambda session: session.rows(select(func.pg_sleep(30)))))
    assert store.version == 0


def test_a_server_out_of_reach_is_a_fault_at_once_or_after_two_seconds(postgres: Database) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        unavailable(lambda: ControlStore.open(f"postgresql://gateway@127.0.0.1:{port}/x", migrate=False))
        closed.listen(1)  # It takes connections and never says a word.
        unavailable(lambda: ControlStore.open(f"postgresql://gateway@127.0.0.1:{port}/x", migrate=False))


def test_a_wrong_password_is_a_fault_and_a_new_one_is_asked_for_each_connection(postgres: Database) -> None:
    unavailable(lambda: ControlStore.open(postgres.url(), migrate=False, password=lambda: "wrong"))
    unavailable(lambda: ControlStore.open(postgres.url(), migrate=False))
    asked: list[str] = []

    def password() -> str:
        asked.append("once")
        return ROLES["gateway"]

    with closing(ControlStore.open(postgres.url(), migrate=False, password=password)) as store:
        assert store.version == 0
        cut(postgres)
        assert store.version == 0
    assert len(asked) == 2


def test_a_listener_hears_again_after_an_outage(own_postgres: Postgres) -> None:
    heard = threading.Event()
    with serving(own_postgres) as store:
        stop = store.listen(lambda _version: heard.set())
        for _ in range(2):
            for _ in range(200):
                store.write(note)
                if heard.wait(0.05):
                    break
            assert heard.is_set()
            own_postgres.kill()
            own_postgres.start()
            heard.clear()
        stop()


def test_the_driver_is_an_extra_that_is_missed_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "find_spec", lambda _name: None)
    with pytest.raises(StorageRefused) as error:
        ControlStore.open("postgresql://gateway@localhost/x", migrate=False)
    assert "securellm-bridge[postgres]" in error.value.remedy
