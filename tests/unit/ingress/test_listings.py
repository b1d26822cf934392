"""The models a key may use, in each family's words and pages."""

import json
from typing import Any

import pytest

from securellm.core.capabilities import Capability
from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Manner, Surface
from securellm.gateway.models import VisibleModel
from securellm.ingress import listings
from securellm.ingress.listings import asked_in, usable, written
from securellm.ingress.query import Query


def model(
    name: str,
    *surfaces: Surface,
    window: int | None = None,
    output: int | None = None,
    offers: frozenset[Capability] | None = None,
) -> VisibleModel:
    return VisibleModel(name, "somewhere", surfaces or (Surface.CHAT,), window, output, offers)


MANY = tuple(model(f"m{number:02d}", Surface.MESSAGES, Surface.GENERATE_CONTENT) for number in range(45))
NAMES = [each.name for each in MANY]


FAMILIES = [manner for manner in Manner if manner is not Manner.PLAIN]
"""Whose SDKs list models."""


def listed(manner: Manner, query: str = "", models: tuple[VisibleModel, ...] = MANY) -> Any:
    return json.loads(written(listings.every(manner, models, Query.parse(query), "")))


def described(manner: Manner, one: VisibleModel) -> Any:
    return json.loads(written(listings.described(manner, (one,), Query.parse(""), one.name)))


@pytest.mark.requirement("GW-4")
def test_openais_list_is_whole_and_says_on_which_surfaces() -> None:
    shown = listed(Manner.OPENAI)
    assert shown["object"] == "list"
    assert [row["id"] for row in shown["data"]] == NAMES
    assert shown["data"][0] == {
        "id": "m00",
        "object": "model",
        "created": 0,
        "owned_by": "somewhere",
        "surfaces": ["messages", "generate_content"],
    }


@pytest.mark.requirement("GW-4")
def test_anthropics_list_comes_in_pages_forwards_and_backwards() -> None:
    first = listed(Manner.ANTHROPIC)
    assert [row["id"] for row in first["data"]] == NAMES[:20]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, "m00", "m19")
    second = listed(Manner.ANTHROPIC, "after_id=m19&limit=25")
    assert [row["id"] for row in second["data"]] == NAMES[20:]
    assert second["has_more"] is False
    before = listed(Manner.ANTHROPIC, "before_id=m30&limit=10")
    assert [row["id"] for row in before["data"]] == NAMES[20:30]
    assert before["has_more"] is True
    assert listed(Manner.ANTHROPIC, "before_id=m05")["has_more"] is False
    assert [row["id"] for row in listed(Manner.ANTHROPIC, "before_id=m05")["data"]] == NAMES[:5]
    empty = listed(Manner.ANTHROPIC, "after_id=m44")
    assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert listed(Manner.ANTHROPIC, models=()) == empty


@pytest.mark.requirement("GW-4", "GW-5")
def test_googles_list_comes_in_pages_that_name_the_next() -> None:
    names: list[str] = []
    query = "pageSize=20"
    while True:
        page = listed(Manner.GOOGLE, query)
        names += [row["name"] for row in page["models"]]
        if "nextPageToken" not in page:
            break
        query = f"pageSize=20&pageToken={page['nextPageToken']}"
    assert names == [f"models/{name}" for name in NAMES]
    assert len(listed(Manner.GOOGLE)["models"]) == 45
    assert listed(Manner.GOOGLE, "pageToken=")["models"][0]["name"] == "models/m00"


