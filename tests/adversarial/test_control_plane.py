"""The control plane against people who hold something in it and want more: what was found once, and what held."""

import asyncio
import itertools
import json
import os
import re
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete
from tests.flows.administration import CEDAR, ENGINES, OURS, THEIRS, Office, Person, Things, furnish, office, state
from tests.flows.test_admin_matrix import NAMES, guarded, request_of
from tests.unit.admin.driver import Answer, Header, exchange

from securellm.identity import Role, User
from securellm.identity.oidc import Proven
from securellm.identity.settings import IssuerSettings, LoginSettings, RoleMapping
from securellm.identity.tables import GRANTS

ANY: Header = ("if-match", "*")
ISSUER = IssuerSettings(
    id="corp",
    issuer="http://127.0.0.1:9/corp",
    roles=(RoleMapping(group="owners", role=Role.OWNER),),
    login=LoginSettings(client_id="bridge", redirect_uri="http://127.0.0.1:9/callback"),
)


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Office, Things]]:
    with office(tmp_path_factory.mktemp("control"), request) as opened:
        yield opened, furnish(opened)


class Browser:
    """Somebody logged in through the issuer, in a group that is an owner of the installation."""

    def __init__(self, opened: Office, subject: str) -> None:
        self._opened = opened
        opened.app.issuers._configure([ISSUER])
        proven = Proven(issuer=ISSUER, subject=subject, name="Ann", email="", groups=("owners",), return_to="/")
        entered = opened.write(lambda session: opened.ports.login().enter(session, proven))
        self.user: User = entered.user
        self._cookie = entered.secret

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        listen = self._opened.app.loaded.config.server.admin_listen
        headers = [("origin", f"http://{listen}")] + ([ANY] if method in ("PATCH", "DELETE") else [])
        return self._opened.call(method, path, body, by=("cookie", f"slb_session={self._cookie}"), headers=headers)


# Four eyes


@pytest.mark.requirement("ID-1", "PO-1")
def test_one_human_is_one_person_however_often_they_log_in(world: tuple[Office, Things]) -> None:
    opened, _ = world
    ann = Browser(opened, "ann")
    text = CEDAR.replace("all", "anns")
    draft = ann.call("POST", "policies", {"bundle": {"policies": text}, "reason": "mine"}).json
    assert ann.call("POST", f"policies/{draft['id']}/shadow").status == 200
    proposal = ann.call("POST", f"policies/{draft['id']}/enforce", {"reason": "mine"}).json
    for away in ({"issuer": None, "subject": None}, {"subject": "nobody"}):
        answer = ann.call("PATCH", f"users/{ann.user.id}", away)
        assert (answer.status, answer.json["code"]) == (409, "conflict"), answer
    again = Browser(opened, "ann")
    assert again.user.id == ann.user.id
    answer = again.call("POST", f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]})
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    # Nor by being forgotten and made known anew: what they proposed goes with them.
    assert again.call("DELETE", f"users/{ann.user.id}").status == 204
    anew = Browser(opened, "ann")
    assert anew.user.id != ann.user.id
    answer = anew.call("POST", f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]})
    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert opened.call("GET", f"policies/{draft['id']}").json["state"] == "shadow"


@pytest.mark.requirement("ID-1")
def test_who_was_forgotten_and_came_back_does_not_count_twice(world: tuple[Office, Things]) -> None:
    opened, _ = world
    owner, target = opened.person(Role.OWNER), opened.person(tenant=OURS)
    robot = opened.made("services", {})["principal"]
    ports = opened.ports
    opened.write(
        lambda session: ports.directory._grant(session, robot, Role.OWNER, tenant=None, project=None, by="test")
    )
    token = opened.made("tokens", {"principal": robot}, by=owner)["token"]
    asked = {"principal": target.principal, "role": "developer", "tenant": OURS}
    proposal = opened.made("grants", asked, by=("authorization", f"Bearer {token}"))
    approve = f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]}
    bob = Browser(opened, "bob")
    first = bob.call("POST", *approve)
    assert (first.status, first.json["state"], first.json["missing"]) == (200, "pending", 1)
    assert bob.call("POST", *approve).status == 409
    assert bob.call("DELETE", f"users/{bob.user.id}").status == 204
    again = Browser(opened, "bob").call("POST", *approve)
    assert (again.status, again.json["code"]) == (409, "conflict"), again
    assert opened.call("GET", f"proposals/{proposal['id']}", by=owner).json["state"] == "pending"


