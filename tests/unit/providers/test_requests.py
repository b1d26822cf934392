"""What is changed of a request on its way to an upstream of the same dialect: a closed, named list."""

import json
from typing import Any

import pytest

from securellm.core.document import Document, Patch
from securellm.core.surfaces import Surface
from securellm.providers import DIALECTS, KINDS

CHAT_CAPS = ("max_completion_tokens", "max_tokens")
CONTENT_CAPS = KINDS["gemini"].cap_fields[Surface.GENERATE_CONTENT]
OLLAMA_CAPS = KINDS["ollama"].cap_fields[Surface.OLLAMA_CHAT]
NAMED_BY_PATH = (
    Surface.GENERATE_CONTENT,
    Surface.CONTENT_TOKENS,
    Surface.EMBED_CONTENT,
    Surface.BATCH_EMBED_CONTENTS,
)
NAMED_BY_BODY = [surface for surface in DIALECTS if surface not in NAMED_BY_PATH]


def prepare(
    surface: Surface,
    body: str,
    *,
    model: str | None = None,
    cap: int | None = None,
    caps: tuple[str, ...] = (),
    usage: bool = False,
) -> tuple[str, tuple[str, ...]]:
    document = Document(body.encode())
    patch = Patch(document)
    edits = DIALECTS[surface].prepare(
        patch, document, upstream_model=model, output_cap=cap, cap_fields=caps, inject_usage=usage
    )
    assert bool(patch) == bool(edits)
    return patch.apply().decode(), edits


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("surface", DIALECTS)
def test_a_request_that_needs_nothing_is_left_as_it_is(surface: Surface) -> None:
    model = "models/m" if surface in NAMED_BY_PATH else "m"
    body = f'{{ "model" : "{model}", "max_tokens":5, "max_output_tokens": 5, "odd" : [1,  2.50] }}'
    assert prepare(surface, body, model="m", cap=5, caps=("max_tokens", "max_output_tokens")) == (body, ())
    assert prepare(surface, body) == (body, ())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("surface", NAMED_BY_BODY)
def test_the_model_is_named_as_the_upstream_knows_it(surface: Surface) -> None:
    assert prepare(surface, '{"a":1, "model": "fast" }', model="m-1") == ('{"a":1, "model": "m-1" }', ("model_alias",))
    assert prepare(surface, '{"a":1}', model="m-1") == ('{"a":1,"model":"m-1"}', ("model_alias",))


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("caps", "body", "expected"),
    [
        (CHAT_CAPS, {}, {"max_completion_tokens": 100}),
        (CHAT_CAPS, {"max_tokens": None}, {"max_tokens": None, "max_completion_tokens": 100}),
        (CHAT_CAPS, {"max_tokens": 99}, {"max_tokens": 99}),
        (CHAT_CAPS, {"max_tokens": 100}, {"max_tokens": 100}),
        (CHAT_CAPS, {"max_tokens": 101}, {"max_tokens": 100}),
        (CHAT_CAPS, {"max_completion_tokens": 5000}, {"max_completion_tokens": 100}),
        (
            CHAT_CAPS,
            {"max_tokens": 7, "max_completion_tokens": 5000},
            {"max_tokens": 7, "max_completion_tokens": 100},
        ),
        (CHAT_CAPS, {"max_tokens": "9999"}, {"max_tokens": 100}),
        (CHAT_CAPS, {"max_tokens": 1e9}, {"max_tokens": 100}),
        (CHAT_CAPS, {"max_tokens": True}, {"max_tokens": 100}),
        (CHAT_CAPS, {"max_tokens": -1}, {"max_tokens": 100}),
        (("max_tokens",), {"max_completion_tokens": 40}, {"max_completion_tokens": 40, "max_tokens": 40}),
        (("max_tokens",), {"max_completion_tokens": 400}, {"max_completion_tokens": 100, "max_tokens": 100}),
        (("max_tokens",), {"max_tokens": 0}, {"max_tokens": 100}),
    ],
)
def test_the_upstream_is_always_bound_by_the_cap(
    caps: tuple[str, ...], body: dict[str, Any], expected: dict[str, Any]
) -> None:
    sent, edits = prepare(Surface.CHAT, json.dumps(body), cap=100, caps=caps)
    assert json.loads(sent) == expected
    assert edits == (("output_cap",) if expected != body else ())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("caps", "body", "expected"),
    [
        (CONTENT_CAPS, "{}", '{"generationConfig":{"maxOutputTokens":100}}'),
        (CONTENT_CAPS, '{"generationConfig": null}', '{"generationConfig": {"maxOutputTokens":100}}'),
        (
            CONTENT_CAPS,
            '{"generationConfig": {"topK":3} , "a":1}',
            '{"generationConfig": {"topK":3,"maxOutputTokens":100} , "a":1}',
        ),
        (
            CONTENT_CAPS,
            '{"generation_config": {"max_output_tokens": 5000}}',
            '{"generation_config": {"max_output_tokens": 100}}',
        ),
        (CONTENT_CAPS, '{"generation_config": {}}', '{"generation_config": {"max_output_tokens":100}}'),
        (
            CONTENT_CAPS,
            '{"generationConfig": {"max_output_tokens": 7}}',
            '{"generationConfig": {"max_output_tokens": 7}}',
        ),
        (
            CONTENT_CAPS,
            '{"generationConfig": {"maxOutputTokens": 7}, "generation_config": {"maxOutputTokens": 500}}',
            '{"generationConfig": {"maxOutputTokens": 7}, "generation_config": {"maxOutputTokens": 100}}',
        ),
        (
            CONTENT_CAPS,
            '{"generationConfig": {"maxOutputTokens": "7"}}',
            '{"generationConfig": {"maxOutputTokens": 100}}',
        ),
        (OLLAMA_CAPS, "{}", '{"options":{"num_predict":100}}'),
        (OLLAMA_CAPS, '{"options": {"num_predict": -1}}', '{"options": {"num_predict": 100}}'),
        (OLLAMA_CAPS, '{"options": {"num_predict": 0}}', '{"options": {"num_predict": 100}}'),
        (OLLAMA_CAPS, '{"options": {"num_predict": 99}}', '{"options": {"num_predict": 99}}'),
        (OLLAMA_CAPS, '{"options": [1]}', '{"options": {"num_predict":100}}'),
    ],
)
def test_a_cap_that_stands_in_another_member_is_written_where_the_caller_writes(
    caps: tuple[str, ...], body: str, expected: str
) -> None:
    assert prepare(Surface.GENERATE_CONTENT, body, cap=100, caps=caps) == (
        expected,
        ("output_cap",) if expected != body else (),
    )


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("surface", NAMED_BY_PATH)
def test_a_model_that_the_path_names_is_named_in_the_body_only_where_the_caller_does(surface: Surface) -> None:
    assert prepare(surface, '{"a":1}', model="m-1") == ('{"a":1}', ())
    assert prepare(surface, '{"model": "models/fast" }', model="m-1") == ('{"model": "models/m-1" }', ("model_alias",))


