"""What is turned away at the door, how it is said, and what the record says about it."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    PATHS,
    RESPONSES,
    STREAMED,
    Call,
    asking,
    world,
)
from tests.harness import Site

from securellm.gateway import completion, personal
from securellm.ingress import app, listings


def told(call: Call) -> tuple[int, str]:
    return call.status, call.code


@pytest.mark.parametrize("path", PATHS)
def test_without_a_good_key_nothing_is_read_and_refusals_are_counted(tmp_path: Path, path: str) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        keys["expired"] = site.key(expires="2020-01-01T00:00:00Z")
        keys["narrow"] = site.key(surfaces=["embeddings" if path != EMBEDDINGS else "chat"])

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            body = asking(path)
            assert told(await opened.ask(path, body, key="")) == (401, "missing_key")
            assert told(await opened.ask(path, body, key="slb-nobody-knows-this-key")) == (401, "invalid_key")
            assert told(await opened.ask(path, body, key=keys["expired"])) == (401, "expired_key")
            narrow = await opened.ask(path, body, key=keys["narrow"])
            assert told(narrow) == (403, "surface_not_allowed")
            assert opened.record_of(narrow, "DENY")["tenant"] == "acme"
            ring, write = opened.app.keyring, opened.app.control.write
            issued = await asyncio.to_thread(
                write, lambda session: ring.issue(session, tenant="acme", name="made", models=("*",))
            )
            await opened.app.refresh()
            assert (await opened.ask(path, body, key=issued.token)).status == 200
            await asyncio.to_thread(write, lambda session: ring.revoke(session, issued.key.id))
            await opened.app.refresh()
            assert told(await opened.ask(path, body, key=issued.token)) == (401, "revoked_key")
            # An endless body of somebody unknown is not waited for.
            assert told(await opened.ask(path, [b'{"mod'], key="slb-nobody-knows-this-key")) == (401, "invalid_key")
            await opened.app.gates.journal.flush_unauthenticated()
            counted = {record["code"]: record["count"] for record in opened.records("DENY") if "count" in record}
            assert counted == {"missing_key": 1, "invalid_key": 2, "expired_key": 1, "revoked_key": 1}
            assert len(opened.reached()) == 1

    asyncio.run(scenario())


def test_a_key_is_taken_from_every_header_that_sdks_use_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for name in ("x-api-key", "api-key", "x-goog-api-key"):
                call = await opened.ask(MESSAGES, asking(MESSAGES), key="", headers={name: opened.key})
                assert call.status == 200
                call = await opened.ask(MESSAGES, asking(MESSAGES), headers={name: "slb-another-one"})
                assert told(call) == (400, "invalid_header")
            call = await opened.ask(MESSAGES, asking(MESSAGES), key="", headers={"authorization": "Basic YTpi"})
            assert told(call) == (401, "missing_key")
            logged = [value for entry in opened.reached() for _, value in entry.headers]
            assert not any(opened.key in value for value in logged)

    asyncio.run(scenario())


def test_a_model_of_others_is_answered_like_one_that_does_not_exist(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.model("secret-project", "openai", "anthropic")
        site.tenant("acme", models=["chat", "messages", "embed"])
        site.tenant("other", models=["secret-project"])
        keys["other"] = site.key("other")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for path in PATHS:
                foreign = await opened.ask(path, asking(path, model="secret-project"))
                unknown = await opened.ask(path, asking(path, model="no-such-project"))
                assert foreign.status == unknown.status == 404
                assert shape(foreign) == shape(unknown)
            assert opened.reached() == []

    asyncio.run(scenario())


def shape(call: Call) -> Any:
    """All a caller can see, but for what is each request's own."""
    own = {"x-request-id", "request-id", "x-securellm-decision-id", "content-length"}
    body = {**call.json(), "request_id": ""}
    return call.status, body, {name: value for name, value in call.headers.items() if name not in own}


