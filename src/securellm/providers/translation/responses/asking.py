"""Requests for responses, as upstreams are sent them."""

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

HINTS = frozenset(
    {
        "reasoning",
        "seed",
        "thinking.budget",
        "tool_call.signature",
        "tool_result.is_error",
        "turn.name",
    }
)
LACKS = frozenset({"audio", "choices", "frequency_penalty", "presence_penalty", "stop", "top_k"})


def write_ask(ask: Ask) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The request for an upstream, and what was left out of it. Nothing is to be kept there."""
    hints: list[str] = []
    _refuse_unsaid(ask)
    if ask.seed is not None:
        hints.append("seed")
    turns = list(ask.turns)
    members: dict[str, Value] = {"model": ask.model}
    first = turns[0].parts if turns and turns[0].role == "system" else ()
    if len(first) == 1 and isinstance(first[0], Text):
        members["instructions"] = first[0].text
        del turns[0]
    customs = frozenset(
        part.id for turn in ask.turns for part in turn.parts if isinstance(part, ToolCall) and part.custom
    )
    members["input"] = [item for turn in turns for item in _items(turn, customs, hints)]
    if ask.tools:
        members["tools"] = [_tool(tool) for tool in ask.tools]
    if ask.tool_choice is not None:
        members["tool_choice"] = _choice(ask.tool_choice)
    plain: tuple[tuple[str, Value], ...] = (
        ("parallel_tool_calls", ask.parallel_tools),
        ("max_output_tokens", ask.max_output),
        ("temperature", ask.temperature),
        ("top_p", ask.top_p),
        ("user", ask.user),
    )
    members.update((name, value) for name, value in plain if value is not None)
    if ask.format is not None:
        members["text"] = {"format": _format(ask.format)}
    if ask.thinking is not None:
        members.update(_thinking(ask.thinking, hints))
    members["store"] = False
    if ask.stream:
        members["stream"] = True
    return members, tuple(dict.fromkeys(hints))


def _refuse_unsaid(ask: Ask) -> None:
    said: tuple[tuple[str, bool], ...] = (
        ("choices", ask.choices > 1),
        ("frequency_penalty", bool(ask.frequency_penalty)),
        ("presence_penalty", bool(ask.presence_penalty)),
        ("stop", bool(ask.stop)),
        ("top_k", ask.top_k is not None),
    )
    for name, is_said in said:
        if is_said:
            raise unsayable(name, name=name)


def _items(turn: Turn, customs: frozenset[str], hints: list[str]) -> Iterable[Value]:
    if turn.name is not None:
        hints.append("turn.name")
    said: list[Value] = []
    for part in turn.parts:
        item = _item(part, customs, hints)
        if item is None:
            said.append(_content(part, spoken=turn.role == "assistant"))
            continue
        if said:
            yield _message(turn, said)
            said = []
        yield from item
    if said or not turn.parts:
        yield _message(turn, said)


def _message(turn: Turn, content: list[Value]) -> Value:
    return {"type": "message", "role": turn.role, "content": content}


def _item(part: Part, customs: frozenset[str], hints: list[str]) -> tuple[Value, ...] | None:
    """The items that `part` is, or none when nothing is said of it. None: it belongs in a message."""
    match part:
        case Reasoning():
            if not part.signature:
                hints.append("reasoning")
                return ()
            summary: list[Value] = [] if part.redacted else [{"type": "summary_text", "text": part.text}]
            thought: dict[str, Value] = {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}
            if part.id is not None:
                thought["id"] = part.id
            return (thought,)
        case ToolCall():
            if part.signature is not None:
                hints.append("tool_call.signature")
            kind, name = ("custom_tool_call", "input") if part.custom else ("function_call", "arguments")
            return ({"type": kind, "call_id": part.id, "name": part.name, name: part.arguments},)
        case ToolResult():
            if part.is_error:
                hints.append("tool_result.is_error")
            kind = "custom_tool_call_output" if part.call_id in customs else "function_call_output"
            return ({"type": kind, "call_id": part.call_id, "output": _output(part)},)
        case _:
            return None


def _output(result: ToolResult) -> Value:
    if not result.parts:
        return ""
    if len(result.parts) == 1 and isinstance(result.parts[0], Text):
        return result.parts[0].text
    return [_content(part, spoken=False) for part in result.parts]


def _content(part: Part, *, spoken: bool) -> Value:
    match part:
        case Text():
            return {"type": "output_text" if spoken else "input_text", "text": part.text}
        case Refused() if spoken:
            return {"type": "refusal", "refusal": part.text}
        case Image() if not spoken:
            return {
                "type": "input_image",
                "image_url": media.url_of(part.url, part.media_type, part.data),
                "detail": part.detail or "auto",
            }
        case File() if not spoken:
            return _file(part)
        case Audio():
            raise unsayable("sound", name="audio")
        case _:
            raise unsayable("this part in the turn of this speaker")


def _file(file: File) -> Value:
    if file.url is not None:
        return {"type": "input_file", "file_url": file.url}
    data, media_type = file.data, file.media_type
    if file.text is not None:
        data, media_type = media.encoded(file.text), "text/plain"
    return {
        "type": "input_file",
        "filename": file.name or media.named(media_type),
        "file_data": media.url_of(None, media_type, data),
    }


def _tool(tool: Tool) -> Value:
    written: dict[str, Value] = {"type": "function", "name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["parameters"] = {"type": "object", "properties": {}} if tool.parameters is None else dict(tool.parameters)
    # Here alone leaving it out means yes.
    written["strict"] = bool(tool.strict)
    return written


def _choice(choice: ToolChoice) -> Value:
    if choice.mode == "named":
        return {"type": "function", "name": choice.names[0]}
    if not choice.names:
        return choice.mode
    if choice.mode == "none":
        raise unsayable("tools that must not be called, by name")
    tools: list[Value] = [{"type": "function", "name": name} for name in choice.names]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": tools}


def _format(form: Format) -> Value:
    match form.kind:
        case "text":
            return {"type": "text"}
        case "json":
            return {"type": "json_object"}
        case "schema":
            written: dict[str, Value] = {"type": "json_schema", "name": form.name or "answer"}
            if form.description is not None:
                written["description"] = form.description
            written["schema"] = dict(form.schema or {})
            written["strict"] = bool(form.strict)
            return written


def _thinking(thinking: Thinking, hints: list[str]) -> dict[str, Value]:
    written: dict[str, Value] = {}
    effort = "none" if thinking.effort is None and thinking.budget == 0 else thinking.effort
    if effort is not None:
        written["effort"] = effort
    if thinking.budget is not None and thinking.budget > 0:
        hints.append("thinking.budget")
    if thinking.show:
        written["summary"] = "auto"
    if not written:
        return {}
    # Without it a provider that keeps nothing forgets what it thought.
    return (
        {"reasoning": written}
        if effort == "none"
        else {
            "reasoning": written,
            "include": ["reasoning.encrypted_content"],
        }
    )
