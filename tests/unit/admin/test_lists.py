"""Lists: every page of them, and the cursor of one list in no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.admin.driver import Desk

from securellm.identity import Role
from securellm.storage import Session

TENANTS = "/admin/v1/tenants"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def test_a_tenant_that_is_gone_ends_no_list_early(desk: Desk) -> None:
    auditor = desk.person(of=None)

    def roles(session: Session) -> None:
        for tenant in ("aaa", "acme", "globex"):
            desk.directory._grant(session, auditor.user.principal, Role.AUDITOR, tenant=tenant, project=None, by="test")

    desk.control.write(roles)
    first = desk.call("GET", TENANTS, query="limit=1", headers=[auditor.header]).json
    assert [item["id"] for item in first["data"]] == ["acme"]
    second = desk.call("GET", TENANTS, query=f"limit=1&cursor={first['next_cursor']}", headers=[auditor.header]).json
    assert [item["id"] for item in second["data"]] == ["globex"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "other", ["/admin/v1/users?tenant=globex", "/admin/v1/services?tenant=acme", "/admin/v1/users"]
)
def test_the_cursor_of_one_list_goes_on_with_no_other(desk: Desk, other: str) -> None:
    for _ in range(2):
        assert desk.call("POST", "/admin/v1/users", {"tenant": "acme"}).status == 201
    cursor = desk.call("GET", "/admin/v1/users", query="tenant=acme&limit=1").json["next_cursor"]
    path, _, query = other.partition("?")
    assert desk.call("GET", path, query=f"{query}&limit=1&cursor={cursor}".lstrip("&")).status == 400
    assert desk.call("GET", "/admin/v1/users", query=f"tenant=acme&limit=1&cursor={cursor}").status == 200


@pytest.mark.parametrize("bound", ["since", "until"])
def test_a_bound_of_a_search_before_all_records_is_refused_by_its_own_name(desk: Desk, bound: str) -> None:
    answer = desk.call("GET", "/admin/v1/audit/records", query=f"{bound}=1969-12-31T23:59:59Z")
    assert (answer.status, answer.json["code"], answer.json["param"]) == (400, "invalid_request", bound)


def test_tokens_of_another_person_are_nobodys_to_issue_or_list_and_a_foreign_service_is_an_absent_one(
    desk: Desk,
) -> None:
    owner, other = desk.person(Role.OWNER), desk.person(Role.OWNER)
    foreign = desk.call("POST", "/admin/v1/services", {"tenant": "globex"}).json["principal"]
    for principal in (other.user.principal, "user:usr_nobody"):
        issued = desk.call("POST", "/admin/v1/tokens", {"principal": principal}, headers=[owner.header])
        listed = desk.call("GET", "/admin/v1/tokens", query=f"principal={principal}", headers=[owner.header])
        for answer in (issued, listed):
            assert (answer.status, answer.json["code"]) == (403, "forbidden")
            assert "for that person alone" in answer.json["detail"]
    said = set()
    for principal in (foreign, "service:svc_nobody"):
        issued = desk.call("POST", "/admin/v1/tokens", {"principal": principal}, headers=[owner.header])
        listed = desk.call("GET", "/admin/v1/tokens", query=f"principal={principal}", headers=[owner.header])
        said |= {(answer.status, answer.json["detail"]) for answer in (issued, listed)}
    assert said == {(404, "no service has this id")}
    held = desk.call("GET", "/admin/v1/tokens", headers=[other.header]).json["data"][0]["id"]
    for token_id in (held, "tok_nobody"):
        answer = desk.call("GET", f"/admin/v1/tokens/{token_id}", headers=[owner.header])
        assert (answer.status, answer.json["detail"]) == (404, "no access token has this id")
