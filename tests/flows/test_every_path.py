"""Every governed path and every list, in each family's manner: refusals at the door, spellings, and what is shown."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flows.front import Call, World, world
from tests.flows.inprocess import Asked, every_errand, every_request
from tests.flows.keeping import run
from tests.harness import Site

from securellm.core.errors import Code
from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.ingress.kept import PATHS
from securellm.ingress.listings import LISTINGS
from securellm.ingress.manners import manner_at
from securellm.ingress.routes import ROUTES

PROVIDERS = {
    Surface.MESSAGES: "anthropic",
    Surface.MESSAGE_TOKENS: "anthropic",
    Surface.RERANK: "compatible",
    Surface.GENERATE_CONTENT: "gemini",
    Surface.CONTENT_TOKENS: "gemini",
    Surface.EMBED_CONTENT: "gemini",
    Surface.BATCH_EMBED_CONTENTS: "gemini",
    Surface.OLLAMA_CHAT: "ollama",
    Surface.OLLAMA_GENERATE: "ollama",
    Surface.OLLAMA_EMBED: "ollama",
}
KEY = "slb-a-key-in-the-address-0123456789"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


def model_of(surface: Surface) -> str:
    return f"of/{PROVIDERS.get(surface, 'openai')}"


REQUESTS = list(every_request(model_of))
ERRANDS = list(every_errand())
EVERYTHING = [*REQUESTS, *ERRANDS]


def prepare(site: Site) -> None:
    for provider in ("openai", "anthropic", "compatible", "gemini", "ollama"):
        site.model(f"of/{provider}", provider)


def ask(opened: World, asked: Asked, **how: Any) -> Any:
    headers = {"content-type": asked.content_type, **how.pop("headers", {})}
    path, query = how.pop("path", asked.path), how.pop("query", asked.query)
    how.setdefault("method", asked.method)
    return opened.ask(path, how.pop("body", asked.body), query=query, headers=headers, **how)


def assert_told(call: Call, manner: Manner, status: int, code: str) -> None:
    """An error as the family's SDKs read it, and what machines of all families read."""
    assert (call.status, call.headers["x-securellm-code"]) == (status, code), call.body
    assert call.headers["content-type"] == "application/json"
    assert call.headers["x-request-id"].startswith("req_")
    assert call.headers["x-should-retry"] in ("true", "false")
    assert call.headers.get("request-id") == (call.request_id if manner is Manner.ANTHROPIC else None)
    body = call.json()
    match manner:
        case Manner.OPENAI:
            assert body["error"]["code"] == code
            assert "status" not in body["error"]
            assert "type" not in body
        case Manner.ANTHROPIC:
            assert (body["type"], body["error"]["code"], body["request_id"]) == ("error", code, call.request_id)
        case Manner.GOOGLE:
            assert body["error"]["code"] == status
            assert body["error"]["details"][0]["metadata"]["code"] == code
        case Manner.OLLAMA:
            assert isinstance(body["error"], str)
            assert body["code"] == code


