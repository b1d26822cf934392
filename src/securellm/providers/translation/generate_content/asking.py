"""Requests for generated content, as upstreams are sent them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from types import MappingProxyType

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
    ToolChoice,
    ToolResult,
    Turn,
)

HINTS = frozenset(
    {
        "file.name",
        "format.description",
        "format.name",
        "image.detail",
        "parallel_tools",
        "thinking.effort",
        "tool.strict",
        "turn.name",
        "turn.role",
        "user",
    }
)
LACKS = frozenset({"tool_call.custom"})

UNSIGNED = "skip_thought_signature_validator"
"""What stands for the proof of a call that Gemini did not make: Google documents it for histories of other models."""

_IMAGES = {
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}

_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH", "max": "XHIGH"}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}


def write_ask(ask: Ask) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The request for an upstream, and what was left out of it. Model and streaming are said by its path."""
    hints: list[str] = []
    leading = list(takewhile(lambda turn: turn.role == "system", ask.turns))
    members: dict[str, Value] = {}
    system: list[Value] = [{"text": text} for turn in leading for text in _system_texts(turn)]
    if system:
        members["systemInstruction"] = {"parts": system}
    members["contents"] = list(_contents(ask.turns[len(leading) :], hints))
    if ask.tools:
        members["tools"] = [{"functionDeclarations": [_tool(tool, hints) for tool in ask.tools]}]
    if ask.tool_choice is not None and (ask.tools or ask.tool_choice.mode != "auto"):
        members["toolConfig"] = {"functionCallingConfig": _choice(ask.tool_choice)}
    if ask.parallel_tools is False and ask.tools:
        hints.append("parallel_tools")
    if ask.user is not None:
        hints.append("user")
    plain: tuple[tuple[str, Value], ...] = (
        ("maxOutputTokens", ask.max_output),
        ("temperature", ask.temperature),
        ("topP", ask.top_p),
        ("topK", ask.top_k),
        ("stopSequences", list(ask.stop) or None),
        ("seed", ask.seed),
        ("candidateCount", ask.choices if ask.choices > 1 else None),
        ("presencePenalty", ask.presence_penalty),
        ("frequencyPenalty", ask.frequency_penalty),
    )
    config: dict[str, Value] = {name: value for name, value in plain if value is not None}
    if ask.format is not None:
        config |= _format(ask.format, hints)
    if ask.thinking is not None:
        thinking = _thinking(ask.thinking, hints)
        if thinking:
            config["thinkingConfig"] = thinking
    if config:
        members["generationConfig"] = config
    return members, tuple(dict.fromkeys(hints))


def _system_texts(turn: Turn) -> Iterator[str]:
    for part in turn.parts:
        if not isinstance(part, Text):
            raise unsayable("instructions that are not text")
        yield part.text


def _contents(turns: Iterable[Turn], hints: list[str]) -> Iterator[Value]:
    """The contents: what one speaker says in several turns is one."""
    names: dict[str, str] = {}
    speaker, said = "", list[Value]()
    for turn in turns:
        role = "model" if turn.role == "assistant" else "user"
        if turn.role == "system":
            # There is no other way to say it where it stands; what it loses is authority.
            hints.append("turn.role")
        if turn.name is not None:
            hints.append("turn.name")
        if role != speaker and said:
            yield {"role": speaker, "parts": said}
            said = []
        speaker = role
        said += _spoken(turn.parts, names, hints) if role == "model" else _heard(turn.parts, names, hints)
    if said:
        yield {"role": speaker, "parts": said}


def _spoken(parts: tuple[Part, ...], names: dict[str, str], hints: list[str]) -> Iterator[Value]:
    """A model's turn. Gemini wants the proof of the first call of a step, and each proof at what it proves."""
    first = True
    proof: str | None = None
    for index, part in enumerate(parts):
        following = parts[index + 1] if index + 1 < len(parts) else None
        match part:
            case Reasoning():
                if isinstance(following, ToolCall) and following.signature is None and part.signature:
                    proof = part.signature
                    if part.text:
                        yield {"text": part.text, "thought": True}
                    continue
                if part.text or part.signature:
                    yield _thought(part)
            case ToolCall():
                names[part.id] = part.name
                signature = part.signature or proof or (UNSIGNED if first else None)
                first, proof = False, None
                yield _call(part, signature)
            case Refused():
                yield {"text": part.text}
            case ToolResult():
                raise unsayable("a tool's result that the model gives itself")
            case _:
                yield _plain(part, hints)


def _thought(thought: Reasoning) -> Value:
    """A thought; without words it is the proof of those before it, which Gemini streams as empty ones."""
    written: dict[str, Value] = {"text": thought.text}
    if thought.text:
        written["thought"] = True
    if thought.signature:
        written["thoughtSignature"] = thought.signature
    return written


