"""What an upstream of responses is asked, and what cannot be."""

from typing import Any

import msgspec
import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import ConfigDict, TypeAdapter, with_config

from securellm.core.errors import Code, Refusal
from securellm.providers.translation.model import (
    Ask,
    Audio,
    File,
    Format,
    Image,
    Reasoning,
    Refused,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from securellm.providers.translation.responses import RESPONSES

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

FULL = Ask(
    model="m",
    turns=(
        Turn(role="system", parts=(Text(text="Be brief."),)),
        Turn(
            role="user",
            parts=(
                Text(text="Look."),
                Image(media_type="image/png", data="aGk="),
                Image(url="https://a.example/b.png", detail="low"),
                File(media_type="application/pdf", data="JVBERi0=", name="a.pdf"),
                File(url="https://a.example/c.pdf"),
                File(text="plain"),
            ),
        ),
        Turn(
            role="assistant",
            parts=(
                Reasoning(text="Hm.", signature="gAAA", id="rs_1"),
                Text(text="First."),
                ToolCall(id="c1", name="weather", arguments='{"city": "Rio"}'),
                ToolCall(id="c2", name="patch", arguments="*** Begin", custom=True),
                Refused(text="No more."),
            ),
        ),
        Turn(
            role="user",
            parts=(
                ToolResult(call_id="c1", name="weather", parts=(Text(text="sun"),)),
                ToolResult(call_id="c2", name="patch", parts=(Text(text="a"), Image(url="https://a.example/d.png"))),
                ToolResult(call_id="c3"),
                Text(text="And now?"),
            ),
        ),
        Turn(role="system", parts=(Text(text="Answer in Portuguese."),)),
    ),
    tools=(Tool(name="weather", description="Weather.", parameters=SCHEMA), Tool(name="now", strict=True)),
    tool_choice=ToolChoice(mode="required", names=("weather", "now")),
    parallel_tools=False,
    max_output=100,
    temperature=0.5,
    top_p=0.9,
    format=Format(kind="schema", name="city", description="A city.", schema=SCHEMA, strict=True),
    thinking=Thinking(effort="high", show=True),
    user="u-1",
    stream=True,
)
ASKED: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "Look."},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
            {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
            {"type": "input_file", "file_url": "https://a.example/c.pdf"},
            {"type": "input_file", "filename": "document.txt", "file_data": "data:text/plain;base64,cGxhaW4="},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
         "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "First."}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rio"}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": "https://a.example/d.png", "detail": "auto"},
        ]},
        {"type": "function_call_output", "call_id": "c3", "output": ""},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And now?"}]},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Answer in Portuguese."}]},
    ],
    "tools": [
        {"type": "function", "name": "weather", "description": "Weather.", "parameters": SCHEMA, "strict": False},
        {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}, "strict": True},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [
        {"type": "function", "name": "weather"}, {"type": "function", "name": "now"}
    ]},
    "parallel_tool_calls": False,
    "max_output_tokens": 100,
    "temperature": 0.5,
    "top_p": 0.9,
    "user": "u-1",
    "text": {"format": {
        "type": "json_schema", "name": "city", "description": "A city.", "schema": SCHEMA, "strict": True
    }},
    "reasoning": {"effort": "high", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "stream": True,
}  # fmt: skip


@pytest.mark.requirement("GW-7")
def test_everything_that_responses_can_hold_is_asked_as_documented() -> None:
    body: Any
    body, hints = RESPONSES.write_ask(FULL)
    assert body == ASKED
    assert hints == ()
    # OpenAI's types have no other members. What was said is to have an id there, which its API does without.
    for item in body["input"]:
        if item.get("role") == "assistant":
            item |= {"id": "msg_1", "status": "completed"}
            item["content"] = [{"annotations": [], **part} if "text" in part else part for part in item["content"]]
    shape = with_config(ConfigDict(extra="forbid"))(ResponseCreateParamsStreaming)
    TypeAdapter(shape).validate_python(body)


def asked(**members: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    body, hints = RESPONSES.write_ask(msgspec.structs.replace(Ask(model="m", turns=FULL.turns[:2]), **members))
    return dict(body), hints


def turns(*parts: Any, role: str = "user", name: str | None = None) -> tuple[Turn, ...]:
    return (Turn(role=role, parts=parts, name=name),)  # type: ignore[arg-type]


SIGNED = ToolCall(id="c", name="f", arguments="", signature="s")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("members", "hint"),
    [
        ({"seed": 7}, "seed"),
        ({"thinking": Thinking(budget=2000)}, "thinking.budget"),
        ({"turns": turns(Text(text="x"), name="Ana")}, "turn.name"),
        ({"turns": turns(Reasoning(text="x"), role="assistant")}, "reasoning"),
        (
            {"turns": turns(ToolCall(id="c", name="f", arguments="", signature="s"), role="assistant")},
            "tool_call.signature",
        ),
        ({"turns": turns(ToolResult(call_id="c", is_error=True))}, "tool_result.is_error"),
    ],
)
def test_what_only_hints_is_left_out_by_name(members: dict[str, Any], hint: str) -> None:
    assert asked(**members)[1] == (hint,)
    assert hint in RESPONSES.hints


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"stop": ("END",)}, "stop"),
        ({"choices": 2}, "choices"),
        ({"top_k": 40}, "top_k"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"turns": turns(Audio(media_type="audio/wav", data="aGk="))}, "audio"),
    ],
)
def test_what_responses_have_no_words_for_is_refused_by_name(members: dict[str, Any], name: str) -> None:
    with pytest.raises(Refusal) as refused:
        asked(**members)
    assert (refused.value.code, refused.value.param) == (Code.NOT_REPRESENTABLE, name)
    assert name in RESPONSES.lacks


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "members",
    [
        {"turns": turns(Image(), role="user")},
        {"turns": turns(Image(url="https://a.example"), role="assistant")},
        {"turns": turns(Refused(text="no"))},
        {"turns": turns(File(data="aGk="))},
        {"tool_choice": ToolChoice(mode="none", names=("f",))},
    ],
)
def test_what_has_no_place_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        asked(**members)
    assert refused.value.code is Code.NOT_REPRESENTABLE


def test_nothing_is_asked_for_that_says_nothing() -> None:
    assert asked(presence_penalty=0, frequency_penalty=0.0, thinking=Thinking(show=False))[0].keys() == {
        "model",
        "instructions",
        "input",
        "store",
    }
    assert asked(thinking=Thinking(budget=0))[0]["reasoning"] == {"effort": "none"}
    assert "include" not in asked(thinking=Thinking(effort="none"))[0]
    assert asked(tool_choice=ToolChoice(mode="named", names=("f",)))[0]["tool_choice"] == {
        "type": "function",
        "name": "f",
    }