def test_a_server_side_history_of_another_tenant_is_not_found(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for stream in (False, True):
                first = await opened.ask(RESPONSES, asking(RESPONSES, stream=stream))
                assert first.status == 200
                number = opened.last().order
                name = f"resp_fake{number:08d}"
                mine = await opened.ask(RESPONSES, asking(RESPONSES, previous_response_id=name))
                assert mine.status == 200
                foreign = await opened.ask(RESPONSES, asking(RESPONSES, previous_response_id=name), key=keys["other"])
                unknown = await opened.ask(RESPONSES, asking(RESPONSES, previous_response_id="resp_fake1"))
                assert told(foreign) == told(unknown) == (404, "not_found")

    asyncio.run(scenario())


@pytest.mark.parametrize("path", PATHS)
def test_the_rate_limit_says_when_to_come_again(tmp_path: Path, path: str) -> None:
    def prepare(site: Site) -> None:
        site.tenant("acme", limits={"requests_per_minute": 60, "burst": 2, "tokens_per_minute": 100_000})

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            prefix = "anthropic-ratelimit-requests" if path == MESSAGES else "x-ratelimit"
            suffix = "" if path == MESSAGES else "-requests"
            first = await opened.ask(path, asking(path))
            assert first.status == 200
            assert first.headers[f"{prefix}-limit{suffix}"] == "60"
            assert first.headers[f"{prefix}-remaining{suffix}"] == "1"
            await opened.ask(path, asking(path, "again"))
            refused = await opened.ask(path, asking(path, "and again"))
            assert told(refused) == (429, "rate_limited")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["x-should-retry"] == "true"
            assert refused.headers[f"{prefix}-remaining{suffix}"] == "0"
            denial = opened.record_of(refused, "DENY")
            assert (denial["code"], denial["tenant"]) == ("rate_limited", "acme")
            assert len(opened.reached()) == 2

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("path", PATHS)
def test_every_error_to_a_known_caller_says_its_limits_and_its_decision(tmp_path: Path, path: str) -> None:
    def prepare(site: Site) -> None:
        site.tenant("acme", limits={"requests_per_minute": 600})

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            name = "anthropic-ratelimit-requests-limit" if path == MESSAGES else "x-ratelimit-limit-requests"
            opened.behave(status=400)
            failed = await opened.ask(path, asking(path))
            assert opened.record_of(failed)["code"] == "bad_request"
            unknown = await opened.ask(path, asking(path, model="none"))
            unreadable = await opened.ask(path, b"{")
            for call in (failed, unknown, unreadable):
                assert call.status >= 400
                assert call.headers[name] == "600"
                assert call.headers["x-securellm-decision-id"] == f"dec_{call.request_id.removeprefix('req_')}"
            stranger = await opened.ask(path, asking(path), key="slb-nobody-knows-this-key")
            assert name not in stranger.headers

    asyncio.run(scenario())


def test_parallel_requests_are_bounded_and_a_place_is_free_again_however_one_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: site.tenant("acme", limits={"parallel": 1})) as opened:
            for stream in (False, True):
                opened.behave(hang=True)
                first = opened.call(CHAT, asking(CHAT, stream=stream))
                await opened.reaching(len(opened.reached()) + 1)
                assert told(await opened.ask(CHAT, asking(CHAT))) == (429, "too_many_parallel")
                first.leave()
                await first.done()
                opened.behave(cut_event=1)
                await opened.ask(CHAT, asking(CHAT, stream=True))
                opened.behave(status=400)
                await opened.ask(CHAT, asking(CHAT))
                assert (await opened.ask(CHAT, asking(CHAT))).status == 200

    asyncio.run(scenario())