@pytest.mark.requirement("GW-7")
def test_every_place_that_names_the_model_is_renamed() -> None:
    several = '{"requests":[{"model":"models/a"},{"model": "models/b"},{}]}'
    sent, edits = prepare(Surface.BATCH_EMBED_CONTENTS, several, model="b")
    assert (sent, edits) == ('{"requests":[{"model":"models/b"},{"model": "models/b"},{}]}', ("model_alias",))
    counted = '{"generateContentRequest":{"model":"models/a","contents":[]}}'
    sent, edits = prepare(Surface.CONTENT_TOKENS, counted, model="b")
    assert (sent, edits) == (counted.replace("models/a", "models/b"), ("model_alias",))


@pytest.mark.parametrize(
    ("surface", "caps"), [(Surface.RESPONSES, ("max_output_tokens",)), (Surface.MESSAGES, ("max_tokens",))]
)
def test_each_dialect_has_its_own_cap(surface: Surface, caps: tuple[str, ...]) -> None:
    assert prepare(surface, "{}", cap=3, caps=caps) == (f'{{"{caps[0]}":3}}', ("output_cap",))


def test_embeddings_are_not_capped_and_report_usage_anyway() -> None:
    assert prepare(Surface.EMBEDDINGS, "{}", cap=3, caps=("max_tokens",), usage=True) == ("{}", ())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{}", '{"stream_options":{"include_usage":true}}'),
        ('{"stream_options": null}', '{"stream_options": {"include_usage":true}}'),
        ('{"stream_options": {}}', '{"stream_options": {"include_usage":true}}'),
        (
            '{"stream_options": {"include_obfuscation": false}}',
            '{"stream_options": {"include_obfuscation": false,"include_usage":true}}',
        ),
        ('{"stream_options": {"include_usage": false}}', '{"stream_options": {"include_usage": true}}'),
        ('{"stream_options": {"include_usage": 1}}', '{"stream_options": {"include_usage": true}}'),
    ],
)
def test_usage_is_asked_for_where_the_caller_did_not(body: str, expected: str) -> None:
    assert prepare(Surface.CHAT, body, usage=True) == (expected, ("include_usage",))


def test_usage_is_not_asked_for_twice() -> None:
    body = '{"stream_options": {"include_usage": true}}'
    assert prepare(Surface.CHAT, body, usage=True) == (body, ())


def test_all_edits_together_are_named_in_order() -> None:
    sent, edits = prepare(Surface.CHAT, '{"model":"a"}', model="b", cap=1, caps=CHAT_CAPS, usage=True)
    assert edits == ("model_alias", "output_cap", "include_usage")
    assert json.loads(sent) == {
        "model": "b",
        "max_completion_tokens": 1,
        "stream_options": {"include_usage": True},
    }