@pytest.mark.requirement("ID-1", "PO-1")
def test_what_somebody_proposed_holds_only_as_long_as_they_may_propose_it(world: tuple[Office, Things]) -> None:
    opened, _ = world
    officer, owner = opened.person(Role.SECURITY_OFFICER), opened.person(Role.OWNER)
    bundle = {"policies": CEDAR.replace("all", "officers")}
    draft = opened.made("policies", {"bundle": bundle, "reason": "x"}, by=officer)
    assert opened.call("POST", f"policies/{draft['id']}/shadow", by=officer).status == 200
    proposal = opened.made(f"policies/{draft['id']}/enforce", {"reason": "x"}, by=officer)
    opened.write(lambda session: session.run(delete(GRANTS).where(GRANTS.c.principal == officer.principal)))
    answer = opened.call("POST", f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]}, by=owner)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert opened.call("GET", f"policies/{draft['id']}").json["state"] == "shadow"
    # Roles that come by a group count while the login lasts by which they came.
    dora, emil = Browser(opened, "dora"), Browser(opened, "emil")
    for ended, status in ((False, 200), (True, 403)):
        target = opened.person(tenant=OURS)
        asked = {"principal": target.principal, "role": "developer", "tenant": OURS}
        proposal = dora.call("POST", "grants", asked).json
        if ended:
            assert dora.call("POST", "logout").status == 204
        answer = emil.call("POST", f"proposals/{proposal['id']}/approve", {"digest": proposal["digest"]})
        assert answer.status == status, answer


@pytest.mark.requirement("ID-1")
def test_nobody_who_took_up_an_invitation_stays_the_person_who_logs_in_later(world: tuple[Office, Things]) -> None:
    opened, _ = world
    opened.app.issuers._configure([ISSUER])
    impostor = opened.person()
    link = {"issuer": ISSUER.issuer, "subject": "carol"}
    answer = opened.call("PATCH", f"users/{impostor.user.id}", link, headers=[ANY])
    assert (answer.status, answer.json["code"]) == (409, "conflict"), answer
    assert opened.call("POST", f"tokens/{impostor.issued.token.id}/revoke", by=impostor).status == 200
    assert opened.call("PATCH", f"users/{impostor.user.id}", link, headers=[ANY]).status == 200
    carol = Browser(opened, "carol")
    assert carol.user.id == impostor.user.id
    assert opened.call("GET", "me", by=impostor).status == 401
    assert opened.call("POST", f"users/{carol.user.id}/invite").status == 409


@pytest.mark.requirement("ID-1")
def test_of_two_approvals_at_once_one_counts_and_none_after_a_withdrawal(world: tuple[Office, Things]) -> None:
    opened, _ = world
    asking, first, second = (opened.person(Role.OWNER, tenant=OURS) for _ in range(3))

    def proposed() -> dict[str, Any]:
        target = opened.person(tenant=OURS)
        asked = {"principal": target.principal, "role": "developer", "tenant": OURS}
        return dict(opened.made("grants", asked, by=asking))

    proposal = proposed()
    body = json.dumps({"digest": proposal["digest"]}).encode()
    answers = opened.run(
        together(
            exchange(
                opened.admin,
                "POST",
                f"/admin/v1/proposals/{proposal['id']}/approve",
                headers=[who.header, ("content-type", "application/json")],
                chunks=[body],
            )
            for who in (first, second)
        )
    )
    assert sorted(answer.status for answer in answers) == [200, 409], answers
    held = opened.call("GET", "grants", query=f"tenant={OURS}&principal={proposal['arguments']['principal']}")
    assert len(held.json["data"]) == 1
    withdrawn = proposed()
    assert opened.call("POST", f"proposals/{withdrawn['id']}/withdraw", {}, by=asking).status == 200
    for who in (first, second, asking):
        answer = opened.call("POST", f"proposals/{withdrawn['id']}/approve", {"digest": withdrawn["digest"]}, by=who)
        assert answer.status in (403, 409), answer


async def together(calls: Iterable[Awaitable[Answer]]) -> list[Answer]:
    return list(await asyncio.gather(*calls))


