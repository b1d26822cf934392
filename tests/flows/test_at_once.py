"""Two gateways over one PostgreSQL, asked for the same thing at the same moment: it is done once, and both say so."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.flows.administration import OURS, Office, _application
from tests.postgres import Database
from tests.unit.admin.driver import Answer

from securellm.bootstrap.admin import offer_setup
from securellm.identity import Role

pytestmark = pytest.mark.postgres


@pytest.fixture
def offices(tmp_path: Path, postgres: Database) -> Iterator[tuple[Office, Office]]:
    with ExitStack() as stack:
        made = []
        for name in ("one", "other"):
            folder = tmp_path / name
            folder.mkdir()
            app = _application(folder, postgres)
            stack.callback(app.close)
            made.append(Office(app))
            stack.callback(made[-1].close)
        yield made[0], made[1]


def at_once(*asks: Callable[[], Answer]) -> list[Answer]:
    """What each was answered, when all were asked at the same moment."""
    barrier, answers = threading.Barrier(len(asks)), dict[int, Answer]()

    def ask(number: int) -> None:
        barrier.wait(20)
        answers[number] = asks[number]()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [answers[number] for number in range(len(asks))]


def outcomes(answers: list[Answer]) -> Counter[tuple[int, str]]:
    return Counter((answer.status, "" if answer.status < 300 else answer.json["code"]) for answer in answers)


def both(offices: tuple[Office, Office], method: str, path: str, body: Any, **options: Any) -> list[Answer]:
    return at_once(*(lambda office=office: office.call(method, path, body, **options) for office in offices))


@pytest.mark.requirement("ST-1", "ID-1")
def test_of_two_edits_of_one_revision_one_is_made(offices: tuple[Office, Office]) -> None:
    one, _ = offices
    one.made("tenants", {"id": OURS})
    key = one.made("keys", {"tenant": OURS, "models": ["chat"]})
    for number in range(3):
        present = [("if-match", one.call("GET", f"keys/{key['id']}").headers["etag"])]
        answers = both(offices, "PATCH", f"keys/{key['id']}", {"name": f"n{number}"}, headers=present)
        assert outcomes(answers) == {(200, ""): 1, (412, "precondition_failed"): 1}


@pytest.mark.requirement("AP-1", "ID-1")
def test_of_two_approvals_of_one_proposal_one_executes_it(offices: tuple[Office, Office]) -> None:
    one, other = offices
    one.made("tenants", {"id": OURS})
    first, *seconds = (one.person(Role.OWNER, tenant=OURS) for _ in range(3))
    new = one.person(tenant=OURS)
    wanted = {"principal": new.principal, "role": "developer", "tenant": OURS}
    proposal = one.made("grants", wanted, by=first)
    yes, path = {"digest": proposal["digest"]}, f"proposals/{proposal['id']}/approve"
    answers = at_once(
        lambda: one.call("POST", path, yes, by=seconds[0]), lambda: other.call("POST", path, yes, by=seconds[1])
    )
    assert outcomes(answers) == {(200, ""): 1, (409, "conflict"): 1}
    grants = one.call("GET", "grants", query=f"tenant={OURS}&principal={new.principal}").json["data"]
    assert len(grants) == 1
    executed = [
        record for office in offices for record in office.admin_records() if record["approval"] == proposal["id"]
    ]
    assert sorted((record["action"], record["undone"]) for record in executed) == [
        ("approve", False),
        ("create", False),
    ]


@pytest.mark.requirement("ID-1")
def test_a_set_up_token_makes_one_owner_wherever_it_is_used_and_none_is_offered_afterwards(
    offices: tuple[Office, Office],
) -> None:
    one, other = offices
    former, secret = offer_setup(one.app), offer_setup(other.app)
    assert former is not None
    assert secret is not None
    person = {"name": "Ann", "email": "ann@example.com"}
    late = one.call("POST", "setup", person, by=("authorization", f"Bearer {former}"))
    assert late.status == 401, "each offer ends the one before"
    answers = both(offices, "POST", "setup", person, by=("authorization", f"Bearer {secret}"))
    assert sorted(answer.status for answer in answers) in ([201, 401], [201, 409])
    assert len(one.call("GET", "users").json["data"]) == 1
    for office in offices:
        assert offer_setup(office.app) is None
        assert not (office.app.data.keys / "setup-token").exists()


@pytest.mark.requirement("ST-1")
def test_an_idempotency_key_sent_to_both_is_used_once_and_shows_a_secret_once(offices: tuple[Office, Office]) -> None:
    one, _ = offices
    one.made("tenants", {"id": OURS})
    wanted, sent = {"tenant": OURS, "models": ["chat"]}, [("idempotency-key", "k1")]
    answers = both(offices, "POST", "keys", wanted, headers=sent)
    assert sorted(answer.status for answer in answers) == [201, 409]
    again = both(offices, "POST", "keys", wanted, headers=sent)
    assert outcomes(again) == {(409, "idempotent_result_expired"): 2}
    assert len(one.call("GET", "keys", query=f"tenant={OURS}").json["data"]) == 1
