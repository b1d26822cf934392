"""What a body needs of a model: every feature is seen in every dialect, and nothing else is."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.capabilities import Capability
from securellm.core.document import Value
from securellm.ingress.needs import (
    chat_needs,
    generate_content_needs,
    messages_needs,
    ollama_needs,
    responses_needs,
)

C = Capability
Needs = Callable[[Mapping[str, Value]], frozenset[Capability]]

FUNCTION = {"name": "f", "parameters": {"type": "object"}}
DATA = "data:image/png;base64,AA=="


def user(*content: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


def assistant(**members: object) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", **members}]}


CHAT: list[tuple[dict[str, Any], set[Capability]]] = [
    ({"messages": [{"role": "user", "content": "a"}], "stream": True, "temperature": 0.1, "stop": "x"}, set()),
    (user({"type": "text", "text": "a"}), set()),
    (user({"type": "image_url", "image_url": {"url": DATA}}), {C.VISION}),
    (user({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}), {C.AUDIO_INPUT}),
    (user({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}), {C.VIDEO_INPUT}),
    (user({"type": "file", "file": {"file_id": "file_1"}}), {C.FILES}),
    ({"tools": [{"type": "function", "function": FUNCTION}]}, {C.TOOLS}),
    ({"tools": [{"type": "function", "function": {**FUNCTION, "strict": False}}]}, {C.TOOLS}),
    ({"tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}]}, {C.TOOLS, C.STRICT_TOOLS}),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, {C.TOOLS}),
    ({"tools": [], "functions": [], "tool_choice": "none"}, set()),
    ({"functions": [FUNCTION]}, {C.TOOLS}),
    ({"tools": [{"type": "web_search"}]}, {C.WEB_SEARCH}),
    ({"web_search_options": {}}, {C.WEB_SEARCH}),
    ({"tools": [{"type": "code_interpreter"}]}, {C.HOSTED_TOOLS}),
    (assistant(tool_calls=[{"id": "a"}]), {C.TOOLS}),
    (assistant(tool_calls=[{"id": "a"}, {"id": "b"}]), {C.TOOLS, C.PARALLEL_TOOLS}),
    (assistant(tool_calls=[]), set()),
    (assistant(function_call={"name": "f"}), {C.TOOLS}),
    (assistant(audio={"id": "audio_1"}), {C.AUDIO_INPUT}),
    (assistant(audio=None, tool_calls=None, function_call=None), set()),
    ({"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}, {C.TOOLS}),
    ({"parallel_tool_calls": True}, set()),
    ({"modalities": ["text"]}, set()),
    ({"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}, {C.AUDIO_OUTPUT}),
    ({"modalities": ["image", "text"]}, {C.IMAGE_OUTPUT}),
    ({"response_format": {"type": "text"}}, set()),
    ({"response_format": {"type": "json_object"}}, {C.JSON_OBJECT}),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, {C.JSON_SCHEMA}),
    ({"reasoning_effort": "low"}, {C.REASONING}),
    ({"reasoning_effort": "none"}, set()),
    ({"reasoning_effort": None}, set()),
    ({"thinking": {"type": "enabled"}}, {C.REASONING}),
    ({"thinking": {"type": "disabled"}}, set()),
    ({"logprobs": True, "top_logprobs": 2}, {C.LOGPROBS}),
    ({"logprobs": False, "top_logprobs": 0}, set()),
    ({"n": 2}, {C.SEVERAL_CHOICES}),
    ({"n": 1}, set()),
]

RESPONSES: list[tuple[dict[str, Any], set[Capability]]] = [
    ({"input": "a", "instructions": "b", "store": True, "previous_response_id": "resp_1"}, set()),
    ({"input": [{"role": "user", "content": "a"}]}, set()),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": DATA}]}]}, {C.VISION}),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}, {C.FILES}),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, {C.AUDIO_INPUT}),
    ({"input": [{"type": "function_call", "call_id": "a"}]}, {C.TOOLS}),
    ({"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]}, {C.TOOLS}),
    (
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": DATA}]}]},
        {C.TOOLS, C.VISION},
    ),
    ({"input": [{"type": "function_call"}, {"type": "custom_tool_call"}]}, {C.TOOLS, C.PARALLEL_TOOLS}),
    (
        {"input": [{"type": "function_call"}, {"type": "reasoning", "summary": []}, {"type": "function_call"}]},
        {C.TOOLS, C.PARALLEL_TOOLS},
    ),
    (
        {"input": [{"type": "function_call"}, {"type": "function_call_output"}, {"type": "function_call"}]},
        {C.TOOLS},
    ),
    (
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": DATA}}]},
        {C.COMPUTER_USE, C.VISION},
    ),
    ({"tools": [{"type": "function", **FUNCTION, "strict": True}]}, {C.TOOLS, C.STRICT_TOOLS}),
    ({"tools": [{"type": "function", **FUNCTION, "strict": None}], "parallel_tool_calls": True}, {C.TOOLS}),
    ({"tools": [{"type": "local_shell"}]}, {C.TOOLS}),
    ({"tools": [{"type": "web_search_preview"}]}, {C.WEB_SEARCH}),
    ({"tools": [{"type": "file_search"}]}, {C.HOSTED_TOOLS}),
    ({"tools": [{"type": "mcp"}]}, {C.HOSTED_TOOLS}),
    ({"tools": [{"type": "computer_use_preview"}]}, {C.COMPUTER_USE}),
    ({"tools": [{"type": "image_generation"}]}, {C.IMAGE_OUTPUT}),
    ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, set()),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, {C.JSON_SCHEMA}),
    ({"text": {"format": {"type": "json_object"}}}, {C.JSON_OBJECT}),
    ({"reasoning": {"effort": "high"}}, {C.REASONING}),
    ({"reasoning": {"summary": "auto"}}, {C.REASONING}),
    ({"reasoning": {"effort": None, "summary": None}}, set()),
    ({"reasoning": {"effort": "none", "summary": "auto"}}, set()),
    ({"include": ["reasoning.encrypted_content"]}, {C.REASONING}),
    ({"include": ["message.output_text.logprobs"]}, {C.LOGPROBS}),
    ({"include": ["file_search_call.results"]}, set()),
    ({"top_logprobs": 3}, {C.LOGPROBS}),
]

MESSAGES: list[tuple[dict[str, Any], set[Capability]]] = [
    ({"messages": [{"role": "user", "content": "a"}], "system": [{"type": "text", "text": "b"}]}, set()),
    (user({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}), set()),
    (user({"type": "image", "source": {"type": "base64"}}), {C.VISION}),
    (user({"type": "document", "source": {"type": "base64"}}), {C.FILES}),
    (user({"type": "container_upload", "file_id": "file_1"}), {C.HOSTED_TOOLS}),
    (user({"type": "tool_result", "tool_use_id": "a", "content": "x"}), {C.TOOLS}),
    (user({"type": "tool_result", "content": [{"type": "image", "source": {}}]}), {C.TOOLS, C.VISION}),
    (assistant(content=[{"type": "thinking", "thinking": "", "signature": "s"}]), set()),
    (assistant(content=[{"type": "tool_use", "id": "a"}]), {C.TOOLS}),
    (
        assistant(content=[{"type": "tool_use", "id": "a"}, {"type": "text"}, {"type": "tool_use", "id": "b"}]),
        {C.TOOLS, C.PARALLEL_TOOLS},
    ),
    ({"tools": [{"name": "f", "input_schema": {}}]}, {C.TOOLS}),
    ({"tools": [{"type": "custom", "name": "f", "strict": True}]}, {C.TOOLS, C.STRICT_TOOLS}),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, {C.TOOLS}),
    ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, {C.COMPUTER_USE}),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {C.WEB_SEARCH}),
    ({"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}, {C.HOSTED_TOOLS}),
    ({"mcp_servers": [{"type": "url"}]}, {C.HOSTED_TOOLS}),
    ({"container": "container_1"}, {C.HOSTED_TOOLS}),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {C.REASONING}),
    ({"thinking": {"type": "adaptive"}}, {C.REASONING}),
    ({"thinking": {"type": "disabled"}}, set()),
    ({"output_config": {"effort": "medium"}}, {C.REASONING}),
    ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, {C.JSON_SCHEMA}),
    ({"output_format": {"type": "json_schema", "schema": {}}}, {C.JSON_SCHEMA}),
]


def gemini(*inside: object, role: str = "user") -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": list(inside)}]}


def generation(**config: object) -> dict[str, Any]:
    return {"generationConfig": config}


GENERATE_CONTENT: list[tuple[dict[str, Any], set[Capability]]] = [
    (gemini({"text": "a", "thoughtSignature": "s"}), set()),
    (gemini({"inlineData": {"mimeType": "image/png", "data": "AA=="}}), {C.VISION}),
    (gemini({"inline_data": {"mime_type": "Audio/mp3", "data": "AA=="}}), {C.AUDIO_INPUT}),
    (gemini({"fileData": {"mimeType": "video/mp4", "fileUri": "x"}}), {C.VIDEO_INPUT}),
    (gemini({"fileData": {"mimeType": "application/pdf", "fileUri": "x"}}), {C.FILES}),
    (gemini({"fileData": {"fileUri": "x"}}), {C.FILES}),
    (gemini({"functionCall": {"name": "f"}}, role="model"), {C.TOOLS}),
    (gemini({"functionCall": {}}, {"function_call": {}}, role="model"), {C.TOOLS, C.PARALLEL_TOOLS}),
    (gemini({"functionResponse": {"name": "f", "response": {}}}), {C.TOOLS}),
    (
        gemini({"functionResponse": {"name": "f", "parts": [{"inlineData": {"mimeType": "image/png"}}]}}),
        {C.TOOLS, C.VISION},
    ),
    ({"tools": [{"functionDeclarations": [FUNCTION]}]}, {C.TOOLS}),
    ({"tools": [{"function_declarations": [FUNCTION]}, {"google_search": {}}]}, {C.TOOLS, C.WEB_SEARCH}),
    ({"tools": [{"functionDeclarations": [FUNCTION], "codeExecution": None}]}, {C.TOOLS}),
    ({"tools": [{"codeExecution": {}}, {"urlContext": {}}]}, {C.HOSTED_TOOLS}),
    ({"tools": [{"computerUse": {}}]}, {C.COMPUTER_USE}),
    (generation(temperature=0.5, maxOutputTokens=10, stopSequences=["x"], candidateCount=1), set()),
    (generation(responseMimeType="application/json"), {C.JSON_OBJECT}),
    (generation(responseMimeType="application/json", responseSchema={"type": "OBJECT"}), {C.JSON_SCHEMA}),
    (generation(response_mime_type="application/json", response_json_schema={}), {C.JSON_SCHEMA}),
    (generation(responseMimeType="text/plain"), set()),
    (generation(candidateCount=2), {C.SEVERAL_CHOICES}),
    (generation(responseLogprobs=True, logprobs=3), {C.LOGPROBS}),
    (generation(responseModalities=["TEXT", "IMAGE"]), {C.IMAGE_OUTPUT}),
    (generation(responseModalities=["AUDIO"], speechConfig={}), {C.AUDIO_OUTPUT}),
    (generation(thinkingConfig={"thinkingBudget": 512}), {C.REASONING}),
    (generation(thinkingConfig={"thinkingBudget": -1}), {C.REASONING}),
    (generation(thinkingConfig={"thinkingBudget": 0, "includeThoughts": True}), set()),
    (generation(thinkingConfig={"thinkingLevel": "low"}), {C.REASONING}),
    (generation(thinkingConfig={"includeThoughts": False}), set()),
    ({"generation_config": {"thinking_config": {"include_thoughts": True}}}, {C.REASONING}),
]

OLLAMA: list[tuple[dict[str, Any], set[Capability]]] = [
    ({"messages": [{"role": "user", "content": "a"}], "options": {"temperature": 0}}, set()),
    ({"prompt": "a", "images": []}, set()),
    ({"prompt": "a", "images": ["AA=="]}, {C.VISION}),
    ({"messages": [{"role": "user", "content": "a", "images": ["AA=="]}]}, {C.VISION}),
    ({"tools": [{"type": "function", "function": FUNCTION}]}, {C.TOOLS}),
    (assistant(tool_calls=[{}, {}]), {C.TOOLS, C.PARALLEL_TOOLS}),
    ({"messages": [{"role": "tool", "content": "x"}]}, {C.TOOLS}),
    ({"format": "json"}, {C.JSON_OBJECT}),
    ({"format": {"type": "object"}}, {C.JSON_SCHEMA}),
    ({"format": ""}, set()),
    ({"think": True}, {C.REASONING}),
    ({"think": "high"}, {C.REASONING}),
    ({"think": False}, set()),
    ({"logprobs": True, "top_logprobs": 2}, {C.LOGPROBS}),
]

ALL: list[tuple[Needs, list[tuple[dict[str, Any], set[Capability]]]]] = [
    (chat_needs, CHAT),
    (responses_needs, RESPONSES),
    (messages_needs, MESSAGES),
    (generate_content_needs, GENERATE_CONTENT),
    (ollama_needs, OLLAMA),
]
CASES = [(needs, body, expected) for needs, table in ALL for body, expected in table]


@pytest.mark.requirement("PR-6")
@pytest.mark.parametrize(("needs", "body", "expected"), CASES)
def test_a_body_needs_what_its_features_are(needs: Needs, body: dict[str, Any], expected: set[Capability]) -> None:
    assert needs(body) == frozenset(expected)


@pytest.mark.requirement("PR-6")
@pytest.mark.parametrize(("needs", "table"), ALL)
def test_the_needs_of_two_bodies_together_are_no_fewer_than_of_each(
    needs: Needs, table: list[tuple[dict[str, Any], set[Capability]]]
) -> None:
    def names(body: dict[str, Any]) -> set[str]:
        return {name.replace("_", "").lower() for name in body}

    for body, expected in table:
        for other, _ in table:
            if names(body).isdisjoint(names(other)):
                assert needs({**body, **other}) >= frozenset(expected)


def test_every_capability_can_be_needed() -> None:
    assert {capability for _, _, expected in CASES for capability in expected} == set(Capability)


# Names and words that the bodies above are made of, put together in any way.
WORDS = sorted(
    {
        word
        for _, body, _ in CASES
        for text in [repr(body)]
        for word in text.replace("{", " ").replace("}", " ").split("'")[1::2]
    }
)
JSON: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


@given(body=st.dictionaries(st.sampled_from(WORDS), JSON, max_size=6))
def test_no_body_however_malformed_upsets_the_reading(body: dict[str, Value]) -> None:
    for needs, _ in ALL:
        assert needs(body) <= frozenset(Capability)
