"""What another bundle would have decided on recorded requests: asked again from the records, exactly or not at all."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.flows.administration import ENGINES, OURS, THEIRS, Office, office
from tests.flows.front import CHAT, EMBEDDINGS, MESSAGES, PATHS, RESPONSES, STREAMED, Call, World, asking, world
from tests.flows.keeping import id_of
from tests.flows.test_batches import MESSAGE_BATCHES, create, jsonl, line, upload
from tests.flows.test_policies import ATTACK, CPF, EVERYTHING, MAIL, ruled
from tests.harness import Site, governed
from tests.unit.admin.driver import Answer, exchange

from securellm.bootstrap.admin import build_admin_app
from securellm.cli import main
from securellm.cli.exits import Exit
from securellm.identity import Role

pytestmark = pytest.mark.requirement("PO-1")

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
RULES = (
    EVERYTHING + '@id("bound") @redact("email") permit(principal, action, resource == Model::"messages");\n'
    '@id("no-stream-of-embeddings") forbid(principal, action == Action::"embed", resource) '
    'when { context.providers.contains("nobody") };\n'
    '@id("no-tools") forbid(principal, action, resource) when { context.needs.contains("tools") };\n'
    '@id("no-stream") forbid(principal, action == Action::"stream", resource == Model::"messages");\n'
    '@id("no-attack") forbid(principal, action, resource) '
    "when { context has guard && context.guard.injection > 600 };\n"
    '@id("no-cpf") forbid(principal, action, resource == Model::"embed") '
    'when { context has guard && context.guard.findings.contains("cpf") };\n'
    '@id("two-people") @require_approval("1") permit(principal, action, resource) '
    'when { context.surface == "responses" && context.needs.contains("vision") };\n'
)
HOUSE = EVERYTHING + '@id("house") forbid(principal, action == Action::"use_kept", resource == Kept::"files.delete");\n'


async def asked(opened: World, body: Any, *, admin: Any = None) -> Answer:
    """What the admin API answers."""
    bearer = opened.app.keys.admin_token.reveal()
    return await exchange(
        admin or build_admin_app(opened.app),
        "POST",
        "/admin/v1/policy/diff",
        headers=[("authorization", f"Bearer {bearer}"), ("content-type", "application/json")],
        chunks=[json.dumps(body).encode()],
    )


async def against(opened: World, *texts: str, tenant: str | None = "acme", **members: Any) -> dict[str, Any]:
    """The difference that a bundle would have made."""
    bundle = {"policies": {"main.cedar": "".join(texts)}}
    answer = await asked(opened, {"tenant": tenant, "bundle": bundle, **members})
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    parts = ("same", "denied", "allowed", "otherwise_bound", "otherwise_refused")
    doubts = sum(doubt["count"] for reason, doubt in found["not_replayable"].items() if reason != "damaged")
    counted = sum(found[part] for part in parts) + sum(found["elsewhere"].values())
    assert found["decisions"] == counted + doubts + found["drifted"]["count"], "nothing is skipped"
    return found


async def traffic(opened: World) -> list[Call]:
    """Requests of every kind that the rules tell apart."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    bodies = [
        (path, asking(path, text, **({"stream": True} if stream else {})))
        for path in PATHS
        for stream in ((False, True) if path in STREAMED else (False,))
        for text in ("hello", f"CPF {CPF}", MAIL, ATTACK)
    ]
    bodies += [
        (CHAT, asking(CHAT, tools=TOOLS)),
        (CHAT, asking(CHAT, model="nowhere")),
        (RESPONSES, asking(RESPONSES, input=[{"role": "user", "content": [picture]}])),
        # The second is remembered.
        *[(CHAT, asking(CHAT, "again", temperature=0))] * 2,
    ]
    return [await opened.ask(path, body) for path, body in bodies]


@pytest.mark.parametrize("guard", ["off", "observe", "standard"])
@pytest.mark.requirement("AU-1")
def test_under_the_same_bundles_every_recorded_decision_is_made_again(tmp_path: Path, guard: str) -> None:
    async def scenario() -> None:
        prepare = ruled(tmp_path, installation=HOUSE, acme=RULES, more=lambda site: site.tenant("acme", guard=guard))
        async with world(tmp_path, prepare) as opened:
            calls = await traffic(opened)
            found = await against(opened, RULES)
            assert found["drifted"]["count"] == 0
            assert found["changes"] == []
            assert found["not_replayable"] == {}
            assert found["other_policies"] == 0
            assert found["complete"]
            assert found["decisions"] == len(calls)
            refused = [record for record in opened.records("DENY") if record["asked"]]
            assert len({tuple(record["rules"]) for record in refused}) >= 3
            assert found["same"] == len(opened.records("INTENT")) + len(refused)

    asyncio.run(scenario())


