"""Whole replies: one typed record of each, and every text in it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.document import Document
from securellm.core.errors import Code
from securellm.core.messages import Kind
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers import DIALECTS, ReplyFacts
from securellm.providers.dialects import figures

GOLDEN = Path(__file__).parent / "golden"


def read(surface: str, body: bytes | dict[str, Any]) -> ReplyFacts:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    return DIALECTS[Surface(surface)].read_reply(Document(data))


def golden(name: str) -> ReplyFacts:
    return read(name.partition("_")[0], (GOLDEN / f"{name}.json").read_bytes())


@pytest.mark.requirement("PR-3")
def test_a_chat_reply_is_one_record() -> None:
    facts = golden("chat")
    assert facts.failure is None
    assert facts.id == "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"
    assert facts.model == "gpt-4o-audio-preview-2024-12-17"
    assert facts.finish == "stop"
    assert facts.text == "Hello! How can I assist you today?"
    assert facts.service_tier == "default"
    assert facts.usage == Usage(
        input=20, cache_read=64, audio_input=30, image_input=5, output=30, reasoning=10, audio_output=70
    )
    assert facts.usage.prompt_tokens == 119
    assert facts.usage.completion_tokens == 110


@pytest.mark.requirement("PR-3")
def test_a_messages_reply_is_one_record() -> None:
    facts = golden("messages")
    assert facts.failure is None
    assert (facts.finish, facts.text) == ("tool_use", "Hi! My name is Claude.")
    assert facts.usage == Usage(input=2095, cache_write_5m=248, cache_read=1800, output=503)
    assert facts.server_tool_uses == (("web_search", 2),)


@pytest.mark.requirement("PR-3")
def test_a_responses_reply_is_one_record() -> None:
    facts = golden("responses")
    assert facts.failure is None
    assert (facts.finish, facts.text) == ("completed", "In a peaceful grove")
    assert facts.usage == Usage(input=10, cache_read=6, cache_write_5m=15, cache_write_1h=5, output=80, reasoning=7)
    assert facts.server_tool_uses == (("web_search", 3),)


@pytest.mark.requirement("PR-3")
def test_an_embeddings_reply_is_one_record() -> None:
    facts = golden("embeddings")
    assert facts.failure is None
    assert facts.model == "text-embedding-3-small"
    assert facts.usage == Usage(input=8)
    assert facts.leaves == ()


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "chat",
            {
                (Kind.TEXT, "Hello! How can I assist you today?"),
                (Kind.TEXT, "lookup"),
                (Kind.ARGUMENTS, '{"cpf": "111.444.777-35"}'),
                (Kind.TEXT, "spoken words"),
                (Kind.TEXT, "Hello"),
                (Kind.KEY, "novelty"),
                (Kind.KEY, "remark 7"),
                (Kind.NUMBER, "11144477735"),
                (Kind.KEY, "small"),
            },
        ),
        (
            "messages",
            {
                (Kind.TEXT, "a thought"),
                (Kind.TEXT, "Hi! My name is Claude."),
                (Kind.TEXT, "save"),
                (Kind.KEY, "id"),
                (Kind.TEXT, "111.444.777-35"),
                (Kind.KEY, "note"),
                (Kind.TEXT, "x"),
            },
        ),
        (
            "responses",
            {
                (Kind.TEXT, "a summary"),
                (Kind.TEXT, "In a peaceful grove"),
                (Kind.TEXT, "Grove"),
                (Kind.TEXT, "https://grove.example"),
                (Kind.TEXT, "save"),
                (Kind.ARGUMENTS, '{"a":1}'),
            },
        ),
    ],
)
def test_every_text_of_a_reply_is_found_and_nothing_opaque(name: str, texts: set[tuple[Kind, str]]) -> None:
    assert {(leaf.kind, leaf.text) for leaf in golden(name).leaves} == texts


@pytest.mark.parametrize("surface", Surface)
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.just("a b"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "delta", "content", "output", "data", "logprobs", "id", "text"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
def test_no_text_hides_in_any_shape(surface: Surface, body: Any) -> None:
    required = {"chat": "choices", "messages": "content", "responses": "output", "embeddings": "data"}[surface]
    written = json.dumps({required: [body], "x": body})
    facts = read(surface, written.encode())
    assert facts.failure is None
    assert sum(leaf.text.count("a b") for leaf in facts.leaves) == written.count('"a b"')


@pytest.mark.parametrize("surface", Surface)
@pytest.mark.parametrize("body", [b"[]", b"7", b"{}", b'{"choices":{},"content":"x","output":null,"data":1}'])
def test_what_is_no_reply_is_a_bad_one(surface: Surface, body: bytes) -> None:
    failure = read(surface, body).failure
    assert failure is not None
    assert failure.code is Code.BAD_REPLY


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize("surface", Surface)
def test_an_error_with_a_success_status_is_a_failure(surface: Surface) -> None:
    failure = read(surface, {"error": {"type": "overloaded_error", "message": "x"}}).failure
    assert failure is not None
    assert (failure.code, failure.provider_code) == (Code.PROVIDER_OVERLOADED, "overloaded_error")


def test_a_failed_response_is_a_failure_that_says_what_it_consumed() -> None:
    facts = read(
        "responses",
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
    assert read("chat", {"choices": [], "usage": usage}).usage == expected


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
