"""Which path leads where: one spelling for each, and nothing decoded that could be read in two ways."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Manner, Surface
from securellm.gateway.model import Request
from securellm.ingress import listings, routes
from securellm.ingress.listings import LISTINGS
from securellm.ingress.query import Query
from securellm.ingress.routes import ROUTES, Place

CONTENT = {"role": "user", "parts": [{"text": "hello"}]}
NOTHING = Query.parse("")


def place_of(path: str) -> Place:
    place = routes.find(path)
    assert place is not None, path
    return place


def model_in(path: str, query: str = "") -> str:
    return place_of(path).model(Query.parse(query))


def refusal_of(path: str, query: str = "") -> Refusal:
    with pytest.raises(Refusal) as refused:
        model_in(path, query)
    return refused.value


def read(path: str, body: Mapping[str, Any], query: str = "") -> Request:
    place = place_of(path)
    sent = place.route.parse(json.dumps(body).encode(), {}, max_depth=64)
    return place.route.read(sent, {}, place.model(Query.parse(query)))


def test_every_route_leads_to_itself_whatever_the_models_name() -> None:
    for template, route in ROUTES.items():
        for model in ("a", "openai/gpt-5.2", "llama3:8b", "a@b+c_d.e-f", "countTokens", "a/b/c"):
            found = place_of(route.path(model))
            assert found.route.template == template
            assert found.model(Query.parse(route.query)) == (model if "{model}" in template else "")
            assert listings.find(route.path(model)) is None or "{model}" in template
        assert routes.find(template + "/") is None
        assert routes.find(template.upper()) is None or template == template.upper()


@pytest.mark.parametrize("template", ["/v1/models/{model}:{verb}", "/v1beta/models/{model}:{verb}"])
@pytest.mark.parametrize(
    ("verb", "surface"),
    [
        ("generateContent", Surface.GENERATE_CONTENT),
        ("streamGenerateContent", Surface.GENERATE_CONTENT),
        ("countTokens", Surface.CONTENT_TOKENS),
        ("embedContent", Surface.EMBED_CONTENT),
        ("batchEmbedContents", Surface.BATCH_EMBED_CONTENTS),
    ],
)
@pytest.mark.requirement("GW-5")
def test_both_versions_of_googles_paths_lead_to_the_same_surface(template: str, verb: str, surface: Surface) -> None:
    place = place_of(template.replace("{model}", "gemini-3-pro").replace("{verb}", verb))
    assert place.surface is surface
    assert place.manner is Manner.GOOGLE
    assert place.methods == ("POST",)


@pytest.mark.parametrize(
    "spelled",
    [
        "",
        "/",
        "a//b",
        "/a",
        "a/",
        ".",
        "..",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "%61",
        "a%2Fb",
        "a%2fb",
        "a%252Fb",
        "a%2E%2E",
        "llama3%3A8b",
        "a%",
        "a%00",
        "a b",
        "a;b",
        "a,b",
        "a$b",
        "-a",
        "a\u00e9",
        "a" * 129,
        "a\\b",
        "a?b",
        "a#b",
    ],
)
def test_a_model_has_one_spelling_in_googles_paths(spelled: str) -> None:
    refused = refusal_of(f"/v1beta/models/{spelled}:generateContent")
    assert (refused.code, refused.param) == (Code.INVALID_REQUEST, "model")


@pytest.mark.parametrize(
    "spelled", ["", "a/b", "a%2fb", "a%252Fb", "%61", "a%2F..%2Fb", "..", "%2F", "a%2F", "%2Fa", "a%2F%2Fb", "a%3Ab"]
)
def test_a_deployment_is_one_segment_whose_slashes_are_encoded_and_nothing_else_is(spelled: str) -> None:
    assert model_in("/openai/deployments/openai%2Fgpt-5.2/chat/completions") == "openai/gpt-5.2"
    refused = refusal_of(f"/openai/deployments/{spelled}/chat/completions")
    assert (refused.code, refused.param) == (Code.INVALID_REQUEST, "model")


def test_what_is_nearly_a_route_is_none() -> None:
    for path in (
        "/v1/models/a:generateContents",
        "/v1/models/a:generatecontent",
        "/v1/models/a%3AgenerateContent",
        "/v1/models/a/generateContent",
        "/v1/tunedModels/a:generateContent",
        "/v2/models/a:generateContent",
        "/v1beta/model/a:generateContent",
        "/v1%2Fmessages",
        "//v1/messages",
        "/v1/messages/",
        "/V1/messages",
        "/openai/deployments/a/completions",
        "/api/chat/",
        "/api/embeddings",
        "/v1/{model}",
        "/v1/models/{model}:generateContent/",
    ):
        assert routes.find(path) is None, path


def test_the_template_itself_is_no_way_in() -> None:
    for template in (*ROUTES, *LISTINGS):
        if "{model}" in template:
            found = routes.find(template) or listings.find(template)
            assert found is not None
            with pytest.raises(Refusal):
                found.model(Query.parse("alt=sse" if "stream" in template else ""))


@pytest.mark.requirement("GW-5")
def test_a_stream_of_googles_must_be_asked_for_as_events() -> None:
    path = "/v1beta/models/a:streamGenerateContent"
    assert model_in(path, "alt=sse") == "a"
    refused = refusal_of(path)
    assert (refused.code, refused.param) == (Code.INVALID_REQUEST, "alt")
    assert "add alt=sse" in refused.reason
    for query in ("alt=json", "alt=", "alt=SSE", "alt=sse&alt=sse", "alt=sse&alt=json", "ALT=sse"):
        assert refusal_of(path, query).param == "alt"
    for verb in ("generateContent", "countTokens", "embedContent", "batchEmbedContents"):
        assert model_in(f"/v1/models/a:{verb}", "alt=json") == "a"
        for query in ("alt=sse", "alt=media", "alt="):
            assert refusal_of(f"/v1/models/a:{verb}", query).param == "alt"
    assert place_of("/v1/chat/completions").model(Query.parse("alt=sse")) == "", "a parameter of others' paths"


@pytest.mark.parametrize(
    ("rest", "body"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("responses", {"input": "x"}),
        ("embeddings", {"input": "x"}),
    ],
)
def test_a_deployment_decides_and_what_the_body_calls_the_model_goes_no_further(
    rest: str, body: dict[str, Any]
) -> None:
    path = f"/openai/deployments/openai%2Fa/{rest}"
    whole = {**body, "stream": False, "model": "openai/a", "user": "u"}
    assert read(path, whole).document.text == json.dumps(whole), "as it was sent"
    for other in ("<ignored>", "gpt-5.2", None, 5, {"a": 1}):
        asked = read(path, {**whole, "model": other})
        assert asked.model == "openai/a"
        assert json.loads(asked.document.text) == whole
        assert not any(leaf.text == other for leaf in asked.leaves)
    unnamed = read(path, body)
    assert (unnamed.model, unnamed.document.members()["model"]) == ("openai/a", "openai/a")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1beta/models/a:generateContent", {"contents": [CONTENT]}),
        ("/v1beta/models/a:countTokens", {"contents": [CONTENT]}),
        ("/v1beta/models/a:embedContent", {"content": CONTENT}),
        ("/v1beta/models/a:batchEmbedContents", {"requests": [{"content": CONTENT}]}),
    ],
)
def test_a_body_may_name_the_model_of_googles_path_again_but_no_other(path: str, body: dict[str, Any]) -> None:
    assert read(path, body).model == "a"
    for same in ("a", "models/a"):
        assert read(path, {**body, "model": same}).model == "a"
    for other in ("b", "A", "models/b", "models/models/a", ""):
        with pytest.raises(Refusal) as refused:
            read(path, {**body, "model": other})
        assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "model")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("countTokens", {"generateContentRequest": {"contents": [CONTENT], "model": "models/b"}}),
        ("countTokens", {"generate_content_request": {"contents": [CONTENT], "model": "models/b"}}),
        ("batchEmbedContents", {"requests": [{"content": CONTENT}, {"content": CONTENT, "model": "models/b"}]}),
        ("batchEmbedContents", {"requests": {"content": CONTENT, "model": "models/b"}}),
        ("generateContent", {"contents": [CONTENT], "model": 5}),
        ("generateContent", {"contents": [CONTENT], "model": None}),
    ],
)
def test_another_model_inside_a_body_is_refused_too(verb: str, body: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        read(f"/v1beta/models/a:{verb}", body)
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "model")


@pytest.mark.parametrize("name", ["key", "KEY", "api_key", "apikey", "api-key", "access_token", "token", "%6bey"])
def test_a_credential_in_the_address_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        Query.parse(f"alt=sse&{name}=slb-a-secret-key")
    assert refused.value.code is Code.MISSING_KEY
    assert "slb-a-secret-key" not in str(refused.value)
    assert "logs" in refused.value.reason


def test_a_query_is_bounded_and_its_numbers_are_numbers() -> None:
    with pytest.raises(Refusal) as refused:
        Query.parse("&".join(f"a{number}=1" for number in range(100)))
    assert refused.value.code is Code.INVALID_REQUEST
    query = Query.parse("limit=3&zero=0&word=x&wide=\u0663&twice=1&twice=1&empty=&huge=99999999999&large=1001")
    assert query.count("limit", default=20, largest=1000) == 3
    assert query.count("absent", default=20, largest=1000) == 20
    assert query.count("empty", default=20, largest=1000) == 20
    for name in ("zero", "word", "wide", "twice", "huge", "large"):
        with pytest.raises(Refusal) as refused:
            query.count(name, default=20, largest=1000)
        assert refused.value.param == name


def test_listings_take_either_spelling_of_a_slash_for_nothing_is_done_there() -> None:
    for prefix in ("/v1/models/", "/v1beta/models/"):
        for spelled in ("openai/gpt-5.2", "openai%2Fgpt-5.2"):
            found = listings.find(prefix + spelled)
            assert found is not None
            assert found.model(NOTHING) == "openai/gpt-5.2"
            assert found.methods == ("GET", "HEAD")
        for wrong in ("", "a%252Fb", "a/%2Fb", "a%00", "..", "a/../b"):
            found = listings.find(prefix + wrong)
            assert found is not None
            with pytest.raises(Refusal):
                found.model(NOTHING)
    for path in ("/api/tags/", "/api/tag", "/openai/models/a", "/v1/model", "/v1beta2/models"):
        assert listings.find(path) is None
