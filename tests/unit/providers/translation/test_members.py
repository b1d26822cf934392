"""No member of a client's request is overlooked: each is said, dropped by name, or refused by name."""

import json
from typing import Any

import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_create_params
from openai.types.chat import completion_create_params
from tests.unit.providers.translation.params import members_of, variants_at

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.providers.translation import DIRECTIONS, Direction, Translated, table, translate_ask
from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.messages import MESSAGES

CHAT_PARAMS = completion_create_params.CompletionCreateParamsStreaming
MESSAGES_PARAMS = message_create_params.MessageCreateParamsStreaming
BETA_PARAMS = beta_create_params.MessageCreateParamsStreaming

CHAT_HELD = {
    "messages": {"system", "developer", "user", "assistant", "tool"},
    "messages.*.content": {"text", "refusal", "image_url", "input_audio", "file"},
    "messages.*.tool_calls": {"function", "custom"},
    "tools": {"function"},
    "tool_choice": {"function", "allowed_tools"},
    "response_format": {"text", "json_object", "json_schema"},
}
"""The variants that are read, by where they stand."""
MESSAGES_HELD = {
    "messages": {"system", "user", "assistant"},
    "messages.*.content": {"text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result"},
    "messages.*.content.*.content": {"text", "image", "document"},
    "messages.*.content.*.source": {"base64", "url", "text"},
    "messages.*.content.*.content.*.source": {"base64", "url", "text"},
    "system": {"text"},
    "tools": {"custom"},
    "tool_choice": {"auto", "any", "none", "tool"},
    "thinking": {"enabled", "adaptive", "disabled"},
    "output_config.format": {"json_schema"},
}
HEADERS = {"betas", "user_profile_id", "workspace_id"}
"""What the SDK sends as headers."""
OF_A_SCHEMA = {"tools.*.input_schema.type", "tools.*.input_schema.properties", "tools.*.input_schema.required"}

SAMPLED = (Surface.CHAT, Surface.MESSAGES)
MINE = [direction for direction in DIRECTIONS.values() if direction.source.surface in SAMPLED]


def left_out(kind: Any, held: dict[str, set[str]]) -> dict[str, frozenset[str]]:
    """Of the objects in arrays and of others, the variants that are refused."""
    refused = {place: frozenset(variants_at(kind, place) - words) for place, words in held.items()}
    return {form: words for place, words in refused.items() for form in (place, f"{place}.*")}


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("kind", "speaker", "held"),
    [
        pytest.param(CHAT_PARAMS, CHAT, CHAT_HELD, id="openai"),
        pytest.param(MESSAGES_PARAMS, MESSAGES, MESSAGES_HELD, id="anthropic"),
        pytest.param(BETA_PARAMS, MESSAGES, MESSAGES_HELD, id="anthropic-beta"),
    ],
)
def test_every_member_that_the_sdk_can_send_is_known(kind: Any, speaker: Any, held: dict[str, set[str]]) -> None:
    sendable = members_of(kind, held=speaker.holds, left_out=left_out(kind, held)) - HEADERS - OF_A_SCHEMA
    assert sendable - set(speaker.holds) - speaker.knows == set()


@pytest.mark.requirement("GW-7")
def test_every_member_that_is_known_can_be_sent() -> None:
    chat = members_of(CHAT_PARAMS, held=CHAT.holds, left_out={})
    extra = {
        "messages.*.reasoning",
        "messages.*.reasoning_content",
        "messages.*.tool_calls.*.extra_content",
        "thinking",
        "top_k",
    }
    assert {*CHAT.holds, *CHAT.knows} - chat == extra
    messages = members_of(BETA_PARAMS, held=MESSAGES.holds, left_out={})
    gone = {"temperature", "top_p", "top_k", "output_format"}
    assert {*MESSAGES.holds, *MESSAGES.knows} - messages == gone


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "direction", MINE, ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}"
)
def test_the_table_says_what_becomes_of_every_member(direction: Direction) -> None:
    rows = dict(table(direction))
    assert rows.keys() == {*direction.source.holds, *direction.source.knows}
    assert all(rows.values())
    named = {*direction.dropped, *direction.carried, *(path.partition("=")[0] for path in direction.ignored)}
    assert named <= {*direction.source.knows, "user"}