@pytest.mark.requirement("ID-4")
def test_what_waits_or_stands_in_a_tenant_keeps_it_so_that_no_other_of_its_name_inherits_it(
    world: tuple[Office, Things],
) -> None:
    opened, _ = world
    asking, approving = opened.person(Role.OWNER), opened.person(Role.OWNER)
    opened.made("tenants", {"id": "brief"})
    asked = {"principal": approving.principal, "role": "developer", "tenant": "brief"}
    proposal = opened.made("grants", asked, by=asking)
    policy = opened.made("policies", {"tenant": "brief", "bundle": {"policies": CEDAR}, "reason": "x"}, by=asking)
    assert opened.call("POST", f"policies/{policy['id']}/shadow", query="tenant=brief", by=asking).status == 200
    answer = opened.call("DELETE", "tenants/brief", headers=[ANY])
    assert answer.status == 409
    assert "proposals that wait" in answer.json["detail"]
    assert "policies in force or in the shadow" in answer.json["detail"]
    assert opened.call("POST", f"proposals/{proposal['id']}/withdraw", {}, by=asking).status == 200
    step = {"reason": "x"}
    assert opened.call("POST", f"policies/{policy['id']}/withdraw", step, query="tenant=brief", by=asking).status == 200
    assert opened.call("DELETE", "tenants/brief", headers=[ANY]).status == 204


# Tenants


@pytest.mark.requirement("ID-4", "LM-1")
def test_nobody_slows_down_the_key_of_another_tenant(world: tuple[Office, Things]) -> None:
    opened, _ = world
    key = opened.made("keys", {"tenant": OURS, "models": ["*"]})
    stranger = opened.person(Role.OWNER, tenant=THEIRS)
    limit = {"scope": "key", "target": key["id"], "requests_per_minute": 1}
    # Whether it exists is not told either.
    for target in (key["id"], "key_nobodys"):
        made = opened.call("POST", f"tenants/{THEIRS}/limits", {**limit, "target": target}, by=stranger)
        assert made.status == 201
    rates = opened.app.gates.snapshots.read().key_rates
    assert (OURS, key["id"]) not in rates
    served = opened.app.loaded.config.default_model
    assert [opened.ask(key["token"], served).status for _ in range(3)].count(429) == 0
    opened.made(f"tenants/{OURS}/limits", limit)
    assert [opened.ask(key["token"], served).status for _ in range(3)].count(429) == 2


@pytest.mark.requirement("ID-4")
def test_what_is_anothers_and_what_is_nobodys_are_answered_in_the_same_words(world: tuple[Office, Things]) -> None:
    opened, things = world
    stranger = opened.person(Role.OWNER, tenant=THEIRS)
    nobodys = {
        name: re.sub(r"[0-9a-z]{26}$", lambda found: found[0][:-4] + "0000", value)
        for name, value in things.ids.items()
    }
    nobodys |= {"tenant": "nowhere", "version_id": "0" * 64, "project_id": "other"}
    absent = Things(nobodys, things.owner)

    def said(answer: Answer) -> tuple[int, str]:
        return answer.status, re.sub(r"req_[0-9a-z]{26}", "req", answer.body.decode())

    compared = 0
    for method, route in guarded(opened):
        mine, none = request_of(method, route, things), request_of(method, route, absent)
        if mine.path == none.path or any(name in mine.path for name in NAMES.values() if name != OURS):
            continue
        answers = [
            opened.call(method, asked.path, asked.body, by=stranger, query=asked.query, headers=[ANY])
            for asked in (mine, none)
        ]
        assert said(answers[0]) == said(answers[1]), (method, mine.path)
        compared += 1
    assert compared > 25


@pytest.mark.requirement("ID-4")
def test_no_other_spelling_of_an_id_is_that_id(world: tuple[Office, Things]) -> None:
    opened, things = world
    owner = things.owner
    for spelling in (
        OURS.upper(),
        f"{OURS}%0a",
        f"{OURS}%00",
        f"{OURS}%20",
        f"{OURS}.",
        "umbrell%D0%B0",
        f"%EF%BB%BF{OURS}",
    ):
        assert opened.call("GET", f"tenants/{spelling}", by=owner).status in (404, 422), spelling
    for spelling in (f"{OURS}\n", OURS.capitalize(), "umbrellа", f"{OURS}\x00", " " + OURS, OURS + "\u200b"):
        for path, body in (("keys", {"models": ["*"]}), ("users", {}), ("services", {})):
            answer = opened.call("POST", path, {**body, "tenant": spelling}, by=owner)
            assert answer.status in (404, 422), (spelling, path, answer)