def _call(call: ToolCall, signature: str | None) -> Value:
    if call.custom:
        raise unsayable("a tool that takes free text", name="tool_call.custom")
    said: dict[str, Value] = {"name": call.name}
    if call.id:
        said["id"] = call.id
    if call.arguments.strip():
        arguments = arguments_in(call.arguments)
        if arguments is None:
            raise Refusal(Code.INVALID_REQUEST, "the arguments of a tool call are no JSON object")
        said["args"] = arguments
    written: dict[str, Value] = {"functionCall": said}
    if signature is not None:
        written["thoughtSignature"] = signature
    return written


def _heard(parts: tuple[Part, ...], names: Mapping[str, str], hints: list[str]) -> Iterator[Value]:
    for part in parts:
        match part:
            case ToolResult():
                yield _result(part, names, hints)
            case Reasoning() | ToolCall() | Refused():
                raise unsayable("this part in the turn of this speaker")
            case _:
                yield _plain(part, hints)


def _result(result: ToolResult, names: Mapping[str, str], hints: list[str]) -> Value:
    name = names.get(result.call_id) or result.name
    if name is None:
        raise Refusal(Code.INVALID_REQUEST, "a tool's result comes without its call")
    texts: list[Value] = [part.text for part in result.parts if isinstance(part, Text)]
    media_parts: list[Value] = [_plain(part, hints) for part in result.parts if not isinstance(part, Text)]
    output: Value = texts if len(texts) > 1 else texts[0] if texts else ""
    said: dict[str, Value] = {"name": name, "response": {"error" if result.is_error else "output": output}}
    if result.call_id:
        said["id"] = result.call_id
    if media_parts:
        said["parts"] = media_parts
    return {"functionResponse": said}


def _plain(part: Part, hints: list[str]) -> Value:
    match part:
        case Text():
            return {"text": part.text}
        case Image():
            if part.detail is not None:
                hints.append("image.detail")
            return _media(part.url, part.media_type, part.data)
        case Audio():
            return _media(None, part.media_type, part.data)
        case File():
            if part.name is not None:
                hints.append("file.name")
            if part.text is not None:
                return _media(None, "text/plain", media.encoded(part.text))
            return _media(part.url, part.media_type, part.data)
        case _:
            raise unsayable("this part in the turn of this speaker")


def _media(url: str | None, media_type: str | None, data: str | None) -> Value:
    if url is not None:
        remote: dict[str, Value] = {"fileUri": url}
        known = media_type or image_type(url)
        if known is not None:
            remote["mimeType"] = known
        return {"fileData": remote}
    if data is None or media_type is None:
        raise unsayable("data whose media type is not told")
    return {"inlineData": {"mimeType": media_type, "data": data}}


def image_type(url: str) -> str | None:
    """The media type of a picture, as the end of its address tells it."""
    return _IMAGES.get(url.partition("?")[0].rpartition(".")[2].lower())


def _tool(tool: Tool, hints: list[str]) -> Value:
    written: dict[str, Value] = {"name": tool.name}
    if tool.description is not None:
        written["description"] = tool.description
    if tool.parameters is not None:
        written["parametersJsonSchema"] = dict(tool.parameters)
    if tool.strict:
        hints.append("tool.strict")
    return written


def _choice(choice: ToolChoice) -> Value:
    if choice.mode == "none" and choice.names:
        raise unsayable("tools that must not be called, by name")
    # The one mode in which a model may speak and may call only some of its functions.
    mode = "VALIDATED" if choice.mode == "auto" and choice.names else _MODES[choice.mode]
    written: dict[str, Value] = {"mode": mode}
    if choice.names:
        written["allowedFunctionNames"] = list(choice.names)
    return written


def _format(form: Format, hints: list[str]) -> Mapping[str, Value]:
    hints += (f"format.{name}" for name in ("name", "description") if getattr(form, name) is not None)
    match form.kind:
        case "text":
            return MappingProxyType({})
        case "json":
            return {"responseMimeType": "application/json"}
        case "schema":
            written: dict[str, Value] = {"responseMimeType": "application/json"}
            if form.schema is not None:
                written["responseJsonSchema"] = dict(form.schema)
            return written


def _thinking(thinking: Thinking, hints: list[str]) -> dict[str, Value]:
    written: dict[str, Value] = {}
    if thinking.budget is not None:
        written["thinkingBudget"] = thinking.budget
        if thinking.effort is not None:
            hints.append("thinking.effort")
    elif thinking.effort == "none":
        written["thinkingBudget"] = 0
    elif thinking.effort is not None:
        written["thinkingLevel"] = _LEVELS[thinking.effort]
    if thinking.show is not None:
        written["includeThoughts"] = thinking.show
    return written
