"""Where a request goes: pins, capabilities and two lanes, on every surface and in every dialect."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.flows.front import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, Call, World, asking, world
from tests.harness import Site

from securellm.core.surfaces import Manner, manner_of
from securellm.ingress.routes import ROUTES

GOOGLE = "/v1beta/models/{model}:generateContent"
DEPLOYMENT = "/openai/deployments/{model}/chat/completions"
OLLAMA = "/api/chat"

SAYING_HELLO = [{"role": "user", "content": "hello"}]
CONTENTS = [{"role": "user", "parts": [{"text": "hello"}]}]
PIXEL = "data:image/png;base64,iVBORw0KGgo="
FUNCTION = {"name": "look_up", "description": "Looks up", "parameters": {"type": "object", "properties": {}}}


class Way(NamedTuple):
    """A path, the face of the upstream that speaks it, and a body without the model's name."""

    path: str
    face: str
    body: Mapping[str, Any]

    async def ask(
        self, opened: World, model: str, *, headers: Mapping[str, str] = {}, key: str | None = None, **members: Any
    ) -> Call:
        body = {**self.body, **members}
        headers = {"x-securellm-cache": "no-store", **headers}
        route = ROUTES[self.path]
        if "{model}" in self.path:
            return await opened.ask(route.path(model), body, headers=headers, key=key, query=route.query)
        return await opened.ask(self.path, {"model": model, **body}, headers=headers, key=key)

    @property
    def manner(self) -> Manner:
        return manner_of(ROUTES[self.path].surface)


WAYS = (
    Way(CHAT, "openai", {"messages": SAYING_HELLO}),
    Way(RESPONSES, "openai", {"input": "hello"}),
    Way(EMBEDDINGS, "openai", {"input": "hello"}),
    Way("/v1/moderations", "openai", {"input": "hello"}),
    Way("/v1/images/generations", "openai", {"prompt": "a circle"}),
    Way("/v1/rerank", "compatible", {"query": "hello", "documents": ["a", "b"]}),
    Way(DEPLOYMENT, "openai", {"messages": SAYING_HELLO}),
    Way(MESSAGES, "anthropic", {"messages": SAYING_HELLO, "max_tokens": 50}),
    Way("/v1/messages/count_tokens", "anthropic", {"messages": SAYING_HELLO}),
    Way(GOOGLE, "gemini", {"contents": CONTENTS}),
    Way("/v1beta/models/{model}:countTokens", "gemini", {"contents": CONTENTS}),
    Way("/v1beta/models/{model}:embedContent", "gemini", {"content": {"parts": [{"text": "hello"}]}}),
    Way(OLLAMA, "ollama", {"messages": SAYING_HELLO, "stream": False}),
    Way("/api/generate", "ollama", {"prompt": "hello", "stream": False}),
    Way("/api/embed", "ollama", {"input": "hello"}),
)
NOT_FAKED = frozenset({"/v1/moderations", "/v1/images/generations", "/v1/rerank"})
"""What the fake does not speak: there it refuses, and only who was asked can be seen."""
TALKING = tuple(way for way in WAYS if way.path in (CHAT, RESPONSES, MESSAGES, GOOGLE, OLLAMA))
FACES = ("openai", "compatible", "anthropic", "gemini", "ollama")


def twins(site: Site) -> None:
    """Each face is two providers, and each model is served by both: `chat-openai` by `openai`, then by `openai-2`."""
    for face in FACES:
        row = site._providers[face]
        site.provider(f"{face}-2", **{name: value for name, value in row.items() if name != "id"})
        for name, upstream in (("chat", "fake-small"), ("embed", "fake-embed")):
            site.model(f"{name}-{face}", face, f"{face}-2", upstream=upstream, retries=1)
            site.model(f"org/{name}-{face}", face, upstream=f"{upstream}~words=2", retries=0)


def model_of(way: Way) -> str:
    return f"{'embed' if 'embed' in way.path else 'chat'}-{way.face}"


def code_of(call: Call, manner: Manner) -> str:
    """The code of an error, whose envelope is that of the caller's family of SDKs."""
    assert call.status >= 400
    code = call.headers["x-securellm-code"]
    body = call.json()
    match manner:
        case Manner.OPENAI:
            assert set(body["error"]) >= {"message", "type", "param", "code"}
            assert body["error"]["code"] == code
        case Manner.ANTHROPIC:
            assert (body["type"], body["error"]["code"]) == ("error", code)
        case Manner.GOOGLE:
            assert body["error"]["code"] == call.status
            assert {"message", "status"} <= set(body["error"])
        case Manner.OLLAMA:
            assert isinstance(body["error"], str)
    return code


def server_of(call: Call) -> str:
    assert call.status == 200, call.body
    return call.headers["x-securellm-provider"]