# Secrets and persons


@pytest.mark.requirement("SC-1", "ID-1")
def test_what_is_declared_from_afar_names_no_secret_of_this_host_that_was_not_lent(
    world: tuple[Office, Things],
) -> None:
    opened, _ = world
    owner, base = opened.person(Role.OWNER), opened.app.loaded.path.parent
    (base / "alias").unlink(missing_ok=True)
    (base / "alias").symlink_to(opened.app.data.keys / "admin-token")
    (base / "token").write_text("one-line-of-somebody-else")
    os.mkfifo(base / "pipe") if not (base / "pipe").exists() else None
    keys = ("pepper", "admin-token", "audit-key", "setup-token")
    named = [f"file:data/keys/{name}" for name in keys]
    named += ["file:alias", "file:token", "file:pipe", "file:/proc/self/environ", "file:/proc/self/fd/3"]
    named += ["file:/etc/hostname", "file:/etc/shadow", "file:/not/there", "file:/var/run/secrets/../../etc/hostname"]
    named += ["env:PATH", "env:HOME", "env:PEPPER", "env:AWS_SECRET_ACCESS_KEY", "keyring:login/me"]
    words = set()
    for number, reference in enumerate(named):
        body = {"id": f"out{number}", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "credential": reference}
        answer = opened.call("POST", "providers", body, by=owner)
        assert answer.status == 422, (reference, answer)
        assert [error["field"] for error in answer.json["errors"]] == ["credential"]
        words.add(answer.json["errors"][0]["reason"].replace(reference, "…"))
    # What is there and what is not are told apart by nobody.
    assert len(words) == 2, words
    spare = {"id": "files", "kind": "mock", "base_url": "http://127.0.0.1:9/v1"}
    for member in ("ca_file", "client_cert", "client_key"):
        for path in ("/etc/hostname", "/not/there", "data/keys/pepper"):
            answer = opened.call("POST", "providers", {**spare, member: path}, by=owner)
            assert answer.status == 422
            assert member in {error["field"] for error in answer.json["errors"]}, answer


@pytest.mark.requirement("SC-1")
def test_a_secret_of_our_own_is_known_by_whatever_reference_it_comes(world: tuple[Office, Things]) -> None:
    opened, _ = world
    owner, second, app = opened.person(Role.OWNER), opened.person(Role.OWNER), opened.app
    dotenv = app.loaded.path.parent / ".env"
    lines = {"A": app.keys.admin_token.reveal(), "B": app.keys.pepper.hex(), "C": "sk-somebody-elses"}
    dotenv.write_text("".join(f"LENT_{name}_API_KEY={value}\n" for name, value in lines.items()))
    dotenv.chmod(0o600)
    try:
        for name, status in (("A", 422), ("B", 422), ("C", 202)):
            body = {"id": f"lent{name}", "kind": "openai", "credential": f"env:LENT_{name}_API_KEY"}
            answer = opened.call("POST", "providers", body, by=owner)
            assert answer.status == status, answer
            assert lines[name].encode() not in answer.body
        yes = {"digest": answer.json["digest"]}
        assert opened.call("POST", f"proposals/{answer.json['id']}/approve", yes, by=second).status == 200
        assert opened.call("DELETE", "providers/lentC", by=owner, headers=[ANY]).status == 204
    finally:
        dotenv.unlink()


