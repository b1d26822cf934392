"""A gateway on a PostgreSQL ships what it records there, and serves whether or not that works."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.flows.test_replicas import make_key, replicas, until, works
from tests.harness import GatewayProcess
from tests.postgres import Database, Postgres, migrate

from securellm.audit import LogSource, export

pytestmark = [pytest.mark.postgres, pytest.mark.requirement("ST-1", "AU-3")]


def written(gateway: GatewayProcess) -> list[bytes]:
    return [line.removesuffix(b"\n") for line in export(gateway.data_dir / "audit.db")]


def arrived(gateway: GatewayProcess, database: Database) -> list[bytes]:
    name = LogSource(gateway.data_dir / "audit.db").writer
    with database.connect() as connection:
        query = "SELECT entry FROM audit_records WHERE writer = %s ORDER BY seq"
        return [entry for (entry,) in connection.execute(query, (name,)).fetchall()]


def all_arrived(gateway: GatewayProcess, database: Database) -> bool:
    return arrived(gateway, database) == written(gateway)


def gauge(gateway: GatewayProcess, name: str) -> float:
    lines = gateway.request("GET", "/metrics").body.decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"audit_shipping_{name} "))
    return float(value)


def of_request(database: Database, request_id: str) -> list[Any]:
    with database.connect() as connection:
        query = "SELECT type, tenant, record->>'event' FROM audit_records WHERE request_id = %s ORDER BY writer, seq"
        return connection.execute(query, (request_id,)).fetchall()


def test_the_intent_and_the_outcome_of_each_request_arrive_from_every_gateway(
    tmp_path: Path, postgres: Database
) -> None:
    with replicas(tmp_path, postgres) as (one, other):
        key = make_key(one)["token"]
        until(lambda: works(other, key), seconds=20)
        for gateway in (one, other):
            answer = gateway.chat("hi", key=key)
            assert answer.status == 200
            until(lambda gateway=gateway: all_arrived(gateway, postgres), seconds=20)  # type: ignore[misc]
            assert of_request(postgres, answer.request_id) == [
                ("INTENT", "acme", "request_received"),
                ("OUTCOME", "acme", "response_sent"),
            ]
            until(lambda gateway=gateway: gauge(gateway, "backlog") == 0, seconds=20)  # type: ignore[misc]
            assert works(gateway, key)
        one.stop()
        assert all_arrived(one, postgres), "what was recorded last is shipped before the end"


def test_requests_are_served_while_the_server_is_away_and_their_records_follow(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    with own_postgres.database() as database:
        migrate(database)
        with replicas(tmp_path, database, 1) as (gateway,):
            gateway.site.server["stale_policy_fence"] = "60s"
            gateway.stop()
            gateway.start()
            key = make_key(gateway)["token"]
            until(lambda: works(gateway, key), seconds=20)
            until(lambda: all_arrived(gateway, database), seconds=20)
            own_postgres.kill()
            assert all(works(gateway, key) for _ in range(20))
            until(lambda: gauge(gateway, "backlog") >= 40, seconds=20)
            assert gauge(gateway, "age_seconds") > 0
            gateway.kill9()
            gateway.start()
            assert works(gateway, key)
            own_postgres.start()
            until(lambda: gauge(gateway, "backlog") == 0, seconds=20)
            until(lambda: all_arrived(gateway, database), seconds=20)
            gateway.verify()


@pytest.mark.requirement("AU-4")
def test_a_changed_mark_is_an_alarm_that_stops_shipping_and_nothing_else(tmp_path: Path, postgres: Database) -> None:
    with replicas(tmp_path, postgres, 1) as (gateway,):
        key = make_key(gateway)["token"]
        until(lambda: works(gateway, key), seconds=20)
        until(lambda: all_arrived(gateway, postgres), seconds=20)
        with postgres.connect() as connection:
            connection.execute("UPDATE audit_shipped SET head = %s", (hashlib.sha256(b"another").digest(),))
        until(lambda: gauge(gateway, "refused") == 1, seconds=20)
        before = arrived(gateway, postgres)
        assert works(gateway, key)
        until(lambda: gauge(gateway, "backlog") >= 2, seconds=20)
        assert arrived(gateway, postgres) == before
        assert "journal_tampered_with" in gateway.errors()
        gateway.verify()
