"""Requests for chat completions, as clients send them."""

from securellm.core.document import Value
from securellm.core.surfaces import Surface
from securellm.providers.translation import media
from securellm.providers.translation.members import Fields
from securellm.providers.translation.model import (
    Ask,
    Audio,
    File,
    Format,
    Image,
    Members,
    Part,
    Reasoning,
    Refused,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from securellm.providers.translation.signatures import marked
from securellm.providers.translation.thinking import read_effort, read_thinking

HOLDS = {
    "model": "model",
    "messages": "turns",
    "messages.*.role": "turns",
    "messages.*.content": "turns",
    "messages.*.content.*.type": "turns",
    "messages.*.content.*.text": "turns",
    "messages.*.content.*.refusal": "refusal",
    "messages.*.content.*.image_url": "image",
    "messages.*.content.*.image_url.url": "image",
    "messages.*.content.*.image_url.detail": "image.detail",
    "messages.*.content.*.input_audio": "audio",
    "messages.*.content.*.input_audio.data": "audio",
    "messages.*.content.*.input_audio.format": "audio",
    "messages.*.content.*.file": "file",
    "messages.*.content.*.file.file_data": "file",
    "messages.*.content.*.file.filename": "file.name",
    "messages.*.name": "turn.name",
    "messages.*.refusal": "refusal",
    "messages.*.reasoning_content": "reasoning",
    "messages.*.reasoning": "reasoning",
    "messages.*.tool_calls": "tool_call",
    "messages.*.tool_calls.*.id": "tool_call",
    "messages.*.tool_calls.*.type": "tool_call",
    "messages.*.tool_calls.*.function": "tool_call",
    "messages.*.tool_calls.*.function.name": "tool_call",
    "messages.*.tool_calls.*.function.arguments": "tool_call",
    "messages.*.tool_calls.*.custom": "tool_call.custom",
    "messages.*.tool_calls.*.custom.name": "tool_call.custom",
    "messages.*.tool_calls.*.custom.input": "tool_call.custom",
    "messages.*.tool_calls.*.extra_content": "tool_call.signature",
    "messages.*.tool_call_id": "tool_result",
    "tools": "tools",
    "tools.*.type": "tools",
    "tools.*.function": "tools",
    "tools.*.function.name": "tools",
    "tools.*.function.description": "tools",
    "tools.*.function.parameters": "tools",
    "tools.*.function.strict": "tool.strict",
    "tool_choice": "tool_choice",
    "tool_choice.type": "tool_choice",
    "tool_choice.function": "tool_choice",
    "tool_choice.function.name": "tool_choice",
    "tool_choice.allowed_tools": "tool_choice",
    "tool_choice.allowed_tools.mode": "tool_choice",
    "tool_choice.allowed_tools.tools": "tool_choice",
    "parallel_tool_calls": "parallel_tools",
    "max_completion_tokens": "max_output",
    "max_tokens": "max_output",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop",
    "seed": "seed",
    "n": "choices",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "response_format": "format",
    "response_format.type": "format",
    "response_format.json_schema": "format",
    "response_format.json_schema.name": "format.name",
    "response_format.json_schema.description": "format.description",
    "response_format.json_schema.schema": "format",
    "response_format.json_schema.strict": "format",
    "reasoning_effort": "thinking",
    "thinking": "thinking",
    "user": "user",
    "safety_identifier": "user",
    "stream": "stream",
    "stream_options": "include_usage",
    "stream_options.include_usage": "include_usage",
}

KNOWS = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "messages.*.audio",
        "messages.*.content.*.file.file_id",
        "messages.*.content.*.prompt_cache_breakpoint",
        "messages.*.function_call",
        "metadata",
        "modalities",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "store",
        "stream_options.include_obfuscation",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)

MERE_HINTS = frozenset(
    {
        "messages.*.content.*.prompt_cache_breakpoint",
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "service_tier",
        "store",
        "stream_options.include_obfuscation",
        "user",
        "verbosity",
    }
)
"""Those that do not change what the answer may be: dropped, where an upstream has no place for them."""

_DEFAULTS: tuple[tuple[str, tuple[Value, ...]], ...] = (
    ("functions", ([],)),
    ("logit_bias", ({},)),
    ("logprobs", (False,)),
    ("metadata", ({},)),
    ("modalities", (["text"],)),
    ("service_tier", ("auto",)),
    ("store", (False,)),
    ("top_logprobs", (0,)),
    ("verbosity", ("medium",)),
)
"""What says no more than leaving it out."""


