"""Requests between chat completions and messages: what is said, what is dropped by name, what is refused."""

import json
from typing import Any

import pytest

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.providers.translation import DIRECTIONS, Translated, translate_ask
from securellm.providers.translation.signatures import marked

TO_MESSAGES = DIRECTIONS[Surface.CHAT, Surface.MESSAGES]
TO_CHAT = DIRECTIONS[Surface.MESSAGES, Surface.CHAT]
JSON = dict[str, Any]


def from_chat(body: JSON) -> Translated:
    asked = {"model": "m", "messages": [{"role": "user", "content": "go"}], **body}
    return translate_ask(TO_MESSAGES, asked, model="m", stream=bool(body.get("stream")), default_max_output=4096)


def from_messages(body: JSON) -> Translated:
    asked = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "go"}], **body}
    return translate_ask(TO_CHAT, asked, model="m", stream=bool(body.get("stream")), default_max_output=4096)


def said(translated: Translated) -> JSON:
    body: JSON = json.loads(translated.body)
    return body


def refusal_of_chat(body: JSON) -> tuple[Code, str | None]:
    with pytest.raises(Refusal) as refused:
        from_chat(body)
    return refused.value.code, refused.value.param


def refusal_of_messages(body: JSON) -> tuple[Code, str | None]:
    with pytest.raises(Refusal) as refused:
        from_messages(body)
    return refused.value.code, refused.value.param


WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.mark.requirement("GW-7")
def test_an_agents_turn_in_chat_is_said_in_messages() -> None:
    translated = from_chat(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": [{"type": "text", "text": "Use tools."}]},
                {"role": "user", "content": "Weather in Rio and São Paulo?"},
                {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "w", "arguments": '{"city": "Rio"}'}},
                        {"id": "call_2", "type": "function", "function": {"name": "w", "arguments": ""}},
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
                {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
                {"role": "user", "content": "And now?"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "w", "description": "Weather.", "parameters": WEATHER}}
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": "END",
            "user": "u-1",
        }
    )
    assert translated.dropped == ()
    assert said(translated) == {
        "model": "m",
        "max_tokens": 4096,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Use tools."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather in Rio and São Paulo?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "call_1", "name": "w", "input": {"city": "Rio"}},
                    {"type": "tool_use", "id": "call_2", "name": "w", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "sun"}]},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
                ],
            },
            {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
        ],
        "tools": [{"name": "w", "description": "Weather.", "input_schema": WEATHER}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
        "stream": True,
    }


@pytest.mark.requirement("GW-7")
def test_what_a_coding_agent_sends_in_messages_is_said_in_chat() -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **WEATHER}
    translated = from_messages(
        {
            "model": "m",
            "max_tokens": 32000,
            "stream": True,
            "temperature": 1,
            "system": [
                {"type": "text", "text": "You are a coder."},
                {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "fix it"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Let me look.", "signature": "EqQBCgIYAhIM"},
                        {"type": "text", "text": "Looking."},
                        {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "content": "no such file",
                            "is_error": True,
                            "cache_control": {"type": "ephemeral"},
                        },
                        {"type": "text", "text": "<reminder>be careful</reminder>"},
                    ],
                },
                {"role": "system", "content": "Budget is low."},
            ],
            "tools": [
                {
                    "name": "Bash",
                    "description": "Runs.",
                    "input_schema": schema,
                    "cache_control": {"type": "ephemeral"},
                    "eager_input_streaming": True,
                }
            ],
            "metadata": {"user_id": "user_" + "0" * 64 + "_account__session_1"},
            "thinking": {"type": "adaptive", "display": "summarized"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "medium"},
        }
    )
    assert said(translated) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are a coder.\nRules."},
            {"role": "user", "content": "fix it"},
            {
                "role": "assistant",
                "content": "Looking.",
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "Bash", "arguments": '{"command":"ls"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "no such file"},
            {"role": "user", "content": "<reminder>be careful</reminder>"},
            {"role": "system", "content": "Budget is low."},
        ],
        "tools": [
            {"type": "function", "function": {"name": "Bash", "description": "Runs.", "parameters": schema}},
        ],
        "max_completion_tokens": 32000,
        "temperature": 1,
        "reasoning_effort": "medium",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert set(translated.dropped) == {
        "context_management",
        "messages.*.content.*.cache_control",
        "messages.*.content.*.is_error",
        "messages.*.content.*.thinking",
        "metadata.user_id",
        "system.*.cache_control",
        "thinking.display",
        "tools.*.cache_control",
        "tools.*.eager_input_streaming",
    }