@pytest.mark.requirement("RT-5")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.path)
def test_a_pin_is_kept_or_refused_on_every_surface(tmp_path: Path, way: Way) -> None:
    async def scenario() -> None:
        async with world(tmp_path, twins) as opened:

            def asked(call: Call) -> str:
                assert call.status == 200 or (way.path in NOT_FAKED and call.code == "bad_request"), call.body
                return str(opened.record_of(call, "OUTCOME")["provider"])

            model, twin = model_of(way), f"{way.face}-2"
            upstream = "fake-embed" if "embed" in way.path else "fake-small"
            assert asked(await way.ask(opened, model)) == way.face
            # By header, by the model's name, by the provider's own name for it, and by both at once.
            for name, header in (
                (model, twin),
                (f"{twin}/{model}", None),
                (f"{twin}/{upstream}", None),
                (f"{twin}/{model}", twin),
                (f"{way.face}/org/{model}", None),
            ):
                call = await way.ask(opened, name, headers={} if header is None else {"x-provider": header})
                assert asked(call) == (way.face if "org/" in name else twin), name
                assert json.loads(opened.last().body).get("model") in (None, upstream, f"{upstream}~words=2")
            seen = len(opened.reached())
            for name, header, status, code in (
                (model, "nobody", 400, "no_route"),
                (model, "", 400, "no_route"),
                (model, twin.upper(), 400, "no_route"),
                (f"org/{model}", twin, 400, "no_route"),
                (f"{twin}/{model}", way.face, 400, "invalid_header"),
                (f"{way.face}/{model}", "", 400, "invalid_header"),
                (f"nobody/{model}", None, 404, "unknown_model"),
                (f"{twin}/org/{model}", None, 404, "unknown_model"),
                (f"{twin}/nothing", None, 404, "unknown_model"),
            ):
                call = await way.ask(opened, name, headers={} if header is None else {"x-provider": header})
                assert (code_of(call, way.manner), call.status) == (code, status), (name, header)
                assert opened.record_of(call)["code"] == code
            assert len(opened.reached()) == seen, "nothing refused reaches a provider"

    asyncio.run(scenario())


@pytest.mark.requirement("RT-5", "RS-1")
@pytest.mark.parametrize("way", TALKING, ids=lambda way: way.path)
def test_a_pinned_provider_that_fails_is_followed_by_no_other(tmp_path: Path, way: Way) -> None:
    async def scenario() -> None:
        async with world(tmp_path, twins) as opened:
            model, twin = model_of(way), f"{way.face}-2"
            opened.behave(status=503)
            assert server_of(await way.ask(opened, model)) == twin, "unpinned, the next one answers"
            opened.behave(status=503)
            assert server_of(await way.ask(opened, f"{twin}/{model}")) == twin
            for record in opened.records("INTENT")[1:]:
                assert record["route"] == [f"{twin}/fake-small"]
            opened.behave(status=503, times=2)
            call = await way.ask(opened, model, headers={"x-provider": way.face})
            assert code_of(call, way.manner) in ("provider_overloaded", "provider_error")
            assert opened.record_of(call)["provider"] == way.face

    asyncio.run(scenario())


@pytest.mark.requirement("RT-5", "CA-1")
def test_an_answer_in_the_cache_is_given_only_to_the_pin_it_was_made_under(tmp_path: Path) -> None:
    async def scenario() -> None:
        def prepare(site: Site) -> None:
            twins(site)
            site.extra = "[cache]\nenabled = true\n"

        async with world(tmp_path, prepare) as opened:
            way = WAYS[0]
            cold: dict[str, Any] = {"temperature": 0}
            kept = {"x-securellm-cache": ""}
            how: list[tuple[str, dict[str, str]]] = [
                ("chat-openai", {}),
                ("chat-openai", {"x-provider": "openai-2"}),
                ("chat-openai", {"x-provider": "openai"}),
            ]
            for name, headers in how:
                call = await way.ask(opened, name, headers={**kept, **headers}, **cold)
                assert call.headers["x-securellm-cache"] == "miss"
            for name, headers in how:
                call = await way.ask(opened, name, headers={**kept, **headers}, **cold)
                assert call.headers["x-securellm-cache"] == "hit"
            seen = len(opened.reached())
            assert seen == 3
            call = await way.ask(opened, "chat-openai", headers={**kept, "x-provider": "anthropic"}, **cold)
            assert call.code == "no_route"
            assert len(opened.reached()) == seen

    asyncio.run(scenario())