@pytest.mark.parametrize(
    ("manner", "query", "param"),
    [
        (Manner.ANTHROPIC, "limit=0", "limit"),
        (Manner.ANTHROPIC, "limit=1001", "limit"),
        (Manner.ANTHROPIC, "limit=ten", "limit"),
        (Manner.ANTHROPIC, "after_id=nobody", "after_id"),
        (Manner.ANTHROPIC, "before_id=nobody", "before_id"),
        (Manner.ANTHROPIC, "after_id=m01&before_id=m03", "before_id"),
        (Manner.ANTHROPIC, "after_id=m01&after_id=m03", "after_id"),
        (Manner.GOOGLE, "pageSize=-1", "pageSize"),
        (Manner.GOOGLE, "pageToken=nobody", "pageToken"),
    ],
)
def test_a_page_that_is_none_is_refused_by_the_name_of_its_parameter(manner: Manner, query: str, param: str) -> None:
    with pytest.raises(Refusal) as refused:
        listed(manner, query)
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, param)


@pytest.mark.requirement("GW-4")
def test_a_family_is_shown_what_its_clients_can_ask() -> None:
    models = (
        model("chat"),
        model("claude", Surface.MESSAGES),
        model("gem", Surface.EMBED_CONTENT),
        model("lama", Surface.OLLAMA_EMBED),
    )
    shown = {manner: [each.name for each in usable(manner, models)] for manner in FAMILIES}
    assert shown == {
        Manner.OPENAI: ["chat", "claude", "gem", "lama"],
        Manner.ANTHROPIC: ["claude"],
        Manner.GOOGLE: ["gem"],
        Manner.OLLAMA: ["lama"],
    }


def test_what_is_known_of_a_model_is_said_and_nothing_else() -> None:
    known = model(
        "a/b",
        Surface.GENERATE_CONTENT,
        Surface.CONTENT_TOKENS,
        Surface.OLLAMA_CHAT,
        window=1000,
        output=200,
        offers=frozenset({Capability.TOOLS, Capability.REASONING, Capability.FILES}),
    )
    unknown = model("c", Surface.EMBED_CONTENT, Surface.OLLAMA_EMBED)
    assert described(Manner.GOOGLE, known) == {
        "name": "models/a/b",
        "displayName": "a/b",
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
        "inputTokenLimit": 1000,
        "outputTokenLimit": 200,
        "thinking": True,
    }
    assert described(Manner.GOOGLE, unknown) == {
        "name": "models/c",
        "displayName": "c",
        "supportedGenerationMethods": ["embedContent"],
    }
    assert described(Manner.OPENAI, known)["capabilities"] == ["files", "reasoning", "tools"]
    assert "capabilities" not in described(Manner.OPENAI, unknown), "not declared is not none"
    claude = described(Manner.ANTHROPIC, known)
    assert (claude["max_input_tokens"], claude["max_tokens"], claude["lifecycle"]) == (1000, 200, "active")
    assert described(Manner.ANTHROPIC, unknown)["max_tokens"] is None
    shown = json.loads(written(listings.shown(Manner.OLLAMA, (known, unknown), Query.parse(""), "a/b")))
    assert shown["capabilities"] == ["completion", "tools", "thinking"]
    assert shown["model_info"] == {"general.context_length": 1000}
    shown = json.loads(written(listings.shown(Manner.OLLAMA, (known, unknown), Query.parse(""), "c")))
    assert (shown["capabilities"], shown["model_info"]) == (["embedding"], {})


@pytest.mark.parametrize("manner", FAMILIES)
def test_a_model_that_is_not_there_is_not_described(manner: Manner) -> None:
    for answer in (listings.described, listings.shown):
        with pytest.raises(Refusal) as refused:
            answer(manner, MANY, Query.parse(""), "nobody")
        assert refused.value.code is Code.UNKNOWN_MODEL


def test_older_clients_of_ollama_say_name() -> None:
    assert asked_in(Document(b'{"model":"a"}')) == "a"
    assert asked_in(Document(b'{"name":"a"}')) == "a"
    assert asked_in(Document(b'{"model":"a","name":"b"}')) == "a"
    for wrong in (b"{}", b'{"name":5}', b'{"model":5}', b"[]"):
        with pytest.raises(Refusal) as refused:
            asked_in(Document(wrong))
        assert refused.value.code is Code.INVALID_REQUEST
