"""Requests for messages, as upstreams are sent them."""

from collections.abc import Iterable, Iterator
from itertools import takewhile

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal
from securellm.providers.translation import media
from securellm.providers.translation.members import arguments_in, unsayable
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
    ToolResult,
    Turn,
)

HINTS = frozenset(
    {
        "format.description",
        "format.name",
        "image.detail",
        "parallel_tools",
        "seed",
        "turn.name",
    }
)
LACKS = frozenset(
    {
        "audio",
        "choices",
        "file",
        "format",
        "frequency_penalty",
        "presence_penalty",
        "temperature",
        "thinking.budget",
        "tool_call.custom",
        "tool_choice",
        "tool_result",
        "top_p",
    }
)

_LEAST_BUDGET = 1024
"""Anthropic's least budget of thinking tokens."""
_HOTTEST = 1
"""Anthropic's highest temperature, and the default."""


def write_ask(ask: Ask) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The request for an upstream, and what was left out of it."""
    hints: list[str] = []
    leading = list(takewhile(lambda turn: turn.role == "system", ask.turns))
    members: dict[str, Value] = {"model": ask.model}
    if ask.max_output is not None:
        members["max_tokens"] = ask.max_output
    system = [block for turn in leading for block in _written_blocks(turn, hints)]
    if system:
        members["system"] = system
    members["messages"] = list(_messages(ask.turns[len(leading) :], hints))
    if ask.tools:
        members["tools"] = [_written_tool(tool) for tool in ask.tools]
    choice = _written_choice(ask, hints)
    if choice is not None:
        members["tool_choice"] = choice
    _write_sampling(members, ask, hints)
    if ask.stop:
        members["stop_sequences"] = list(ask.stop)
    config: dict[str, Value] = {}
    if ask.thinking is not None:
        _write_thinking(members, config, ask.thinking)
    if ask.format is not None:
        _write_format(config, ask.format, hints)
    if config:
        members["output_config"] = config
    if ask.user is not None:
        members["metadata"] = {"user_id": ask.user}
    if ask.stream:
        members["stream"] = True
    return members, tuple(dict.fromkeys(hints))


def _write_sampling(members: dict[str, Value], ask: Ask, hints: list[str]) -> None:
    if ask.choices != 1:
        raise unsayable("several choices", name="choices")
    if ask.presence_penalty:
        raise unsayable("penalties", name="presence_penalty")
    if ask.frequency_penalty:
        raise unsayable("penalties", name="frequency_penalty")
    if ask.seed is not None:
        hints.append("seed")
    # The default is left out: newer models take no other value, and not even that one when it is written.
    temperature = None if ask.temperature == _HOTTEST else ask.temperature
    top_p = None if ask.top_p == 1 else ask.top_p
    if temperature is not None and temperature > _HOTTEST:
        raise unsayable("temperatures above 1", name="temperature")
    if temperature is not None and top_p is not None:
        raise unsayable("temperature and top_p together", name="top_p")
    if temperature is not None:
        members["temperature"] = temperature
    if top_p is not None:
        members["top_p"] = top_p
    if ask.top_k is not None:
        members["top_k"] = ask.top_k


def _write_thinking(members: dict[str, Value], config: dict[str, Value], thinking: Thinking) -> None:
    effort, budget = thinking.effort, thinking.budget
    if effort == "none" or (effort is None and budget == 0):
        members["thinking"] = {"type": "disabled"}
        return
    if effort is not None:
        # The least that this dialect has.
        config["effort"] = "low" if effort == "minimal" else effort
    said: dict[str, Value]
    if budget is not None and budget > 0:
        if budget < _LEAST_BUDGET:
            raise unsayable("a budget of less than 1024 tokens", name="thinking.budget")
        said = {"type": "enabled", "budget_tokens": budget}
    elif effort is not None or budget is not None or thinking.show is not None:
        said = {"type": "adaptive"}
    else:
        return
    if thinking.show is not None:
        said["display"] = "summarized" if thinking.show else "omitted"
    members["thinking"] = said


def _write_format(config: dict[str, Value], form: Format, hints: list[str]) -> None:
    if form.kind == "text":
        return
    if form.kind == "json" or form.schema is None:
        raise unsayable("JSON without a schema", name="format")
    if form.name is not None:
        hints.append("format.name")
    if form.description is not None:
        hints.append("format.description")
    config["format"] = {"type": "json_schema", "schema": dict(form.schema)}


def _messages(turns: Iterable[Turn], hints: list[str]) -> Iterator[Value]:
    for turn in turns:
        if turn.name is not None:
            hints.append("turn.name")
        blocks = _written_blocks(turn, hints)
        if blocks:
            yield {"role": turn.role, "content": blocks}


def _written_blocks(turn: Turn, hints: list[str]) -> list[Value]:
    blocks: list[Value] = []
    said = False
    for part in turn.parts:
        if isinstance(part, ToolResult) and said:
            raise unsayable("a tool's result that comes after other parts of its turn", name="tool_result")
        said = said or not isinstance(part, ToolResult)
        if not (isinstance(part, Text | Refused) and not part.text):
            blocks.append(_written_block(part, hints))
    return blocks


def _written_block(part: Part, hints: list[str]) -> dict[str, Value]:
    match part:
        case Text() | Refused():
            return {"type": "text", "text": part.text}
        case Image():
            return _written_image(part, hints)
        case File():
            return _written_file(part)
        case Audio():
            raise unsayable("sound", name="audio")
        case Reasoning():
            if part.redacted:
                return {"type": "redacted_thinking", "data": part.signature}
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        case ToolCall():
            return written_call(part)
        case ToolResult():
            result: dict[str, Value] = {"type": "tool_result", "tool_use_id": part.call_id}
            if part.parts:
                result["content"] = [_written_block(inner, hints) for inner in part.parts]
            if part.is_error:
                result["is_error"] = True
            return result


def written_call(call: ToolCall) -> dict[str, Value]:
    """A tool call of a client's history, as a block. Raises Refusal for arguments that are no object."""
    if call.custom:
        raise unsayable("tools that take free text", name="tool_call.custom")
    arguments = arguments_in(call.arguments)
    if arguments is None:
        raise Refusal(
            Code.INVALID_REQUEST, "the arguments of a tool call must be a JSON object", param="tool_calls.arguments"
        )
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _written_image(image: Image, hints: list[str]) -> dict[str, Value]:
    if image.detail is not None:
        hints.append("image.detail")
    if image.url is not None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    if image.media_type is None or image.data is None:
        raise unsayable("an image whose media type is not told", name="image")
    return {"type": "image", "source": {"type": "base64", "media_type": image.media_type, "data": image.data}}