@pytest.mark.requirement("RT-5", "ID-4")
def test_a_pin_opens_no_model_that_the_allow_lists_keep_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys: dict[str, str] = {}

        def prepare(site: Site) -> None:
            site.model("secret", "openai", upstream="fake-large")
            site.tenant("acme", models=["chat", "embed"])
            keys["narrow"] = site.key(models=["embed"])

        async with world(tmp_path, prepare) as opened:
            way = WAYS[0]
            told = {}
            for name in ("openai/secret", "openai/fake-large", "secret", "nothing", "openai/nothing"):
                call = await way.ask(opened, name)
                assert (call.status, call.code) == (404, "unknown_model"), name
                told[name] = call.json()
            assert len({json.dumps(body) for body in told.values()}) == 1, "in the same words, whatever exists"
            call = await way.ask(opened, "openai/chat", key=keys["narrow"])
            assert (call.status, call.code) == (403, "model_not_allowed")
            assert opened.reached() == []

    asyncio.run(scenario())


NEEDING: Mapping[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    CHAT: (
        ("tools", {"tools": [{"type": "function", "function": FUNCTION}]}),
        ("vision", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]}),
        ("json_object", {"response_format": {"type": "json_object"}}),
        ("reasoning", {"reasoning_effort": "low"}),
        ("several_choices", {"n": 2}),
    ),
    RESPONSES: (
        ("tools", {"tools": [{"type": "function", **FUNCTION}]}),
        ("reasoning", {"reasoning": {"effort": "low"}}),
        ("logprobs", {"top_logprobs": 2}),
    ),
    MESSAGES: (
        ("tools", {"tools": [{"name": "look_up", "input_schema": {"type": "object"}}]}),
        ("reasoning", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}),
    ),
    GOOGLE: (
        ("tools", {"tools": [{"functionDeclarations": [{"name": "look_up", "description": "Looks up"}]}]}),
        (
            "vision",
            {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}]},
        ),
        ("reasoning", {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1024}}}),
    ),
    OLLAMA: (
        ("tools", {"tools": [{"type": "function", "function": FUNCTION}]}),
        ("vision", {"messages": [{"role": "user", "content": "see", "images": [PIXEL.partition(",")[2]]}]}),
        ("json_object", {"format": "json"}),
    ),
}
CAPS: Mapping[str, dict[str, Any]] = {
    CHAT: {"max_completion_tokens": 501},
    RESPONSES: {"max_output_tokens": 501},
    MESSAGES: {"max_tokens": 501},
    GOOGLE: {"generationConfig": {"maxOutputTokens": 501}},
    OLLAMA: {"options": {"num_predict": 501}},
}


@pytest.mark.requirement("PR-6")
@pytest.mark.parametrize("way", TALKING, ids=lambda way: way.path)
def test_what_no_route_offers_is_refused_with_the_reason_and_one_that_does_is_found(tmp_path: Path, way: Way) -> None:
    def prepare(site: Site) -> None:
        twins(site)
        route = [{"provider": way.face, "model": "fake-small", "capabilities": [], "max_output": 500}]
        site.model("plain", way.face)
        site.model("later", way.face)
        for row in site._models:
            if row["name"] == "plain":
                row["route"] = route
            if row["name"] == "later":
                row["route"] = [*route, {"provider": f"{way.face}-2", "model": "fake-small"}]

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            assert server_of(await way.ask(opened, "plain")) == way.face
            seen = len(opened.reached())
            for capability, members in NEEDING[way.path]:
                call = await way.ask(opened, "plain", **members)
                assert (code_of(call, way.manner), call.status) == ("unsupported_capability", 400), capability
                assert f"no route of this model offers {capability}." in call.body.decode()
                assert opened.record_of(call)["code"] == "unsupported_capability"
            call = await way.ask(opened, "plain", **CAPS[way.path])
            assert code_of(call, way.manner) == "unsupported_capability"
            assert "no route of this model writes 501 tokens: at most 500." in call.body.decode()
            assert len(opened.reached()) == seen
            assert server_of(await way.ask(opened, "later")) == way.face
            for _, members in (*NEEDING[way.path], ("", CAPS[way.path])):
                assert server_of(await way.ask(opened, "later", **members)) == f"{way.face}-2"
            call = await way.ask(opened, "later", headers={"x-provider": way.face}, **NEEDING[way.path][0][1])
            assert code_of(call, way.manner) == "unsupported_capability", "a pin is not slackened"

    asyncio.run(scenario())


def lanes(site: Site) -> None:
    site.tenant("acme", budget="100.00 USD")
    site.model("both", "openai", "anthropic", retries=1)
    site.model("reverse", "anthropic", "openai", retries=1)