@pytest.mark.requirement("GW-7")
def test_a_later_system_message_stays_where_it_is() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "from now on, in verse"},
        {"role": "user", "content": "b"},
    ]
    body = said(from_chat({"messages": turns}))
    assert "system" not in body
    assert [message["role"] for message in body["messages"]] == ["user", "system", "user"]


@pytest.mark.requirement("GW-7")
def test_a_system_message_that_is_shown_until_the_user_speaks_is_not_said_after_that() -> None:
    passing = {"role": "system", "content": "once", "clear_at": "next_user_message"}
    kept = {"role": "system", "content": "always", "clear_at": "never"}
    user = {"role": "user", "content": "go"}
    seen = said(from_messages({"messages": [user, passing, kept, user, passing]}))["messages"]
    assert [message["content"] for message in seen] == ["go", "always", "go", "once"]


@pytest.mark.requirement("GW-7")
def test_an_answer_that_the_client_began_is_refused() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "The answer is ("}]
    assert refusal_of_messages({"messages": turns}) == (Code.NOT_REPRESENTABLE, "messages")
    assert refusal_of_chat({"messages": turns}) == (Code.NOT_REPRESENTABLE, "messages")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("sampling", "written"),
    [
        ({"temperature": 1, "top_p": 1}, {}),
        ({"temperature": 1.0, "top_p": 0.9}, {"top_p": 0.9}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 0.2, "top_p": 1}, {"temperature": 0.2}),
        ({"presence_penalty": 0, "frequency_penalty": 0.0, "n": 1, "logprobs": False}, {}),
        ({"top_k": 5}, {"top_k": 5}),
    ],
)
def test_sampling_is_said_to_messages_where_it_is_not_the_default(sampling: JSON, written: JSON) -> None:
    body = said(from_chat(sampling))
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == written


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": 0.5, "top_p": 0.5}, "top_p"),
        ({"presence_penalty": 0.1}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {
                "tools": [{"type": "function", "function": {"name": name}} for name in ("f", "g")],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": name}} for name in ("f", "g")],
                    },
                },
            },
            "tool_choice",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}],
                    }
                ]
            },
            "messages.*.content.*.input_audio",
        ),
    ],
)
def test_what_messages_cannot_say_is_refused_by_the_clients_own_name(body: JSON, param: str) -> None:
    assert refusal_of_chat(body) == (Code.NOT_REPRESENTABLE, param)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"top_k": 40}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [
                                    {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1"}}
                                ],
                            }
                        ],
                    }
                ]
            },
            "messages.*.content.*.content.*.source",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "document", "source": {"type": "url", "url": "https://files.example/1"}}],
                    }
                ]
            },
            "messages.*.content.*.source",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "first"},
                            {"type": "tool_result", "tool_use_id": "t", "content": "second"},
                        ],
                    }
                ]
            },
            "messages.*.content.*.tool_use_id",
        ),
    ],
)
def test_what_chat_cannot_say_is_refused_by_the_clients_own_name(body: JSON, param: str) -> None:
    assert refusal_of_messages(body) == (Code.NOT_REPRESENTABLE, param)


TOOL = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("chat", "messages"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": True}, {"type": "auto", "disable_parallel_tool_use": False}),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
                }
            },
            {"type": "tool", "name": "f"},
        ),
        ({}, None),
    ],
)
def test_the_choice_of_tools_is_said_in_messages(chat: JSON, messages: JSON | None) -> None:
    assert said(from_chat({"tools": TOOL, **chat})).get("tool_choice") == messages


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("messages", "chat"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_of_tools_is_said_in_chat(messages: JSON, chat: JSON) -> None:
    body = said(from_messages({"tools": [{"name": "f", "input_schema": {}}], "tool_choice": messages}))
    assert {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body} == chat


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("chat", "messages"),
    [
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "minimal"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ({"reasoning_effort": "xhigh"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
        ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
        ({"thinking": {"type": "enabled"}}, {"thinking": {"type": "adaptive"}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        ({}, {}),
    ],
)
def test_thinking_is_asked_for_in_messages(chat: JSON, messages: JSON) -> None:
    body = said(from_chat(chat))
    assert {name: body[name] for name in ("thinking", "output_config") if name in body} == messages


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("messages", "effort", "dropped"),
    [
        ({"thinking": {"type": "disabled"}}, "none", ()),
        ({"thinking": {"type": "adaptive"}}, None, ()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, None, ("thinking.budget_tokens",)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 4096, "display": "omitted"}},
            None,
            ("thinking.budget_tokens", "thinking.display"),
        ),
    ],
)
def test_thinking_is_asked_for_in_chat(messages: JSON, effort: str | None, dropped: tuple[str, ...]) -> None:
    translated = from_messages(messages)
    assert said(translated).get("reasoning_effort") == effort
    assert translated.dropped == dropped


@pytest.mark.requirement("GW-7")
def test_a_schema_for_the_answer_is_said_both_ways() -> None:
    schema = {"name": "city", "description": "A city.", "schema": WEATHER, "strict": True}
    translated = from_chat({"response_format": {"type": "json_schema", "json_schema": schema}})
    assert said(translated)["output_config"] == {"format": {"type": "json_schema", "schema": WEATHER}}
    assert translated.dropped == (
        "response_format.json_schema.name",
        "response_format.json_schema.description",
    )
    back = said(from_messages({"output_config": {"format": {"type": "json_schema", "schema": WEATHER}}}))
    assert back["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": WEATHER, "strict": True},
    }


