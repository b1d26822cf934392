"""No member of a request for responses is overlooked: each is said, dropped by name, or refused by name."""

import json
from typing import Any

import pytest
from openai.types.responses import response_create_params
from tests.unit.providers.translation.params import members_of, variants_at

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.providers.translation import DIRECTIONS, Direction, Translated, table, translate_ask
from securellm.providers.translation.model import Text, Turn
from securellm.providers.translation.responses import RESPONSES

PARAMS = response_create_params.ResponseCreateParamsStreaming
HELD = {
    "input": {
        "message",
        "reasoning",
        "function_call",
        "custom_tool_call",
        "function_call_output",
        "custom_tool_call_output",
        "additional_tools",
    },
    "input.*.content": {"input_text", "output_text", "input_image", "input_file", "refusal", "reasoning_text"},
    "input.*.output": {"input_text", "input_image", "input_file"},
    "input.*.tools": {"function", "custom", "namespace"},
    "input.*.tools.*.tools": {"function", "custom"},
    "tools": {"function", "custom", "namespace"},
    "tools.*.format": {"text", "grammar"},
    "tools.*.tools": {"function", "custom"},
    "tool_choice": {"function", "custom", "allowed_tools"},
    "text.format": {"text", "json_object", "json_schema"},
}
"""The variants that are read, by where they stand."""
TOLD_OTHERWISE = {"item_reference", "web_search_call"}
TO_EACH = [direction for direction in DIRECTIONS.values() if direction.source is RESPONSES]
of_each = pytest.mark.parametrize("direction", TO_EACH, ids=lambda direction: str(direction.target.surface))

FULL: dict[str, Any] = {
    "model": "m",
    "instructions": "be kind",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "done"}]},
        {"type": "additional_tools", "role": "developer", "tools": [
            {"type": "namespace", "name": "more", "description": "", "tools": [
                {"type": "function", "name": "g", "parameters": {"type": "object"}, "strict": False}
            ]},
            {"type": "function", "name": "h", "parameters": {"type": "object"}, "strict": False},
        ]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and this"}]},
    ],
    "tools": [
        {"type": "namespace", "name": "others", "description": "", "tools": [
            {"type": "function", "name": "i", "parameters": {"type": "object"}, "strict": False}
        ]},
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False},
    ],
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "text"}},
}  # fmt: skip

OF_TOOLS: dict[str, Any] = {
    "allowed_callers": ["programmatic"],
    "async": True,
    "defer_loading": True,
    "external_web_access": False,
    "filters": {"allowed_domains": ["example.com"]},
    "output_schema": {"type": "string"},
    "search_content_types": ["text"],
    "search_context_size": "low",
    "user_location": {"type": "approximate", "country": "BR"},
}
PLACES = ("tools.*.", "tools.*.tools.*.", "input.*.tools.*.", "input.*.tools.*.tools.*.")
SAMPLES: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "background": True,
    "client_metadata": {"session_id": "s"},
    "context_management": [{"type": "compaction", "compact_threshold": 100_000}],
    "conversation": "conv_1",
    "image": {"context_compression": "enabled"},
    "include": ["message.output_text.logprobs"],
    "input.*.action": {"type": "search", "query": "x"},
    "input.*.async": True,
    "input.*.caller": {"type": "program", "caller_id": "p"},
    "input.*.content.*.annotations": [{"type": "url_citation", "url": "https://a.example"}],
    "input.*.content.*.file_id": "file_1",
    "input.*.content.*.logprobs": [{"token": "x"}],
    "input.*.content.*.prompt_cache_breakpoint": {"mode": "explicit"},
    "input.*.output.*.file_id": "file_1",
    "input.*.output.*.prompt_cache_breakpoint": {"mode": "explicit"},
    "input.*.phase": "commentary",
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "moderation": {"model": "omni-moderation-latest"},
    "previous_response_id": "resp_1",
    "prompt": {"id": "pmpt_1"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "reasoning.context": "all_turns",
    "reasoning.mode": "pro",
    "service_tier": "flex",
    "store": True,
    "stream_options": {"include_obfuscation": True},
    "text.verbosity": "low",
    "top_logprobs": 3,
    "truncation": "auto",
    **{f"{place}{name}": value for place in PLACES for name, value in OF_TOOLS.items()},
}
REFUSED = {
    "access_programs",
    "background",
    "conversation",
    "include",
    "input.*.async",
    "input.*.caller",
    "input.*.content.*.file_id",
    "input.*.output.*.file_id",
    "moderation",
    "previous_response_id",
    "prompt",
    "reasoning.mode",
    "top_logprobs",
    *(f"{place}{name}" for place in PLACES for name in ("allowed_callers", "async")),
}
"""What no provider of another dialect can do, or what would mean something else without it."""


def left_out() -> dict[str, frozenset[str]]:
    refused = {place: frozenset(variants_at(PARAMS, place) - words) for place, words in HELD.items()}
    return {form: words for place, words in refused.items() for form in (place, f"{place}.*")}