def test_what_a_first_bundle_would_do_is_what_it_then_does(tmp_path: Path) -> None:
    foretold: dict[str, Any] = {}

    async def scenario(directory: Path, bundles: dict[str, str]) -> list[Call]:
        prepare = ruled(directory, texts=bundles, more=lambda site: site.tenant("acme", guard="observe"))
        async with world(directory, prepare) as opened:
            calls = await traffic(opened)
            if not bundles:
                foretold.update(await against(opened, RULES))
            return calls

    for name in ("without", "with"):
        (tmp_path / name).mkdir()
    before = asyncio.run(scenario(tmp_path / "without", {}))
    after = asyncio.run(scenario(tmp_path / "with", {"acme": RULES}))
    assert foretold["not_replayable"] == {}
    assert foretold["allowed"] == 0
    denied = [was for was, is_ in zip(before, after, strict=True) if was.status == 200 and is_.status == 403]
    assert foretold["denied"] == len(denied) > 5
    bound = next(turn for turn in foretold["changes"] if turn["result"] == "otherwise_bound")
    assert (bound["after"]["rules"], bound["after"]["redact"]) == (["all", "bound"], ["email"])
    named = {request for turn in foretold["changes"] if turn["result"] == "denied" for request in turn["requests"]}
    assert named <= {call.request_id for call in denied}
    assert {turn["after"]["decision"] for turn in foretold["changes"]} == {"allow", "deny", "approval_required"}


def test_what_nobody_screened_is_not_guessed(tmp_path: Path) -> None:
    careful = EVERYTHING + (
        '@id("no-tools") forbid(principal, action, resource) when { context.needs.contains("tools") };\n'
        '@id("no-attack") forbid(principal, action, resource) '
        "when { context has guard && context.guard.injection > 1 };"
    )

    async def scenario() -> None:
        prepare = ruled(tmp_path, acme=EVERYTHING, more=lambda site: site.tenant("acme", guard="off"))
        async with world(tmp_path, prepare) as opened:
            calls = [await opened.ask(CHAT, asking(CHAT)), await opened.ask(CHAT, asking(CHAT, tools=TOOLS))]
            found = await against(opened, careful)
            assert found["not_replayable"] == {"not_screened": {"count": 1, "requests": [calls[0].request_id]}}
            assert found["denied"] == 1, "what screening would not have changed is told"

    asyncio.run(scenario())


def test_a_batch_is_asked_again_with_all_that_it_asks(tmp_path: Path) -> None:
    rules = EVERYTHING + (
        '@id("no-embed") forbid(principal, action == Action::"embed", resource);\n'
        '@id("no-attack") forbid(principal, action, resource) '
        "when { context has guard && context.guard.injection > 600 };\n"
    )
    stricter = '@id("no-chat-in-batches") forbid(principal, action, resource == Model::"chat");\n'

    async def scenario() -> None:
        prepare = ruled(tmp_path, acme=rules, more=lambda site: site.tenant("acme", guard="observe"))
        async with world(tmp_path, prepare) as opened:
            begun = await create(opened, id_of(await upload(opened, jsonl(line("1"), line("2")))))
            assert begun.status == 200, begun.body
            refused = await upload(opened, jsonl(line("1"), line("2", url=EMBEDDINGS)))
            assert refused.status in (400, 403), refused.body
            attack = await upload(opened, jsonl(line("1", ATTACK)))
            assert attack.status == 403, attack.body
            embeddings = await upload(opened, jsonl(line("1", url=EMBEDDINGS)))
            assert embeddings.status == 403, embeddings.body
            again = {"custom_id": "one", "params": asking(MESSAGES)}
            assert (await opened.ask(MESSAGE_BATCHES, {"requests": [again]})).status == 200
            record = opened.record_of(begun, "INTENT")
            assert [asked.get("model") for asked in record["asked"]] == [None, "chat"]
            found = await against(opened, rules)
            assert (found["drifted"]["count"], found["changes"], found["not_replayable"]) == (0, [], {})
            found = await against(opened, EVERYTHING, stricter)
            assert found["drifted"]["count"] == 0
            assert found["denied"] == 2, "the upload for the batch and the batch itself"
            assert found["allowed"] == 1, (
                "embeddings in a batch; what the guard found is forbidden no more, but chat is"
            )

    asyncio.run(scenario())