@pytest.mark.requirement("ID-1")
def test_who_runs_the_installation_moves_no_credential(world: tuple[Office, Things]) -> None:
    opened, _ = world
    admin, owner = opened.person(Role.ADMIN), opened.person(Role.OWNER)
    own = {"id": "moved", "kind": "mock", "base_url": "http://127.0.0.1:9/v1"}
    assert opened.call("POST", "providers", own, by=admin).status == 403
    assert opened.call("POST", "providers", own, by=owner).status == 201
    changes: list[tuple[str, dict[str, Any]]] = [
        ("PATCH", {"base_url": "http://127.0.0.1:10/v1"}),
        ("PATCH", {"base_url": None}),
        ("PATCH", {"proxy": "http://127.0.0.1:10"}),
        ("PATCH", {"credential": "env:OTHER_API_KEY"}),
        ("PATCH", {"kind": "openai"}),
        ("PUT", {"id": "moved", "kind": "mock"}),
        ("PUT", {**own, "ca_file": "/etc/hostname"}),
    ]
    for method, body in changes:
        answer = opened.call(method, "providers/moved", body, by=admin, headers=[ANY])
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), (method, body, answer)
    assert opened.call("PATCH", "providers/moved", {"timeouts": {"idle": "9s"}}, by=admin, headers=[ANY]).status == 200
    # Deleted and declared anew it has lost its place, and gets none.
    assert opened.call("DELETE", "providers/moved", by=admin, headers=[ANY]).status == 204
    assert opened.call("POST", "providers", own, by=admin).status == 403


@pytest.mark.requirement("PV-3", "ID-1")
def test_a_key_for_somebody_is_theirs_and_not_of_whoever_issues_keys(world: tuple[Office, Things]) -> None:
    opened, _ = world
    victim, admin = opened.person(tenant=OURS), opened.person(Role.ADMIN, tenant=OURS)
    opened.write(lambda session: state(session, OURS, victim.principal))
    asked = {"tenant": OURS, "models": ["*"], "user": victim.user.id}
    theirs = opened.made("keys", asked, by=admin)
    for role in (Role.DEVELOPER, Role.SECURITY_OFFICER):
        person = opened.person(role, tenant=OURS)
        assert opened.call("POST", "keys", asked, by=person).status == 403
        rotated = opened.call("POST", f"keys/{theirs['id']}/rotate", {}, by=person)
        assert (rotated.status, rotated.json["code"]) == (403, "forbidden"), "a new token would be shown to them"
        own = opened.call("POST", "keys", {**asked, "user": person.user.id}, by=person)
        assert own.status == 201
        assert opened.call("POST", f"keys/{own.json['id']}/rotate", {}, by=person).status == 200
        # To stop a key is to see nothing of it.
        spare = opened.made("keys", asked, by=admin)
        assert opened.call("POST", f"keys/{spare['id']}/revoke", by=person).status == 200


# Exhaustion


@pytest.mark.requirement("PO-1", "ZT-2")
def test_who_tries_bundles_without_end_delays_nobody_else(world: tuple[Office, Things]) -> None:
    opened, things = world
    slow = "".join(
        f'@id("p{number}")\npermit (principal, action, resource) when '
        f"{{ {' && '.join(f'context.hour != {hour}' for hour in range(4))} }};\n"
        for number in range(4)
    )
    body = json.dumps({"bundle": {"policies": slow}}).encode()
    watching = [opened.person(Role.AUDITOR, tenant=THEIRS) for _ in range(4)]

    async def trial(who: Person) -> Answer:
        return await exchange(
            opened.admin,
            "POST",
            "/admin/v1/policy/validate",
            headers=[who.header, ("content-type", "application/json")],
            chunks=[body],
        )

    async def story() -> tuple[list[Answer], Answer, bool]:
        trials = [asyncio.create_task(trial(who)) for who in watching]
        other = await exchange(opened.admin, "GET", "/admin/v1/me", headers=[things.owner.header])
        waiting = any(not task.done() for task in trials)
        return list(await asyncio.gather(*trials)), other, waiting

    answers, other, waiting = opened.run(story())
    assert [answer.status for answer in (*answers, other)] == [200] * (len(watching) + 1)
    assert waiting, "whoever asks for something small is answered before all the trials are done"
    alone = opened.run(together(trial(watching[0]) for _ in range(4)))
    assert sorted(answer.status for answer in alone) == [200, 429, 429, 429], "each has one under way"
    assert all(answer.headers["retry-after"] for answer in alone if answer.status == 429)
    assert opened.run(trial(watching[0])).status == 200


