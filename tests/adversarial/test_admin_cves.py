"""The control plane against what broke its peers, each class by the number it became known under."""

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.flows.administration import ENGINES, OURS, THEIRS, Office, Things, furnish, office
from tests.flows.test_admin_matrix import BODIES, NOBODYS, guarded, request_of
from tests.harness import GatewayProcess, governed, raw_exchange, request
from tests.unit.admin.driver import Answer

from securellm.admin.permissions import ask_of
from securellm.identity import Permission, Role

SQL = (
    "' OR '1'='1", "'; DROP TABLE virtual_keys; --", '" OR 1=1 --', "1) UNION SELECT digest FROM virtual_keys --",
    "%27%20OR%201%3D1", "\\'; SELECT pg_sleep(9); --", "admin'/*", "x' AND randomblob(1000000000) --", "${1+1}", "\x7f",
)  # fmt: skip


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Office, Things]]:
    with office(tmp_path_factory.mktemp("cves"), request) as opened:
        yield opened, furnish(opened)


def unharmed(answer: Answer, what: object) -> None:
    assert answer.status < 500, (what, answer)
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what


# SQL before authentication


@pytest.mark.requirement("ID-1", "ID-4")
def test_cve_2026_42208_sql_in_a_credential_is_no_credential(world: tuple[Office, Things]) -> None:
    opened, _ = world
    for text in SQL:
        for header in (("authorization", f"Bearer {text}"), ("cookie", f"slb_session={text}"), ("x-api-key", text)):
            answer = opened.call("GET", "keys", by=header)
            assert answer.status == 401, (header, answer)
        for path in ("setup", "invitations/accept"):
            assert opened.call("POST", path, {}, by=("authorization", f"Bearer {text}")).status == 401


@pytest.mark.requirement("ID-1")
def test_cve_2026_42208_sql_in_every_path_query_and_header_changes_nothing_that_is_found(
    world: tuple[Office, Things],
) -> None:
    opened, things = world
    owner = things.owner
    own = {item["id"] for item in opened.call("GET", "keys", by=owner).json["data"]}
    for method, route in guarded(opened):
        if method != "GET":
            continue
        for text in SQL[:5]:
            path = route.path.replace("{name:path}", "{name}")
            for name in [piece.split("}")[0] for piece in path.split("{")[1:]]:
                spoilt = path.replace(f"{{{name}}}", text).format(**{**things.ids, "name": "spare", **NOBODYS})
                answer = opened.call("GET", spoilt, by=owner)
                unharmed(answer, spoilt)
                assert answer.status in (403, 404, 422), (spoilt, answer)
    for text in SQL:
        for name in ("tenant", "project", "cursor", "limit", "principal", "type", "since", "request_id", "pending"):
            for path in ("keys", "users", "audit/records", "proposals", "grants", "tokens"):
                answer = opened.call("GET", path, query=f"{name}={quote(text)}", by=owner)
                unharmed(answer, (path, name, text))
                assert answer.status in (400, 403, 404, 422), (path, name, text, answer)
        assert opened.call("GET", "keys", by=owner, headers=[("host", text)]).status == 400
        for header in ("accept-language", "origin", "user-agent", "x-forwarded-for", "traceparent", "referer"):
            answer = opened.call("GET", "keys", by=owner, headers=[(header, text)])
            assert answer.status == 200
            assert {item["id"] for item in answer.json["data"]} == own
        for header in ("if-match", "idempotency-key", "x-break-glass"):
            answer = opened.call(
                "PATCH", f"keys/{things.ids['key_id']}", {"name": text}, by=owner, headers=[(header, text)]
            )
            unharmed(answer, (header, text))
    assert {item["id"] for item in opened.call("GET", "keys", by=owner).json["data"]} == own


def test_cve_2026_42208_sql_in_a_body_is_text_and_comes_back_as_text(world: tuple[Office, Things]) -> None:
    opened, things = world
    for number, text in enumerate(text for text in SQL if text.isprintable()):
        made = opened.call("POST", f"tenants/{OURS}/projects", {"id": f"sql{number}", "name": text}, by=things.owner)
        assert made.status == 201, made
        assert opened.call("GET", f"tenants/{OURS}/projects/sql{number}", by=things.owner).json["name"] == text


