"""Every live route of the admin API x every caller who must not pass: 401, 403 or 404 as designed, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update
from tests.flows.administration import CEDAR, ENGINES, OURS, THEIRS, Office, Person, Things, furnish, office
from tests.unit.admin.driver import Answer, Header

from securellm.admin.permissions import ask_of
from securellm.identity import PERMISSIONS, Permission, Role
from securellm.identity.tables import ACCESS_TOKENS

BUNDLE = {"policies": CEDAR}
QUESTION = {"action": "invoke", "resource": "m", "principal": "key:k", "tenant": OURS}
DIGEST = "0" * 64

BODIES: dict[str, Any] = {
    "create_tenant": {"id": "initech"},
    "replace_tenant": {"id": OURS},
    "update_tenant": {"name": "U"},
    "create_project": {"id": "app"},
    "update_project": {"name": "W"},
    "create_user": {"tenant": OURS},
    "update_user": {"name": "B"},
    "create_service": {"tenant": OURS},
    "update_service": {"name": "S"},
    "create_token": {},
    "create_key": {"tenant": OURS, "models": ["*"]},
    "update_key": {"name": "K"},
    "rotate_key": {},
    "create_provider": {"id": "other", "kind": "mock"},
    "replace_provider": {"id": "spare", "kind": "mock"},
    "update_provider": {"timeouts": {"idle": "9s"}},
    "create_model": {"name": "other", "route": [{"provider": "spare", "model": "echo"}]},
    "replace_model": {"name": "spare/model", "route": [{"provider": "spare", "model": "echo"}]},
    "update_model": {"max_output": 10},
    "create_budget": {"scope": "tenant", "target": OURS, "month": "6.00 USD"},
    "replace_budget": {"scope": "tenant", "target": OURS, "month": "7.00 USD"},
    "update_budget": {"month": "8.00 USD"},
    "create_limit": {"scope": "tenant", "target": OURS, "requests_per_minute": 5},
    "replace_limit": {"scope": "tenant", "target": OURS, "requests_per_minute": 6},
    "update_limit": {"requests_per_minute": 7},
    "create_grant": {"principal": "user:nobody", "role": "developer", "tenant": OURS},
    "create_policy": {"tenant": OURS, "bundle": BUNDLE, "reason": "because"},
    "validate_policy": {"bundle": BUNDLE},
    "diff_policy": {"tenant": OURS, "bundle": BUNDLE},
    "explain_policy": {"question": QUESTION},
    "enforce_policy": {"reason": "because"},
    "withdraw_policy": {"reason": "because"},
    "approve_proposal": {"digest": DIGEST},
    "reject_proposal": {},
    "withdraw_proposal": {},
}
"""A good body for every operation that takes one."""

WITHOUT_BODY = {"shadow_policy", "invite_user", "revoke_key", "revoke_token", "log_out"}

QUERIES = {
    "list_users", "list_services", "list_keys", "list_grants", "list_proposals", "list_audit_records",
    "list_policies", "get_policy", "explain_policy", "shadow_policy", "enforce_policy", "withdraw_policy",
}  # fmt: skip
"""Operations whose query names the tenant."""

NAMES = {"tenants": OURS, "providers": "spare", "models": "spare/model"}
ENTRY = {"set_up", "accept_invitation", "begin_login", "finish_login"}


class Request(NamedTuple):
    method: str
    path: str
    query: str
    body: Any


def request_of(method: str, route: APIRoute, things: Things) -> Request:
    """A good request for a route, about things of `OURS`."""
    name = str(route.operation_id)
    path = route.path.replace("{name:path}", "{name}")
    plural = route.path.removeprefix("/admin/v1/").split("/")[0]
    below = path.startswith("/admin/v1/tenants/{tenant}/")
    ids = {**things.ids, "name": f"tenant:{OURS}" if below else NAMES.get(plural, "")}
    body = BODIES.get(name)
    assert body is not None or method not in ("POST", "PUT", "PATCH") or name in WITHOUT_BODY, f"no body for {name}"
    return Request(method, path.format(**ids), f"tenant={OURS}" if name in QUERIES else "", body)


def send(opened: Office, asked: Request, by: "Person | Header") -> Answer:
    return opened.call(asked.method, asked.path, asked.body, by=by, query=asked.query, headers=[("if-match", "*")])


class World(NamedTuple):
    opened: Office
    things: Things


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with office(tmp_path_factory.mktemp("matrix"), request) as opened:
        yield World(opened, furnish(opened))


def guarded(opened: Office) -> Iterator[tuple[str, APIRoute]]:
    for method, route in opened.routes():
        if route.operation_id not in ENTRY:
            yield method, route


def refused(answer: Answer, status: int, code: str, what: object) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), (what, answer)
    assert answer.headers["content-type"] == "application/problem+json", what


@pytest.mark.requirement("ID-1", "ZT-2")
def test_no_route_takes_a_missing_wrong_revoked_expired_or_misplaced_credential(world: World) -> None:
    opened, things = world
    key = opened.made("keys", {"tenant": OURS, "models": ["*"]})["token"]
    revoked, expired, disabled = (opened.person(Role.OWNER) for _ in range(3))
    opened.call("POST", f"tokens/{revoked.issued.token.id}/revoke", by=revoked)
    opened.write(
        lambda session: session.run(
            update(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == expired.issued.token.id).values(expires_us=1)
        )
    )
    shut = opened.call("PATCH", f"users/{disabled.user.id}", {"disabled": True}, headers=[("if-match", "*")])
    assert shut.status == 200
    callers: list[tuple[Header, str]] = [
        (("", ""), "admin_required"),
        (("authorization", f"Bearer sla_wrong{'x' * 40}"), "admin_required"),
        (("authorization", f"Bearer {key}"), "admin_required"),
        (("authorization", f"Basic {things.owner.issued.secret}"), "admin_required"),
        (("x-api-key", things.owner.issued.secret), "admin_required"),
        (("cookie", f"slb_session={things.owner.issued.secret}"), "admin_required"),
        (revoked.header, "credential_revoked"),
        (disabled.header, "credential_revoked"),
        (expired.header, "credential_expired"),
    ]
    for method, route in opened.routes():
        asked = request_of(method, route, things) if route.operation_id not in ENTRY else None
        for credential, code in callers:
            if asked is not None:
                # A page of another origin is refused before its cookie is looked at.
                foreign = credential[0] == "cookie" and method != "GET"
                wanted = (403, "forbidden") if foreign else (401, code)
                refused(send(opened, asked, credential), *wanted, (method, route.path, credential))
            elif method == "POST":
                # What a one-time secret opens, no other credential does.
                answer = opened.call(method, route.path, raw=b"{not json", by=credential)
                refused(answer, 401, "admin_required", (method, route.path, credential))


@pytest.mark.requirement("ID-1", "ID-4")
def test_to_another_tenant_nothing_of_ours_exists(world: World) -> None:
    opened, things = world
    stranger = opened.person(Role.OWNER, tenant=THEIRS)
    seen = set()
    for method, route in guarded(opened):
        ask = ask_of(route)
        asked = request_of(method, route, things)
        if ask.of == "installation":
            refused(send(opened, asked, stranger), 403, "forbidden", (method, route.path))
        elif ask.of == "tenant" and (OURS in f"{asked.path}{asked.query}{asked.body}" or "{" in route.path):
            answer = send(opened, asked, stranger)
            refused(answer, 404, "not_found", (method, route.path))
            # Word for word what is said of a thing that nobody has.
            elsewhere = {**things.ids, **NOBODYS}
            absent = request_of(method, route, Things(elsewhere, things.owner))
            if absent.path != asked.path:
                nowhere = send(opened, absent, stranger)
                assert said(nowhere) == said(answer), (method, route.path)
            seen.add(route.operation_id)
    token = opened.call("GET", f"tokens/{things.owner.issued.token.id}", by=stranger)
    refused(token, 404, "not_found", "tokens")
    assert len(seen) > 40


NOBODYS = {
    "tenant": "nowhere",
    "project_id": "nothing",
    "user_id": "usr_nobody",
    "service_id": "svc_nobody",
    "key_id": "key_nobody",
    "grant_id": "grt_nobody",
    "proposal_id": "prp_nobody",
    "version_id": "f" * 64,
    "decision_id": "req_0123456789abcdefghjkmnpqrs",
    "principal": "user:usr_nobody",
}


def said(answer: Answer) -> tuple[int, dict[str, Any]]:
    return answer.status, {name: value for name, value in answer.json.items() if name != "request_id"}


@pytest.mark.requirement("ID-1", "ZT-2")
def test_a_lower_role_of_our_own_tenant_is_refused_and_not_told_that_nothing_is_there(world: World) -> None:
    opened, things = world
    people = {role: opened.person(role, tenant=OURS) for role in Role}
    checked = 0
    for method, route in guarded(opened):
        ask = ask_of(route)
        if ask.permission in (Permission.SELF, Permission.SCHEMA_READ) or ask.permission is None:
            continue
        asked = request_of(method, route, things)
        lower = [role for role in Role if ask.permission not in PERMISSIONS[role]]
        for role in lower if ask.of != "installation" else list(Role):
            refused(send(opened, asked, people[role]), 403, "forbidden", (method, route.path, role))
            checked += 1
    assert checked > 150


def test_who_holds_no_role_is_refused_everywhere_but_where_everyone_may(world: World) -> None:
    opened, things = world
    nobody = opened.person(tenant=OURS)
    for method, route in guarded(opened):
        if ask_of(route).permission in (Permission.SELF, Permission.SCHEMA_READ):
            continue
        refused(send(opened, request_of(method, route, things), nobody), 403, "forbidden", (method, route.path))


def test_no_change_was_made_by_any_of_them(world: World) -> None:
    opened, _ = world
    assert opened.call("GET", f"tenants/{OURS}").json.get("name") is None
    assert opened.call("GET", "tenants/initech").status == 404
    assert opened.call("GET", f"tenants/{OURS}/projects/app").status == 404


@pytest.fixture(params=ENGINES)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with office(tmp_path, request) as opened:
        yield World(opened, furnish(opened))


def test_every_route_answers_whom_it_is_for(fresh: World) -> None:
    opened, things = fresh
    everywhere, home = opened.person(Role.OWNER), things.owner
    routes = sorted(guarded(opened), key=lambda item: (item[1].operation_id == "revoke_token", ended(item[1])))
    for method, route in routes:
        asked = request_of(method, route, things)
        by = everywhere if ask_of(route).of == "installation" else home
        answer = send(opened, asked, by)
        name = str(route.operation_id)
        expected = EXPECTED.get(name, {200, 201, 202, 204})
        assert answer.status in expected, (method, route.path, answer)


def ended(route: APIRoute) -> bool:
    """Whether what it is about may be gone afterwards."""
    return str(route.operation_id).startswith(("delete_", "revoke_", "approve_", "reject_", "withdraw_"))


EXPECTED = {
    "log_out": {409},
    "create_budget": {409},
    "create_limit": {409},
    "create_policy": {409},
    "create_grant": {404},
    "invite_user": {409},
    "approve_proposal": {403},
    "reject_proposal": {403},
    "enforce_policy": {202},
    "delete_tenant": {204, 409},
    "delete_project": {204, 404},
    "delete_provider": {204, 409},
}
"""What is right to answer where the example is refused for a reason of its own."""
