"""Requests for responses, as clients send them."""

from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal
from securellm.providers.translation import media
from securellm.providers.translation.members import Fields
from securellm.providers.translation.messages.proof import rejoined
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
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from securellm.providers.translation.responses import tools
from securellm.providers.translation.thinking import read_effort

_DEFAULTS: tuple[tuple[str, tuple[Value, ...]], ...] = (
    ("background", (False,)),
    ("context_management", ([],)),
    ("metadata", ({},)),
    ("service_tier", ("auto", "default")),
    ("store", (False,)),
    ("stream_options", ({}, {"include_obfuscation": False})),
    ("top_logprobs", (0,)),
    ("truncation", ("disabled",)),
)
"""What says no more than leaving it out, or what is true of every translated request."""

_INCLUDED = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What `include` may name without asking for more: it comes anyway, or belongs to tools that are refused."""

_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}


def read_ask(members: Members) -> Ask:
    """A client's request."""
    rest: dict[str, Value] = {}
    fields = Fields(members, rest)
    offered = tools.read_tools(fields, rest)
    turns = _turns(fields, offered, rest)
    choice, allowed = _choice(fields)
    user, safety = fields.text("user"), fields.text("safety_identifier")
    names = {tool.name for tool in offered}
    if len(names) != len(offered):
        raise Refusal(Code.NOT_REPRESENTABLE, "two tools would have one name", param="tools")
    ask = Ask(
        model=fields.needed("model"),
        turns=turns,
        tools=tuple(tool for tool in offered if allowed is None or tool.name in allowed),
        tool_choice=choice,
        parallel_tools=fields.flag("parallel_tool_calls"),
        max_output=fields.whole("max_output_tokens"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        format=_format(fields),
        thinking=_thinking(fields),
        user=user if safety is None else safety,
        stream=bool(fields.flag("stream")),
        rest=rest,
    )
    if set(fields.texts("include")) - _INCLUDED:
        rest["include"] = members["include"]
    for name, defaults in _DEFAULTS:
        fields.skip(name, *defaults)
    fields.leave()
    return ask


def _turns(fields: Fields, offered: list[Tool], rest: dict[str, Value]) -> tuple[Turn, ...]:
    """The conversation: what the assistant says in one go is one turn, and so are results that follow each other."""
    turns: list[Turn] = []
    instructions = fields.text("instructions")
    if instructions:
        turns.append(Turn(role="system", parts=(Text(text=instructions),)))
    if fields.is_text("input"):
        turns.append(Turn(role="user", parts=(Text(text=fields.needed("input")),)))
        return tuple(turns)
    names: dict[str, str] = {}
    items = fields.objects("input")
    if not items:
        raise fields.wrong("input", "a string or a list with items")
    for item in items:
        turn = _item(item, names, offered, rest)
        item.leave()
        if turn is None:
            continue
        last = turns[-1] if turns else None
        if last is not None and last.role == turn.role and _joins(last) and _joins(turn):
            turns[-1] = Turn(role=turn.role, parts=last.parts + turn.parts)
        else:
            turns.append(turn)
    return tuple(msgspec.structs.replace(turn, parts=rejoined(list(turn.parts))) for turn in turns)


def _joins(turn: Turn) -> bool:
    return turn.role == "assistant" or all(isinstance(part, ToolResult) for part in turn.parts)


def _item(item: Fields, names: dict[str, str], offered: list[Tool], rest: dict[str, Value]) -> Turn | None:
    kind = item.text("type") or "message"
    if kind == "item_reference":
        raise item.unsaid("id", "an item that its provider keeps")
    item.text("id")
    item.text("status")
    match kind:
        case "message":
            return _message(item)
        case "reasoning":
            return Turn(role="assistant", parts=(_reasoning(item),))
        case "function_call" | "custom_tool_call":
            item.skip("async", False)
            item.skip("caller", {"type": "direct"})
            call = ToolCall(
                id=item.needed("call_id"),
                name=tools.flat(item.needed("name"), item.text("namespace")),
                arguments=item.needed("arguments") if kind == "function_call" else tools.wrapped(item.needed("input")),
            )
            names[call.id] = call.name
            return Turn(role="assistant", parts=(call,))
        case "function_call_output" | "custom_tool_call_output":
            item.skip("caller", {"type": "direct"})
            return Turn(role="user", parts=(_result(item, names),))
        case "additional_tools":
            item.text("role")
            offered += tools.read_tools(item, rest, place="input.*.tools.*.")
        case "web_search_call":
            pass  # The model's words say what it found; what it looked for is left in `rest`.
        case _:
            raise item.unsaid("type", f"an item of type {kind[:64]}")
    return None


def _message(item: Fields) -> Turn:
    role = item.needed("role")
    if role not in _ROLES:
        raise item.wrong("role", "one of this dialect")
    return Turn(role=_ROLES[role], parts=_content(item, "content"))


def _content(item: Fields, name: str) -> tuple[Part, ...]:
    if item.is_text(name):
        text = item.needed(name)
        return (Text(text=text),) if text else ()
    parts: list[Part] = []
    for part in item.objects(name):
        kind = part.needed("type")
        match kind:
            case "input_text" | "output_text" | "text":
                parts.append(Text(text=part.needed("text")))
            case "refusal":
                parts.append(Refused(text=part.needed("refusal")))
            case "input_image":
                parts.append(_image(part))
            case "input_file":
                parts.append(_file(part))
            case "input_audio":
                parts.append(_audio(part))
            case _:
                raise part.unsaid("type", f"a content part of type {kind[:64]}")
        part.skip("annotations", [])
        part.skip("logprobs", [])
        part.leave()
    return tuple(parts)


def _image(part: Fields) -> Image:
    url, detail = part.text("image_url"), part.text("detail")
    if url is None:
        raise part.unsaid("file_id", "an image that its provider keeps")
    detail = None if detail == "auto" else detail
    if not url.startswith("data:"):
        return Image(url=url, detail=detail)
    media_type, data = media.inline(url, part, "image_url")
    return Image(media_type=media_type, data=data, detail=detail)


def _file(part: Fields) -> File:
    url, data, name = part.text("file_url"), part.text("file_data"), part.text("filename")
    part.text("detail")
    if url is not None:
        return File(url=url, name=name)
    if data is None:
        raise part.unsaid("file_id", "a file that its provider keeps")
    if data.startswith("data:"):
        media_type, data = media.inline(data, part, "file_data")
        return File(media_type=media_type, data=data, name=name)
    return File(media_type=media.by_name(name), data=data, name=name)


def _audio(part: Fields) -> Audio:
    said = part.object("input_audio")
    if said is None:
        raise part.wrong("input_audio", "an object")
    form = said.needed("format")
    found = Audio(media_type=media.AUDIO.get(form, f"audio/{form}"), data=said.needed("data"))
    said.leave()
    return found


def _reasoning(item: Fields) -> Reasoning:
    """A thought. One without even an empty summary is nothing but ciphertext."""
    texts: dict[str, list[str]] = {"summary": [], "content": []}
    for name, found in texts.items():
        for part in item.objects(name):
            part.needed("type")
            found.append(part.needed("text"))
            part.leave()
    said = texts["content"] or texts["summary"]
    signature = item.text("encrypted_content")
    return Reasoning(text="\n\n".join(said), signature=signature, redacted=not said and signature is not None)


def _result(item: Fields, names: dict[str, str]) -> ToolResult:
    call = item.needed("call_id")
    item.text("name")
    item.text("namespace")
    parts: list[Text | Image | File] = []
    for part in _content(item, "output"):
        if not isinstance(part, Text | Image | File):
            raise item.unsaid("output", "this part in a tool's result")
        parts.append(part)
    return ToolResult(call_id=call, name=names.get(call), parts=tuple(parts))


def _choice(fields: Fields) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Whether a tool must be called, and the tools that are there at all (None: all)."""
    if fields.is_text("tool_choice"):
        mode = fields.needed("tool_choice")
        match mode:
            case "auto" | "none" | "required":
                return ToolChoice(mode=mode), None
            case _:
                raise fields.wrong("tool_choice", "one of this dialect")
    choice = fields.object("tool_choice")
    if choice is None:
        return None, None
    kind = choice.needed("type")
    match kind:
        case "function" | "custom":
            name = tools.flat(choice.needed("name"), choice.text("namespace"))
            choice.leave()
            return ToolChoice(mode="named", names=(name,)), None
        case "allowed_tools":
            names = tuple(_allowed(tool) for tool in choice.objects("tools"))
            mode = choice.needed("mode")
            if mode not in {"auto", "required"}:
                raise choice.wrong("mode", "auto or required")
            choice.leave()
            # What may not be called need not be known.
            return ToolChoice(mode="required" if mode == "required" else "auto"), frozenset(names)
        case _:
            raise choice.unsaid("type", f"a tool choice of type {kind[:64]}")


def _allowed(tool: Fields) -> str:
    kind = tool.needed("type")
    if kind not in {"function", "custom"}:
        raise tool.unsaid("type", f"a tool of type {kind[:64]}")
    name = tools.flat(tool.needed("name"), tool.text("namespace"))
    tool.leave()
    return name


def _format(fields: Fields) -> Format | None:
    text = fields.object("text")
    if text is None:
        return None
    text.skip("verbosity", "medium")
    said = text.object("format")
    text.leave()
    if said is None:
        return None
    kind = said.needed("type")
    match kind:
        case "text":
            found = Format(kind="text")
        case "json_object":
            found = Format(kind="json")
        case "json_schema":
            found = Format(
                kind="schema",
                name=said.text("name"),
                description=said.text("description"),
                schema=said.members("schema"),
                strict=said.flag("strict"),
            )
        case _:
            raise said.unsaid("type", f"a text format of type {kind[:64]}")
    said.leave()
    return found


def _thinking(fields: Fields) -> Thinking | None:
    said = fields.object("reasoning")
    if said is None:
        return None
    effort = read_effort(said.text("effort"), "reasoning.effort")
    summary, older = said.text("summary"), said.text("generate_summary")
    said.skip("context", "auto")
    said.skip("mode", "standard")
    said.leave()
    if effort is None and summary is None and older is None:
        return None
    return Thinking(effort=effort, show=True if summary or older else None)