def _written_file(file: File) -> dict[str, Value]:
    source: dict[str, Value]
    if file.url is not None:
        source = {"type": "url", "url": file.url}
    elif file.text is not None:
        source = {"type": "text", "media_type": "text/plain", "data": file.text}
    elif file.media_type == "application/pdf":
        source = {"type": "base64", "media_type": file.media_type, "data": file.data}
    else:
        text = media.decoded(file.data or "") if file.media_type == "text/plain" else None
        if text is None:
            raise unsayable("a file that is neither PDF nor text", name="file")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    block: dict[str, Value] = {"type": "document", "source": source}
    if file.name is not None:
        block["title"] = file.name
    return block


def _written_tool(tool: Tool) -> Value:
    written: dict[str, Value] = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    written["input_schema"] = {"type": "object", "properties": {}} if tool.parameters is None else dict(tool.parameters)
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written


def _written_choice(ask: Ask, hints: list[str]) -> dict[str, Value] | None:
    choice = ask.tool_choice
    alone = None if ask.parallel_tools is None else not ask.parallel_tools
    if choice is None:
        if alone is None:
            return None
        if not ask.tools:
            hints.append("parallel_tools")
            return None
        return {"type": "auto", "disable_parallel_tool_use": alone}
    written: dict[str, Value]
    match choice.mode:
        case "none":
            if alone is not None:
                hints.append("parallel_tools")
            return {"type": "none"}
        case "auto":
            if choice.names:
                raise unsayable("a choice among some of the tools", name="tool_choice")
            written = {"type": "auto"}
        case "required" if not choice.names:
            written = {"type": "any"}
        case "required" | "named":
            if len(choice.names) != 1:
                raise unsayable("a choice among some of the tools", name="tool_choice")
            written = {"type": "tool", "name": choice.names[0]}
    if alone is not None:
        written["disable_parallel_tool_use"] = alone
    return written
