"""Requests for chat completions, as upstreams are sent them."""

from collections.abc import Iterable

from securellm.core.document import Value
from securellm.providers.translation import media
from securellm.providers.translation.members import unsayable
from securellm.providers.translation.model import (
    Ask,
    Audio,
    File,
    Format,
    Image,
    Part,
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

HINTS = frozenset({"thinking.budget", "thinking.show", "tool_result.is_error", "user"})
LACKS = frozenset({"audio", "file.url", "tool_call", "tool_choice", "tool_result", "tool_result.image", "top_k"})

_LONGEST_USER = 64
"""OpenAI's limit; what is longer would be refused there, and is only a hint."""


def write_ask(ask: Ask) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The request for an upstream, and what was left out of it."""
    hints: list[str] = []
    members: dict[str, Value] = {"model": ask.model, "messages": list(_messages(ask.turns, hints))}
    if ask.tools:
        members["tools"] = [_written_tool(tool) for tool in ask.tools]
    if ask.tool_choice is not None:
        members["tool_choice"] = _written_choice(ask.tool_choice)
    if ask.top_k is not None:
        raise unsayable("top_k", name="top_k")
    plain: tuple[tuple[str, Value], ...] = (
        ("parallel_tool_calls", ask.parallel_tools if ask.tools else None),
        ("max_completion_tokens", ask.max_output),
        ("temperature", ask.temperature),
        ("top_p", ask.top_p),
        ("stop", list(ask.stop) or None),
        ("seed", ask.seed),
        ("n", ask.choices if ask.choices > 1 else None),
        ("presence_penalty", ask.presence_penalty),
        ("frequency_penalty", ask.frequency_penalty),
    )
    members.update((name, value) for name, value in plain if value is not None)
    if ask.format is not None:
        members["response_format"] = _written_format(ask.format)
    if ask.thinking is not None:
        _write_thinking(members, ask.thinking, hints)
    if ask.user is not None:
        if len(ask.user) > _LONGEST_USER:
            hints.append("user")
        else:
            members["user"] = ask.user
    if ask.stream:
        members["stream"] = True
        # Whatever the client wants to see, the usage must be known.
        members["stream_options"] = {"include_usage": True}
    return members, tuple(dict.fromkeys(hints))


def _write_thinking(members: dict[str, Value], thinking: Thinking, hints: list[str]) -> None:
    effort = "none" if thinking.effort is None and thinking.budget == 0 else thinking.effort
    if effort is not None:
        members["reasoning_effort"] = effort
    if thinking.budget is not None and thinking.budget > 0:
        hints.append("thinking.budget")
    if thinking.show is not None:
        hints.append("thinking.show")


def _messages(turns: Iterable[Turn], hints: list[str]) -> Iterable[Value]:
    for turn in turns:
        if turn.role == "assistant":
            yield _written_spoken(turn)
            continue
        said: list[Part] = []
        for part in turn.parts:
            if isinstance(part, ToolResult):
                if said:
                    raise unsayable("a tool's result that comes after other parts of its turn", name="tool_result")
                yield _written_result(part, hints)
            else:
                said.append(part)
        if said or not turn.parts:
            yield _named(turn, {"role": turn.role, "content": _written_content(said)})


def _named(turn: Turn, message: dict[str, Value]) -> dict[str, Value]:
    if turn.name is not None:
        message["name"] = turn.name
    return message


def _written_result(result: ToolResult, hints: list[str]) -> Value:
    if result.is_error:
        hints.append("tool_result.is_error")
    for part in result.parts:
        if not isinstance(part, Text):
            raise unsayable("an image or file in a tool's result", name="tool_result.image")
    return {"role": "tool", "tool_call_id": result.call_id, "content": _written_content(result.parts)}


def _written_spoken(turn: Turn) -> Value:
    message: dict[str, Value] = {"role": "assistant"}
    said: list[Part] = []
    calls: list[Value] = []
    thoughts: list[str] = []
    for part in turn.parts:
        match part:
            case Reasoning():
                thoughts.append(part.text)
            case ToolCall():
                calls.append(written_call(part))
            case _:
                if calls:
                    raise unsayable("text that comes after a tool call in its turn", name="tool_call")
                said.append(part)
    message["content"] = _written_content(said) if said else None
    if "".join(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    elif not said:
        message["content"] = ""
    return _named(turn, message)


def written_call(call: ToolCall) -> dict[str, Value]:
    """A tool call, as it stands in a message."""
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    written: dict[str, Value] = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.signature is not None:
        written["extra_content"] = {"google": {"thought_signature": call.signature}}
    return written


def _written_content(parts: Iterable[Part]) -> Value:
    parts = tuple(parts)
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        # Many servers of this dialect know text only as one string.
        return "\n".join(texts)
    return [_written_part(part) for part in parts]


def _written_part(part: Part) -> Value:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Refused():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            image: dict[str, Value] = {"url": media.url_of(part.url, part.media_type, part.data)}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case Audio():
            form = media.FORMATS.get(part.media_type)
            if form is None:
                raise unsayable("sound that is neither WAV nor MP3", name="audio")
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": form}}
        case File():
            return {"type": "file", "file": _written_file(part)}
        case Reasoning() | ToolCall() | ToolResult():
            raise unsayable("this part in the turn of this speaker", name="turns")


def _written_file(file: File) -> Value:
    if file.url is not None:
        raise unsayable("a file by its address", name="file.url")
    data, media_type = file.data, file.media_type
    if file.text is not None:
        data, media_type = media.encoded(file.text), "text/plain"
    name = file.name or media.named(media_type)
    return {"file_data": media.url_of(None, media_type, data), "filename": name}


def _written_tool(tool: Tool) -> Value:
    function: dict[str, Value] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = dict(tool.parameters)
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _written_choice(choice: ToolChoice) -> Value:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.names[0]}}
    if not choice.names:
        return choice.mode
    if choice.mode == "none":
        raise unsayable("tools that must not be called, by name", name="tool_choice")
    tools: list[Value] = [{"type": "function", "function": {"name": name}} for name in choice.names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}


def _written_format(form: Format) -> Value:
    match form.kind:
        case "text":
            return {"type": "text"}
        case "json":
            return {"type": "json_object"}
        case "schema":
            schema: dict[str, Value] = {"name": form.name or "answer"}
            if form.description is not None:
                schema["description"] = form.description
            if form.schema is not None:
                schema["schema"] = dict(form.schema)
            if form.strict is not None:
                schema["strict"] = form.strict
            return {"type": "json_schema", "json_schema": schema}