CHAT_SAMPLES: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "mp3"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "messages.*.audio": {"id": "audio_1"},
    "messages.*.content.*.file.file_id": "file-1",
    "messages.*.content.*.prompt_cache_breakpoint": {"mode": "explicit"},
    "messages.*.function_call": {"name": "f", "arguments": "{}"},
    "metadata": {"a": "b"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "service_tier": "flex",
    "store": True,
    "stream_options.include_obfuscation": True,
    "top_logprobs": 3,
    "verbosity": "low",
    "web_search_options": {},
}
MESSAGES_SAMPLES: dict[str, Any] = {
    "billing_policy": {"type": "billing_policy", "bill_to": "user_profile"},
    "cache_control": {"type": "ephemeral"},
    "compaction": {"type": "compaction"},
    "container": "container_1",
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "diagnostics": {"previous_message_id": "msg_1"},
    "fallback_credit_token": "token",
    "fallbacks": "default",
    "inference_geo": "us",
    "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}],
    "messages.*.content.*.cache_control": {"type": "ephemeral", "ttl": "1h"},
    "messages.*.content.*.caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"},
    "messages.*.content.*.citations": [{"type": "char_location"}],
    "messages.*.content.*.content.*.cache_control": {"type": "ephemeral"},
    "messages.*.content.*.content.*.citations": {"enabled": True},
    "messages.*.content.*.content.*.context": "where it is from",
    "messages.*.content.*.content.*.transformations": {"oversized_image": "error"},
    "messages.*.content.*.context": "where it is from",
    "messages.*.content.*.toolset_name": "browser",
    "messages.*.content.*.transformations": {"oversized_image": "error"},
    "messages.*.output_config": {"effort": "low"},
    "output_config.task_budget": {"type": "tokens", "total": 1000},
    "service_tier": "standard_only",
    "speed": "fast",
    "system.*.cache_control": {"type": "ephemeral"},
    "system.*.citations": [{"type": "char_location"}],
    "thinking.block_binding": {"on_mismatch": "error"},
    "thread": {"type": "create"},
    "tools.*.allowed_callers": ["code_execution_20260120"],
    "tools.*.cache_control": {"type": "ephemeral"},
    "tools.*.defer_loading": True,
    "tools.*.eager_input_streaming": True,
    "tools.*.input_examples": [{"a": 1}],
}


def asked(surface: Surface, path: str, value: Any) -> dict[str, Any]:
    """A request with `value` at `path`, in the object there that can have it."""
    body: dict[str, Any] = json.loads(json.dumps(FULL[surface]))
    *above, name = path.split(".")
    places: list[Any] = [body]
    for step in above:
        places = [below for place in places for below in _steps(place, step)]
    places[-1][name] = value
    return body


def _steps(place: Any, step: str) -> list[Any]:
    if step == "*":
        return list(place) if isinstance(place, list) else []
    return [place[step]] if isinstance(place, dict) and step in place else []


FULL: dict[Surface, dict[str, Any]] = {
    Surface.CHAT: {
        "model": "m",
        "messages": [
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": [{"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    Surface.MESSAGES: {
        "model": "m",
        "max_tokens": 10,
        "system": [{"type": "text", "text": "be kind"}],
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": []}]},
            {"role": "user", "content": [{"type": "text", "text": "and this"}]},
        ],
    },
}
FULL[Surface.MESSAGES]["messages"][2]["content"][0]["content"] = [{"type": "text", "text": "done"}]
SAMPLES = {Surface.CHAT: CHAT_SAMPLES, Surface.MESSAGES: MESSAGES_SAMPLES}


def translated(direction: Direction, body: dict[str, Any]) -> Translated:
    return translate_ask(direction, body, model="m", stream=False, default_max_output=100)


def test_every_member_that_no_dialect_shares_has_a_sample() -> None:
    assert CHAT_SAMPLES.keys() == CHAT.knows
    assert MESSAGES_SAMPLES.keys() == MESSAGES.knows


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("direction", "path"),
    [
        pytest.param(direction, path, id=f"{direction.source.surface}-{direction.target.surface}-{path}")
        for direction in MINE
        for path in sorted(direction.source.knows)
    ],
)
def test_what_the_request_cannot_hold_is_dropped_or_refused_by_name(direction: Direction, path: str) -> None:
    surface = direction.source.surface
    body = asked(surface, path, SAMPLES[surface][path])
    fate = dict(table(direction))[path]
    if fate.startswith("refused"):
        with pytest.raises(Refusal) as refused:
            translated(direction, body)
        assert (refused.value.code, refused.value.param) == (Code.NOT_REPRESENTABLE, path)
    elif fate.startswith("said as "):
        said: Any = json.loads(translated(direction, body).body)
        for step in direction.carried[path].split("."):
            said = said[step]
        assert said == SAMPLES[surface][path]
    else:
        assert path in translated(direction, body).dropped


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "direction", MINE, ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}"
)
@pytest.mark.parametrize("place", ["", "messages.0.", "messages.1."])
def test_a_member_that_nobody_knows_is_refused_by_name(direction: Direction, place: str) -> None:
    body: dict[str, Any] = json.loads(json.dumps(FULL[direction.source.surface]))
    target: Any = body["messages"][int(place.split(".")[1])] if place else body
    target["novelty"] = 1
    with pytest.raises(Refusal) as refused:
        translated(direction, body)
    assert refused.value.code is Code.NOT_REPRESENTABLE
    assert refused.value.param == ("messages.*.novelty" if place else "novelty")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "direction", MINE, ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}"
)
def test_a_null_says_nothing(direction: Direction) -> None:
    surface = direction.source.surface
    body = dict(FULL[surface])
    body |= {
        path: None
        for path in (*direction.source.holds, *direction.source.knows)
        if "." not in path and path not in body
    }
    assert translated(direction, body) == translated(direction, FULL[surface])