def test_each_kind_of_change_is_counted_with_its_requests(tmp_path: Path) -> None:
    old = EVERYTHING + '@id("no-tools") forbid(principal, action, resource) when { context.needs.contains("tools") };'
    new = (
        '@id("two") @require_approval("2") permit(principal, action, resource) '
        'when { context.needs.contains("tools") && context.surface == "responses" };\n'
        '@id("chat") @route("openai") permit(principal, action, resource == Model::"chat");\n'
        '@id("embed") permit(principal, action == Action::"embed", resource);\n'
    )

    async def scenario() -> None:
        async with world(tmp_path, ruled(tmp_path, acme=old)) as opened:
            chat = await opened.ask(CHAT, asking(CHAT))
            tools = await opened.ask(CHAT, asking(CHAT, tools=TOOLS))
            flat = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
            approved = await opened.ask(RESPONSES, asking(RESPONSES, tools=flat))
            messages = await opened.ask(MESSAGES, asking(MESSAGES))
            await opened.ask(EMBEDDINGS, asking(EMBEDDINGS))
            found = await against(opened, new)
            counts = {
                name: found[name] for name in ("same", "denied", "allowed", "otherwise_bound", "otherwise_refused")
            }
            assert counts == {"same": 1, "denied": 1, "allowed": 1, "otherwise_bound": 1, "otherwise_refused": 1}
            turned = {turn["result"]: turn["requests"] for turn in found["changes"]}
            assert turned == {
                "otherwise_bound": [chat.request_id],
                "allowed": [tools.request_id],
                "otherwise_refused": [approved.request_id],
                "denied": [messages.request_id],
            }
            (question,) = (turn["question"] for turn in found["changes"] if turn["result"] == "allowed")
            assert question["needs"] == ["tools"]
            assert "hello" not in json.dumps(found)
            newest = await against(opened, new, last=1)
            assert (newest["decisions"], newest["same"], newest["complete"]) == (1, 1, True)
            future = await against(opened, new, since="2100-01-01T00:00:00Z")
            assert (future["decisions"], future["complete"], future["oldest"]) == (0, True, None)

    asyncio.run(scenario())


def test_decisions_under_former_bundles_are_asked_of_those_in_force_and_that_is_said(tmp_path: Path) -> None:
    async def scenario(text: str, *, asks: int) -> dict[str, Any]:
        async with world(tmp_path, ruled(tmp_path, acme=text)) as opened:
            for _ in range(asks):
                await opened.ask(CHAT, asking(CHAT))
            return await against(opened, text)

    forbidding = EVERYTHING + '@id("no") forbid(principal, action, resource);'
    assert asyncio.run(scenario(forbidding, asks=2))["other_policies"] == 0
    found = asyncio.run(scenario(EVERYTHING, asks=1))
    assert (found["same"], found["other_policies"], found["drifted"]["count"]) == (3, 2, 0)


def test_another_tenants_requests_are_not_seen(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def more(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")

    async def scenario() -> None:
        async with world(tmp_path, ruled(tmp_path, installation=EVERYTHING, more=more)) as opened:
            await opened.ask(CHAT, asking(CHAT))
            theirs = [await opened.ask(CHAT, asking(CHAT), key=keys["other"]) for _ in range(3)]
            await opened.ask(CHAT, asking(CHAT), key="")
            ours = await against(opened, EVERYTHING)
            assert (ours["decisions"], ours["unknown_callers"]) == (1, 0)
            assert not any(call.request_id in json.dumps(ours) for call in theirs)
            await opened.app.gates.journal.flush_unauthenticated()
            forbidding = '@id("no") forbid(principal in Tenant::"other", action, resource);'
            everyone = await against(opened, EVERYTHING, forbidding, tenant=None)
            assert (everyone["denied"], everyone["same"], everyone["unknown_callers"]) == (3, 1, 1)

    asyncio.run(scenario())


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    good = {"policies": EVERYTHING}
    deep = f'@id("a") permit(principal, action, resource) when {{ {"(" * 101}true{")" * 101} }};'
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 422, "a version, or"),
        ({"bundle": good, "version": "0" * 64}, 422, "not both"),
        ({"version": "draft"}, 422, "version"),
        ({"version": "0" * 64}, 404, "no policy version has this id"),
        ({"tenant": "nobody", "bundle": good}, 400, "no tenant of this id"),
        ({"bundle": {"policies": "grant all;"}}, 422, "unexpected token"),
        ({"bundle": {"policies": deep}}, 422, "100"),
        ({"bundle": {**good, "more": 1}}, 422, "more"),
        ({"bundle": {"policies": EVERYTHING.replace(";", " when { context.x };")}}, 422, "attribute `x`"),
        ({"bundle": good, "last": 50_001}, 422, "last"),
        ({"bundle": good, "last": 0}, 422, "last"),
        ({"bundle": good, "since": "2026-01-01T00:00:00"}, 422, "since"),
        ({"bundle": good, "until": "2026-01-01T00:00:00Z"}, 422, "until"),
    ]

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for body, status, said in cases:
                answer = await asked(opened, body)
                assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer
                assert said in answer.body.decode(), (body, answer)

    asyncio.run(scenario())