def read_ask(members: Members) -> Ask:
    """A client's request."""
    rest: dict[str, Value] = {}
    fields = Fields(members, rest)
    names: dict[str, str] = {}
    turns = _turns(fields, names)
    cap = fields.whole("max_completion_tokens")
    older = fields.whole("max_tokens")
    options = fields.object("stream_options")
    wants_usage = options.flag("include_usage") if options is not None else None
    if options is not None:
        options.skip("include_obfuscation", False)
        options.leave()
    user = fields.text("safety_identifier")
    effort = fields.text("reasoning_effort")
    ask = Ask(
        model=fields.needed("model"),
        turns=tuple(turns),
        tools=tuple(_tool(tool) for tool in fields.objects("tools")),
        tool_choice=_choice(fields),
        parallel_tools=fields.flag("parallel_tool_calls"),
        max_output=cap if older is None else older if cap is None else min(cap, older),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.whole("top_k"),
        stop=(fields.needed("stop"),) if fields.is_text("stop") else fields.texts("stop"),
        seed=fields.whole("seed"),
        choices=_count(fields),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
        format=_format(fields.object("response_format")),
        thinking=read_thinking(fields, read_effort(effort, "reasoning_effort")),
        user=user if user is not None else fields.text("user"),
        stream=bool(fields.flag("stream")),
        include_usage=bool(wants_usage),
        rest=rest,
    )
    for name, defaults in _DEFAULTS:
        fields.skip(name, *defaults)
    fields.leave()
    return ask


def _count(fields: Fields) -> int:
    count = fields.whole("n")
    if count is not None and count < 1:
        raise fields.wrong("n", "at least 1")
    return 1 if count is None else count


def _turns(fields: Fields, names: dict[str, str]) -> list[Turn]:
    turns: list[Turn] = []
    results: list[Part] = []
    for message in fields.objects("messages"):
        role = message.needed("role")
        if role == "tool":
            # The results of calls that were made together are one turn.
            results.append(_result(message, names))
            continue
        if results:
            turns.append(Turn(role="user", parts=tuple(results)))
            results = []
        match role:
            case "system" | "developer":
                turns.append(Turn(role="system", parts=_content(message), name=message.text("name")))
            case "user":
                turns.append(Turn(role="user", parts=_content(message), name=message.text("name")))
            case "assistant":
                turns.append(_spoken(message, names))
            case "function":
                raise message.unsaid("role", "the result of a function call of the older kind")
            case _:
                raise message.wrong("role", "one of this dialect")
        message.leave()
    if results:
        turns.append(Turn(role="user", parts=tuple(results)))
    return turns


def _result(message: Fields, names: dict[str, str]) -> ToolResult:
    call, said = message.needed("tool_call_id"), message.text("name")
    parts: list[Text | Image | File] = []
    for part in _content(message):
        if not isinstance(part, Text | Image | File):
            raise message.unsaid("content", "a tool's result of this kind")
        parts.append(part)
    message.leave()
    return ToolResult(call_id=call, name=names.get(call, said), parts=tuple(parts))


def _spoken(message: Fields, names: dict[str, str]) -> Turn:
    parts: list[Part] = []
    thought = message.text("reasoning_content")
    again = message.text("reasoning")
    if thought or again:
        parts.append(Reasoning(text=thought or again or ""))
    parts += _content(message)
    refusal = message.text("refusal")
    if refusal:
        parts.append(Refused(text=refusal))
    for call in message.objects("tool_calls"):
        parts.append(_call(call, names))
    return Turn(role="assistant", parts=tuple(parts), name=message.text("name"))


def _call(call: Fields, names: dict[str, str]) -> ToolCall:
    kind = call.text("type") or "function"
    if kind not in {"function", "custom"}:
        raise call.unsaid("type", f"a tool call of type {kind[:64]}")
    said = call.object(kind)
    if said is None:
        raise call.wrong(kind, "an object")
    given = call.needed("id")
    names[given] = said.needed("name")
    signature: str | None = None
    extra = call.object("extra_content")
    if extra is not None:
        google = extra.object("google")
        if google is not None:
            signature = google.text("thought_signature")
            google.leave()
        extra.leave()
    found = ToolCall(
        id=given,
        name=names[given],
        arguments=said.needed("input" if kind == "custom" else "arguments"),
        signature=None if signature is None else marked(Surface.GENERATE_CONTENT, signature),
        custom=kind == "custom",
    )
    call.take("index")  # of a streamed call, sent back as it came
    said.leave()
    call.leave()
    return found