@pytest.mark.requirement("ZT-2")
def test_nothing_that_a_stranger_sends_is_read_not_even_where_everybody_may_look(world: tuple[Office, Things]) -> None:
    opened, _ = world
    for path in ("/livez", "/readyz", "/metrics", "/admin/v1/login", "/admin/v1/login/callback", "/admin/v1/setup"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            # A body that never ends would be waited for, if anybody read it.
            answer = opened.run(exchange(opened.admin, method, path, chunks=[b"{"], hang=True))
            assert (answer.status, answer.headers["connection"]) == (401, "close"), (method, path)
    assert opened.call("GET", "/livez", by=("", "")).status == 200
    assert opened.call("POST", "/livez").status == 405


# Conditions and repeats


@pytest.mark.requirement("ID-4")
def test_a_tag_is_of_one_thing_and_an_idempotency_key_of_one_caller(world: tuple[Office, Things]) -> None:
    opened, things = world
    first = opened.call("GET", f"keys/{things.ids['key_id']}", by=things.owner)
    other = opened.made("keys", {"tenant": OURS, "models": ["*"]})
    stale = first.headers["etag"]
    for value in (stale, f"W/{stale}", f'"", {stale}', f"{stale}, W/{stale}", '""', "W/*", stale[1:-1]):
        answer = opened.call(
            "PATCH", f"keys/{other['id']}", {"name": "x"}, by=things.owner, headers=[("if-match", value)]
        )
        assert answer.status in (400, 412), (value, answer)
    weak = opened.call(
        "PATCH", f"keys/{things.ids['key_id']}", {"name": "x"}, by=things.owner, headers=[("if-match", f"W/{stale}")]
    )
    assert weak.status == 412
    twice = [("if-match", "*"), ("if-match", stale)]
    assert opened.call("PATCH", f"keys/{other['id']}", {"name": "x"}, by=things.owner, headers=twice).status == 400
    repeat: Header = ("idempotency-key", "the-same")
    colleague = opened.person(Role.OWNER, tenant=OURS)
    stranger = opened.person(Role.OWNER, tenant=THEIRS)
    made = [
        opened.call("POST", "users", {"tenant": tenant, "name": "N"}, by=who, headers=[repeat])
        for who, tenant in ((things.owner, OURS), (colleague, OURS), (stranger, THEIRS), (things.owner, OURS))
    ]
    assert [answer.status for answer in made] == [201] * 4
    assert len({answer.json["id"] for answer in made}) == 3
    assert made[3].headers["idempotency-replayed"] == "true"
    # Nor does an answer of before outlive the role by which it was given.
    grants = opened.call("GET", "grants", query=f"tenant={OURS}&principal={colleague.principal}").json["data"]
    opened.write(lambda session: session.run(delete(GRANTS).where(GRANTS.c.id == grants[0]["id"])))
    again = opened.call("POST", "users", {"tenant": OURS, "name": "N"}, by=colleague, headers=[repeat])
    assert again.status == 403


# What people read


@pytest.mark.requirement("ID-1", "CL-1")
def test_no_name_that_people_read_moves_their_terminal(world: tuple[Office, Things]) -> None:
    opened, things = world
    hostile = ("\x1b]0;owned\x07", "\x9b31m", "a\nb", "\r", "\x7f", "x" * 101)
    owner = things.owner
    for number, (name, tenant) in enumerate(itertools.product(hostile, (OURS,))):
        for path, body, by in (
            ("tenants", {"id": f"esc{number}", "name": name}, None),
            ("users", {"tenant": tenant, "name": name}, owner),
            ("services", {"tenant": tenant, "name": name}, owner),
            ("keys", {"tenant": tenant, "models": ["*"], "name": name}, owner),
            ("tokens", {"name": name}, owner),
            (f"tenants/{tenant}/projects", {"id": f"esc{number}", "name": name}, owner),
            ("grants", {"principal": things.ids["principal"], "role": "dpo", "tenant": tenant, "reason": name}, owner),
        ):
            if path == "grants" and name.startswith("x"):
                continue
            answer = opened.call("POST", path, body, by=by)
            assert answer.status == 422, (path, name, answer)


@pytest.mark.requirement("AU-1")
def test_the_reason_on_the_broken_glass_stays_one_value_of_one_record(world: tuple[Office, Things]) -> None:
    opened, _ = world
    target = opened.person(tenant=THEIRS)
    body = {"principal": target.principal, "role": "developer", "tenant": THEIRS}
    reason = 'x","actor":"user:somebody","break_glass":"\x1b[2J'
    answer = opened.call("POST", "grants", body, headers=[("x-break-glass", reason)])
    assert answer.status in (201, 400, 403), answer
    if answer.status == 201:
        record = opened.admin_records()[0]
        assert record["actor"] == "service:host"
        assert record["break_glass"] == reason