def asked(path: str, value: Any) -> dict[str, Any]:
    """A request with `value` at `path`, in the last object there that can have it."""
    body: dict[str, Any] = json.loads(json.dumps(FULL))
    if path == "input.*.action":
        body["input"].insert(1, {"type": "web_search_call", "id": "ws_1", "status": "completed"})
        body["input"][1]["action"] = value
        return body
    *above, name = path.split(".")
    places: list[Any] = [body]
    for step in above:
        places = [below for place in places for below in _steps(place, step)]
    if path in {"input.*.async", "input.*.caller"}:
        places = [place for place in places if place["type"] == "function_call"]
    places[-1][name] = value
    return body


def _steps(place: Any, step: str) -> list[Any]:
    if step == "*":
        return list(place) if isinstance(place, list) else []
    return [place[step]] if isinstance(place, dict) and step in place else []


def translated(direction: Direction, body: dict[str, Any]) -> Translated:
    return translate_ask(direction, body, model="m", stream=False, default_max_output=100)


def refusal_of(body: dict[str, Any]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        translated(TO_EACH[0], {**FULL, **body})
    return refused.value


@pytest.mark.requirement("GW-7")
def test_every_member_that_the_sdk_can_send_is_known() -> None:
    sendable = members_of(PARAMS, held=RESPONSES.holds, left_out=left_out())
    assert sendable - set(RESPONSES.holds) - RESPONSES.knows == set()


@pytest.mark.requirement("GW-7")
def test_every_member_that_is_known_can_be_sent() -> None:
    sendable = members_of(PARAMS, held=RESPONSES.holds, left_out={})
    beyond = {*RESPONSES.holds, *RESPONSES.knows} - sendable
    nested = {path for path in beyond if ".tools.*.tools.*." in f".{path}"}
    assert beyond - nested == {
        "client_metadata",
        "input.*.content.*.input_audio",
        "input.*.content.*.input_audio.data",
        "input.*.content.*.input_audio.format",
    }


def test_every_member_that_no_dialect_shares_has_a_sample() -> None:
    assert SAMPLES.keys() == RESPONSES.knows


@pytest.mark.requirement("GW-7")
@of_each
def test_the_table_says_what_becomes_of_every_member(direction: Direction) -> None:
    rows = dict(table(direction))
    assert rows.keys() == {*RESPONSES.holds, *RESPONSES.knows}
    assert {path for path in RESPONSES.knows if rows[path].startswith("refused")} == REFUSED


@pytest.mark.requirement("GW-7")
@of_each
@pytest.mark.parametrize("path", sorted(SAMPLES))
def test_what_the_request_cannot_hold_is_dropped_or_refused_by_name(direction: Direction, path: str) -> None:
    body = asked(path, SAMPLES[path])
    if path in REFUSED:
        with pytest.raises(Refusal) as refused:
            translated(direction, body)
        assert (refused.value.code, refused.value.param) == (Code.NOT_REPRESENTABLE, path)
    elif path == "max_tool_calls":
        assert translated(direction, body).dropped == ()
    else:
        assert translated(direction, body).dropped == (path,)


@pytest.mark.requirement("GW-7")
@of_each
@pytest.mark.parametrize("place", ["", "input.0.", "tools.1.", "input.4.content.0."])
def test_a_member_that_nobody_knows_is_refused_by_name(direction: Direction, place: str) -> None:
    body: dict[str, Any] = json.loads(json.dumps(FULL))
    target: Any = body
    for step in place.split(".")[:-1]:
        target = target[int(step) if step.isdigit() else step]
    target["novelty"] = 1
    with pytest.raises(Refusal) as refused:
        translated(direction, body)
    general = ".".join("*" if step.isdigit() else step for step in place.split("."))
    assert (refused.value.code, refused.value.param) == (Code.NOT_REPRESENTABLE, f"{general}novelty")


@pytest.mark.requirement("GW-7")
@of_each
def test_a_null_and_a_default_say_nothing(direction: Direction) -> None:
    nothing = {path: None for path in (*RESPONSES.holds, *RESPONSES.knows) if "." not in path and path not in FULL}
    defaults = {
        "background": False,
        "include": ["reasoning.encrypted_content"],
        "metadata": {},
        "service_tier": "auto",
        "store": False,
        "stream_options": {"include_obfuscation": False},
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "top_logprobs": 0,
        "truncation": "disabled",
    }
    assert translated(direction, {**FULL, **nothing}) == translated(direction, FULL)
    assert translated(direction, {**FULL, **defaults}) == translated(direction, FULL)


SEARCH = {"type": "web_search", "external_web_access": False, "filters": {"allowed_domains": ["a.example"]}}


@pytest.mark.requirement("GW-7")
@of_each
def test_a_search_of_what_is_stored_is_dropped_by_name(direction: Direction) -> None:
    found = translated(direction, {**FULL, "tools": [*FULL["tools"], SEARCH]})
    assert found.dropped == ("tools.*.external_web_access", "tools.*.filters")
    assert found.body == translated(direction, FULL).body


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("kind", sorted(variants_at(PARAMS, "tools") - HELD["tools"]))
def test_a_tool_that_only_openai_runs_is_refused(kind: str) -> None:
    refusal = refusal_of({"tools": [{"type": kind}]})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "tools.0.type")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("kind", sorted(variants_at(PARAMS, "input") - HELD["input"] - TOLD_OTHERWISE))
