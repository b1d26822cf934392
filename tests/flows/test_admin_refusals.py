"""Refused calls of a live admin listener: what of them is recorded, found and shipped; and whose `Host` it takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flows.test_replicas import replicas, until
from tests.harness import GatewayProcess, Reply, Site, governed, raw_exchange, request
from tests.postgres import Database

from securellm.audit import record_schema

THEIRS = "globex"


def call(gateway: GatewayProcess, method: str, path: str, token: str | None, body: object = None) -> Reply:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return request(gateway.admin_url, method, f"/admin/v1/{path}", body=body, headers=headers)


def host_token(gateway: GatewayProcess) -> str:
    return gateway.site.environ.get("ADMIN_TOKEN") or gateway.admin_token


class Person(msgspec.Struct, frozen=True):
    principal: str
    token: str


def auditor(gateway: GatewayProcess, tenant: str = "acme") -> Person:
    """Somebody who may look at the records of their tenant and at little else."""
    host = host_token(gateway)

    def made(path: str, body: object) -> Any:
        answer = call(gateway, "POST", path, host, body)
        assert answer.status in (200, 201, 202), answer.body
        return answer.json()

    user = made("users", {"tenant": tenant})
    invitation = made(f"users/{user['id']}/invite", None)["invitation"]
    token = call(gateway, "POST", "invitations/accept", invitation, {}).json()["token"]
    body = {"principal": user["principal"], "role": "auditor", "tenant": tenant}
    headers = {"authorization": f"Bearer {host}", "x-break-glass": "the first of this house"}
    granted = request(gateway.admin_url, "POST", "/admin/v1/grants", body=body, headers=headers)
    assert granted.status in (200, 201, 202), granted.body
    return Person(user["principal"], token)


class House(msgspec.Struct, frozen=True):
    gateway: GatewayProcess
    person: Person


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    def prepare(site: Site) -> None:
        site.tenant(THEIRS)
        site.server["hosts"] = ["LLM.bank.example", "*.lab.example"]

    with governed(tmp_path_factory.mktemp("refusals"), prepare) as (gateway, _):
        yield House(gateway, auditor(gateway))
        gateway.verify()


@pytest.mark.requirement("AU-1", "ID-1")
def test_a_refusal_is_found_by_search_tail_and_export_and_fits_the_schema(house: House) -> None:
    gateway, person = house.gateway, house.person
    forbidden = call(gateway, "POST", "keys", person.token, {"tenant": "acme", "models": ["*"]})
    foreign = call(gateway, "GET", f"audit/records?tenant={THEIRS}", person.token)
    absent = call(gateway, "GET", f"decisions/{forbidden.request_id}", person.token)
    assert (forbidden.status, foreign.status, absent.status) == (403, 404, 404)
    own = call(gateway, "GET", f"audit/records?type=DENY&principal={person.principal}", person.token).json()["data"]
    assert [record["request_id"] for record in own] == [answer.request_id for answer in (absent, foreign, forbidden)], (
        "newest first"
    )
    assert [(record["code"], record["asked_tenant"]) for record in own] == [
        ("not_found", None),
        ("not_found", THEIRS),
        ("forbidden", None),
    ]
    assert {record["tenant"] for record in own} == {"acme"}
    hers = call(gateway, "GET", f"audit/records?request_id={foreign.request_id}", gateway.admin_token).json()["data"]
    assert hers == [own[1]]
    done = gateway.cli("audit", "tail", "-n", "50", "--data-dir", str(gateway.data_dir))
    tail = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record for record in tail if record.get("principal") == person.principal] == own[::-1]
    exported = [record for record in gateway.records("DENY") if record.get("principal") == person.principal]
    assert exported == own[::-1]
    looks = [record for record in gateway.records("READ") if record["actor"] == person.principal]
    assert [(look["resource"], look["tenant"]) for look in looks] == [("audit/records", "acme")], "and who looked"
    shapes = record_schema()["$defs"]
    for name, records in (("AdminDenied", own), ("AdminRead", looks)):
        assert all(set(record) == set(shapes[name]["required"]) for record in records)


@pytest.mark.requirement("AU-1")
def test_strangers_leave_one_record_for_a_second_a_cause_and_a_network(house: House) -> None:
    gateway = house.gateway
    before = len(gateway.records("DENY"))
    for number in range(60):
        token = None if number % 2 else f"sla_wrong{number}"
        assert call(gateway, "GET", "keys", token).status in (401, 429)
    counted: list[dict[str, Any]] = []

    def all_counted() -> bool:
        counted[:] = [record for record in gateway.records("DENY")[before:] if record.get("admin")]
        return sum(int(record["count"]) for record in counted) == 60

    until(all_counted, seconds=5)
    assert {record["code"] for record in counted} >= {"admin_required", "rate_limited"}
    assert len(counted) < 20
    assert {record["network"] for record in counted} == {"127.0.0.1"}


@pytest.mark.requirement("AU-1")
def test_the_record_of_a_refusal_outlives_a_kill(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        answer = call(gateway, "DELETE", "providers/nothing", gateway.admin_token)
        gateway.kill9()
        record = gateway.record_of(answer)
        assert (record["principal"], record["names"]) == ("service:host", ["nothing"])
        gateway.verify()


@pytest.mark.postgres
@pytest.mark.requirement("AU-1", "ST-1")
def test_refusals_are_shipped_with_whose_they_are(tmp_path: Path, postgres: Database) -> None:
    with replicas(tmp_path, postgres, 1) as (gateway,):
        person = auditor(gateway)
        refused = call(gateway, "GET", "keys/key_nobodys", person.token)
        host = call(gateway, "GET", "nothing", host_token(gateway))
        assert (refused.status, host.status) == (404, 404)

        def arrived() -> dict[str, tuple[str, str]]:
            with postgres.connect() as connection:
                query = (
                    "SELECT request_id, tenant, record->>'code' FROM audit_records "
                    "WHERE type = 'DENY' AND record->>'event' = 'denied' AND request_id IS NOT NULL"
                )
                return {name: (tenant, code) for name, tenant, code in connection.execute(query).fetchall()}

        until(lambda: len(arrived()) == 2, seconds=5)
        assert arrived() == {refused.request_id: ("acme", "not_found"), host.request_id: ("", "not_found")}


# Host, on the wire


def ask(port: int, path: str, *lines: str, version: str = "1.1") -> int:
    head = "\r\n".join((f"GET {path} HTTP/{version}", *lines, "Connection: close", "", ""))
    answer = raw_exchange(port, head.encode("latin-1"), seconds=5)
    return int(answer.split(b" ", 2)[1])


HOSTS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "an address": (("Host: 127.0.0.1",), 200, 200),
    "an address and a port": (("Host: 127.0.0.1:{port}",), 200, 200),
    "another address": (("Host: 10.20.30.40:8081",), 200, 200),
    "localhost": (("Host: localhost:{port}",), 200, 200),
    "localhost, with a dot": (("Host: localhost.",), 200, 200),
    "IPv6": (("Host: [::1]:{port}",), 200, 200),
    "IPv6 without brackets": (("Host: ::1",), 400, 400),
    "a zone": (("Host: [fe80::1%25eth0]",), 400, 400),
    "listed for clients": (("Host: llm.bank.example",), 421, 200),
    "listed, with a port": (("Host: llm.bank.example:443",), 421, 200),
    "listed, in capitals": (("Host: LLM.BANK.EXAMPLE",), 421, 200),
    "listed, with a dot": (("Host: llm.bank.example.",), 421, 200),
    "below a wildcard": (("Host: a.b.lab.example",), 421, 200),
    "the wildcard's own": (("Host: lab.example",), 421, 421),
    "another's": (("Host: evil.example",), 421, 421),
    "another's, below ours": (("Host: llm.bank.example.evil.example",), 421, 421),
    "punycode": (("Host: xn--llm-bnk-5wa.example",), 421, 421),
    "loopback in short": (("Host: 127.1",), 421, 421),
    "user information": (("Host: localhost@evil.example",), 400, 400),
    "user information the other way": (("Host: evil.example@localhost",), 400, 400),
    "a slash": (("Host: localhost/x",), 400, 400),
    "an encoded slash": (("Host: evil.example%2f.lab.example",), 400, 400),
    "a list": (("Host: localhost, evil.example",), 400, 400),
    "a tab": (("Host: localhost\t.lab.example",), 400, 400),
    "empty": (("Host:",), 400, 400),
    "missing": ((), 400, 400),
    "two": (("Host: localhost", "Host: evil.example"), 400, 400),
    "the same twice": (("Host: localhost", "Host: localhost"), 400, 400),
    "forwarded": (("Host: evil.example", "X-Forwarded-Host: localhost"), 421, 421),
}


@pytest.mark.requirement("ZT-2", "GW-12")
@pytest.mark.parametrize("case", HOSTS)
def test_each_listener_answers_for_its_own_names(house: House, case: str) -> None:
    lines, admin, clients = HOSTS[case]
    gateway = house.gateway
    for port, path, expected in (
        (gateway.admin_port, "/metrics", admin),
        (gateway.admin_port, "/admin/v1/me", 401 if admin == 200 else admin),
        (gateway.port, "/metrics", clients),
        (gateway.port, "/", clients),
    ):
        assert ask(port, path, *(line.format(port=port) for line in lines)) == expected, (port, path)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/metrics", "localhost", 200),
        ("http://LOCALHOST/metrics", "localhost", 200),
        ("http://localhost:80/metrics", "localhost:80", 200),
        ("http://localhost/metrics", "evil.example", 400),
        ("http://evil.example/metrics", "localhost", 400),
        ("http://evil.example/metrics", "evil.example", 421),
        ("http://a@localhost/metrics", "localhost", 400),
        ("http://localhost:81/metrics", "localhost:80", 400),
    ],
)
def test_a_target_with_a_host_of_its_own_names_the_same(house: House, target: str, host: str, status: int) -> None:
    for port in (house.gateway.admin_port, house.gateway.port):
        assert ask(port, target, f"Host: {host}") == status


def test_probes_are_answered_whatever_name_they_use(house: House) -> None:
    gateway = house.gateway
    for port in (gateway.admin_port, gateway.port):
        for path in ("/livez", "/readyz", "/health"):
            assert ask(port, path, "Host: gateway.pods.svc.cluster.local") == 200
            assert ask(port, path, version="1.0") == 200
        assert ask(port, "/metrics", "Host: gateway.pods.svc.cluster.local") == 421


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/v1/chat/completions", "error"),
        ("/v1/messages", "type"),
        ("/v1beta/models/m:generateContent", "error"),
        ("/api/chat", "error"),
    ],
)
def test_clients_are_told_in_their_own_dialect(house: House, path: str, member: str) -> None:
    answer = house.gateway.request("POST", path, headers={"host": "evil.example"}, body={})
    assert answer.status == 421
    assert answer.headers["x-securellm-code"] == "misdirected"
    assert answer.headers["x-should-retry"] == "false"
    assert member in answer.json()
    assert "evil.example" not in answer.body.decode()


@pytest.mark.requirement("AU-1")
def test_a_foreign_host_is_counted_for_its_listener(house: House) -> None:
    gateway = house.gateway
    ask(gateway.admin_port, "/metrics", "Host: evil.example")
    ask(gateway.port, "/metrics", "Host: evil.example")

    def listeners() -> set[bool]:
        return {record["admin"] for record in gateway.records("DENY") if record["code"] == "misdirected"}

    until(lambda: listeners() == {True, False}, seconds=5)


def test_names_of_the_admin_listener_are_those_listed_and_those_of_its_origins(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        site.server["admin_hosts"] = ["admin.bank.example"]
        site.extra += '\n[identity]\norigins = ["https://console.bank.example"]\n'

    with governed(tmp_path, prepare) as (gateway, _):
        for host, status in (
            ("admin.bank.example", 401),
            ("console.bank.example:8443", 401),
            ("evil.example", 421),
            ("127.0.0.1", 401),
        ):
            assert ask(gateway.admin_port, "/admin/v1/me", f"Host: {host}") == status
            # Clients have no list here: every name is answered.
            assert ask(gateway.port, "/", f"Host: {host}") == 200