# Mass assignment

OURS_ALONE = (
    "id", "owner", "role", "roles", "user_role", "grants", "permissions", "scopes", "allowed_routes", "is_admin",
    "admin", "superuser", "managed_by", "created_at", "created_by", "revoked_at", "digest", "former_digest", "prefix",
    "token", "secret", "etag", "state", "approvals", "decided_by", "requester", "method", "principal_type", "__class__",
)  # fmt: skip


@pytest.mark.requirement("ID-1")
def test_cve_2026_47101_and_47102_no_member_that_is_ours_can_be_assigned(world: tuple[Office, Things]) -> None:
    opened, things = world
    checked = 0
    schema = opened.call("GET", "openapi.json").json
    known: dict[str, set[str]] = {}
    for item in schema["paths"].values():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            shape = content.get("schema", {})
            if "$ref" in shape:
                shape = schema["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
            known[operation["operationId"]] = set(shape.get("properties", ()))
    everywhere = opened.person(Role.OWNER)
    for method, route in guarded(opened):
        name = str(route.operation_id)
        if name not in BODIES:
            continue
        asked = request_of(method, route, things)
        for member in OURS_ALONE:
            if member in known[name] or member in asked.body:
                continue
            body = {**asked.body, member: "owner"}
            answer = opened.call(
                method, asked.path, body, by=everywhere, query=asked.query, headers=[("if-match", "*")]
            )
            assert answer.status == 422, (name, member, answer)
            assert member in json.dumps(answer.json["errors"]), (name, member)
            checked += 1
    assert checked > 500


def test_cve_2026_47101_a_grant_is_never_above_its_grantor_whatever_the_body_says(
    world: tuple[Office, Things],
) -> None:
    opened, _ = world
    for role in (Role.ADMIN, Role.SECURITY_OFFICER, Role.DEVELOPER, Role.APPROVER):
        person, target = opened.person(role, tenant=OURS), opened.person(tenant=OURS)
        for tenant in (OURS, THEIRS, None):
            body = {"principal": target.principal, "role": "owner", "tenant": tenant}
            answer = opened.call("POST", "grants", body, by=person)
            assert answer.status in (403, 404), (role, tenant, answer)
        own = {"principal": person.principal, "role": "owner", "tenant": OURS}
        assert opened.call("POST", "grants", own, by=person).status == 403


# Objects of others


@pytest.mark.requirement("ID-4")
def test_cve_2026_45350_an_id_in_a_body_or_a_query_opens_nothing_that_its_path_would_not(
    world: tuple[Office, Things],
) -> None:
    opened, things = world
    stranger = opened.person(Role.OWNER, tenant=THEIRS)
    theirs = opened.person(tenant=THEIRS)
    for body, path in (
        ({"tenant": OURS, "models": ["*"]}, "keys"),
        ({"tenant": OURS}, "users"),
        ({"tenant": OURS}, "services"),
        ({"tenant": THEIRS, "models": ["*"], "project": "web"}, "keys"),
        ({"tenant": THEIRS, "models": ["*"], "user": things.owner.user.id}, "keys"),
        ({"tenant": THEIRS, "project": "web"}, "services"),
        ({"principal": things.owner.principal}, "tokens"),
        ({"principal": f"service:{things.ids['service_id']}"}, "tokens"),
        ({"principal": things.owner.principal, "role": "developer", "tenant": THEIRS}, "grants"),
        ({"principal": theirs.principal, "role": "developer", "tenant": OURS}, "grants"),
    ):
        answer = opened.call("POST", path, body, by=stranger)
        assert answer.status in (403, 404), (path, body, answer)
        assert things.owner.user.id not in answer.body.decode()
    for path in ("keys", "users", "services", "grants", "proposals", "audit/records"):
        for query in ("", f"tenant={THEIRS}"):
            page = opened.call("GET", path, query=query, by=stranger)
            assert page.status == 200, (path, page)
            # Of their own refusals they read again what they themselves have named.
            listed = json.dumps([item for item in page.json["data"] if item.get("principal") != stranger.principal])
            for text in (OURS, *things.ids.values()):
                assert f'"{text}"' not in listed, (path, text)
    tenants = opened.call("GET", "tenants", by=stranger).json["data"]
    assert [item["id"] for item in tenants] == [THEIRS]


@pytest.mark.requirement("ID-4")
def test_a_tenant_finds_in_the_audit_its_own_records_alone(world: tuple[Office, Things]) -> None:
    opened, things = world
    owner, stranger = things.owner, opened.person(Role.OWNER, tenant=THEIRS)
    for kind in ("ADMIN", "KEY", "DENY"):
        own = opened.call("GET", "audit/records", by=owner, query=f"type={kind}&limit=200").json["data"]
        assert {(record["tenant"], record["type"]) for record in own} == {(OURS, kind)}
    others = opened.call("GET", "audit/records", by=stranger, query="limit=200").json["data"]
    assert all(record.get("tenant") == THEIRS for record in others)
    asked = f"request_id={things.ids['decision_id']}"
    (denied,) = opened.call("GET", "audit/records", by=owner, query=asked).json["data"]
    assert (denied["type"], denied["tenant"]) == ("DENY", OURS)
    assert opened.call("GET", "audit/records", by=stranger, query=asked).json["data"] == []
    decision = opened.call("GET", f"decisions/{denied['decision_id']}", by=owner).json
    assert (decision["allowed"], decision["code"], decision["tenant"]) == (False, "unknown_model", OURS)


# Cursors


@pytest.mark.requirement("ID-4")
def test_a_cursor_is_good_for_the_list_the_query_and_the_caller_it_was_given_to(world: tuple[Office, Things]) -> None:
    opened, things = world
    for _ in range(3):
        opened.made("keys", {"tenant": OURS, "models": ["*"]})
    page = opened.call("GET", "keys", query="limit=1", by=things.owner).json
    cursor = page["next_cursor"]
    assert opened.call("GET", "keys", query=f"limit=2&cursor={cursor}", by=things.owner).status == 200
    another = opened.person(Role.OWNER, tenant=OURS)
    misuses = [
        ("keys", f"cursor={cursor}", another),
        ("keys", f"cursor={cursor}", None),
        ("users", f"cursor={cursor}", things.owner),
        ("grants", f"cursor={cursor}", things.owner),
        ("keys", f"project=web&cursor={cursor}", things.owner),
    ]
    misuses += [("keys", f"cursor={quote(spoilt)}", things.owner) for spoilt in spoilt_of(cursor)]
    for path, query, by in misuses:
        answer = opened.call("GET", path, query=query, by=by)
        assert (answer.status, answer.json.get("param")) == (400, "cursor"), (path, query, answer)


def spoilt_of(cursor: str) -> Iterator[str]:
    """Every cursor that differs from this one in one character, and some that differ in more."""
    alphabet = string.ascii_letters + string.digits + "-_"
    for place in range(len(cursor)):
        yield cursor[:place] + alphabet[(alphabet.index(cursor[place]) + 1) % len(alphabet)] + cursor[place + 1 :]
    yield from (cursor + "A", cursor[:-1], cursor + "=", cursor * 2, "....", "é", " ", cursor + "\n")


# Hosts and paths

HOSTS = ("evil.example", "127.0.0.1/admin/v1/keys?", "localhost/livez#", "a/../livez", "livez", "x:y:z", "")
PATHS = (
    "/admin/v1/keys", "//admin/v1/keys", "/admin/v1//keys", "/admin//v1/keys", "/admin/v1/keys/",
    "/livez/../admin/v1/keys", "/admin/v1/../v1/keys", "/admin/v1/%6beys", "/admin%2fv1%2fkeys", "/admin/v1/keys%2f",
    "/./admin/v1/keys",
    "/livez/..%2fadmin/v1/keys", "/livez;/../admin/v1/keys", "/admin/v1/keys;x", "/metrics/%2e%2e/admin/v1/keys",
    "http://evil.example/livez/../admin/v1/keys", "http://127.0.0.1/admin/v1/keys",
    "http://evil.example/admin/v1/keys",
    "/livez%00/admin/v1/keys", "/admin/v1/keys?/livez", "/admin/v1/keys#/livez", "*", "/livez\\..\\admin\\v1\\keys",
)  # fmt: skip


@pytest.mark.requirement("ZT-2", "ID-1")
def test_cve_2026_48710_no_host_no_absolute_form_and_no_odd_path_passes_the_edge(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        key = gateway.create_key()["token"]
        virtual = request(gateway.admin_url, "GET", "/admin/v1/keys", key=key)
        assert virtual.status == 401
        for target, host in itertools.product(PATHS, HOSTS[:3]):
            for extra in ("", "X-Forwarded-Host: localhost\r\nX-Original-URL: /livez\r\nX-Rewrite-URL: /livez\r\n"):
                answer = raw(gateway, target, host, extra)
                status = int(answer.split(b" ", 2)[1])
                assert status in (400, 401, 421), (target, host, answer)
                assert b"slb_" not in answer
        for host in HOSTS:
            answer = raw(gateway, "/admin/v1/keys", host, f"Authorization: Bearer {gateway.admin_token}\r\n")
            status = int(answer.split(b" ", 2)[1])
            assert status in (400, 421), "on loopback no name is answered that nobody listed"
        known = raw(gateway, "/admin/v1/keys", "localhost:1", f"Authorization: Bearer {gateway.admin_token}\r\n")
        assert known.startswith(b"HTTP/1.1 200")
        assert raw(gateway, "/livez", "evil.example", "").startswith(b"HTTP/1.1 200")


def raw(gateway: GatewayProcess, target: str, host: str, extra: str) -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{extra}Connection: close\r\n\r\n"
    return raw_exchange(gateway.admin_port, head.encode("latin-1"))


def test_cve_2026_7663_no_method_and_no_second_way_to_a_route_is_less_guarded(world: tuple[Office, Things]) -> None:
    opened, things = world
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")
    nobody = opened.person(tenant=THEIRS)
    for method, route in guarded(opened):
        path = request_of(method, route, things).path
        for other in methods:
            for spelling in (path, f"{path}/", path.upper(), f"/{path}", f"{path}?x-http-method-override=GET"):
                where, _, query = spelling.partition("?")
                answer = opened.call(
                    other,
                    where,
                    by=("", ""),
                    query=query,
                    headers=[("x-http-method-override", "GET"), ("x-original-url", "/livez")],
                )
                assert answer.status == 401, (other, spelling, answer)
        ask = ask_of(route)
        if ask.permission not in (Permission.SELF, Permission.SCHEMA_READ):
            override = opened.call(
                method, path, BODIES.get(str(route.operation_id)), by=nobody, headers=[("if-match", "*")]
            )
            assert override.status in (403, 404), (method, path, override)


# Sizes


def test_what_is_too_large_or_too_deep_is_refused_before_it_is_understood(world: tuple[Office, Things]) -> None:
    opened, things = world
    owner = things.owner
    huge = json.dumps({"tenant": OURS, "models": ["*"], "name": "x" * (2 << 20)}).encode()
    deep = b'{"bundle": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b', "reason": "x", "tenant": "umbrella"}'
    many = json.dumps({"tenant": OURS, "models": ["m"] * 100_000}).encode()
    cases: list[tuple[str, str, bytes, int]] = [
        ("POST", "keys", huge, 413),
        ("POST", "policies", huge, 413),
        ("PUT", f"tenants/{OURS}/budgets/tenant:{OURS}", huge, 413),
        ("DELETE", f"keys/{things.ids['key_id']}", huge, 413),
        ("POST", "policies", deep, 400),
        ("POST", "keys", many, 422),
    ]
    for method, path, body, status in cases:
        answer = opened.call(method, path, raw=body, by=owner, headers=[("if-match", "*")])
        assert answer.status == status, (method, path, answer.status, answer.body[:300])
    for path in (f"keys/{'x' * 5_000}", f"tenants/{'y' * 5_000}/projects"):
        assert opened.call("GET", path, by=owner).status == 422
    answer = opened.call("GET", "keys", query="cursor=" + "A" * 100_000, by=owner)
    assert answer.status == 422
    token: Any = ("authorization", "Bearer " + "x" * 100_000)
    assert opened.call("GET", "keys", by=token).status == 401
