"""Requests for messages, as clients send them."""

from securellm.core.document import Value
from securellm.providers.translation.members import Fields
from securellm.providers.translation.messages.proof import rejoined
from securellm.providers.translation.model import (
    Ask,
    File,
    Format,
    Image,
    Members,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from securellm.providers.translation.thinking import read_effort, read_thinking
from securellm.providers.translation.writing import text_of

HOLDS = {
    "model": "model",
    "system": "turns",
    "system.*.type": "turns",
    "system.*.text": "turns",
    "messages": "turns",
    "messages.*.role": "turns",
    "messages.*.clear_at": "turns",
    "messages.*.content": "turns",
    "messages.*.content.*.type": "turns",
    "messages.*.content.*.text": "turns",
    "messages.*.content.*.source": "file",
    "messages.*.content.*.source.type": "image",
    "messages.*.content.*.source.media_type": "image",
    "messages.*.content.*.source.data": "image",
    "messages.*.content.*.source.url": "image",
    "messages.*.content.*.title": "file.name",
    "messages.*.content.*.thinking": "reasoning",
    "messages.*.content.*.signature": "tool_call.signature",
    "messages.*.content.*.data": "reasoning",
    "messages.*.content.*.id": "tool_call",
    "messages.*.content.*.name": "tool_call",
    "messages.*.content.*.input": "tool_call",
    "messages.*.content.*.tool_use_id": "tool_result",
    "messages.*.content.*.content": "tool_result",
    "messages.*.content.*.content.*.type": "tool_result",
    "messages.*.content.*.content.*.text": "tool_result",
    "messages.*.content.*.content.*.source": "tool_result.image",
    "messages.*.content.*.content.*.source.type": "tool_result.image",
    "messages.*.content.*.content.*.source.media_type": "tool_result.image",
    "messages.*.content.*.content.*.source.data": "tool_result.image",
    "messages.*.content.*.content.*.source.url": "tool_result.image",
    "messages.*.content.*.content.*.title": "file.name",
    "messages.*.content.*.is_error": "tool_result.is_error",
    "tools": "tools",
    "tools.*.type": "tools",
    "tools.*.name": "tools",
    "tools.*.description": "tools",
    "tools.*.input_schema": "tools",
    "tools.*.strict": "tool.strict",
    "tool_choice": "tool_choice",
    "tool_choice.type": "tool_choice",
    "tool_choice.name": "tool_choice",
    "tool_choice.disable_parallel_tool_use": "parallel_tools",
    "max_tokens": "max_output",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop_sequences": "stop",
    "thinking": "thinking",
    "thinking.type": "thinking",
    "thinking.budget_tokens": "thinking.budget",
    "thinking.display": "thinking.show",
    "output_config": "output_config",
    "output_config.effort": "thinking",
    "output_config.format": "format",
    "output_config.format.type": "format",
    "output_config.format.schema": "format",
    "output_format": "format",
    "metadata": "metadata",
    "metadata.user_id": "user",
    "stream": "stream",
}

KNOWS = frozenset(
    {
        "billing_policy",
        "cache_control",
        "compaction",
        "container",
        "context_management",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "mcp_servers",
        "messages.*.content.*.cache_control",
        "messages.*.content.*.caller",
        "messages.*.content.*.citations",
        "messages.*.content.*.content.*.cache_control",
        "messages.*.content.*.content.*.citations",
        "messages.*.content.*.content.*.context",
        "messages.*.content.*.content.*.transformations",
        "messages.*.content.*.context",
        "messages.*.content.*.toolset_name",
        "messages.*.content.*.transformations",
        "messages.*.output_config",
        "output_config.task_budget",
        "service_tier",
        "speed",
        "system.*.cache_control",
        "system.*.citations",
        "thinking.block_binding",
        "thread",
        "tools.*.allowed_callers",
        "tools.*.cache_control",
        "tools.*.defer_loading",
        "tools.*.eager_input_streaming",
        "tools.*.input_examples",
    }
)

MERE_HINTS = frozenset(
    {
        "cache_control",
        "context_management",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "messages.*.content.*.cache_control",
        "messages.*.content.*.content.*.cache_control",
        "messages.*.content.*.content.*.transformations",
        "messages.*.content.*.transformations",
        "output_config.task_budget",
        "service_tier",
        "speed",
        "system.*.cache_control",
        "thinking.block_binding",
        "tools.*.cache_control",
        "tools.*.eager_input_streaming",
        "tools.*.input_examples",
    }
)
"""Those that do not change what the answer may be: dropped, where an upstream has no place for them."""


def read_ask(members: Members) -> Ask:
    """A client's request."""
    rest: dict[str, Value] = {}
    fields = Fields(members, rest)
    system = _text_blocks(fields, "system")
    turns = [Turn(role="system", parts=system)] if system else []
    turns += _turns(fields.objects("messages"))
    config = fields.object("output_config")
    effort = config.text("effort") if config is not None else None
    form = config.object("format") if config is not None else None
    older = fields.object("output_format")
    choice, parallel = _choice(fields.object("tool_choice"))
    metadata = fields.object("metadata")
    user = metadata.text("user_id") if metadata is not None else None
    cap = fields.whole("max_tokens")
    if cap == 0:
        raise fields.unsaid("max_tokens", "a request for no answer, only to fill the cache,")
    ask = Ask(
        model=fields.needed("model"),
        turns=tuple(turns),
        tools=tuple(_tool(tool) for tool in fields.objects("tools")),
        tool_choice=choice,
        parallel_tools=parallel,
        max_output=cap,
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.whole("top_k"),
        stop=fields.texts("stop_sequences"),
        format=_format(form if form is not None else older),
        thinking=read_thinking(fields, read_effort(effort, "output_config.effort")),
        user=user,
        stream=bool(fields.flag("stream")),
        rest=rest,
    )
    for below in (config, metadata):
        if below is not None:
            below.leave()
    fields.skip("service_tier", "auto")
    fields.skip("speed", "standard")
    fields.skip("mcp_servers", [])
    fields.leave()
    return ask


def _turns(messages: list[Fields]) -> list[Turn]:
    names: dict[str, str] = {}
    turns: list[Turn] = []
    passing: list[Turn] = []
    """What is shown to the model only until the user speaks again."""
    for message in messages:
        passes = message.text("clear_at") == "next_user_message"
        turn = _turn(message, names)
        if turn.role == "user":
            turns = [said for said in turns if not any(said is one for one in passing)]
            passing = []
        if passes:
            passing.append(turn)
        turns.append(turn)
    return turns


def _turn(message: Fields, names: dict[str, str]) -> Turn:
    role = message.needed("role")
    match role:
        case "system":
            message.skip("output_config", {})
            turn = Turn(role="system", parts=_text_blocks(message, "content"))
        case "user" | "assistant":
            turn = Turn(role=role, parts=rejoined(_blocks(message, names)))
        case _:
            raise message.wrong("role", "one of this dialect")
    message.leave()
    return turn


def _text_blocks(fields: Fields, name: str) -> tuple[Part, ...]:
    if fields.is_text(name):
        text = fields.needed(name)
        return (Text(text=text),) if text else ()
    parts: list[Part] = []
    for block in fields.objects(name):
        if block.needed("type") != "text":
            raise block.unsaid("type", "a system block that is no text")
        parts.append(Text(text=block.needed("text")))
        block.leave()
    return tuple(parts)


def _blocks(message: Fields, names: dict[str, str]) -> list[Part]:
    if message.is_text("content"):
        text = message.needed("content")
        return [Text(text=text)] if text else []
    parts: list[Part] = []
    for block in message.objects("content"):
        part = _block(block, names)
        block.leave()
        parts.append(part)
    return parts


def _block(block: Fields, names: dict[str, str]) -> Part:
    kind = block.needed("type")
    match kind:
        case "text":
            return _text(block)
        case "image":
            return _image(block)
        case "document":
            return _document(block)
        case "thinking":
            return Reasoning(text=block.needed("thinking"), signature=block.text("signature") or None)
        case "redacted_thinking":
            return Reasoning(signature=block.needed("data"), redacted=True)
        case "tool_use":
            return _call(block, names)
        case "tool_result":
            return _result(block, names)
        case _:
            raise block.unsaid("type", f"a content block of type {kind[:64]}")


def _text(block: Fields) -> Text:
    block.skip("citations", [])
    return Text(text=block.needed("text"))


def _call(block: Fields, names: dict[str, str]) -> ToolCall:
    block.skip("caller", {"type": "direct"})
    given, name = block.needed("id"), block.needed("name")
    arguments = block.members("input")
    if arguments is None:
        raise block.wrong("input", "an object")
    names[given] = name
    return ToolCall(id=given, name=name, arguments=text_of(arguments))


def _result(block: Fields, names: dict[str, str]) -> ToolResult:
    call = block.needed("tool_use_id")
    parts: list[Text | Image | File] = []
    if block.is_text("content"):
        text = block.needed("content")
        if text:
            parts.append(Text(text=text))
    else:
        for inner in block.objects("content"):
            match kind := inner.needed("type"):
                case "text":
                    parts.append(_text(inner))
                case "image":
                    parts.append(_image(inner))
                case "document":
                    parts.append(_document(inner))
                case _:
                    raise inner.unsaid("type", f"a content block of type {kind[:64]}")
            inner.leave()
    return ToolResult(call_id=call, name=names.get(call), parts=tuple(parts), is_error=bool(block.flag("is_error")))


def _image(block: Fields) -> Image:
    source = block.object("source")
    if source is None:
        raise block.wrong("source", "an object")
    block.skip("transformations", {}, {"oversized_image": "downsize"})
    match kind := source.needed("type"):
        case "base64":
            found = Image(media_type=source.needed("media_type"), data=source.needed("data"))
        case "url":
            found = Image(url=source.needed("url"))
        case _:
            raise source.unsaid("type", f"an image by {kind[:64]}")
    source.leave()
    return found


def _document(block: Fields) -> File:
    source = block.object("source")
    if source is None:
        raise block.wrong("source", "an object")
    name = block.text("title")
    block.skip("citations", {"enabled": False}, {})
    match kind := source.needed("type"):
        case "base64":
            found = File(media_type=source.needed("media_type"), data=source.needed("data"), name=name)
        case "text":
            found = File(media_type=source.text("media_type"), text=source.needed("data"), name=name)
        case "url":
            found = File(url=source.needed("url"), name=name)
        case _:
            raise source.unsaid("type", f"a document by {kind[:64]}")
    source.leave()
    return found


def _tool(tool: Fields) -> Tool:
    kind = tool.text("type") or "custom"
    if kind != "custom":
        raise tool.unsaid("type", f"the provider's own tool {kind[:64]}")
    tool.skip("allowed_callers", ["direct"])
    tool.skip("defer_loading", False)
    tool.skip("input_examples", [])
    schema = tool.members("input_schema")
    if schema is None:
        raise tool.wrong("input_schema", "an object")
    found = Tool(
        name=tool.needed("name"),
        description=tool.text("description"),
        parameters=schema,
        strict=tool.flag("strict"),
    )
    tool.leave()
    return found


def _choice(choice: Fields | None) -> tuple[ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    alone = choice.flag("disable_parallel_tool_use")
    kind = choice.needed("type")
    match kind:
        case "auto" | "none":
            found = ToolChoice(mode=kind)
        case "any":
            found = ToolChoice(mode="required")
        case "tool":
            found = ToolChoice(mode="named", names=(choice.needed("name"),))
        case _:
            raise choice.wrong("type", "one of this dialect")
    choice.leave()
    return found, None if alone is None else not alone


def _format(said: Fields | None) -> Format | None:
    if said is None:
        return None
    kind = said.needed("type")
    if kind != "json_schema":
        raise said.unsaid("type", f"an output format of type {kind[:64]}")
    schema = said.members("schema")
    if schema is None:
        raise said.wrong("schema", "an object")
    said.leave()
    # This dialect has no format that is not enforced.
    return Format(kind="schema", schema=schema, strict=True)