def refusal_of(surface: Surface, body: dict[str, Any]) -> Refusal:
    direction = next(one for one in MINE if one.source.surface is surface)
    with pytest.raises(Refusal) as refused:
        translated(direction, {**FULL[surface], **body})
    return refused.value


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "kind", sorted((variants_at(BETA_PARAMS, "tools") | variants_at(MESSAGES_PARAMS, "tools")) - {"custom"})
)
def test_a_tool_that_the_provider_runs_or_defines_is_refused(kind: str) -> None:
    refusal = refusal_of(Surface.MESSAGES, {"tools": [{"type": kind, "name": "t"}]})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "tools.0.type")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "kind", sorted(variants_at(BETA_PARAMS, "messages.*.content") - MESSAGES_HELD["messages.*.content"])
)
def test_a_block_that_no_other_dialect_has_is_refused(kind: str) -> None:
    refusal = refusal_of(Surface.MESSAGES, {"messages": [{"role": "user", "content": [{"type": kind}]}]})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "messages.0.content.0.type")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0.role"),
        ({"tools": [{"type": "custom", "custom": {"name": "t"}}]}, "tools.0.type"),
        (
            {
                "messages": [
                    {"role": "tool", "tool_call_id": "c", "content": [{"type": "refusal", "refusal": "no"}]},
                ]
            },
            "messages.0.content",
        ),
        ({"tool_choice": {"type": "custom", "custom": {"name": "t"}}}, "tool_choice.type"),
    ],
)
def test_what_chat_alone_has_is_refused(body: dict[str, Any], param: str) -> None:
    refusal = refusal_of(Surface.CHAT, body)
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, param)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("surface", "body", "param"),
    [
        (Surface.CHAT, {"messages": "hello"}, "messages"),
        (Surface.CHAT, {"messages": ["hello"]}, "messages.0"),
        (Surface.CHAT, {"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        (Surface.CHAT, {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        (Surface.CHAT, {"temperature": "hot"}, "temperature"),
        (Surface.CHAT, {"temperature": True}, "temperature"),
        (Surface.CHAT, {"n": 0}, "n"),
        (Surface.CHAT, {"reasoning_effort": "extreme"}, "reasoning_effort"),
        (Surface.CHAT, {"stop": ["a", 1]}, "stop"),
        (Surface.CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (Surface.MESSAGES, {"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        (Surface.MESSAGES, {"system": [{"type": "text"}]}, "system.0.text"),
        (Surface.MESSAGES, {"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        (Surface.MESSAGES, {"tool_choice": {"type": "any!"}}, "tool_choice.type"),
    ],
)
def test_what_the_clients_own_dialect_does_not_allow_is_refused_with_its_place(
    surface: Surface, body: dict[str, Any], param: str
) -> None:
    refusal = refusal_of(surface, body)
    assert (refusal.code, refusal.param) == (Code.INVALID_REQUEST, param)