def test_a_stale_snapshot_a_draining_replica_and_a_full_disk_refuse(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            snapshots = opened.app.gates.snapshots
            confirmed = snapshots._confirmed
            snapshots._confirmed -= 61
            for path in PATHS:
                assert told(await opened.ask(path, asking(path))) == (503, "stale_policy")
            assert (await opened.ask("/readyz", b"", method="GET", key="")).status == 503
            snapshots._confirmed = confirmed
            opened.app.ingress.draining = True
            for path in PATHS:
                call = await opened.ask(path, asking(path))
                assert told(call) == (503, "shutting_down")
                assert call.headers["retry-after"] == "1"
            assert (await opened.ask("/readyz", b"", method="GET", key="")).status == 503
            assert (await opened.ask("/livez", b"", method="GET", key="")).status == 200
            opened.app.ingress.draining = False
            writer: Any = opened.app._writer
            writer._free_share, writer._roomy = lambda _: 0.01, False
            for path in PATHS:
                assert told(await opened.ask(path, asking(path))) == (503, "audit_unavailable")
            writer._free_share, writer._roomy = lambda _: 0.5, True
            assert opened.reached() == []
            assert (await opened.ask(CHAT, asking(CHAT))).status == 200

    asyncio.run(scenario())


def test_under_a_hard_budget_what_has_no_price_is_refused_by_its_name(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        site.tenant("acme", budget="1000.00 USD")
        site.model("unpriced", "openai", "anthropic", upstream="nobody-knows-this-model", price=None)

    unpriced: tuple[tuple[str, dict[str, Any]], ...] = (
        (CHAT, {"web_search_options": {}}),
        (CHAT, {"tools": [{"type": "web_search"}]}),
        (CHAT, {"service_tier": "priority"}),
        (CHAT, {"prediction": {"type": "content", "content": "x"}}),
        (CHAT, {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
        (RESPONSES, {"tools": [{"type": "web_search"}]}),
        (RESPONSES, {"tools": [{"type": "code_interpreter"}]}),
        (RESPONSES, {"service_tier": "priority"}),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (MESSAGES, {"mcp_servers": [{"type": "url", "url": "https://a.example"}]}),
        (MESSAGES, {"speed": "fast"}),
    )

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for path in PATHS:
                assert told(await opened.ask(path, asking(path, model="unpriced"))) == (402, "unknown_price")
            for path, members in unpriced:
                call = await opened.ask(path, asking(path, **members))
                assert call.status in (400, 402), (members, call.body)
                assert call.code == "unpriced_feature", (members, call.body)
            assert told(await opened.ask(RESPONSES, asking(RESPONSES, background=True, stream=True))) == (
                400,
                "unsupported_field",
            )
            assert opened.reached() == []
            many = await opened.ask(CHAT, asking(CHAT, n=3, max_tokens=100))
            assert many.status == 200
            one = await opened.ask(CHAT, asking(CHAT, max_tokens=100))
            holds = [opened.record_of(call, "INTENT")["hold"] for call in (many, one)]
            assert holds[0] - holds[1] == 2 * 100 * 2_000, "each choice can cost the whole cap"
            whole = await opened.ask(RESPONSES, asking(RESPONSES, max_output_tokens=100, conversation=None))
            assert whole.status == 200
            capped = await opened.ask(CHAT, asking(CHAT))
            assert capped.headers["x-securellm-max-output"] == "1000"

    asyncio.run(scenario())


def test_a_budget_that_is_spent_refuses_in_the_callers_dialect(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: site.tenant("acme", budget="0.0001 USD")) as opened:
            for path in STREAMED:
                for stream in (False, True):
                    call = await opened.ask(path, asking(path, stream=stream))
                    assert told(call) == (402, "budget_exhausted")
                    assert call.headers["x-should-retry"] == "false"
                    assert ("type" in call.json()) == (path == MESSAGES)
                    assert opened.record_of(call, "DENY")["code"] == "budget_exhausted"
            assert opened.reached() == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9")
def test_what_is_not_served_or_not_readable_is_said_in_the_callers_dialect(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        site.server["max_body"] = "64KiB"

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for path in (
                "/v1/chat/completion",
                "/v1/audio/nothing",
                "/v1//chat/completions",
                "/v1/messages/nothing",
            ):
                call = await opened.ask(path, b"{}")
                assert told(call) == (404, "not_found")
                assert ("type" in call.json()) == path.startswith("/v1/messages")
            call = await opened.ask("/v1/anything", b"{}", headers={"anthropic-version": "2023-06-01"})
            assert call.json()["type"] == "error"
            for path in PATHS:
                for method in ("GET", "PUT", "DELETE", "OPTIONS"):
                    call = await opened.ask(path, b"", method=method)
                    assert told(call) == (405, "method_not_allowed")
                    assert call.headers["allow"] == "POST"
                cases: tuple[tuple[bytes, dict[str, str], tuple[int, str]], ...] = (
                    (b"x" * 70_000, {}, (413, "body_too_large")),
                    (gzip.compress(b" " * 70_000), {"content-encoding": "gzip"}, (413, "body_too_large")),
                    (b"{}", {"content-encoding": "br"}, (415, "unsupported_encoding")),
                    (b"{", {}, (400, "malformed_json")),
                    (b"", {}, (400, "malformed_json")),
                    (b"[]", {}, (400, "invalid_request")),
                    (b'{"model":"\xff"}', {}, (400, "invalid_utf8")),
                    (b'{"model":"a","model":"b"}', {}, (400, "duplicate_key")),
                    (b'{"a":NaN}', {}, (400, "malformed_json")),
                    (b'{"a":"\\ud800"}', {}, (400, "invalid_utf8")),
                    (b"{} {}", {}, (400, "malformed_json")),
                    (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", {}, (400, "too_deep")),
                    (b'{"model":"chat","input":true,"messages":5}', {}, (400, "invalid_request")),
                    (b'{"model":5}', {}, (400, "invalid_request")),
                )
                for body, headers, expected in cases:
                    call = await opened.ask(path, body, headers=headers)
                    assert told(call) == expected, (path, body[:40], call.body)
                    assert call.headers["x-request-id"].startswith("req_")
                    assert call.headers["x-should-retry"] == "false"
                    assert ("request_id" in call.json()) == (path == MESSAGES)
                    assert opened.record_of(call, "DENY")["code"] == expected[1]
            packed = gzip.compress(json.dumps(asking(CHAT)).encode())
            assert (await opened.ask(CHAT, packed, headers={"content-encoding": "gzip"})).status == 200
            assert len(opened.reached()) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("member", ["stream", "stream_options", "max_tokens", "n", "tools", "messages", "temperature"])
def test_a_member_of_a_wrong_type_is_named(tmp_path: Path, member: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for value in ("text", -1, 1.5, True, {"a": 1}, [1]):
                body = {**asking(CHAT), member: value}
                call = await opened.ask(CHAT, body)
                assert call.status in (200, 400, 502), (value, call.body)
                if call.status == 400 and call.code == "invalid_request":
                    assert call.json()["error"]["param"].startswith(member)

    asyncio.run(scenario())


def test_whoever_prefers_portuguese_is_told_in_portuguese_what_to_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for path in PATHS:
                for language, portuguese in (("pt-BR,pt;q=0.9,en;q=0.5", True), ("en-US,en;q=0.9,pt;q=0.1", False)):
                    call = await opened.ask(path, asking(path, model="none"), headers={"accept-language": language})
                    said = call.json()["error"]["message"]
                    assert ("Use um modelo" in said) == portuguese, said
            opened.behave(cut_event=2)
            call = await opened.ask(CHAT, asking(CHAT, stream=True), headers={"accept-language": "pt-BR"})
            assert "tente novamente" in call.body.decode()

    asyncio.run(scenario())


def test_a_header_for_the_provider_that_no_header_can_be_is_the_callers_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: site.tenant("acme", budget="1.00 USD")) as opened:
            call = await opened.ask(MESSAGES, asking(MESSAGES), headers={"anthropic-beta": "caf\u00e9"})
            assert told(call) == (400, "invalid_header")
            assert opened.money() == (0, 0)

    asyncio.run(scenario())


@pytest.mark.requirement("AU-1")
def test_a_defect_before_or_beside_a_story_is_recorded_as_any_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a model is asked, the story itself records it; here nothing but the edge or the visit could."""

    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("sk-secret")

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for place, name, method, path in (
                (app, "trace", "POST", CHAT),
                (app, "list_models", "GET", "/v1/models"),
                (listings, "written", "GET", "/v1/models"),
            ):
                with monkeypatch.context() as patch:
                    patch.setattr(place, name, broken)
                    call = await opened.ask(path, asking(CHAT) if method == "POST" else b"", method=method)
                assert told(call) == (500, "internal")
                assert b"sk-secret" not in call.body
            for path, place, name in (("/preferences", personal, "_let_in"), ("/v1/files", completion, "served")):
                with monkeypatch.context() as patch:
                    patch.setattr(place, name, broken)
                    call = await opened.ask(path, b"", method="GET")
                assert call.status == 500, path
                assert b'"internal"' in call.body
            await opened.app.gates.journal.drain()
            counted = {record["code"]: record["count"] for record in opened.records("DENY") if "count" in record}
            assert counted == {"internal": 4}
            (one,) = (record for record in opened.records("DENY") if "count" not in record)
            assert (one["code"], one["tenant"]) == ("internal", "acme")

    asyncio.run(scenario())