def test_nobody_has_two_comparisons_made_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            admin = build_admin_app(opened.app)
            body = {"bundle": {"policies": EVERYTHING}}
            answers = await asyncio.gather(*(asked(opened, body, admin=admin) for _ in range(3)))
            assert sorted(answer.status for answer in answers) == [200, 429, 429]
            assert all("retry-after" in answer.headers for answer in answers if answer.status == 429)
            assert (await asked(opened, body, admin=admin)).status == 200

    asyncio.run(scenario())


@pytest.fixture(params=ENGINES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path, request) as made:
        yield made


@pytest.mark.requirement("ID-1", "ID-4")
def test_a_kept_version_is_compared_by_whoever_may_see_policies_and_decisions_there(opened: Office) -> None:
    key = opened.made("keys", {"tenant": OURS, "models": ["*"]})["token"]
    opened.ask(key, "chat")
    forbidding = {"policies": EVERYTHING + '@id("no") forbid(principal, action, resource);'}
    draft = opened.made("policies", {"tenant": OURS, "bundle": forbidding, "reason": "to try it"})["id"]
    body = {"tenant": OURS, "version": draft}
    records = len(opened.admin_records())
    for role in (Role.OWNER, Role.SECURITY_OFFICER, Role.AUDITOR, Role.APPROVER):
        answer = opened.call("POST", "policy/diff", body, by=opened.person(role, tenant=OURS))
        assert answer.status == 200, (role, answer)
        assert (answer.json["bundle"], answer.json["denied"], answer.json["decisions"]) == (draft, 1, 1), role
    for role in (Role.FINOPS, Role.DEVELOPER):
        answer = opened.call("POST", "policy/diff", body, by=opened.person(role, tenant=OURS))
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), role
    stranger = opened.person(Role.OWNER, tenant=THEIRS)
    assert opened.call("POST", "policy/diff", body, by=stranger).status == 404
    assert opened.call("POST", "policy/diff", {**body, "tenant": THEIRS}, by=stranger).status == 404
    assert opened.call("POST", "policy/diff", {"version": draft}, by=stranger).status == 403
    assert len(opened.admin_records()) == records, "a look changes nothing"
    looks = opened.call("GET", "audit/records", query=f"type=READ&tenant={OURS}").json["data"]
    looks = [look for look in looks if look["resource"] == "policy/diff"]
    assert [look["resource_id"] for look in looks] == [draft] * 4, "and is recorded, where it was let"


def test_the_command_says_what_would_change_and_its_exit_status_says_whether(tmp_path: Path) -> None:
    forbidding = EVERYTHING + '@id("no") forbid(principal, action, resource) when { context.surface == "chat" };\n'
    new, same, broken = (tmp_path / name for name in ("new", "same", "broken"))
    for folder, text in ((new, forbidding), (same, EVERYTHING), (broken, "grant all;")):
        folder.mkdir()
        (folder / "main.cedar").write_text(text, encoding="utf-8")
    key = ""

    def prepare(site: Site) -> None:
        nonlocal key
        key = site.key()

    with governed(tmp_path, prepare) as (gateway, _):

        def run(*arguments: str, status: int) -> str:
            told = ["policy", "diff", *arguments, "--recorded", "--data-dir", str(gateway.data_dir)]
            done = CliRunner().invoke(main, told, catch_exceptions=False)
            assert done.exit_code == status, done.output
            return done.output

        assert "nothing can be compared" in run(str(new), "--tenant", "acme", status=Exit.NOT_FOUND)
        assert gateway.chat("hello", key=key).status == 200
        told = run(str(new), "--tenant", "acme", "--since", "1h", "--last", "10", status=Exit.DIFFERENT)
        assert "1  would be refused that are allowed" in told
        assert "allow (no bundle is in force)  ->  deny by no" in told
        assert json.loads(run(str(new), "--json", status=Exit.DIFFERENT))["denied"] == 1
        assert "1  would be decided as they are" in run(str(same), "--tenant", "acme", status=Exit.OK)
        assert "unexpected token" in run(str(broken), status=Exit.PROBLEMS)
        assert "no policy version has this id" in run("0" * 64, status=Exit.NOT_FOUND)
        gateway.verify()
