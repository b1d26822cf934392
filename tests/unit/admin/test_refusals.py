"""What is refused on the admin listener: a record before the answer, a count for strangers, bounds for a flood."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.admin.driver import RIGHT, WRONG, Answer, Desk, Header, Person, exchange
from tests.unit.clocks import ManualClock

from securellm.admin import refusals
from securellm.admin.refusals import SINGLE, Refusals
from securellm.audit import AdminDenied
from securellm.core.errors import Code, Fault
from securellm.core.hosts import Hosts
from securellm.identity import Role

KEYS = "/admin/v1/keys"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def told(record: AdminDenied) -> dict[str, Any]:
    """What a record says beyond what every refusal has."""
    fields = {name: value for name, value in msgspec.to_builtins(record).items() if value not in (None, [], ())}
    for name in ("type", "request_id", "client_ip", "reason", "times"):
        fields.pop(name, None)
    return fields


@pytest.mark.requirement("AU-1")
def test_a_missing_permission_is_recorded_with_who_asked_for_what_and_where(desk: Desk) -> None:
    person = desk.person(Role.AUDITOR)
    answer = desk.call("POST", KEYS, {"tenant": "acme", "models": ["*"]}, headers=[person.header])
    assert answer.status == 403
    (record,) = desk.denials
    assert told(record) == {
        "code": "forbidden",
        "method": "POST",
        "permission": "keys:write",
        "principal": person.user.principal,
        "route": KEYS,
        "tenant": "acme",
    }
    assert record.request_id == answer.headers["x-request-id"]
    assert (record.client_ip, record.times) == ("203.0.113.7", 1)
    assert record.reason == answer.json["detail"]
    assert desk.records == []
    assert desk.unknown == []


@pytest.mark.requirement("AU-1", "ID-1")
def test_what_is_another_tenants_is_recorded_for_ones_own_and_does_not_say_whose_it_is(desk: Desk) -> None:
    made = desk.call("POST", KEYS, {"tenant": "globex", "models": ["*"]}).json["id"]
    person = desk.person(Role.OWNER)
    assert desk.call("GET", f"{KEYS}/{made}", headers=[person.header]).status == 404
    assert desk.call("GET", f"{KEYS}/key_nobodys", headers=[person.header]).status == 404
    theirs, nobodys = desk.denials
    shared = {"code": "not_found", "method": "GET", "permission": "keys:read", "route": f"{KEYS}/{{key_id}}"}
    own = {"principal": person.user.principal, "tenant": "acme"}
    assert told(theirs) == {**shared, **own, "names": (made,)}
    assert told(nobodys) == {**shared, **own, "names": ("key_nobodys",)}
    assert theirs.reason == nobodys.reason


@pytest.mark.requirement("AU-1")
def test_the_tenant_that_a_caller_names_is_recorded_whether_or_not_it_is_there(desk: Desk) -> None:
    person = desk.person(Role.OWNER)
    for named in ("globex", "nowhere"):
        body = {"tenant": named, "models": ["*"]}
        assert desk.call("POST", KEYS, body, headers=[person.header]).status == 404
        assert desk.call("GET", KEYS, query=f"tenant={named}", headers=[person.header]).status == 404
    assert [record.asked_tenant for record in desk.denials] == ["globex", "globex", "nowhere", "nowhere"]
    assert {record.tenant for record in desk.denials} == {"acme"}


def test_what_the_host_is_refused_belongs_to_the_installation(desk: Desk) -> None:
    assert desk.call("DELETE", f"{KEYS}/{desk.declared.id}").status == 409
    (record,) = desk.denials
    assert (record.principal, record.tenant, record.code) == ("service:host", None, Code.MANAGED_BY_FILE)


@pytest.mark.requirement("AU-1")
@pytest.mark.parametrize(
    ("method", "path", "raw", "status", "route"),
    [
        ("GET", "/admin/v1/nothing", b"", 404, None),
        ("GET", "/", b"", 404, None),
        ("DELETE", KEYS, b"", 405, KEYS),
        ("POST", KEYS, b"{not json", 400, KEYS),
        ("POST", KEYS, b"{}", 422, KEYS),
        ("POST", KEYS, b'"' + b"x" * 1_200_000, 413, KEYS),
        ("BREW", KEYS, b"", 405, KEYS),
        ("PATCH", f"{KEYS}/key_1", b"{}", 428, f"{KEYS}/{{key_id}}"),
    ],
)
def test_whatever_else_is_refused_is_recorded_as_well(
    desk: Desk, method: str, path: str, raw: bytes, status: int, route: str | None
) -> None:
    answer = desk.call(method, path, raw=raw)
    assert answer.status == status
    (record,) = desk.denials
    assert (record.route, record.code.value) == (route, answer.json["code"])
    assert record.method == ("other" if method == "BREW" else method)


@pytest.mark.requirement("AU-1")
def test_what_a_caller_wrote_does_not_reach_the_record(desk: Desk) -> None:
    secret = "sla_0123abcd_" + "s" * 43
    asked: list[tuple[str, str, str, Any]] = [
        ("GET", f"{KEYS}/{secret}", "", None),
        ("GET", f"{KEYS}/sk-proj-{'s' * 20}", "", None),
        ("GET", f"{KEYS}/a\u00e9\n{secret}", "", None),
        ("GET", KEYS, f"tenant={secret}&x={secret}", None),
        ("POST", KEYS, "", {secret: secret, "tenant": secret}),
        ("POST", f"/{secret}", "", {}),
        ("GET", KEYS, f"cursor={secret}", None),
    ]
    for method, path, query, body in asked:
        headers: list[Header] = [RIGHT, ("user-agent", secret), ("x-note", secret)]
        assert desk.call(method, path, body, query=query, headers=headers).status >= 400
    assert len(desk.denials) == len(asked)
    text = msgspec.json.encode(desk.denials).decode()
    assert secret not in text
    assert "sssss" not in text


@pytest.mark.requirement("AU-1")
def test_a_refusal_that_cannot_be_recorded_is_no_answer(desk: Desk) -> None:
    person = desk.person(Role.DEVELOPER)
    desk.journal_failure = Fault(Code.AUDIT_UNAVAILABLE, "the journal is closed")
    for method, path in (("POST", KEYS), ("GET", f"{KEYS}/key_1"), ("GET", "/nowhere"), ("DELETE", KEYS)):
        answer = desk.call(method, path, headers=[person.header])
        assert (answer.status, answer.json["code"]) == (503, "audit_unavailable")
        assert answer.headers["connection"] == "close"
        assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert desk.denials == []


@pytest.mark.requirement("AU-1", "ID-1")
def test_strangers_are_counted_and_have_no_record_of_their_own(desk: Desk) -> None:
    for headers in ((), (WRONG,), (("authorization", "Basic x"),)):
        assert desk.call("GET", f"{KEYS}/key_1", headers=headers).status == 401
    assert desk.call("POST", "/admin/v1/setup", {}, headers=[WRONG]).status == 401
    assert desk.call("OPTIONS", "/livez", headers=[]).status == 405
    assert desk.unknown == [
        *[(Code.ADMIN_REQUIRED, "203.0.113.7")] * 4,
        (Code.METHOD_NOT_ALLOWED, "203.0.113.7"),
    ]
    assert desk.denials == []


def test_strangers_are_turned_away_while_the_journal_stands_still(desk: Desk) -> None:
    desk.journal_failure = Fault(Code.AUDIT_UNAVAILABLE, "the journal is closed")
    assert desk.call("GET", KEYS, headers=[]).status == 401


def test_what_succeeds_leaves_no_refusal(desk: Desk) -> None:
    assert desk.call("GET", KEYS).status == 200
    assert desk.call("POST", KEYS, {"tenant": "acme", "models": ["*"]}).status == 201
    desk.parts = []
    assert desk.call("GET", "/readyz", headers=[]).status == 200
    assert desk.denials == []
    assert desk.unknown == []


def test_an_approval_of_ones_own_proposal_is_recorded(desk: Desk) -> None:
    people = [desk.person(Role.OWNER) for _ in range(3)]
    body = {"principal": people[1].user.principal, "role": "developer", "tenant": "acme"}
    proposal = desk.call("POST", "/admin/v1/grants", body, headers=[people[0].header]).json
    path = f"/admin/v1/proposals/{proposal['id']}/approve"
    answer = desk.call("POST", path, {"digest": proposal["digest"]}, headers=[people[0].header])
    assert answer.status == 403
    (record,) = desk.denials
    assert (record.code, record.names, record.tenant) == (Code.FORBIDDEN, (proposal["id"],), "acme")
    assert record.route == "/admin/v1/proposals/{proposal_id}/approve"


# Looking


@pytest.mark.requirement("AU-1")
def test_who_looks_at_what_is_about_others_is_recorded_before_they_see(desk: Desk) -> None:
    officer = desk.person(Role.DPO)
    path = "/admin/v1/tenants/acme/preferences"
    answer = desk.call("GET", path, headers=[officer.header])
    assert answer.status == 200
    (look,) = desk.looks
    assert (look.resource, look.resource_id, look.tenant) == ("preferences", None, "acme")
    assert (look.actor, look.request_id) == (officer.user.principal, answer.headers["x-request-id"])
    # Of one's own there is nothing to record; that nothing is kept of somebody is an answer, too.
    for principal, looks in ((officer.user.principal, 1), ("user:usr_other", 2)):
        assert desk.call("GET", f"{path}/{principal}", headers=[officer.header]).status == 404
        assert len(desk.looks) == looks
    assert desk.looks[-1].resource_id == "user:usr_other"


@pytest.mark.requirement("AU-1")
def test_who_may_not_look_leaves_a_refusal_and_no_look(desk: Desk) -> None:
    person = desk.person(Role.DEVELOPER)
    for path in ("audit/records", "tenants/globex/preferences"):
        assert desk.call("GET", f"/admin/v1/{path}", headers=[person.header]).status in (403, 404)
    assert (len(desk.looks), len(desk.denials)) == (0, 2)


@pytest.mark.requirement("AU-1")
def test_nobody_looks_unseen(desk: Desk) -> None:
    desk.journal_failure = Fault(Code.AUDIT_UNAVAILABLE, "the journal is closed")
    for path in ("audit/records", "tenants/acme/preferences", "tenants/acme/preferences/user:usr_other"):
        answer = desk.call("GET", f"/admin/v1/{path}")
        assert (answer.status, answer.json["code"]) == (503, "audit_unavailable")


# A flood


def flood(times: int, *, fail: bool = False, principals: int = 1) -> tuple[list[AdminDenied], list[object]]:
    """So many refusals at once; what was recorded, and how each ended."""
    written: list[AdminDenied] = []

    async def record(denied: AdminDenied) -> None:
        await asyncio.sleep(0)
        if fail:
            raise Fault(Code.AUDIT_UNAVAILABLE, "the journal is closed")
        written.append(denied)

    async def scenario() -> list[object]:
        refusing = Refusals(record, clock=ManualClock())
        calls = [refusing.note(refusal(number, f"user:{number % principals}")) for number in range(times)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return written, asyncio.run(scenario())


def refusal(number: int, principal: str) -> AdminDenied:
    return AdminDenied(
        request_id=f"req_{number}",
        tenant=None,
        principal=principal,
        method="GET",
        route=KEYS,
        code=Code.FORBIDDEN,
        reason="no",
        client_ip=None,
    )


@pytest.mark.requirement("AU-1")
def test_a_flood_of_one_principal_shares_records_and_each_refusal_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_TOGETHER", 0.01)
    times = SINGLE.burst + 500
    written, ended = flood(times)
    assert ended == [None] * times
    assert len(written) == SINGLE.burst + 1
    assert sum(record.times for record in written) == times
    assert written[-1].times == 500


def test_a_flood_of_one_leaves_another_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_TOGETHER", 0.01)
    written, _ = flood(2 * SINGLE.burst, principals=2)
    assert all(record.times == 1 for record in written)
    assert len(written) == 2 * SINGLE.burst


def test_a_flood_that_cannot_be_recorded_has_no_answer_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_TOGETHER", 0.01)
    _, ended = flood(SINGLE.burst + 20, fail=True)
    assert all(isinstance(end, Fault) for end in ended)


def test_who_leaves_a_flood_takes_no_record_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_TOGETHER", 0.01)
    written: list[AdminDenied] = []

    async def record(denied: AdminDenied) -> None:
        written.append(denied)

    async def scenario() -> None:
        refusing = Refusals(record, clock=ManualClock())
        for number in range(SINGLE.burst):
            await refusing.note(refusal(number, "user:1"))
        first, second = (asyncio.ensure_future(refusing.note(refusal(number, "user:1"))) for number in (1, 2))
        await asyncio.sleep(0)
        first.cancel()
        await second

    asyncio.run(scenario())
    assert written[-1].times == 2


# Host


def hosted(folder: Path, *patterns: str) -> Desk:
    hosts = Hosts.of(patterns)
    return Desk(folder, hosts=lambda: hosts)


def ask(desk: Desk, path: str, *hosts: str, by: Person | None = None) -> Answer:
    headers: list[Header] = [RIGHT if by is None else by.header, *(("host", host) for host in hosts)]
    return asyncio.run(exchange(desk.app, "GET", path, headers=headers))


@pytest.mark.requirement("ZT-2")
@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (["admin.bank.example"], 200),
        (["ADMIN.Bank.Example:8443"], 200),
        (["admin.bank.example."], 200),
        (["a.ops.example"], 200),
        (["a.b.ops.example"], 200),
        (["localhost:8081"], 200),
        (["127.0.0.1"], 200),
        (["10.1.2.3:8081"], 200),
        (["[::1]:8081"], 200),
        (["[2001:db8::1]"], 200),
        (["ops.example"], 421),
        (["xops.example"], 421),
        (["evil.example"], 421),
        (["admin.bank.example.evil.example"], 421),
        (["xn--bnk-qla.example"], 421),
        (["127.1"], 421),
        (["2130706433"], 421),
        ([""], 400),
        (["a@admin.bank.example"], 400),
        (["evil.example%2fadmin.bank.example"], 400),
        (["admin.bank.example/x"], 400),
        (["admin.bank.example:80x"], 400),
        (["admin.bank.example, evil.example"], 400),
        (["b\u00e4nk.example"], 400),
        (["[::1"], 400),
        (["[evil.example]"], 400),
        (["admin.bank.example", "admin.bank.example"], 400),
    ],
)
def test_only_the_hosts_that_are_listed_are_answered(tmp_path: Path, hosts: list[str], status: int) -> None:
    desk = hosted(tmp_path, "admin.bank.example", "*.ops.example")
    answer = ask(desk, "/admin/v1/me", *hosts)
    assert answer.status == status, answer
    if status != 200:
        code = Code.MISDIRECTED if status == 421 else Code.INVALID_HEADER
        assert answer.json["code"] == code.value
        assert answer.json["param"] == "Host"
        assert "evil" not in answer.body.decode()
        # Whoever it was has not been looked at.
        assert desk.unknown == [(code, "203.0.113.7")]
        assert desk.denials == []
        assert desk.refused == []
    desk.close()


def test_probes_are_answered_by_any_name_and_metrics_are_not(tmp_path: Path) -> None:
    desk = hosted(tmp_path)
    for path in ("/livez", "/readyz", "/health"):
        assert ask(desk, path, "gateway.monitoring.svc").status == 200
    assert ask(desk, "/metrics", "gateway.monitoring.svc").status == 421
    assert ask(desk, "/metrics", "10.1.2.3:8081").status == 200
    desk.close()


def test_without_a_list_any_host_is_answered(desk: Desk) -> None:
    assert ask(desk, "/admin/v1/me", "whatever.example").status == 200
