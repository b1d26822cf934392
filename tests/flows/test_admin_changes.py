"""Changes through the live admin API: recorded, in force before the answer, done once, by two where it takes two."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select
from tests.flows.administration import CEDAR, ENGINES, OURS, THEIRS, Office, Person, office
from tests.harness import GatewayProcess, governed, request
from tests.unit.admin.driver import Answer, exchange

from securellm.admin import CHANGED, digest_of
from securellm.bootstrap.recorded import Recorded
from securellm.core.errors import Code, Fault
from securellm.identity import Role
from securellm.storage import CommitUncertain, ControlStore, Session


@pytest.fixture(params=ENGINES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path, request) as made:
        yield made


def current(opened: Office, path: str, **options: Any) -> list[tuple[str, str]]:
    """The `If-Match` of what is there now."""
    answer = opened.call("GET", path, **options)
    assert answer.status == 200, answer
    return [("if-match", answer.headers["etag"])]


# In force, and on record


@pytest.mark.requirement("ID-1", "AU-1")
def test_a_change_is_in_force_and_on_record_with_digests_before_it_is_answered(opened: Office) -> None:
    key = opened.made("keys", {"tenant": OURS, "models": ["chat"]})
    assert opened.app.gates.snapshots.read().keys.get(key["id"]) is not None
    assert opened.ask(key["token"], "messages").status == 403
    assert opened.ask(key["token"], "messages").json["error"]["code"] == "model_not_allowed"
    before = opened.call("GET", f"keys/{key['id']}")
    changed = opened.call(
        "PATCH", f"keys/{key['id']}", {"models": ["messages"]}, headers=[("if-match", before.headers["etag"])]
    )
    assert changed.status == 200
    assert opened.ask(key["token"], "chat").json["error"]["code"] == "model_not_allowed"
    opened.call("POST", f"keys/{key['id']}/revoke")
    assert opened.ask(key["token"], "chat").json["error"]["code"] == "revoked_key"
    revoked, updated, created = opened.admin_records()[:3]
    assert [record["action"] for record in (created, updated, revoked)] == ["create", "update", "revoke"]
    for record in (created, updated, revoked):
        assert (record["resource"], record["resource_id"], record["tenant"]) == ("keys", key["id"], OURS)
        assert record["actor"] == "service:host"
        assert record["undone"] is False
    assert created["before"] is None
    assert created["after"] == updated["before"] == digest_of(before.json)
    assert (
        updated["after"]
        == revoked["before"]
        == digest_of({name: value for name, value in changed.json.items() if name != "warnings"})
    )
    assert updated["request_id"] == changed.headers["x-request-id"]


@pytest.mark.requirement("ID-2")
def test_a_rotated_key_keeps_its_former_token_for_the_overlap_and_no_longer_once_rotated_again(
    opened: Office,
) -> None:
    key = opened.made("keys", {"tenant": OURS, "models": ["chat"]})
    second = opened.made(f"keys/{key['id']}/rotate", {"overlap_seconds": 600})
    assert second["token"] != key["token"]
    refusals = [opened.ask(token, "nothing").json["error"]["code"] for token in (key["token"], second["token"])]
    assert refusals == ["unknown_model", "unknown_model"]
    third = opened.made(f"keys/{key['id']}/rotate", {})
    refusals = [
        opened.ask(token, "nothing").json["error"]["code"] for token in (key["token"], second["token"], third["token"])
    ]
    assert refusals == ["invalid_key", "invalid_key", "unknown_model"]


def test_a_tenant_a_provider_and_a_model_of_the_api_serve_requests_at_once(opened: Office) -> None:
    opened.made("providers", {"id": "pretend", "kind": "mock"})
    opened.made("models", {"name": "pretend/echo", "route": [{"provider": "pretend", "model": "echo"}]})
    opened.made("tenants", {"id": "initech", "models": ["pretend/echo"]})
    key = opened.made("keys", {"tenant": "initech", "models": ["*"]})
    assert opened.ask(key["token"], "pretend/echo").status == 200
    in_use = opened.call("DELETE", "providers/pretend", headers=current(opened, "providers/pretend"))
    assert (in_use.status, in_use.json["code"]) == (409, "conflict")
    for path in ("tenants/acme", "providers/openai", "models/chat"):
        for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
            answer = opened.call(method, path, body, headers=[("if-match", "*")])
            assert (answer.status, answer.json["code"]) == (409, "managed_by_file"), path
        assert opened.call("GET", path).json["managed_by"] == "file"
    again = opened.call("POST", "tenants", {"id": "acme"})
    assert (again.status, again.json["code"]) == (409, "managed_by_file")


def test_a_tenant_is_removed_only_when_nothing_of_it_could_wake_again(opened: Office) -> None:
    opened.made("tenants", {"id": "initech"})
    key = opened.made("keys", {"tenant": "initech", "models": ["*"]})
    user = opened.made("users", {"tenant": "initech", "name": "Peter"})
    at = current(opened, "tenants/initech")
    refused = opened.call("DELETE", "tenants/initech", headers=at)
    assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert "1 virtual keys" in refused.json["detail"]
    assert "1 users" in refused.json["detail"]
    assert opened.call("POST", f"keys/{key['id']}/revoke").status == 200
    assert opened.call("DELETE", f"users/{user['id']}", headers=current(opened, f"users/{user['id']}")).status == 204
    assert opened.call("DELETE", "tenants/initech", headers=current(opened, "tenants/initech")).status == 204
    opened.made("tenants", {"id": "initech"})
    assert opened.ask(key["token"], "chat").status == 401


def test_a_declaration_that_does_not_fit_is_refused_with_everything_that_is_wrong(opened: Office) -> None:
    body = {"name": "m", "route": [{"provider": "nobody", "model": "x"}], "retries": -1, "speed": "high"}
    answer = opened.call("POST", "models", body, headers=[("accept-language", "fr, pt-BR;q=0.9, en;q=0.5")])
    assert answer.status == 422
    assert {error["field"] for error in answer.json["errors"]} >= {"retries", "speed"}
    assert answer.json["remedy"] == Code.INVALID_REQUEST.spec.remedy_pt
    assert answer.headers["content-language"] == "pt-BR"
    assert opened.call("POST", "tenants", {"id": "x", "managed_by": "file"}).status == 422


# Conditions


def test_a_change_says_what_it_is_based_on_or_is_not_made(opened: Office) -> None:
    path = f"tenants/{OURS}"
    first = opened.call("GET", path).headers["etag"]
    missing = opened.call("PATCH", path, {"name": "A"})
    assert (missing.status, missing.json["code"]) == (428, "precondition_required")
    assert opened.call("PATCH", path, {"name": "A"}, headers=[("if-match", first)]).status == 200
    for tag in (first, f"W/{first}", '"0"', first.replace('"', '"x', 1), '""'):
        for method in ("PATCH", "PUT", "DELETE"):
            answer = opened.call(method, path, {"id": OURS, "name": "B"}, headers=[("if-match", tag)])
            assert (answer.status, answer.json["code"]) == (412, "precondition_failed"), (tag, method)
    for tag in (first.strip('"'), '"', "1", "' OR 1=1", '"a" "b"'):
        answer = opened.call("PATCH", path, {"name": "B"}, headers=[("if-match", tag)])
        assert (answer.status, answer.json["code"]) == (400, "invalid_header"), tag
    twice = [("if-match", first), ("if-match", "*")]
    assert opened.call("PATCH", path, {"name": "B"}, headers=twice).status == 400
    assert opened.call("GET", path).json["name"] == "A"


def test_what_is_deleted_and_made_again_is_another_thing(opened: Office) -> None:
    path = f"tenants/{OURS}/projects"
    opened.made(path, {"id": "web"})
    first = opened.call("GET", f"{path}/web").headers["etag"]
    assert opened.call("DELETE", f"{path}/web", headers=[("if-match", first)]).status == 204
    opened.made(path, {"id": "web"})
    answer = opened.call("PATCH", f"{path}/web", {"name": "new"}, headers=[("if-match", first)])
    assert answer.status == 412


# Once


@pytest.mark.requirement("ID-1")
def test_a_request_with_an_idempotency_key_is_done_once(opened: Office) -> None:
    key = [("idempotency-key", "make-web")]
    path = f"tenants/{OURS}/projects"
    first = opened.call("POST", path, {"id": "web"}, headers=key)
    again = opened.call("POST", path, {"id": "web"}, headers=key)
    assert first.status == again.status == 201
    assert again.body == first.body
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    other = opened.call("POST", path, {"id": "app"}, headers=key)
    assert (other.status, other.json["code"]) == (422, "idempotent_mismatch")
    elsewhere = opened.call("POST", f"tenants/{THEIRS}/projects", {"id": "web"}, headers=key)
    assert (elsewhere.status, elsewhere.json["code"]) == (422, "idempotent_mismatch")
    somebody = opened.person(Role.OWNER, tenant=OURS)
    own = opened.call("POST", path, {"id": "app"}, headers=key, by=somebody)
    assert own.status == 201, "the key of another caller is another key"
    assert sum(record["resource"] == "projects" for record in opened.admin_records()) == 2


def test_a_refused_request_leaves_its_key_free(opened: Office) -> None:
    key = [("idempotency-key", "try")]
    path = f"tenants/{OURS}/projects"
    assert opened.call("POST", path, {"id": "not an id"}, headers=key).status == 422
    assert opened.call("POST", path, {"id": "web"}, headers=key).status == 201
    for bad in ("", "a b", "é", "x" * 256):
        answer = opened.call("POST", path, {"id": "app"}, headers=[("idempotency-key", bad)])
        assert (answer.status, answer.json["code"]) == (400, "invalid_header"), bad


def test_a_secret_is_shown_once_even_to_who_repeats_the_request(opened: Office) -> None:
    key = [("idempotency-key", "k1")]
    first = opened.call("POST", "keys", {"tenant": OURS, "models": ["*"]}, headers=key)
    again = opened.call("POST", "keys", {"tenant": OURS, "models": ["*"]}, headers=key)
    assert first.status == 201
    assert (again.status, again.json["code"]) == (409, "idempotent_result_expired")
    other = opened.call("POST", "keys", {"tenant": THEIRS, "models": ["*"]}, headers=key)
    assert (other.status, other.json["code"]) == (422, "idempotent_mismatch")


def test_two_requests_with_one_key_at_once_do_it_once(opened: Office) -> None:
    headers = [opened.host, ("idempotency-key", "race"), ("content-type", "application/json")]
    body = json.dumps({"id": "web"}).encode()

    async def both() -> list[Answer]:
        asked = (
            exchange(opened.admin, "POST", f"/admin/v1/tenants/{OURS}/projects", headers=headers, chunks=[body])
            for _ in range(5)
        )
        return await asyncio.gather(*asked)

    answers = opened.run(both())
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    assert {answer.json["code"] for answer in answers if answer.status == 409} == {"idempotent_in_flight"}


# Two people


def grant_of(opened: Office, person: Person) -> dict[str, Any]:
    return {"principal": person.principal, "role": "developer", "tenant": OURS, "reason": "joins us"}


@pytest.mark.requirement("AP-1", "ID-1")
def test_a_role_is_given_when_a_second_person_approves_exactly_what_was_proposed(opened: Office) -> None:
    first, second = (opened.person(Role.OWNER, tenant=OURS) for _ in range(2))
    new = opened.person(tenant=OURS)
    asked = opened.call("POST", "grants", grant_of(opened, new), by=first)
    assert asked.status == 202
    proposal = asked.json
    assert (proposal["state"], proposal["missing"]) == ("pending", 1)
    assert asked.headers["location"] == f"/admin/v1/proposals/{proposal['id']}"
    path = f"proposals/{proposal['id']}/approve"
    yes = {"digest": proposal["digest"], "note": "known to me"}
    own = opened.call("POST", path, yes, by=first)
    assert (own.status, own.json["code"]) == (403, "forbidden"), "nobody approves their own"
    host = opened.call("POST", path, yes)
    assert (host.status, host.json["code"]) == (403, "forbidden"), "the host is no person"
    blind = opened.call("POST", path, {"digest": "0" * 64}, by=second)
    assert (blind.status, blind.json["code"]) == (412, "precondition_failed")
    assert opened.call("GET", "keys", query=f"tenant={OURS}", by=new).status == 403
    done = opened.call("POST", path, yes, by=second)
    assert done.status == 200
    assert (done.json["state"], done.json["decided_by"]) == ("executed", second.principal)
    assert opened.call("GET", "keys", query=f"tenant={OURS}", by=new).status == 200
    again = opened.call("POST", path, yes, by=opened.person(Role.OWNER, tenant=OURS))
    assert (again.status, again.json["code"]) == (409, "conflict"), "an approval is used once"
    grant, approve = None, None
    for record in opened.admin_records():
        if record["resource"] == "grants":
            grant = record
        elif record["action"] == "approve":
            approve = record
    assert grant is not None
    assert approve is not None
    assert (grant["actor"], grant["approval"]) == (first.principal, proposal["id"])
    assert (approve["actor"], approve["approval"]) == (second.principal, proposal["id"])
    assert grant["request_id"] == approve["request_id"]


@pytest.mark.requirement("AP-1")
def test_a_proposal_gives_no_more_than_its_requester_may_give_when_it_is_approved(opened: Office) -> None:
    first, second = (opened.person(Role.OWNER, tenant=OURS) for _ in range(2))
    admin, new = opened.person(Role.ADMIN, tenant=OURS), opened.person(tenant=OURS)
    above = opened.call("POST", "grants", {**grant_of(opened, new), "role": "owner"}, by=admin)
    assert (above.status, above.json["code"]) == (403, "forbidden")
    beyond = opened.call("POST", "grants", {**grant_of(opened, new), "tenant": None}, by=first)
    assert (beyond.status, beyond.json["code"]) == (403, "forbidden")
    proposal = opened.made("grants", grant_of(opened, new), by=admin)
    shut = opened.call("PATCH", f"users/{admin.user.id}", {"disabled": True}, by=second, headers=[("if-match", "*")])
    assert shut.status == 200
    late = opened.call("POST", f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]}, by=second)
    assert (late.status, late.json["code"]) == (409, "conflict"), "who proposed it may do nothing any more"
    assert opened.call("GET", "keys", query=f"tenant={OURS}", by=new).status == 403


@pytest.mark.requirement("AP-1")
def test_a_proposal_can_be_rejected_withdrawn_and_runs_out_as_a_no(opened: Office) -> None:
    first, second = (opened.person(Role.OWNER, tenant=OURS) for _ in range(2))
    news = [opened.person(tenant=OURS) for _ in range(3)]
    rejected, withdrawn, waiting = (opened.made("grants", grant_of(opened, new), by=first) for new in news)
    assert opened.call("POST", f"proposals/{rejected['id']}/reject", {}, by=second).json["state"] == "rejected"
    not_own = opened.call("POST", f"proposals/{withdrawn['id']}/withdraw", {}, by=second)
    assert not_own.status == 403
    assert opened.call("POST", f"proposals/{withdrawn['id']}/withdraw", {}, by=first).json["state"] == "withdrawn"
    for ended in (rejected, withdrawn):
        answer = opened.call("POST", f"proposals/{ended['id']}/approve", {"digest": ended["digest"]}, by=second)
        assert answer.status == 409
    pending = opened.call("GET", "proposals", query=f"tenant={OURS}&pending=true", by=second).json["data"]
    assert [item["id"] for item in pending] == [waiting["id"]]


@pytest.mark.requirement("AP-1")
def test_what_a_service_proposes_takes_two_people(opened: Office) -> None:
    first, second = (opened.person(Role.OWNER, tenant=OURS) for _ in range(2))
    service = opened.made("services", {"tenant": OURS})
    role = {"principal": service["principal"], "role": "owner", "tenant": OURS}
    proposal = opened.made("grants", role, by=first)
    opened.made(f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]}, by=second)
    token = opened.made("tokens", {"principal": service["principal"]}, by=first)["token"]
    new = opened.person(tenant=OURS)
    asked = opened.made("grants", grant_of(opened, new), by=("authorization", f"Bearer {token}"))
    assert asked["missing"] == 2
    yes = {"digest": asked["digest"]}
    one = opened.made(f"proposals/{asked['id']}/approve", yes, by=first)
    assert (one["state"], one["missing"]) == ("pending", 1)
    assert opened.call("POST", f"proposals/{asked['id']}/approve", yes, by=first).status == 409
    assert opened.made(f"proposals/{asked['id']}/approve", yes, by=second)["state"] == "executed"


@pytest.mark.requirement("AP-1", "ID-1")
def test_the_glass_is_broken_on_the_host_only_with_a_reason_and_only_while_too_few_people_are_there(
    opened: Office,
) -> None:
    glass = ("x-break-glass", "the first two people")
    first, second, third = (opened.person(tenant=OURS) for _ in range(3))
    owner = {"role": "owner", "tenant": OURS}
    asked = opened.call("POST", "grants", {**owner, "principal": first.principal})
    assert (asked.status, asked.json["code"]) == (403, "approval_required")
    empty = opened.call("POST", "grants", {**owner, "principal": first.principal}, headers=[(glass[0], "  ")])
    assert (empty.status, empty.json["code"]) == (403, "forbidden")
    done = opened.call("POST", "grants", {**owner, "principal": first.principal}, headers=[glass])
    assert done.status == 201
    person = opened.call("POST", "grants", {**owner, "principal": second.principal}, headers=[glass], by=first)
    assert (person.status, person.json["code"]) == (403, "forbidden"), "an owner is not the host"
    proposal = opened.made("grants", {**owner, "principal": second.principal}, by=first)
    alone = opened.call("POST", f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]}, headers=[glass])
    assert alone.status == 200, alone
    whole = opened.call("POST", "grants", {**owner, "principal": third.principal}, headers=[glass])
    assert (whole.status, whole.json["code"]) == (403, "forbidden"), "two people are there"
    elsewhere = opened.call("POST", "keys", {"tenant": OURS, "models": ["*"]}, headers=[glass])
    assert (elsewhere.status, elsewhere.json["code"]) == (400, "invalid_header")
    broken = [record for record in opened.admin_records() if record["break_glass"] is not None]
    assert {record["break_glass"] for record in broken} == {glass[1]}
    metrics = opened.call("GET", "/metrics").body.decode()
    assert 'admin_break_glass_total{action="create"} 1.0' in metrics
    assert 'admin_break_glass_total{action="approve"} 1.0' in metrics


@pytest.mark.requirement("AP-1", "PO-1")
def test_a_policy_is_enforced_by_a_second_person_and_decides_at_once(opened: Office) -> None:
    first, second = (opened.person(Role.OWNER, tenant=OURS) for _ in range(2))
    key = opened.made("keys", {"tenant": OURS, "models": ["*"]})
    denies = '@id("no_chat")\nforbid (principal, action, resource == Model::"chat");\n' + CEDAR
    tested = opened.call("POST", "policy/validate", {"bundle": {"policies": denies}}, by=first)
    assert tested.status == 200, tested
    if not tested.json["ok"]:
        denies = '@id("none")\nforbid (principal, action, resource);\n'
    draft = opened.made("policies", {"tenant": OURS, "bundle": {"policies": denies}, "reason": "stop"}, by=first)
    path, query = f"policies/{draft['id']}", f"tenant={OURS}"
    early = opened.call("POST", f"{path}/enforce", {}, query=query, by=first)
    assert (early.status, early.json["code"]) == (409, "conflict"), "what was never tried cannot be enforced"
    assert opened.call("POST", f"{path}/shadow", query=query, by=first).json["state"] == "shadow"
    proposal = opened.call("POST", f"{path}/enforce", {"reason": "go"}, query=query, by=first)
    assert proposal.status == 202, proposal
    yes = {"digest": proposal.json["digest"]}
    done = opened.call("POST", f"proposals/{proposal.json['id']}/approve", yes, by=second)
    assert done.status == 200, done
    assert opened.call("GET", path, query=query, by=first).json["state"] == "enforced"
    refused = opened.ask(key["token"], "chat")
    assert refused.json["error"]["code"] == "policy_denied", refused
    ended = opened.call("POST", f"{path}/withdraw", {}, query=query, by=second)
    assert ended.status == 202
    broken = {"policies": {"a": "permit (principal, action, resource"}}
    assert opened.call("POST", "policy/validate", {"bundle": broken}, by=first).json["ok"] is False
    assert opened.call("POST", "policies", {"tenant": OURS, "bundle": broken, "reason": "x"}, by=first).status == 422


# Crashes


class Breaking(ControlStore):
    """A control database whose COMMIT fails after the record was made durable."""

    def __init__(self, real: ControlStore, error: BaseException, *, after: bool) -> None:
        self._real = real
        self._error = error
        self._after = after

    def read(self, query: Any, **options: Any) -> Any:
        return self._real.read(query, **options)

    def write(self, change: Any, **options: Any) -> Any:
        if options.get("before_commit") is None:
            return self._real.write(change, **options)
        if self._after:
            self._real.write(change, **options)
            raise self._error
        record = options.pop("before_commit")

        def fail(changed: Any) -> None:
            record(changed)
            raise self._error

        return self._real.write(change, before_commit=fail, **options)


@pytest.mark.requirement("AU-1")
def test_a_change_whose_commit_fails_is_marked_undone_and_one_whose_answer_was_lost_is_made(opened: Office) -> None:
    real, fault = opened.app.follower.store, Fault(Code.STORAGE_UNAVAILABLE, "the disk failed")
    assert real is not None
    opened.app.follower.store = Breaking(real, fault, after=False)
    failed = opened.call("POST", "tenants", {"id": "initech"})
    opened.app.follower.store = Breaking(real, fault, after=True)
    made = opened.call("POST", "tenants", {"id": "hooli2"})
    opened.app.follower.store = real
    assert (failed.status, failed.json["code"]) == (503, "storage_unavailable")
    assert made.status == 201
    assert opened.call("GET", "tenants/initech").status == 404
    assert opened.call("GET", "tenants/hooli2").status == 200
    records = opened.admin_records()[:3]
    assert [(record["resource_id"], record["undone"]) for record in records] == [
        ("hooli2", False),
        ("initech", True),
        ("initech", False),
    ]


@pytest.mark.requirement("AU-1", "AU-4")
def test_what_a_dead_process_recorded_and_never_made_is_settled_at_the_next_start(opened: Office) -> None:
    real = opened.app.follower.store
    assert real is not None

    class Died(BaseException):
        pass

    class Dead(Breaking):
        """A database that nobody asks any more."""

        def read(self, query: Any, **options: Any) -> Any:
            raise Died

    opened.app.follower.store = Dead(real, Died(), after=False)
    with pytest.raises(Died):
        opened.call("POST", "tenants", {"id": "initech"})
    opened.app.follower.store = real
    next_process = Recorded(lambda: real, record=lambda records: opened.app.record_now(*records))
    assert next_process.settle(opened.app.data.audit, since_us=0) == 1
    assert next_process.settle(opened.app.data.audit, since_us=0) == 0
    newest = opened.admin_records()[0]
    assert (newest["resource_id"], newest["undone"]) == ("initech", True)
    assert opened.call("POST", "tenants", {"id": "initech"}).status == 201


@pytest.mark.requirement("AU-1", "ID-1")
@pytest.mark.parametrize("made", [False, True])
def test_a_key_whose_creation_is_in_doubt_is_made_once_and_its_token_shown_at_most_once(
    opened: Office, made: bool
) -> None:
    real, lost = opened.app.follower.store, CommitUncertain("it")
    assert real is not None

    class Silent(Breaking):
        """Falls silent in the COMMIT."""

        silent = False

        def read(self, query: Any, **options: Any) -> Any:
            if self.silent:
                raise lost
            return super().read(query, **options)

        def write(self, change: Any, **options: Any) -> Any:
            self.silent = True
            return super().write(change, **options)

    wanted, sent = {"tenant": OURS, "models": ["chat"], "name": "doubtful"}, [("idempotency-key", "k1")]
    opened.app.follower.store = Silent(real, lost, after=made)
    doubtful = opened.call("POST", "keys", wanted, headers=sent)
    assert (doubtful.status, doubtful.json["code"]) == (503, "storage_unavailable")
    assert "token" not in doubtful.json
    opened.app.follower.store = real
    again = opened.call("POST", "keys", wanted, headers=sent)
    if made:
        assert (again.status, again.json["code"]) == (409, "idempotent_result_expired"), "made, and shown to nobody"
    else:
        assert again.status == 201
        assert opened.ask(again.json["token"], "messages").json["error"]["code"] == "model_not_allowed"
    keys = [key for key in opened.call("GET", "keys", query=f"tenant={OURS}").json["data"] if key["name"] == "doubtful"]
    assert len(keys) == 1
    if made:
        # Nobody has its token, so it is given another one.
        present = [("if-match", opened.call("GET", f"keys/{keys[0]['id']}").headers["etag"])]
        rotated = opened.call("POST", f"keys/{keys[0]['id']}/rotate", {"overlap_seconds": 0}, headers=present)
        assert rotated.status in (200, 201), rotated
    opened.made("tenants", {"id": "initech"})
    undone = [record["undone"] for record in reversed(opened.admin_records()) if record["resource"] == "keys"]
    assert undone == [False, False] if made else undone == [False, True, False]


@pytest.mark.requirement("AU-1", "ST-1")
def test_a_log_and_a_database_of_different_days_are_told_apart(opened: Office, tmp_path: Path) -> None:
    """Whichever of the two was restored without the other."""
    recorded, older = opened.app.recorded, tmp_path / "older.db"
    with closing(sqlite3.connect(opened.app.data.audit)) as log, closing(sqlite3.connect(older)) as copy:
        log.backup(copy)
    assert not recorded.is_ahead_of(older)
    opened.made("tenants", {"id": "initech"})
    assert recorded.is_ahead_of(older)
    assert not recorded.is_ahead_of(opened.app.data.audit)

    class Older(Breaking):
        """As it was before the last change."""

        def read(self, query: Any, **options: Any) -> Any:
            return self.write(query, **options)

        def write(self, change: Any, **options: Any) -> Any:
            def then(session: Session) -> Any:
                session.run(delete(CHANGED).where(CHANGED.c.made_us >= made_us))
                return change(session)

            return super().write(then, **options)

    (made_us,) = opened.app.control.read(lambda session: session.rows(select(func.max(CHANGED.c.made_us))))[0]
    restored = Older(opened.app.control, AssertionError(), after=False)
    next_process = Recorded(lambda: restored, record=lambda records: opened.app.record_now(*records))
    assert next_process.settle(opened.app.data.audit, since_us=0) == 1
    newest = opened.admin_records()[0]
    assert (newest["resource_id"], newest["undone"]) == ("initech", True)


def test_without_the_journal_nothing_is_changed(opened: Office) -> None:
    opened.app._writer.close()
    answer = opened.call("POST", "tenants", {"id": "initech"})
    assert (answer.status, answer.json["code"]) == (503, "audit_unavailable")
    assert "initech" not in {item["id"] for item in opened.call("GET", "tenants").json["data"]}
    # Nor can it be said that something is not there: that would need a record, too.
    assert opened.call("GET", "tenants/initech").json["code"] == "audit_unavailable"


# The way in


def test_the_first_start_offers_a_set_up_token_which_makes_one_owner(tmp_path: Path) -> None:
    def ask(gateway: GatewayProcess, method: str, path: str, token: str, body: object = None) -> Any:
        headers = {"authorization": f"Bearer {token}"}
        return request(gateway.admin_url, method, f"/admin/v1/{path}", body=body, headers=headers)

    with governed(tmp_path) as (gateway, _):
        file = gateway.data_dir / "keys" / "setup-token"
        secret = file.read_text(encoding="ascii").strip()
        assert file.stat().st_mode & 0o777 == 0o600
        assert secret not in gateway.errors(), "a log is collected, and this is a secret"
        for wrong in ("slt_wrong", "", gateway.admin_token):
            assert ask(gateway, "POST", "setup", wrong, {"nonsense": 1}).status == 401
        assert ask(gateway, "POST", "setup", secret, {"role": "owner"}).status == 422
        first = ask(gateway, "POST", "setup", secret, {"name": "Ann"})
        assert first.status == 201
        assert not file.exists()
        assert ask(gateway, "POST", "setup", secret, {"name": "Eve"}).status == 401
        me = ask(gateway, "GET", "me", first.json()["token"]).json()
        assert [grant["role"] for grant in me["grants"]] == ["owner"]
        user = ask(gateway, "POST", "users", first.json()["token"], {"name": "Bob"}).json()
        invitation = ask(gateway, "POST", f"users/{user['id']}/invite", first.json()["token"]).json()["invitation"]
        second = ask(gateway, "POST", "invitations/accept", invitation, {})
        assert second.status == 201
        assert ask(gateway, "POST", "invitations/accept", invitation, {}).status == 401
        assert ask(gateway, "GET", "me", second.json()["token"]).json()["grants"] == []
        gateway.stop()
        gateway.start()
        assert not file.exists(), "somebody is known"
        assert ask(gateway, "GET", "me", first.json()["token"]).status == 200
        everything = gateway.stderr.read_bytes() + (gateway.data_dir / "control.db").read_bytes()
        for text in (secret, first.json()["token"], invitation, second.json()["token"]):
            assert text.encode() not in everything
        gateway.verify()


@pytest.mark.requirement("ID-2")
def test_a_key_that_names_a_model_its_tenant_has_not_is_made_with_a_warning(opened: Office) -> None:
    """A model may be declared after the keys that name it; a slip of the pen looks the same."""
    opened.made("tenants", {"id": "narrow", "models": ["chat"]})
    body = {"tenant": "narrow", "models": ["chat", "nope", "embed", "*"]}
    made = opened.made("keys", body)
    # Of a model that others have, not a word more.
    assert made["warnings"] == ["narrow has no model called nope now", "narrow has no model called embed now"]
    path, match = f"keys/{made['id']}", [("if-match", "*")]
    assert opened.call("PATCH", path, {"models": ["chat", "*"]}, headers=match).json["warnings"] == []
    mended = opened.call("PATCH", path, {"models": ["no"]}, headers=match)
    assert mended.json["warnings"] == ["narrow has no model called no now"]
    assert "warnings" not in opened.call("GET", path).json