@pytest.mark.requirement("GW-7")
def test_pictures_and_files_are_said_both_ways() -> None:
    parts: list[JSON] = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0K", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://pictures.example/1", "detail": "auto"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "b.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,b2zDoQ==", "filename": "c.txt"}},
    ]
    translated = from_chat({"messages": [{"role": "user", "content": parts}]})
    blocks = [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K"}},
        {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1"}},
        *(
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
                "title": f"{name}.pdf",
            }
            for name in ("a", "b")
        ),
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "olá"}, "title": "c.txt"},
    ]
    assert said(translated)["messages"] == [{"role": "user", "content": blocks}]
    assert translated.dropped == ("messages.*.content.*.image_url.detail",)
    back = said(from_messages({"messages": [{"role": "user", "content": blocks}]}))
    parts[1]["image_url"] = {"url": "data:image/png;base64,iVBORw0K"}
    parts[2]["image_url"] = {"url": "https://pictures.example/1"}
    parts[4]["file"] = {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "b.pdf"}
    assert back["messages"] == [{"role": "user", "content": parts}]


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("arguments", ['{"a": 1', "[1]", '{"a": 1, "a": 2}', '"text"', '{"a": NaN}'])
def test_arguments_in_a_history_that_are_no_object_are_refused(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    turns = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]
    assert refusal_of_chat({"messages": turns}) == (Code.INVALID_REQUEST, "tool_calls.arguments")


@pytest.mark.requirement("GW-7")
def test_the_older_bound_and_the_newer_one_are_both_kept() -> None:
    assert said(from_chat({"max_tokens": 5, "max_completion_tokens": 9}))["max_tokens"] == 5
    assert said(from_chat({"max_completion_tokens": 9}))["max_tokens"] == 9


@pytest.mark.requirement("GW-7")
def test_a_second_name_for_the_user_is_dropped_by_name() -> None:
    translated = from_chat({"safety_identifier": "a", "user": "b"})
    assert said(translated)["metadata"] == {"user_id": "a"}
    assert translated.dropped == ("user",)


# Thoughts and proofs


def thoughts(body: JSON) -> list[JSON]:
    return [block for block in body["messages"][0]["content"] if "thinking" in block["type"]]


def history(*blocks: JSON) -> JSON:
    return {"messages": [{"role": "assistant", "content": list(blocks)}, {"role": "user", "content": "go on"}]}


@pytest.mark.requirement("GW-7")
def test_a_thought_goes_back_to_the_dialect_it_came_from() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": marked(Surface.CHAT, None)}
    translated = from_messages(history(thought, {"type": "text", "text": "yes"}))
    assert said(translated)["messages"][0] == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    assert translated.dropped == ()


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"},
        {"type": "redacted_thinking", "data": "EmwKAhgBEgy3"},
        {"type": "thinking", "thinking": "hm", "signature": marked(Surface.RESPONSES, "gAAAAABo")},
        {"type": "redacted_thinking", "data": marked(Surface.GENERATE_CONTENT, "CiQB")},
    ],
)
def test_what_one_provider_signed_is_never_said_to_another(thought: JSON) -> None:
    translated = from_messages(history(thought, {"type": "text", "text": "yes"}))
    assert said(translated)["messages"][0] == {"role": "assistant", "content": "yes"}
    assert translated.dropped == (f"messages.*.content.*.{'data' if 'data' in thought else 'thinking'}",)


@pytest.mark.requirement("GW-7")
def test_a_thought_without_proof_is_not_said_to_messages() -> None:
    turn = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    translated = from_chat({"messages": [turn, {"role": "user", "content": "go on"}]})
    assert thoughts(said(translated)) == []
    assert translated.dropped == ("messages.*.reasoning_content",)


@pytest.mark.requirement("GW-7")
def test_an_assistants_turn_that_was_only_a_thought_is_left_out() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"}
    assert [turn["role"] for turn in said(from_messages(history(thought)))["messages"]] == ["user"]
