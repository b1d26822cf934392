"""What clients of Ollama send, made up at random, and what they make of the bytes they are sent."""

import base64
import json
from typing import Any

import msgspec
from hypothesis import strategies as st
from tests.unit.providers.translation.clients import Heard
from tests.unit.providers.translation.conversations import names, objects, words

from securellm.core.usage import Usage
from securellm.providers.translation.model import (
    Ask,
    Format,
    Image,
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)

JSON = dict[str, Any]
_FILES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x01\x02\x03\x04WEBP",
}
CLOSED: JSON = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
"""A schema that every dialect enforces."""

pictures = st.sampled_from(sorted(_FILES)).flatmap(
    lambda kind: st.binary(max_size=12).map(
        lambda data: Image(media_type=kind, data=base64.b64encode(_FILES[kind] + bytes(8) + data).decode("ascii"))
    )
)
_numbers = st.none() | st.floats(0, 1)
_thinking = st.sampled_from(
    [
        None,
        Thinking(show=True),
        Thinking(effort="none"),
        Thinking(effort="low", show=True),
        Thinking(effort="medium", show=True),
        Thinking(effort="high", show=True),
    ]
)
_formats = st.sampled_from([None, Format(kind="json"), Format(kind="schema", schema=CLOSED, strict=True)])
_tools = st.lists(
    st.builds(
        Tool,
        name=names,
        description=st.none() | words,
        parameters=st.just({"type": "object", "properties": {}}),
        strict=st.none() | st.booleans(),
    ),
    max_size=2,
).map(tuple)


@st.composite
def ollama_asks(draw: st.DrawFn, *, prompt: bool = False) -> Ask:
    """A request within what a chat can hold; or, with `prompt`, the completion of a prompt."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn(role="system", parts=(Text(text=draw(words)),)))
    calls = 0
    for _ in range(draw(st.integers(0, 0 if prompt else 2))):
        turns.append(_question(draw))
        made = [_call(draw, calls + place) for place in range(draw(st.integers(0, 3)))]
        said: list[Part] = [Reasoning(text=draw(words))] if draw(st.booleans()) else []
        if not made or draw(st.booleans()):
            said.append(Text(text=draw(words)))
        turns.append(Turn(role="assistant", parts=(*said, *made)))
        if made:
            results = tuple(
                ToolResult(call_id=call.id, name=call.name, parts=(Text(text=draw(words)),)) for call in made
            )
            turns.append(Turn(role="user", parts=results))
        calls += len(made)
    turns.append(_question(draw))
    return Ask(
        model=draw(names),
        turns=tuple(turns),
        tools=() if prompt else draw(_tools),
        max_output=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(_numbers),
        top_p=draw(_numbers),
        stop=tuple(draw(st.lists(words, max_size=2))),
        seed=draw(st.none() | st.integers(0, 2**31)),
        presence_penalty=draw(_numbers),
        frequency_penalty=draw(_numbers),
        format=draw(_formats),
        thinking=draw(_thinking),
        stream=draw(st.booleans()),
    )


def _question(draw: st.DrawFn) -> Turn:
    images = draw(st.lists(pictures, max_size=2))
    return Turn(role="user", parts=(*images, Text(text=draw(words))))


def _call(draw: st.DrawFn, place: int) -> ToolCall:
    arguments = json.dumps(draw(objects), ensure_ascii=False, separators=(",", ":"))
    return ToolCall(id=f"call_{place}", name=draw(names), arguments=arguments)


def chat_body(ask: Ask, *, ids: bool = False) -> JSON:
    """It, as a client says it to /api/chat: without ids, as the official clients do, or with them."""
    messages = [message for turn in ask.turns for message in _messages(turn, ids)]
    body = {"model": ask.model, "messages": messages, **_settings(ask)}
    if ask.tools:
        body["tools"] = [{"type": "function", "function": _plain(tool)} for tool in ask.tools]
    return body


def generate_body(ask: Ask) -> JSON:
    """It, as a client says it to /api/generate."""
    body = {"model": ask.model, **_settings(ask)}
    for turn in ask.turns:
        if turn.role == "system":
            body["system"] = _said(turn)["content"]
        else:
            said = _said(turn)
            body["prompt"] = said.pop("content")
            body |= said
    return body


def _messages(turn: Turn, ids: bool) -> list[JSON]:
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    if results:
        return [
            {
                "role": "tool",
                "content": "".join(part.text for part in result.parts if isinstance(part, Text)),
                **({"tool_call_id": result.call_id} if ids else {"tool_name": result.name}),
            }
            for result in results
        ]
    return [{"role": turn.role, **_said(turn)}] if not ids else [{"role": turn.role, **_said(turn, ids=True)}]


def _said(turn: Turn, *, ids: bool = False) -> JSON:
    said: JSON = {"content": "".join(part.text for part in turn.parts if isinstance(part, Text))}
    images = [part.data for part in turn.parts if isinstance(part, Image)]
    thought = "".join(part.text for part in turn.parts if isinstance(part, Reasoning))
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    if images:
        said["images"] = images
    if thought:
        said["thinking"] = thought
    if calls:
        said["tool_calls"] = [
            {
                **({"id": call.id, "type": "function"} if ids else {}),
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in calls
        ]
    return said


def _settings(ask: Ask) -> JSON:
    options = {
        "num_predict": ask.max_output,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "stop": list(ask.stop) or None,
        "seed": ask.seed,
        "presence_penalty": ask.presence_penalty,
        "frequency_penalty": ask.frequency_penalty,
    }
    body: JSON = {"options": {name: value for name, value in options.items() if value is not None}}
    if ask.format is not None:
        body["format"] = "json" if ask.format.kind == "json" else ask.format.schema
    if ask.thinking is not None:
        effort = ask.thinking.effort
        body["think"] = True if effort is None else False if effort == "none" else effort
    return body if ask.stream else {**body, "stream": False}


def _plain(tool: Tool) -> JSON:
    members: JSON = msgspec.to_builtins(tool)
    return {name: value for name, value in members.items() if value is not None}


# What is heard


def lines_of(data: bytes) -> list[JSON]:
    """A stream as the official clients read it: a JSON object a line, and no line without one."""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data[:-1].split(b"\n")]


def hear_stream(data: bytes) -> Heard:
    """A streamed chat. Nothing follows the line that is the last."""
    *lines, last = lines_of(data)
    assert all(line["done"] is False and "done_reason" not in line for line in lines)
    text, thought, calls = "", "", list[JSON]()
    for line in lines:
        message = line["message"]
        assert message["role"] == "assistant"
        text, thought = text + message["content"], thought + message.get("thinking", "")
        calls += message.get("tool_calls", ())
    assert last["message"] == {"role": "assistant", "content": ""}
    whole: JSON = {"role": "assistant", "content": text, "thinking": thought, "tool_calls": calls}
    return hear({**last, "message": whole})


def hear(reply: JSON) -> Heard:
    """A whole chat."""
    assert reply["done"] is True
    message = reply["message"]
    calls = message.get("tool_calls", [])
    # However they were streamed, each tells its place.
    calls = sorted(calls, key=lambda call: call["function"]["index"])
    went_in = reply.get("prompt_eval_count")
    return Heard(
        text=message["content"],
        thought=message.get("thinking", ""),
        calls=tuple((call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls),
        finish=reply["done_reason"],
        usage=None if went_in is None else Usage(input=went_in, output=reply["eval_count"]),
    )
