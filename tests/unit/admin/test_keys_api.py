"""The resource /admin/v1/keys: a token is shown once, every change is recorded first, and the file is the file's."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.admin.driver import PEPPER, Answer, Desk

from securellm.audit import AdminChange, KeyChange
from securellm.core.errors import Code, Fault
from securellm.core.surfaces import Surface
from securellm.identity import Identities, KeyTable, Role, all_stored_keys

KEYS = "/admin/v1/keys"
ASKED: dict[str, Any] = {"tenant": "acme", "name": "payments", "models": ["gpt-4o-mini"]}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def create(desk: Desk, **changes: Any) -> Answer:
    return desk.call("POST", KEYS, {**ASKED, **changes})


def test_a_new_key_is_usable_and_its_token_is_shown_this_once(desk: Desk) -> None:
    answer = create(desk, surfaces=["chat", "embeddings", "chat"], models=["a", "b", "a"])
    assert answer.status == 201
    made = answer.json
    table = KeyTable.of(desk.control.read(lambda session: tuple(all_stored_keys(session))))
    identity = asyncio.run(Identities(PEPPER, desk.clock).identify(table, made["token"], surface=Surface.CHAT))
    assert (identity.tenant, identity.key_id, identity.models) == ("acme", made["id"], ("a", "b"))
    assert made["surfaces"] == ["chat", "embeddings"]
    assert made["created_at"] == "2027-01-15T08:00:00Z"
    assert made["managed_by"] == "api"
    for later in (desk.call("GET", f"{KEYS}/{made['id']}"), desk.call("GET", KEYS)):
        assert made["token"].encode() not in later.body
        assert b"digest" not in later.body
    shown = desk.call("GET", f"{KEYS}/{made['id']}").json
    assert shown == {name: value for name, value in made.items() if name not in ("token", "warnings")}
    assert made["warnings"] == ["acme has no model called a now", "acme has no model called b now"]


def test_no_record_no_key(desk: Desk) -> None:
    desk.journal_failure = Fault(Code.AUDIT_UNAVAILABLE, "the journal has failed")
    answer = create(desk)
    assert answer.status == 503
    assert answer.json["code"] == "audit_unavailable"
    assert b"slb_" not in answer.body
    assert desk.control.read(lambda session: tuple(all_stored_keys(session))) == ()
    assert desk.refreshed == 0


def test_creation_and_revocation_are_recorded_before_the_answer(desk: Desk) -> None:
    made = create(desk)
    desk.call("DELETE", f"{KEYS}/{made.json['id']}")
    created, admin, revoked, second = desk.records
    assert isinstance(created, KeyChange)
    assert isinstance(admin, AdminChange)
    assert (created.action, created.key_id, created.actor) == ("create", made.json["id"], "service:host")
    assert (admin.action, admin.resource, admin.resource_id) == ("create", "keys", made.json["id"])
    assert (admin.tenant, admin.request_id) == ("acme", made.headers["x-request-id"])
    assert admin.client_ip == "203.0.113.7"
    assert admin.before is None
    assert isinstance(revoked, KeyChange)
    assert isinstance(second, AdminChange)
    assert (revoked.action, revoked.key_id) == ("revoke", made.json["id"])
    assert second.before == admin.after != second.after
    assert made.json["token"] not in repr(desk.records)
    assert desk.refreshed == 2


def test_a_revocation_without_its_record_is_not_made(desk: Desk) -> None:
    made = create(desk).json
    desk.journal_failure = Fault(Code.AUDIT_UNAVAILABLE, "the journal has failed")
    assert desk.call("DELETE", f"{KEYS}/{made['id']}").status == 503
    assert desk.call("GET", f"{KEYS}/{made['id']}").json["revoked_at"] is None
    desk.journal_failure = None
    assert desk.call("DELETE", f"{KEYS}/{made['id']}").status == 200
    assert [record.action for record in desk.records if isinstance(record, KeyChange)] == ["create", "revoke"]


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", ""), ("POST", "/revoke")])
def test_revoking_twice_says_the_same(desk: Desk, method: str, suffix: str) -> None:
    made = create(desk).json
    first = desk.call(method, f"{KEYS}/{made['id']}{suffix}")
    desk.clock.advance(10)
    again = desk.call(method, f"{KEYS}/{made['id']}{suffix}")
    assert first.status == again.status == 200
    assert first.json == again.json
    assert first.json["revoked_at"] is not None


def test_a_declared_key_is_shown_and_left_to_the_file(desk: Desk) -> None:
    shown = desk.call("GET", f"{KEYS}/{desk.declared.id}").json
    assert (shown["managed_by"], shown["created_at"]) == ("file", None)
    for method, suffix in (("DELETE", ""), ("POST", "/revoke")):
        answer = desk.call(method, f"{KEYS}/{desk.declared.id}{suffix}")
        assert (answer.status, answer.json["code"]) == (409, "managed_by_file")
    assert desk.records == []


def test_an_unknown_key_is_not_found(desk: Desk) -> None:
    for method, suffix in (("GET", ""), ("DELETE", ""), ("POST", "/revoke")):
        answer = desk.call(method, f"{KEYS}/key_unknown{suffix}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "member", ["id", "digest", "token", "managed_by", "created_us", "created_at", "revoked_at", "permissions", "pepper"]
)
def test_members_a_caller_may_not_set_are_refused(desk: Desk, member: str) -> None:
    answer = create(desk, **{member: "x"})
    assert answer.status == 422
    assert answer.json["param"] == member
    assert [error["field"] for error in answer.json["errors"]] == [member]
    assert desk.records == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant": None}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"tenant": "acme\n"}, "tenant"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": 7}, "name"),
        ({"models": []}, "models"),
        ({"models": "*"}, "models"),
        ({"models": ["a b"]}, "models.0"),
        ({"models": ["x"] * 257}, "models"),
        ({"surfaces": ["chat", "fax"]}, "surfaces.1"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_never_repeated(
    desk: Desk, changes: dict[str, Any], field: str
) -> None:
    answer = create(desk, **changes)
    assert answer.status == 422, answer
    assert answer.json["param"] == field
    assert answer.json["code"] == "invalid_request"
    assert b"tomorrow" not in answer.body
    assert desk.records == []


def test_every_missing_member_is_named_at_once(desk: Desk) -> None:
    answer = desk.call("POST", KEYS, {})
    assert {error["field"] for error in answer.json["errors"]} == {"tenant", "models"}


def test_a_key_for_no_tenant_or_for_the_past_is_refused(desk: Desk) -> None:
    for changes, param in (({"tenant": "nobody"}, "tenant"), ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at")):
        answer = create(desk, **changes)
        assert (answer.status, answer.json["param"]) == (400, param)
    assert desk.records == []


def test_an_expiry_is_kept_to_the_microsecond_whatever_its_offset(desk: Desk) -> None:
    made = create(desk, expires_at="2030-06-01T09:00:00.000001-03:00").json
    assert made["expires_at"] == "2030-06-01T12:00:00.000001Z"


def test_pages_follow_one_another_and_end(desk: Desk) -> None:
    made = [create(desk, tenant="acme" if number % 2 else "globex").json["id"] for number in range(7)]
    seen: list[str] = []
    query = "limit=3"
    while True:
        page = desk.call("GET", KEYS, query=query).json
        seen += [key["id"] for key in page["data"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=3&cursor={page['next_cursor']}"
    assert seen == sorted([*made, desk.declared.id])
    globex = desk.call("GET", KEYS, query="tenant=globex").json["data"]
    assert {key["id"] for key in globex} == set(made[::2])


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "tenant=%00", "page=2", f"cursor={'x' * 1025}"])
def test_a_list_asked_for_wrongly_is_refused(desk: Desk, query: str) -> None:
    answer = desk.call("GET", KEYS, query=query)
    assert (answer.status, answer.json["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("cursor", ["%FF", "a", "....", "JyBPUiAxPTE=", "AAAA"])
def test_a_cursor_that_is_not_ours_is_refused(desk: Desk, cursor: str) -> None:
    answer = desk.call("GET", KEYS, query=f"cursor={cursor}")
    assert (answer.status, answer.json["param"]) == (400, "cursor")


def test_an_id_that_cannot_be_one_is_refused(desk: Desk) -> None:
    assert desk.call("GET", f"{KEYS}/{'x' * 65}").status == 422
    assert desk.call("GET", f"{KEYS}/a'b").status == 422


@pytest.mark.requirement("ID-1")
def test_a_key_that_speaks_as_a_person_is_theirs_or_of_who_administers_people(desk: Desk) -> None:
    developer, admin = desk.person(Role.DEVELOPER), desk.person(Role.ADMIN)
    theirs = {**ASKED, "user": admin.user.id}
    assert desk.call("POST", KEYS, theirs, headers=[developer.header]).status == 403
    assert desk.call("POST", KEYS, {**ASKED, "user": developer.user.id}, headers=[developer.header]).status == 201
    made = desk.call("POST", KEYS, theirs, headers=[admin.header]).json
    rotate = f"{KEYS}/{made['id']}/rotate"
    assert desk.call("POST", rotate, {}, headers=[developer.header]).status == 403
    assert desk.call("POST", rotate, {}, headers=[admin.header]).status == 200
    own = desk.call("POST", KEYS, {**ASKED, "user": developer.user.id}, headers=[admin.header]).json
    assert desk.call("POST", f"{KEYS}/{own['id']}/rotate", {}, headers=[developer.header]).status == 200
