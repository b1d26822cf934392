"""Where a credential is sent: said by one person while there is one, and by two from the moment there are two."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flows.administration import Office, Person, office
from tests.unit.admin.driver import Answer

from securellm.identity import Role

ANY = ("if-match", "*")
HOME, ELSEWHERE = "http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"
LENT = {"id": "lent", "kind": "openai", "base_url": HOME, "credential": "env:LENT_API_KEY"}

pytestmark = pytest.mark.requirement("ID-1", "SC-1")


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    class Request:
        param = "sqlite"

    with office(tmp_path, Request()) as house:  # type: ignore[arg-type]
        dotenv = house.app.loaded.path.parent / ".env"
        dotenv.write_text("LENT_API_KEY=sk-somebody-elses\nOTHER_API_KEY=sk-of-another\n")
        dotenv.chmod(0o600)
        yield house


def declare(opened: Office, document: Any = LENT, **options: Any) -> Answer:
    return opened.call("POST", "providers", document, **options)


def change(opened: Office, members: Any, **options: Any) -> Answer:
    headers = [ANY, *options.pop("headers", ())]
    return opened.call("PATCH", "providers/lent", members, headers=headers, **options)


def place(opened: Office) -> str | None:
    answer = opened.call("GET", "providers/lent")
    return str(answer.json["base_url"]) if answer.status == 200 else None


def approve(opened: Office, proposal: Answer, by: Person) -> Answer:
    yes = {"digest": proposal.json["digest"]}
    return opened.call("POST", f"proposals/{proposal.json['id']}/approve", yes, by=by)


def test_a_fresh_installation_declares_its_first_provider_by_the_host_alone_and_says_so(opened: Office) -> None:
    made = declare(opened)
    assert (made.status, made.headers["location"]) == (201, "/admin/v1/providers/lent")
    assert change(opened, {"base_url": ELSEWHERE}).status == 200
    records = [record for record in opened.admin_records() if record["resource"] == "providers"]
    assert [(record["action"], record["alone"]) for record in records] == [("update", True), ("create", True)]
    metrics = opened.call("GET", "/metrics").body.decode()
    assert 'admin_done_alone_total{action="create"} 1.0' in metrics
    assert "admin_break_glass_total{" not in metrics


def test_the_only_owner_goes_on_alone(opened: Office) -> None:
    owner = opened.person(Role.OWNER)
    assert declare(opened, by=owner).status == 201
    replaced = opened.call("PUT", "providers/lent", {**LENT, "base_url": ELSEWHERE}, by=owner, headers=[ANY])
    assert (replaced.status, place(opened)) == (200, ELSEWHERE)


@pytest.mark.parametrize("second", [Role.OWNER, Role.SECURITY_OFFICER])
def test_with_a_second_person_nothing_moves_until_they_agree(opened: Office, second: Role) -> None:
    owner, other = opened.person(Role.OWNER), opened.person(second)
    asked = declare(opened, by=owner)
    assert (asked.status, place(opened)) == (202, None)
    assert asked.json["arguments"] == {"document": LENT}
    assert approve(opened, asked, owner).status == 403
    assert approve(opened, asked, other).json["state"] == "executed"
    moves = [
        ("PATCH", {"base_url": ELSEWHERE}),
        ("PATCH", {"credential": "env:OTHER_API_KEY"}),
        ("PATCH", {"proxy": "http://127.0.0.1:10"}),
        ("PATCH", {"kind": "xai"}),
        ("PUT", {**LENT, "base_url": ELSEWHERE}),
    ]
    for method, body in moves:
        asked = opened.call(method, "providers/lent", body, by=owner, headers=[ANY])
        assert (asked.status, place(opened)) == (202, HOME), body
    assert approve(opened, asked, other).status == 200
    assert place(opened) == ELSEWHERE
    moved = next(record for record in opened.admin_records() if record["action"] == "replace")
    assert (moved["actor"], moved["approval"], moved["alone"]) == (owner.principal, asked.json["id"], False)


def test_what_sends_no_credential_anywhere_else_stays_one_persons(opened: Office) -> None:
    owner, _ = opened.person(Role.OWNER), opened.person(Role.OWNER)
    plain = {"id": "open", "kind": "mock", "base_url": HOME}
    assert declare(opened, plain, by=owner).status == 201
    assert opened.call("PATCH", "providers/open", {"base_url": ELSEWHERE}, by=owner, headers=[ANY]).status == 200
    # To lend it one is another matter.
    lent = opened.call("PATCH", "providers/open", {"credential": "env:LENT_API_KEY"}, by=owner, headers=[ANY])
    assert lent.status == 202
    assert opened.call("PATCH", "providers/open", {"timeouts": {"idle": "9s"}}, by=owner, headers=[ANY]).status == 200
    assert not any(record["alone"] for record in opened.admin_records())
    glass = ("x-break-glass", "because")
    whole = opened.call("PATCH", "providers/open", {"base_url": HOME}, headers=[ANY, glass])
    assert (whole.status, whole.json["code"]) == (400, "invalid_header")


def test_one_of_two_does_not_become_the_only_one(opened: Office) -> None:
    owner, other = opened.person(Role.OWNER), opened.person(Role.OWNER)
    gone = opened.call("DELETE", f"users/{other.user.id}", by=owner, headers=[ANY])
    assert (gone.status, gone.json["code"]) == (409, "conflict")
    assert opened.call("PATCH", f"users/{other.user.id}", {"disabled": True}, by=owner, headers=[ANY]).status == 200
    assert declare(opened, by=owner).status == 202
    host = declare(opened)
    assert (host.status, host.json["code"]) == (403, "approval_required")
    # The second is shut out, so the host may say why it goes on without.
    broken = declare(opened, headers=[("x-break-glass", "the other one has left")])
    assert broken.status == 201
    record = next(record for record in opened.admin_records() if record["resource"] == "providers")
    assert (record["break_glass"], record["alone"]) == ("the other one has left", False)


def test_neither_the_host_nor_the_glass_replaces_a_second_person_who_is_there(opened: Office) -> None:
    for _ in range(2):
        opened.person(Role.OWNER)
    assert declare(opened).json["code"] == "approval_required"
    assert declare(opened, headers=[("x-break-glass", "in a hurry")]).status == 403
    assert place(opened) is None


def test_what_was_agreed_to_is_done_to_what_was_seen_by_who_may_still_ask_for_it(opened: Office) -> None:
    owner, other = opened.person(Role.OWNER), opened.person(Role.OWNER)
    approve(opened, declare(opened, by=owner), other)
    stale = change(opened, {"base_url": ELSEWHERE}, by=owner)
    assert change(opened, {"timeouts": {"idle": "9s"}}, by=owner).status == 200
    late = approve(opened, stale, other)
    assert (late.status, late.json["code"], place(opened)) == (412, "precondition_failed", HOME)
    again = change(opened, {"base_url": ELSEWHERE}, by=owner)
    opened.call("PATCH", f"users/{owner.user.id}", {"disabled": True}, headers=[ANY])
    assert approve(opened, again, other).status == 409
    assert place(opened) == HOME


def test_nothing_is_proposed_that_could_not_be_done(opened: Office) -> None:
    owner, _, admin = opened.person(Role.OWNER), opened.person(Role.OWNER), opened.person(Role.ADMIN)
    assert declare(opened, by=admin).status == 403
    for document, status in (
        ({**LENT, "credential": "env:PATH"}, 422),
        ({**LENT, "kind": "nonesuch"}, 422),
        ({**LENT, "managed_by": "api"}, 422),
        ({**LENT, "id": "openai"}, 409),
    ):
        assert declare(opened, document, by=owner).status == status, document
    assert opened.call("GET", "proposals", by=owner).json["data"] == []
