"""Whole replies: one typed record of each, and every text in it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.goldens import REPLIES, expected_of, surface_of

from securellm.core.document import Document
from securellm.core.errors import Code
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers import DIALECTS, ReplyFacts
from securellm.providers.dialects import figures

REQUIRED = {
    Surface.CHAT: "choices",
    Surface.MESSAGES: "content",
    Surface.RESPONSES: "output",
    Surface.EMBEDDINGS: "data",
    Surface.RERANK: "results",
    Surface.GENERATE_CONTENT: "candidates",
    Surface.BATCH_EMBED_CONTENTS: "embeddings",
    Surface.OLLAMA_EMBED: "embeddings",
}
"""The list that makes a body a reply of its surface."""
NAMES = ["choices", "message", "delta", "content", "output", "data", "logprobs", "id", "text", "parts", "candidates"]
NAMES += ["functionCall", "args", "values", "document", "groundingMetadata", "response", "function", "embedding"]
OTHERS = (
    Surface.MESSAGE_TOKENS,
    Surface.CONTENT_TOKENS,
    Surface.EMBED_CONTENT,
    Surface.OLLAMA_CHAT,
    Surface.OLLAMA_GENERATE,
)


def read(surface: Surface, body: bytes | dict[str, Any]) -> ReplyFacts:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    return DIALECTS[surface].read_reply(Document(data))


def golden(name: str) -> ReplyFacts:
    return read(surface_of(name), REPLIES[name].read_bytes())


@pytest.mark.requirement("PR-3")
@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_one_record(name: str) -> None:
    facts, expected = golden(name), expected_of(name)
    assert facts.failure is None
    assert (facts.id, facts.model, facts.service_tier) == (expected.id, expected.model, expected.service_tier)
    assert (facts.finish, facts.text) == (expected.finish, expected.text)
    assert facts.usage == expected.usage
    assert dict(facts.server_tool_uses) == expected.tools


@pytest.mark.parametrize("name", REPLIES)
def test_every_text_of_a_reply_is_found_and_nothing_opaque(name: str) -> None:
    found = {(leaf.kind.value, leaf.text) for leaf in golden(name).leaves}
    assert found == set(expected_of(name).leaves or ())


def test_the_vector_of_a_conversation_is_emptied_when_something_is_redacted() -> None:
    [mirror] = golden("ollama.ollama_generate.whole").mirrors
    assert (mirror.path, mirror.blank) == (("context",), [])


@pytest.mark.parametrize("surface", REQUIRED)
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.just("a b"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(NAMES),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_no_text_hides_in_any_shape(surface: Surface, body: Any) -> None:
    written = json.dumps({REQUIRED[surface]: [body], "x": body})
    facts = read(surface, written.encode())
    assert facts.failure is None
    assert sum(leaf.text.count("a b") for leaf in facts.leaves) == written.count('"a b"')


@pytest.mark.parametrize("surface", [*REQUIRED, *OTHERS])
@pytest.mark.parametrize("body", [b"[]", b"7", b"{}", b'{"choices":{},"content":"x","output":null,"data":1}'])
def test_what_is_no_reply_is_a_bad_one(surface: Surface, body: bytes) -> None:
    if surface is Surface.CONTENT_TOKENS and body == b"{}":
        return  # How a count of zero is written.
    failure = read(surface, body).failure
    assert failure is not None
    assert failure.code is Code.BAD_REPLY


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize("surface", [*REQUIRED, *OTHERS])
def test_an_error_with_a_success_status_is_a_failure(surface: Surface) -> None:
    failure = read(surface, {"error": {"type": "overloaded_error", "message": "x"}}).failure
    assert failure is not None
    assert (failure.code, failure.provider_code) == (Code.PROVIDER_OVERLOADED, "overloaded_error")


def test_a_failed_response_is_a_failure_that_says_what_it_consumed() -> None:
    facts = read(
        Surface.RESPONSES,
        {
            "status": "failed",
            "output": [],
            "error": {"code": "server_error", "message": "x"},
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
    )
    assert facts.failure is not None
    assert facts.failure.code is Code.PROVIDER_ERROR
    assert facts.usage == Usage(input=1, output=2)


@pytest.mark.requirement("PR-3")
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, None),
        ({"prompt_tokens": 5}, None),
        ({"prompt_tokens": 5, "completion_tokens": None}, None),
        ({"prompt_tokens": -5, "completion_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": 1}, None),
        ({"prompt_tokens": 5.0, "completion_tokens": 1}, None),
        ({"prompt_tokens": "5", "completion_tokens": 1}, None),
        ({"prompt_tokens": 10**12, "completion_tokens": 1}, None),
        ({"prompt_tokens": 5, "completion_tokens": 1}, Usage(input=5, output=1)),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}},
            Usage(input=5, output=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -3}},
            Usage(input=5, output=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"audio_tokens": 9}},
            Usage(input=0, audio_input=9, output=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": "none"},
            Usage(input=5, output=1),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(input=5, output=1, reasoning=4),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 10}, Usage(input=5, output=5)),
        ({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 2}, Usage(input=5, output=1)),
    ],
)
def test_figures_in_doubt_never_cost_less(usage: dict[str, Any], expected: Usage | None) -> None:
    assert read(Surface.CHAT, {"choices": [], "usage": usage}).usage == expected


COUNTS = st.integers(0, 1000)


@given(prompt=COUNTS, completion=COUNTS, parts=st.tuples(*[COUNTS] * 6), beside=st.integers(0, 5))
def test_the_buckets_never_hold_less_than_the_totals(
    prompt: int, completion: int, parts: tuple[int, ...], beside: int
) -> None:
    cached, audio_in, image, written, audio_out, reasoning = parts
    usage = figures.inclusive(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion + beside,
            "prompt_tokens_details": {
                "cached_tokens": cached,
                "audio_tokens": audio_in,
                "image_tokens": image,
                "cache_write_tokens": written,
            },
            "completion_tokens_details": {"audio_tokens": audio_out, "reasoning_tokens": reasoning},
        },
        prompt="prompt_tokens",
        completion="completion_tokens",
    )
    assert usage is not None
    assert usage.prompt_tokens >= prompt
    assert usage.completion_tokens >= completion + beside
    assert usage.cache_read <= prompt
    assert min(getattr(usage, name) for name in usage.__struct_fields__) >= 0


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 1}, None),
        ({"input_tokens": 1, "output_tokens": -1}, None),
        (
            {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 7},
            Usage(input=1, output=2, cache_write_5m=7),
        ),
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_creation_input_tokens": 7,
                "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
            },
            Usage(input=1, output=2, cache_write_5m=1, cache_write_1h=6),
        ),
        (
            {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}},
            Usage(input=1, reasoning=2),
        ),
    ],
)
def test_figures_beside_the_cache_are_taken_apart(usage: dict[str, Any], expected: Usage | None) -> None:
    assert figures.exclusive(usage) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, None),
        ({"promptTokenCount": "5"}, None),
        ({"candidatesTokenCount": 5}, None),
        ({"promptTokenCount": 5}, Usage(input=5)),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 6}, Usage(input=5)),
        ({"promptTokenCount": 5, "totalTokenCount": 9}, Usage(input=5, output=4)),
        ({"promptTokenCount": 5, "toolUsePromptTokenCount": 2, "totalTokenCount": 7}, Usage(input=7)),
        (
            {
                "promptTokenCount": 50,
                "cachedContentTokenCount": 20,
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 20},
                    {"modality": "VIDEO", "tokenCount": 9},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 15}],
            },
            Usage(input=25, cache_read=20, audio_input=5),
        ),
        ({"promptTokenCount": 5, "promptTokensDetails": "none"}, Usage(input=5)),
    ],
)
def test_figures_by_modality_are_taken_apart(usage: dict[str, Any], expected: Usage | None) -> None:
    assert figures.by_modality(usage) == expected


@given(
    counts=st.tuples(*[COUNTS] * 5),
    modal=st.lists(st.tuples(st.sampled_from(["AUDIO", "IMAGE", "TEXT"]), COUNTS), max_size=4),
    beside=st.integers(0, 5),
)
def test_the_buckets_by_modality_never_hold_less_than_the_totals(
    counts: tuple[int, ...], modal: list[tuple[str, int]], beside: int
) -> None:
    prompt, cached, tools, candidates, thoughts = counts
    details: list[Any] = [{"modality": name, "tokenCount": count} for name, count in modal]
    usage = figures.by_modality(
        {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": cached,
            "toolUsePromptTokenCount": tools,
            "candidatesTokenCount": candidates,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": prompt + tools + candidates + thoughts + beside,
            "promptTokensDetails": details,
            "candidatesTokensDetails": details,
        }
    )
    assert usage is not None
    assert usage.prompt_tokens >= prompt + tools
    assert usage.completion_tokens >= candidates + thoughts + beside
    assert usage.cache_read <= prompt
    assert min(getattr(usage, name) for name in usage.__struct_fields__) >= 0


def test_what_the_provider_calls_beside_the_answer_is_added_to_its_figures() -> None:
    figure = {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5, "output_tokens": 6}
    asides: list[Any] = [
        {"type": kind, **figure} for kind in ("message", "compaction", "advisor_message", "of_tomorrow")
    ]
    usage = figures.exclusive({"input_tokens": 1, "output_tokens": 2, "iterations": [*asides, "odd", {"type": []}]})
    assert usage == Usage(input=7, cache_read=8, cache_write_5m=10, output=14)
