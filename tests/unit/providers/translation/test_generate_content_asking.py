"""What an upstream of generated content is asked, and what cannot be."""

from typing import Any

import msgspec
import pytest

from securellm.core.errors import Code, Refusal
from securellm.providers.translation.generate_content import GENERATE_CONTENT
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

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

FULL = Ask(
    model="m",
    turns=(
        Turn(role="system", parts=(Text(text="Be brief."),)),
        Turn(role="system", parts=(Text(text="Use tools."),)),
        Turn(
            role="user",
            parts=(
                Text(text="Look."),
                Image(media_type="image/png", data="aGk="),
                Image(url="https://a.example/b.PNG?c=d"),
                Audio(media_type="audio/wav", data="aGk="),
                File(media_type="application/pdf", data="JVBERi0="),
                File(media_type="application/pdf", url="https://a.example/c"),
                File(text="plain"),
            ),
        ),
        Turn(
            role="assistant",
            parts=(
                Reasoning(text="Hm."),
                Text(text="First."),
                ToolCall(id="c1", name="weather", arguments='{"city": "Rio", "n": 1.50}', signature="c2ln"),
                ToolCall(id="c2", name="now", arguments=""),
            ),
        ),
        Turn(
            role="user",
            parts=(
                ToolResult(call_id="c1", name="weather", parts=(Text(text="sun"),)),
                ToolResult(
                    call_id="c2", parts=(Text(text="a"), Text(text="b"), Image(media_type="image/png", data="aGk="))
                ),
            ),
        ),
        Turn(role="user", parts=(Text(text="And now?"),)),
        Turn(role="assistant", parts=(Refused(text="No."), ToolCall(id="c3", name="now", arguments="{}"))),
        Turn(role="user", parts=(ToolResult(call_id="c3", parts=(Text(text="late"),), is_error=True),)),
    ),
    tools=(Tool(name="weather", description="Weather.", parameters=SCHEMA), Tool(name="now")),
    tool_choice=ToolChoice(mode="required", names=("weather", "now")),
    parallel_tools=True,
    max_output=100,
    temperature=0.5,
    top_p=0.9,
    top_k=40,
    stop=("END",),
    seed=7,
    choices=2,
    presence_penalty=0.1,
    frequency_penalty=-0.1,
    format=Format(kind="schema", schema=SCHEMA, strict=True),
    thinking=Thinking(effort="high", show=True),
    stream=True,
)
ASKED: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Use tools."}]},
    "contents": [
        {"role": "user", "parts": [
            {"text": "Look."},
            {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
            {"fileData": {"fileUri": "https://a.example/b.PNG?c=d", "mimeType": "image/png"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
            {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
            {"fileData": {"fileUri": "https://a.example/c", "mimeType": "application/pdf"}},
            {"inlineData": {"mimeType": "text/plain", "data": "cGxhaW4="}},
        ]},
        {"role": "model", "parts": [
            {"text": "Hm.", "thought": True},
            {"text": "First."},
            {"functionCall": {"name": "weather", "id": "c1", "args": {"city": "Rio", "n": 1.5}},
             "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "now", "id": "c2"}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "weather", "id": "c1", "response": {"output": "sun"}}},
            {"functionResponse": {"name": "now", "id": "c2", "response": {"output": ["a", "b"]}, "parts": [
                {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
            ]}},
            {"text": "And now?"},
        ]},
        {"role": "model", "parts": [
            {"text": "No."},
            {"functionCall": {"name": "now", "id": "c3", "args": {}},
             "thoughtSignature": "skip_thought_signature_validator"},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "now", "id": "c3", "response": {"error": "late"}}}
        ]},
    ],
    "tools": [{"functionDeclarations": [
        {"name": "weather", "description": "Weather.", "parametersJsonSchema": SCHEMA},
        {"name": "now"},
    ]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather", "now"]}},
    "generationConfig": {
        "maxOutputTokens": 100,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "stopSequences": ["END"],
        "seed": 7,
        "candidateCount": 2,
        "presencePenalty": 0.1,
        "frequencyPenalty": -0.1,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
        "thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True},
    },
}  # fmt: skip


@pytest.mark.requirement("GW-5", "GW-7")
def test_everything_that_generated_content_can_hold_is_asked_as_documented() -> None:
    body, hints = GENERATE_CONTENT.write_ask(FULL)
    assert body == ASKED
    assert hints == ()


def asked(**members: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    plain = Ask(model="m", turns=(Turn(role="user", parts=(Text(text="go"),)),))
    body, hints = GENERATE_CONTENT.write_ask(msgspec.structs.replace(plain, **members))
    return dict(body), hints


def turns(*parts: Any, role: str = "user", name: str | None = None) -> tuple[Turn, ...]:
    return (Turn(role=role, parts=parts, name=name),)  # type: ignore[arg-type]


PLAIN = (Tool(name="f"),)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("members", "hint"),
    [
        ({"user": "u"}, "user"),
        ({"parallel_tools": False, "tools": PLAIN}, "parallel_tools"),
        ({"tools": (Tool(name="f", strict=True),)}, "tool.strict"),
        ({"format": Format(kind="json", name="n")}, "format.name"),
        ({"format": Format(kind="json", description="d")}, "format.description"),
        ({"thinking": Thinking(effort="low", budget=100)}, "thinking.effort"),
        ({"turns": turns(Text(text="x"), name="Ana")}, "turn.name"),
        ({"turns": turns(Image(url="https://a.example/b.png", detail="low"))}, "image.detail"),
        ({"turns": turns(File(media_type="application/pdf", data="aGk=", name="a.pdf"))}, "file.name"),
        ({"turns": (*turns(Text(text="x")), *turns(Text(text="y"), role="system"))}, "turn.role"),
    ],
)
def test_what_only_hints_is_left_out_by_name(members: dict[str, Any], hint: str) -> None:
    assert asked(**members)[1] == (hint,)
    assert hint in GENERATE_CONTENT.hints


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "members",
    [
        {"turns": turns(Image())},
        {"turns": turns(Refused(text="no"))},
        {"turns": turns(File(data="aGk="))},
        {"turns": turns(Image(url="https://a.example"), role="system")},
        {"turns": turns(ToolResult(call_id="c", name="f"), role="assistant")},
        {"turns": turns(ToolCall(id="c", name="f", arguments="x", custom=True), role="assistant")},
        {"tool_choice": ToolChoice(mode="none", names=("f",))},
    ],
)
def test_what_has_no_place_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        asked(**members)
    assert refused.value.code is Code.NOT_REPRESENTABLE


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("thinking", "config"),
    [
        (Thinking(effort="none"), {"thinkingBudget": 0}),
        (Thinking(effort="minimal"), {"thinkingLevel": "MINIMAL"}),
        (Thinking(effort="max"), {"thinkingLevel": "XHIGH"}),
        (Thinking(budget=-1, show=False), {"thinkingBudget": -1, "includeThoughts": False}),
    ],
)
def test_how_much_to_think_is_said_by_level_or_by_budget(thinking: Thinking, config: dict[str, Any]) -> None:
    assert asked(thinking=thinking)[0]["generationConfig"] == {"thinkingConfig": config}


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="auto", names=("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (ToolChoice(mode="named", names=("f",)), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_whether_a_tool_is_to_be_called_is_said_by_mode(choice: ToolChoice, config: dict[str, Any]) -> None:
    assert asked(tools=PLAIN, tool_choice=choice)[0]["toolConfig"] == {"functionCallingConfig": config}


def test_nothing_is_asked_for_that_says_nothing() -> None:
    said = asked(
        thinking=Thinking(), format=Format(kind="text"), tool_choice=ToolChoice(), parallel_tools=False, stream=True
    )
    assert said == ({"contents": [{"role": "user", "parts": [{"text": "go"}]}]}, ())