@pytest.mark.requirement("GW-7", "RT-1")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "model", "first", "second", "spoken"),
    [(CHAT, "both", "openai", "anthropic", "messages"), (MESSAGES, "reverse", "anthropic", "openai", "chat")],
)
def test_a_failed_lossless_attempt_is_followed_by_a_translated_one(
    tmp_path: Path, path: str, model: str, first: str, second: str, spoken: str, stream: bool
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lanes) as opened:
            whole = await opened.ask(path, asking(path, model=model, stream=stream))
            assert server_of(whole) == first
            assert "x-securellm-translated" not in whole.headers
            opened.behave(status=503)
            call = await opened.ask(path, asking(path, model=model, stream=stream))
            assert server_of(call) == second
            assert call.headers["x-securellm-translated"] == spoken
            assert [entry.face for entry in opened.reached()] == [first, first, second]
            intent, attempt, outcome = (opened.record_of(call, name) for name in ("INTENT", "ATTEMPT", "OUTCOME"))
            assert (intent["provider"], attempt["provider"], outcome["provider"]) == (first, second, second)
            assert f"translate:{spoken}" in outcome["changes"]
            assert outcome["settled"] > 0
            assert _names(call, path, stream=stream) == _names(whole, path, stream=stream), "one dialect, two providers"

    asyncio.run(scenario())


def _names(call: Call, path: str, *, stream: bool) -> set[str]:
    """Enough to tell one dialect from another: the kinds of what a whole answer or a stream consists of."""
    if stream:
        marker = b"message_start" if path == MESSAGES else b"chat.completion.chunk"
        return {"first" if marker in call.events[0] else "?", "end" if call.finished else "open"}
    body = call.json()
    return {str(body.get("object")), str(body.get("type"))}


@pytest.mark.requirement("PR-6", "GW-7")
def test_what_only_a_translated_place_offers_is_asked_of_it(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        lanes(site)
        [row] = [row for row in site._models if row["name"] == "both"]
        row["capabilities"] = ["vision"]
        row["route"] = [
            {"provider": "openai", "model": "fake-small", "capabilities": ["tools"]},
            {"provider": "anthropic", "model": "fake-small"},
        ]

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            needing = dict(NEEDING[CHAT])
            sees, calls = needing["vision"], needing["tools"]
            assert server_of(await opened.ask(CHAT, asking(CHAT, model="both", **calls))) == "openai"
            call = await opened.ask(CHAT, asking(CHAT, model="both", **sees))
            assert server_of(call) == "anthropic"
            assert call.headers["x-securellm-translated"] == "messages"
            assert opened.record_of(call, "INTENT")["route"] == ["anthropic/fake-small"]
            call = await opened.ask(CHAT, asking(CHAT, model="both", **{**calls, **sees}))
            assert (call.status, call.code) == (400, "unsupported_capability")
            assert (
                "no single route of this model offers all that is needed: "
                "openai/fake-small lacks vision; anthropic/fake-small lacks tools. "
            ) in call.json()["error"]["message"]

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7", "RT-5")
def test_a_pin_to_a_place_that_speaks_another_dialect_is_kept_in_translation(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lanes) as opened:
            for name, headers in (("both", {"x-provider": "anthropic"}), ("anthropic/both", {})):
                call = await opened.ask(CHAT, asking(CHAT, model=name), headers=headers)
                assert server_of(call) == "anthropic"
                assert call.headers["x-securellm-translated"] == "messages"
                assert call.json()["object"] == "chat.completion"
                assert opened.last().face == "anthropic"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7", "RT-5")
def test_what_only_the_pinned_place_cannot_be_told_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lanes) as opened:
            strange: dict[str, Any] = {"logit_bias": {"1": 5}}
            call = await opened.ask(CHAT, asking(CHAT, model="both", **strange))
            assert server_of(call) == "openai", "the lossless place is told everything"
            call = await opened.ask(CHAT, asking(CHAT, model="both", **strange), headers={"x-provider": "anthropic"})
            assert (call.status, call.code) == (400, "not_representable")
            assert call.json()["error"]["param"] == "logit_bias"
            # A pin that nobody can keep is the cause even where a translation is refused too.
            call = await opened.ask(CHAT, asking(CHAT, model="both", **strange), headers={"x-provider": "nobody"})
            assert (call.code, call.json()["error"]["param"]) == ("no_route", "x-provider")
            assert len(opened.reached()) == 1

    asyncio.run(scenario())


def test_a_model_that_a_tenant_may_not_see_makes_no_pin_of_its_own_ambiguous(tmp_path: Path) -> None:
    def two(site: Site) -> None:
        site.model("seen", "openai", upstream="fake-large")
        site.model("unseen", "openai", upstream="fake-large")
        site.tenant("acme", models=["seen"])

    async def scenario() -> None:
        async with world(tmp_path, two) as opened:
            call = await opened.ask(CHAT, asking(CHAT) | {"model": "openai/fake-large"})
            assert call.status == 200, call.body
            assert call.json()["model"] in ("seen", "fake-large")
            hidden = await opened.ask(CHAT, asking(CHAT) | {"model": "openai/unseen"})
            assert hidden.status in (403, 404)

    asyncio.run(scenario())