def _content(message: Fields) -> tuple[Part, ...]:
    if message.is_text("content"):
        text = message.needed("content")
        return (Text(text=text),) if text else ()
    parts: list[Part] = []
    for part in message.objects("content"):
        kind = part.needed("type")
        match kind:
            case "text":
                parts.append(Text(text=part.needed("text")))
            case "refusal":
                parts.append(Refused(text=part.needed("refusal")))
            case "image_url":
                parts.append(_image(part))
            case "input_audio":
                parts.append(_audio(part))
            case "file":
                parts.append(_file(part))
            case _:
                raise part.unsaid("type", f"a content part of type {kind[:64]}")
        part.leave()
    return tuple(parts)


def _image(part: Fields) -> Image:
    said = part.object("image_url")
    if said is None:
        raise part.wrong("image_url", "an object")
    url, detail = said.needed("url"), said.text("detail")
    said.leave()
    detail = None if detail == "auto" else detail
    if not url.startswith("data:"):
        return Image(url=url, detail=detail)
    media_type, data = media.inline(url, part, "image_url.url")
    return Image(media_type=media_type, data=data, detail=detail)


def _audio(part: Fields) -> Audio:
    said = part.object("input_audio")
    if said is None:
        raise part.wrong("input_audio", "an object")
    found = Audio(media_type=media.AUDIO.get(form := said.needed("format"), f"audio/{form}"), data=said.needed("data"))
    said.leave()
    return found


def _file(part: Fields) -> File:
    said = part.object("file")
    if said is None:
        raise part.wrong("file", "an object")
    data, name = said.text("file_data"), said.text("filename")
    media_type: str | None = None
    if data is not None and data.startswith("data:"):
        media_type, data = media.inline(data, part, "file.file_data")
    elif data is not None:
        media_type = media.by_name(name)
    found = File(media_type=media_type, data=data, name=name)
    said.leave()
    return found


def _tool(tool: Fields) -> Tool:
    kind = tool.text("type") or "function"
    if kind == "custom":
        raise tool.unsaid("type", "a tool that takes free text")
    function = tool.object("function")
    if kind != "function" or function is None:
        raise tool.unsaid("type", f"a tool of type {kind[:64]}")
    found = Tool(
        name=function.needed("name"),
        description=function.text("description"),
        parameters=function.members("parameters"),
        strict=function.flag("strict"),
    )
    function.leave()
    tool.leave()
    return found


def _choice(fields: Fields) -> ToolChoice | None:
    if fields.is_text("tool_choice"):
        mode = fields.needed("tool_choice")
        match mode:
            case "auto" | "none" | "required":
                return ToolChoice(mode=mode)
            case _:
                raise fields.wrong("tool_choice", "one of this dialect")
    choice = fields.object("tool_choice")
    if choice is None:
        return None
    match choice.needed("type"):
        case "function":
            found = ToolChoice(mode="named", names=(_function_name(choice),))
        case "allowed_tools":
            allowed = choice.object("allowed_tools")
            if allowed is None:
                raise choice.wrong("allowed_tools", "an object")
            names: list[str] = []
            for tool in allowed.objects("tools"):
                if tool.needed("type") != "function":
                    raise tool.unsaid("type", "a tool that is no function")
                names.append(_function_name(tool))
                tool.leave()
            mode = allowed.needed("mode")
            if mode not in {"auto", "required"}:
                raise allowed.wrong("mode", "auto or required")
            found = ToolChoice(mode="required" if mode == "required" else "auto", names=tuple(names))
            allowed.leave()
        case kind:
            raise choice.unsaid("type", f"a tool choice of type {kind[:64]}")
    choice.leave()
    return found


def _function_name(fields: Fields) -> str:
    function = fields.object("function")
    if function is None:
        raise fields.wrong("function", "an object")
    name = function.needed("name")
    function.leave()
    return name


def _format(said: Fields | None) -> Format | None:
    if said is None:
        return None
    kind = said.needed("type")
    match kind:
        case "text":
            found = Format(kind="text")
        case "json_object":
            found = Format(kind="json")
        case "json_schema":
            schema = said.object("json_schema")
            if schema is None:
                raise said.wrong("json_schema", "an object")
            found = Format(
                kind="schema",
                name=schema.text("name"),
                description=schema.text("description"),
                schema=schema.members("schema"),
                strict=schema.flag("strict"),
            )
            schema.leave()
        case _:
            raise said.unsaid("type", f"a response format of type {kind[:64]}")
    said.leave()
    return found