def test_an_item_that_no_other_dialect_has_is_refused(kind: str) -> None:
    refusal = refusal_of({"input": [{"type": kind, "id": "i"}]})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "input.0.type")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("kind", sorted(variants_at(PARAMS, "tool_choice") - HELD["tool_choice"]))
def test_a_choice_of_a_tool_that_only_openai_runs_is_refused(kind: str) -> None:
    refusal = refusal_of({"tool_choice": {"type": kind}})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "tool_choice.type")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input.0.content.0.file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input.0.content.0.file_id",
        ),
        ({"tools": [{"type": "custom", "name": "t", "format": {"type": "regex"}}]}, "tools.0.format.type"),
        ({"tools": [FULL["tools"][1], FULL["tools"][1]]}, "tools"),
    ],
)
def test_what_only_its_provider_keeps_or_knows_is_refused(body: dict[str, Any], param: str) -> None:
    refusal = refusal_of(body)
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, param)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hello"]}, "input.0"),
        ({"input": [{"role": "user", "content": 3}]}, "input.0.content"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]}, "input.0.arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.call_id"),
        ({"model": None}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "none", "tools": []}}, "tool_choice.mode"),
        ({"include": "everything"}, "include"),
    ],
)
def test_what_the_dialect_itself_does_not_allow_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    refusal = refusal_of(body)
    assert (refusal.code, refusal.param) == (Code.INVALID_REQUEST, param)


@pytest.mark.requirement("GW-7")
def test_only_the_allowed_tools_are_there() -> None:
    allowed: dict[str, Any] = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    ask = RESPONSES.read_ask({**FULL, "tool_choice": allowed})
    assert [tool.name for tool in ask.tools] == ["f"]
    assert len(RESPONSES.read_ask(FULL).tools) == 4


def test_developers_speak_where_they_stand_with_the_systems_authority() -> None:
    said: list[Any] = [{"role": role, "content": role} for role in ("developer", "user", "developer", "system")]
    turns = RESPONSES.read_ask({"model": "m", "input": said}).turns
    assert turns == tuple(
        Turn(role="user" if role == "user" else "system", parts=(Text(text=role),))
        for role in ("developer", "user", "developer", "system")
    )


CODEX: dict[str, Any] = {
    "model": "house-model",
    "stream": True,
    "input": [
        {"type": "message", "id": "msg_1", "role": "developer", "content": [
            {"type": "input_text", "text": "You are a coding agent."},
            {"type": "input_text", "text": "<permissions>read-only</permissions>"},
        ]},
        {"type": "message", "id": "msg_2", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Look first."}],
         "encrypted_content": "gAAAAABk"},
        {"type": "function_call", "id": "fc_1", "name": "exec_command", "call_id": "c1",
         "arguments": '{"cmd":"ls"}'},
        {"type": "function_call", "id": "fc_2", "name": "spawn_agent", "namespace": "multi_agent_v1",
         "arguments": "{}", "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "a.py"},
        {"type": "function_call_output", "call_id": "c2", "output": "started"},
        {"type": "message", "id": "msg_3", "role": "assistant", "phase": "commentary",
         "content": [{"type": "output_text", "text": "Now the patch."}]},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c3", "name": "apply_patch",
         "input": "*** Begin Patch", "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": "Done"},
    ],
    "tools": [
        {"type": "function", "name": "exec_command", "description": "Runs a command.", "strict": False,
         "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}},
        {"type": "custom", "name": "apply_patch", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"}},
        {"type": "namespace", "name": "multi_agent_v1", "description": "Sub-agents.", "tools": [
            {"type": "function", "name": "spawn_agent", "description": "", "strict": False,
             "parameters": {"type": "object", "properties": {}}}
        ]},
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"verbosity": "low"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a1fdca",
    "client_metadata": {"x-codex-window-id": "01a1fdca:0"},
}  # fmt: skip
"""A request as Codex CLI 0.169 sends it in the middle of its work."""


@pytest.mark.requirement("GW-2", "GW-7")
@of_each
def test_codex_can_ask_every_provider(direction: Direction) -> None:
    found = translated(direction, CODEX)
    assert set(found.dropped) - {"reasoning.summary"} == {
        "client_metadata",
        "input.*.summary",
        "input.*.phase",
        "prompt_cache_key",
        "text.verbosity",
        "tools.*.external_web_access",
    }
    assert [tool.name for tool in found.ask.tools] == ["exec_command", "apply_patch", "multi_agent_v1__spawn_agent"]
    for said in ("*** Begin Patch", "ls", "started", "Now the patch.", "<permissions>"):
        assert said in found.body.decode()
    if direction.target.surface is Surface.GENERATE_CONTENT:
        contents = json.loads(found.body)["contents"]
        assert [content["role"] for content in contents] == ["user", "model", "user", "model", "user"]