@pytest.mark.requirement("GW-9", "GW-4", "GW-5", "GW-6")
def test_every_path_serves_and_refuses_in_its_familys_manner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for asked in REQUESTS:
                manner = manner_of(asked.surface)
                whole = await ask(opened, asked)
                assert whole.status == 200, (asked, whole.body)
                for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
                    wrong = await ask(opened, asked, method=method)
                    assert_told(wrong, manner, 405, "method_not_allowed")
                    assert wrong.headers["allow"] == "POST"
                    assert not any(name.startswith("access-control") for name in wrong.headers)
                broken = "malformed_form" if "form" in asked.content_type else "malformed_json"
                assert_told(await ask(opened, asked, body=b"{"), manner, 400, broken)
                odd = await ask(opened, asked, headers={"content-encoding": "br"})
                assert_told(odd, manner, 415, "unsupported_encoding")
                assert_told(await ask(opened, asked, headers={"x-provider": "nobody"}), manner, 400, "no_route")
                two = {"x-goog-api-key": "slb-another-one"}
                assert_told(await ask(opened, asked, headers=two), manner, 400, "invalid_header")

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9", "GW-6")
def test_every_errand_is_served_and_refused_in_its_familys_manner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for asked in ERRANDS:
                manner = manner_of(asked.surface)
                whole = await run(opened, asked)
                assert whole.status == 200, (asked, whole.body)
                methods = PATHS[asked.template]
                for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"} - set(methods):
                    wrong = await ask(opened, asked, method=method)
                    assert_told(wrong, manner, 405, "method_not_allowed")
                    assert wrong.headers["allow"] == ", ".join(methods)
                odd = await ask(opened, asked, headers={"content-encoding": "br"})
                assert_told(odd, manner, 415, "unsupported_encoding")
                broken = await ask(opened, asked, body=b"{")
                code = "invalid_request" if not asked.body else "malformed_json"
                assert_told(broken, manner, 400, "malformed_form" if "form" in asked.content_type else code)
                two = {"x-goog-api-key": "slb-another-one"}
                assert_told(await ask(opened, asked, headers=two), manner, 400, "invalid_header")
                if "{" in asked.template or asked.errand == "batches.create":
                    assert_told(await ask(opened, asked), manner, 404, "not_found")
                    assert_told(await run(opened, asked, headers={"x-provider": "nobody"}), manner, 404, "not_found")
                else:
                    assert_told(await run(opened, asked, headers={"x-provider": "nobody"}), manner, 400, "no_route")

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize(("key", "code"), [("", "missing_key"), (KEY, "invalid_key")])
@pytest.mark.parametrize("requests", [REQUESTS, ERRANDS], ids=["of a model", "of a thing"])
def test_strangers_are_told_in_the_familys_manner(tmp_path: Path, requests: list[Asked], key: str, code: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for surface, asked in {asked.surface: asked for asked in requests}.items():
                assert_told(await ask(opened, asked, key=key), manner_of(surface), 401, code)
            assert opened.reached() == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9", "GW-12")
def test_sizes_and_states_are_told_in_the_familys_manner_too(tmp_path: Path) -> None:
    def small(site: Site) -> None:
        prepare(site)
        site.server["max_body"] = "2KiB"

    async def scenario() -> None:
        async with world(tmp_path, small) as opened:
            for asked in EVERYTHING:
                manner = manner_of(asked.surface)
                assert_told(await ask(opened, asked, body=b"x" * 3_000), manner, 413, "body_too_large")
            opened.app.ingress.draining = True
            for asked in EVERYTHING:
                call = await ask(opened, asked)
                assert_told(call, manner_of(asked.surface), 503, "shutting_down")
                assert call.headers["retry-after"] == "1"
            assert opened.reached() == []

    asyncio.run(scenario())


@pytest.mark.requirement("SC-1")
def test_a_key_in_the_address_is_refused_everywhere_and_left_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for asked in EVERYTHING:
                for name in ("key", "api_key", "access_token"):
                    query = "&".join(part for part in (asked.query, f"{name}={KEY}") if part)
                    call = await ask(opened, asked, query=query)
                    assert_told(call, manner_of(asked.surface), 401, "missing_key")
                    assert "address" in call.body.decode()
                    assert KEY not in call.body.decode()
            for path in ("/v1/models", "/v1beta/models", "/api/tags"):
                assert (await opened.ask(path, b"", method="GET", query=f"key={opened.key}", key="")).status == 401
            assert opened.reached() == []
            await opened.app.gates.journal.flush_unauthenticated()
            assert KEY not in json.dumps(opened.records())

    asyncio.run(scenario())
    shown = capsys.readouterr()
    assert KEY not in shown.out + shown.err


@pytest.mark.requirement("GW-5")
def test_the_model_of_a_path_is_the_one_that_is_decided_on_and_recorded(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def scoped(site: Site) -> None:
        prepare(site)
        keys["narrow"] = site.key(models=["of/openai"])

    async def scenario() -> None:
        async with world(tmp_path, scoped) as opened:
            for asked in REQUESTS:
                if "{model}" not in asked.template:
                    continue
                manner = manner_of(asked.surface)
                route = ROUTES[asked.template]
                answered = await ask(opened, asked)
                assert answered.status == 200, answered.body
                assert opened.record_of(answered, "INTENT")["model"] == model_of(asked.surface)
                if manner is Manner.GOOGLE:
                    refused = await ask(opened, asked, key=keys["narrow"])
                    assert_told(refused, manner, 403, "model_not_allowed")
                renamed = asked.body.replace(model_of(asked.surface).encode(), b"nobody-has-this")
                unknown = await ask(opened, asked, path=route.path("nobody-has-this"), body=renamed)
                assert_told(unknown, manner, 404, "unknown_model")
                before = len(opened.reached())
                for spelled in ("of/%6fpenai", "of%252Fgemini", "of/../of/gemini", "of//gemini", "*", ""):
                    odd = await ask(opened, asked, path=asked.template.replace("{model}", spelled))
                    assert_told(odd, manner, 400, "invalid_request")
                assert len(opened.reached()) == before

    asyncio.run(scenario())


def test_a_deployment_named_as_the_provider_names_it_is_still_what_the_provider_is_asked_for(tmp_path: Path) -> None:
    def same(site: Site) -> None:
        site.model("fake-small", "openai")
        site.model("fake-large", "openai", upstream="fake-large")
        site.tenant("acme", models=["fake-small"])

    async def scenario() -> None:
        async with world(tmp_path, same) as opened:
            messages = [{"role": "user", "content": "hello"}]
            for named in ({}, {"model": "<ignored>"}, {"model": "fake-large"}, {"model": "fake-small"}):
                path = "/openai/deployments/fake-small/chat/completions"
                call = await opened.ask(path, {**named, "messages": messages})
                assert call.status == 200
                assert opened.last().model == "fake-small"
            call = await opened.ask("/openai/deployments/fake-large/chat/completions", {"messages": messages})
            assert_told(call, Manner.OPENAI, 404, "unknown_model")

    asyncio.run(scenario())


@pytest.mark.requirement("GW-5", "GW-8")
def test_a_stream_that_breaks_says_so_in_the_words_its_sdks_raise_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            opened.behave(cut_event=1)
            call = await opened.ask("/v1beta/models/of/gemini:streamGenerateContent", CONTENTS, query="alt=sse")
            assert call.status == 200
            assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
            last = call.body.decode().replace("\r\n", "\n").split("\n\n")[-2]
            assert last.startswith('data: {"error":{"code":502,')
            assert b"finishReason" not in call.body
            opened.behave(cut_event=1)
            messages = [{"role": "user", "content": "hello"}]
            call = await opened.ask("/api/chat", {"model": "of/ollama", "messages": messages})
            assert (call.status, call.headers["content-type"]) == (200, "application/x-ndjson")
            lines = call.body.decode().splitlines()
            assert json.loads(lines[-1])["code"] == "truncated"
            assert isinstance(json.loads(lines[-1])["error"], str)
            assert not any(json.loads(line).get("done") for line in lines)

    asyncio.run(scenario())


# What is not served


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize(
    ("path", "manner"),
    [
        ("/v1/nothing", Manner.OPENAI),
        ("/v1/audio/nothing", Manner.OPENAI),
        ("/v1/uploads", Manner.OPENAI),
        ("/openai/deployments/a/completions", Manner.OPENAI),
        ("/v1/messages/nothing", Manner.ANTHROPIC),
        ("/v1beta/files", Manner.GOOGLE),
        ("/v1beta/cachedContents", Manner.GOOGLE),
        ("/api/pull", Manner.OLLAMA),
        ("/api/embeddings", Manner.OLLAMA),
    ],
)
def test_a_path_that_is_not_served_is_said_in_its_neighbours_manner(tmp_path: Path, path: str, manner: Manner) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for method in ("GET", "POST", "OPTIONS"):
                assert_told(await opened.ask(path, b"{}", method=method), manner, 404, "not_found")
            if manner is Manner.OPENAI and path.startswith("/v1"):
                said = (
                    ("anthropic-version", "2023-06-01", Manner.ANTHROPIC),
                    ("x-goog-api-key", opened.key, Manner.GOOGLE),
                )
                for name, value, spoken in said:
                    assert_told(await opened.ask(path, b"{}", headers={name: value}), spoken, 404, "not_found")

    asyncio.run(scenario())


def test_the_root_answers_whoever_looks_whether_anybody_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for method in ("GET", "HEAD"):
                call = await opened.ask("/", b"", method=method, key="")
                assert (call.status, call.json()) == (200, {"status": "ok"})
            call = await opened.ask("/", b"{}")
            assert_told(call, Manner.OPENAI, 405, "method_not_allowed")
            assert call.headers["allow"] == "GET, HEAD"

    asyncio.run(scenario())


_PIECES = st.sampled_from(
    [
        *("v1", "v1beta", "api", "openai", "deployments", "models", "chat", "completions", "messages", "count_tokens"),
        *("tags", "show", "livez", "a", "ab:countTokens", "a:generateContent", ":countTokens", "{model}"),
        *("", "", ".", "..", "%2F", "%00", "a%3Ab"),
    ]
)


@pytest.mark.requirement("GW-9", "GW-12")
def test_whatever_the_path_and_method_an_answer_is_given_in_some_manner(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            loop = asyncio.get_running_loop()
            calls: list[tuple[str, str, str]] = []

            @settings(max_examples=200, database=None)
            @given(
                pieces=st.lists(_PIECES, min_size=1, max_size=6),
                method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW"]),
                query=st.sampled_from(["", "alt=sse", "alt=x", "beta=true", "key=k", "limit=0", "&&&=%zz"]),
            )
            def gather(pieces: list[str], method: str, query: str) -> None:
                calls.append(("/" + "/".join(pieces), method, query))

            await loop.run_in_executor(None, gather)
            for path, method, query in calls:
                call = await opened.ask(path, b"{}", method=method, query=query)
                assert call.status in (200, 400, 401, 404, 405), (path, method, call.body)
                if call.status != 200:
                    known = ROUTES.get(path) or LISTINGS.get(path)
                    code = call.headers["x-securellm-code"]
                    assert Code(code).spec.status == call.status
                    if known is None and ":" not in path and "deployments" not in path:
                        assert_told(call, manner_at(path, []), call.status, code)

    asyncio.run(scenario())


# Lists


def listing_world(site: Site) -> None:
    site.model("secret-project", "openai", "anthropic")
    site.model("gem/one", "gemini", context_window=5_000, max_output=700, capabilities=["reasoning"])
    site.model("lama:8b", "ollama", capabilities=["tools", "vision"])
    site.tenant("acme", models=["chat", "messages", "embed", "gem/one", "lama:8b"])
    site.tenant("other", models=["secret-project"])


@pytest.mark.requirement("GW-4", "GW-5")
def test_each_family_lists_what_its_key_may_use_in_its_own_shape(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepared(site: Site) -> None:
        listing_world(site)
        keys["other"] = site.key("other")
        keys["narrow"] = site.key(models=["chat", "gem/one"])
        keys["embedding"] = site.key(surfaces=["embeddings"])

    async def scenario() -> None:
        async with world(tmp_path, prepared) as opened:

            async def get(path: str, **how: Any) -> Any:
                call = await opened.ask(path, b"", method="GET", **how)
                assert call.status == 200, call.body
                assert call.headers["content-type"] == "application/json"
                return call.json()

            everything = ["chat", "embed", "gem/one", "lama:8b", "messages"]
            listed = await get("/v1/models")
            assert sorted(row["id"] for row in listed["data"]) == everything
            assert listed == await get("/openai/models", query="api-version=2026-01-01")
            assert [row["id"] for row in (await get("/v1/models", key=keys["other"]))["data"]] == ["secret-project"]
            assert [row["id"] for row in (await get("/v1/models", key=keys["narrow"]))["data"]] == ["chat", "gem/one"]
            rows = (await get("/v1/models", key=keys["embedding"]))["data"]
            assert {surface for row in rows for surface in row["surfaces"]} == {"embeddings"}

            version = {"anthropic-version": "2026-10-21"}
            agent = {"x-api-key": opened.key, "user-agent": "Anthropic/Python 2.11.0"}
            for headers in (version, agent):
                listed = await get("/v1/models", headers=headers)
                assert listed["first_id"] == listed["data"][0]["id"]
                assert {"messages", "chat"} <= {row["id"] for row in listed["data"]}
            one = await get("/v1/models", headers=version, query="limit=1")
            assert (len(one["data"]), one["has_more"]) == (1, True)
            assert (await get("/v1/models/messages", headers=version))["type"] == "model"

            google = {"x-goog-api-key": opened.key}
            for path, headers in (("/v1beta/models", {}), ("/v1/models", google), ("/v1beta/models", google)):
                listed = await get(path, headers=headers)
                row = next(row for row in listed["models"] if row["name"] == "models/gem/one")
                assert {"generateContent", "countTokens"} <= set(row["supportedGenerationMethods"])
                assert (row["inputTokenLimit"], row["outputTokenLimit"], row["thinking"]) == (5_000, 700, True)
                for spelled in ("gem/one", "gem%2Fone"):
                    prefix = path.removesuffix("/models")
                    assert await get(f"{prefix}/models/{spelled}", headers=headers) == row
            assert (await get("/v1/models/gem%2Fone"))["id"] == "gem/one"
            assert (await get("/v1/models/lama:8b"))["id"] == "lama:8b"

            tags = await get("/api/tags")
            assert "lama:8b" in [row["model"] for row in tags["models"]]
            assert (await get("/api/version"))["version"]
            shown = await opened.ask("/api/show", {"model": "lama:8b"})
            assert {"completion", "embedding", "tools", "vision"} <= set(shown.json()["capabilities"])
            assert opened.reached() == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-4", "GW-9")
def test_a_model_of_others_is_as_unknown_to_a_list_as_one_that_does_not_exist(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, listing_world) as opened:
            for path, headers, manner in (
                ("/v1/models/", {}, Manner.OPENAI),
                ("/v1/models/", {"anthropic-version": "2023-06-01"}, Manner.ANTHROPIC),
                ("/v1/models/", {"x-goog-api-key": opened.key}, Manner.GOOGLE),
                ("/v1beta/models/", {}, Manner.GOOGLE),
            ):
                foreign = await opened.ask(f"{path}secret-project", b"", method="GET", headers=headers)
                unknown = await opened.ask(f"{path}nobody-has-this", b"", method="GET", headers=headers)
                for call in (foreign, unknown):
                    assert_told(call, manner, 404, "unknown_model")
                assert shape(foreign) == shape(unknown)
            for name in ("secret-project", "nobody-has-this", "messages/x"):
                assert_told(await opened.ask("/api/show", {"model": name}), Manner.OLLAMA, 404, "unknown_model")
            for path, listing in LISTINGS.items():
                method = "POST" if listing.in_body else "GET"
                asked = path.replace("{model}", "chat")
                call = await opened.ask(asked, {"model": "chat"}, method=method, key="")
                assert_told(call, listing.manner or Manner.OPENAI, 401, "missing_key")
                wrong = await opened.ask(asked, b"", method="DELETE")
                assert_told(wrong, listing.manner or Manner.OPENAI, 405, "method_not_allowed")
                assert wrong.headers["allow"] == ("POST" if listing.in_body else "GET, HEAD")
            large = await opened.ask("/api/show", b'{"model":"' + b"a" * 70_000 + b'"}')
            assert_told(large, Manner.OLLAMA, 413, "body_too_large")
            for body in (b"{", b"[]", b"{}"):
                assert (await opened.ask("/api/show", body)).status == 400

    asyncio.run(scenario())


def shape(call: Call) -> Any:
    """All a caller can see, but for what is each request's own."""
    own = {"x-request-id", "request-id", "content-length"}
    text = call.body.decode().replace(call.request_id, "")
    return call.status, text, {name: value for name, value in call.headers.items() if name not in own}


@pytest.mark.requirement("GW-11")
def test_an_idempotency_key_is_one_and_printable(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for asked in EVERYTHING:
                manner = manner_of(asked.surface)
                if ("{" in asked.template and asked.errand) or asked.errand == "batches.create":
                    continue  # A thing that is not there is not found before anything else is told.
                for wrong in ("", "caf\u00e9", "x" * 256):
                    call = await ask(opened, asked, headers={"idempotency-key": wrong})
                    assert_told(call, manner, 400, "invalid_header")
            assert opened.reached() == []

    asyncio.run(scenario())
