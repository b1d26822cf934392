"""Requests for generated content, as clients send them."""

import re
from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal
from securellm.providers.translation.generate_content.asking import image_type
from securellm.providers.translation.generate_content.schemas import is_enforceable, json_schema
from securellm.providers.translation.generate_content.spelling import camelled, echoed
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
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from securellm.providers.translation.signatures import NOBODYS
from securellm.providers.translation.thinking import read_effort
from securellm.providers.translation.writing import text_of

_OFF = frozenset({"OFF", "BLOCK_NONE", "HARM_BLOCK_THRESHOLD_UNSPECIFIED"})
"""Thresholds that ask for no filter of Gemini's."""
_KEPT = re.compile(r"(https://[^/]+/v\d\w*/)?files/[^/]+|gs://.*", re.DOTALL)
"""Addresses of files that the provider keeps: nothing to another one."""
_ROLES: dict[str, Literal["user", "assistant"]] = {"user": "user", "function": "user", "model": "assistant"}


def read_ask(members: Members) -> Ask:
    """A client's request. Its model and whether it is to be streamed stand in its path, not in it."""
    rest: dict[str, Value] = {}
    fields = Fields(camelled(members), rest)
    turns = _turns(fields)
    tools = _tools(fields)
    choice, allowed = _choice(fields, rest)
    config = fields.object("generationConfig")
    settings = Fields({}, rest) if config is None else config
    _filters(fields, rest)
    fields.skip("store", False)
    fields.skip("labels", {})
    fields.skip("serviceTier", "standard", "unspecified", "SERVICE_TIER_UNSPECIFIED", "STANDARD")
    settings.skip("responseLogprobs", False)
    settings.skip("responseModalities", [], ["TEXT"])
    settings.skip("mediaResolution", "MEDIA_RESOLUTION_UNSPECIFIED")
    settings.skip("enableEnhancedCivicAnswers", False)
    ask = Ask(
        model=(fields.text("model") or "").removeprefix("models/"),
        turns=turns,
        tools=tuple(tool for tool in tools if allowed is None or tool.name in allowed),
        tool_choice=choice,
        max_output=settings.whole("maxOutputTokens"),
        temperature=settings.number("temperature"),
        top_p=settings.number("topP"),
        stop=settings.texts("stopSequences"),
        seed=settings.whole("seed"),
        choices=_choices(settings),
        presence_penalty=settings.number("presencePenalty"),
        frequency_penalty=settings.number("frequencyPenalty"),
        format=_format(settings, rest),
        thinking=_thinking(settings),
        rest=rest,
    )
    settings.leave()
    fields.leave()
    return ask


def _choices(settings: Fields) -> int:
    count = settings.whole("candidateCount")
    if count is not None and count < 1:
        raise settings.wrong("candidateCount", "at least 1")
    return 1 if count is None else count


def _filters(fields: Fields, rest: dict[str, Value]) -> None:
    """Filters of Gemini's: what asks for none is a hint to no other provider; what asks for one cannot be promised."""
    off, on = False, False
    for setting in fields.objects("safetySettings"):
        setting.text("category")
        setting.text("method")
        threshold = setting.text("threshold")
        off, on = off or threshold in _OFF, on or threshold not in _OFF
        setting.leave()
    if off:
        rest["safetySettings.off"] = True
    if on:
        rest["safetySettings"] = True


class _Calls:
    """The calls of a conversation, to which its results belong by id, or else by name and order."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._open: list[str] = []

    def add(self, given: str | None, name: str) -> str:
        """The call's id: its own, or one made from its place."""
        call = given or f"call_{len(self._names)}"
        self._names[call] = name
        self._open.append(call)
        return call

    def answer(self, given: str | None, name: str | None) -> tuple[str, str] | None:
        """The id and name of the call that a result answers. None: there is none."""
        call = given if given in self._open else None
        if call is None:
            call = next((open_call for open_call in self._open if self._names[open_call] == name), None)
        if call is None:
            return None
        self._open.remove(call)
        return call, self._names[call]


def _turns(fields: Fields) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    system = fields.object("systemInstruction")
    if system is not None:
        parts = _system_parts(system)
        system.leave()
        if parts:
            turns.append(Turn(role="system", parts=parts))
    contents = fields.objects("contents")
    if not contents:
        raise fields.wrong("contents", "a list of contents")
    calls = _Calls()
    for content in contents:
        role = _ROLES.get(content.text("role") or "user")
        if role is None:
            raise content.wrong("role", "user or model")
        said = [found for part in content.objects("parts") for found in _part(part, role, calls)]
        content.leave()
        last = turns[-1] if turns else None
        if last is not None and last.role == role and _joins(role, last.parts) and _joins(role, said):
            turns[-1] = Turn(
                role=role, parts=_merged((*last.parts, *said)) if role == "assistant" else last.parts + tuple(said)
            )
        else:
            turns.append(Turn(role=role, parts=_merged(said) if role == "assistant" else tuple(said)))
    return tuple(turns)


def _joins(role: str, parts: "tuple[Part, ...] | list[Part]") -> bool:
    return role == "assistant" or all(isinstance(part, ToolResult) for part in parts)


def _merged(parts: "tuple[Part, ...] | list[Part]") -> tuple[Part, ...]:
    """The parts of a model's turn, what was streamed in pieces made whole. A thought ends with its signature."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Text) and isinstance(last, Text):
            found[-1] = Text(text=last.text + part.text)
        elif (
            isinstance(part, Reasoning)
            and isinstance(last, Reasoning)
            and last.signature is None
            and not (last.redacted or part.redacted)
        ):
            found[-1] = msgspec.structs.replace(part, text=last.text + part.text)
        elif not (isinstance(part, Text) and not part.text):
            found.append(part)
    return tuple(found)


def _system_parts(system: Fields) -> tuple[Part, ...]:
    system.text("role")
    parts: list[Part] = []
    for part in system.objects("parts"):
        text = part.needed("text")
        part.leave()
        if text:
            parts.append(Text(text=text))
    return tuple(parts)


def _part(part: Fields, role: str, calls: _Calls) -> list[Part]:
    given = part.text("thoughtSignature")
    signature = None if given is None else echoed(given)
    if signature == NOBODYS:
        signature = None
    thought, text = part.flag("thought"), part.text("text")
    call, response = part.object("functionCall"), part.object("functionResponse")
    inline, remote = part.object("inlineData"), part.object("fileData")
    found: list[Part] = []
    if thought:
        found.append(Reasoning(text=text or "", signature=signature, redacted=text is None))
        signature = None
    elif text is not None:
        found.append(Text(text=text))
    if call is not None:
        found.append(_call(call, signature, calls))
        signature = None
    if response is not None:
        found.append(_result(response, calls))
    if inline is not None:
        found.append(_inline(inline))
    if remote is not None:
        found.append(_remote(remote))
    if role == "assistant" and signature is not None:
        # The proof of words: no other dialect has a place for it but a thought without any.
        found.append(Reasoning(signature=signature, redacted=True))
    part.leave()
    return found


def _call(call: Fields, signature: str | None, calls: _Calls) -> ToolCall:
    name, given = call.needed("name"), call.text("id")
    args = call.members("args")
    call.skip("willContinue", False)
    call.leave()
    # An object that is not there has no members.
    arguments = text_of({} if args is None else args)
    return ToolCall(id=calls.add(given, name), name=name, arguments=arguments, signature=signature)


def _result(response: Fields, calls: _Calls) -> ToolResult:
    name = response.text("name")
    found = calls.answer(response.text("id"), name)
    if found is None:
        raise Refusal(
            Code.INVALID_REQUEST, "a function response comes without its call", param=response.path.rstrip(".")
        )
    said = response.members("response") or {}
    parts: list[Text | Image | File] = []
    is_error = set(said) == {"error"}
    if said:
        value: Value = said["error"] if is_error else said["output"] if set(said) == {"output"} else dict(said)
        texts = value if isinstance(value, list) and value and all(isinstance(text, str) for text in value) else [value]
        parts += (Text(text=text if isinstance(text, str) else text_of(text)) for text in texts)
    for part in response.objects("parts"):
        inline, remote = part.object("inlineData"), part.object("fileData")
        if inline is None and remote is None:
            raise part.wrong("inlineData", "an object")
        media = _inline(inline) if inline is not None else _remote(remote) if remote is not None else None
        if not isinstance(media, Image | File):
            raise part.unsaid("inlineData", "sound in a tool's result")
        parts.append(media)
        part.leave()
    response.skip("willContinue", False)
    response.skip("scheduling", "SCHEDULING_UNSPECIFIED", "WHEN_IDLE")
    response.leave()
    return ToolResult(call_id=found[0], name=found[1], parts=tuple(parts), is_error=is_error)


def _inline(blob: Fields) -> Image | Audio | File:
    media_type, data, name = blob.needed("mimeType"), blob.needed("data"), blob.text("displayName")
    blob.leave()
    data = data.replace("-", "+").replace("_", "/")
    if media_type.startswith("image/"):
        return Image(media_type=media_type, data=data)
    if media_type.startswith("audio/"):
        return Audio(media_type=media_type, data=data)
    return File(media_type=media_type, data=data, name=name)


def _remote(file: Fields) -> Image | File:
    media_type, name = file.text("mimeType"), file.text("displayName")
    url = file.needed("fileUri")
    if _KEPT.fullmatch(url):
        raise file.unsaid("fileUri", "a file that its provider keeps")
    file.leave()
    media_type = media_type or image_type(url)
    if media_type is not None and media_type.startswith("image/"):
        return Image(media_type=media_type, url=url)
    return File(media_type=media_type, url=url, name=name)


def _tools(fields: Fields) -> list[Tool]:
    tools: list[Tool] = []
    for group in fields.objects("tools"):
        for said in group.objects("functionDeclarations"):
            name, description = said.needed("name"), said.text("description")
            schema, plain = said.members("parameters"), said.members("parametersJsonSchema")
            if schema is not None and plain is not None:
                raise said.wrong("parameters", "left out where parametersJsonSchema stands")
            said.skip("behavior", "BLOCKING", "UNSPECIFIED")
            said.leave()
            parameters = plain if schema is None else json_schema(schema)
            if parameters is not None and parameters.get("type") == "object":
                parameters.setdefault("properties", {})
            tools.append(Tool(name=name, description=description, parameters=parameters))
        group.leave()
    return tools


def _choice(fields: Fields, rest: dict[str, Value]) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Whether a tool must be called, and the tools that are there at all (None: all)."""
    config = fields.object("toolConfig")
    calling = config.object("functionCallingConfig") if config is not None else None
    if config is not None:
        config.skip("includeServerSideToolInvocations", False)
        config.leave()
    if calling is None:
        return None, None
    mode, names = (calling.text("mode") or "AUTO").upper(), calling.texts("allowedFunctionNames")
    calling.skip("streamFunctionCallArguments", False)
    calling.leave()
    allowed = frozenset(names) if names else None
    match mode:
        case "AUTO" | "MODE_UNSPECIFIED":
            return ToolChoice(mode="auto"), None
        case "NONE":
            return ToolChoice(mode="none"), None
        case "ANY":
            if len(names) == 1:
                return ToolChoice(mode="named", names=names), None
            # What may not be called need not be known.
            return ToolChoice(mode="required"), allowed
        case "VALIDATED":
            rest["toolConfig.functionCallingConfig.validated"] = True
            return ToolChoice(mode="auto"), allowed
        case _:
            raise calling.wrong("mode", "one of this dialect")


def _format(settings: Fields, rest: dict[str, Value]) -> Format | None:
    mime = settings.text("responseMimeType")
    schema = settings.members("responseSchema")
    plain = settings.members("responseJsonSchema")
    older = settings.members("_responseJsonSchema")
    newer = _newer_format(settings)
    if newer is not None:
        mime, plain = newer
    said = plain or older or (None if schema is None else json_schema(schema, closed=True))
    match mime:
        case None | "text/plain":
            return None if mime is None else Format(kind="text")
        case "application/json":
            if said is None:
                return Format(kind="json")
            if is_enforceable(said):
                return Format(kind="schema", schema=said, strict=True)
            rest["generationConfig.responseSchema.enforced"] = True
            return Format(kind="schema", schema=said)
        case _:
            raise settings.unsaid("responseMimeType", f"an answer of type {mime[:64]}")


def _newer_format(settings: Fields) -> tuple[str | None, dict[str, Value] | None] | None:
    """`responseFormat`: of one kind of answer, or a list of several, of which only text can be asked for."""
    value = settings.take("responseFormat")
    if value is None:
        return None
    forms = value if isinstance(value, list) else [value]
    if len(forms) != 1 or not isinstance(forms[0], dict) or set(forms[0]) != {"text"}:
        raise settings.unsaid("responseFormat", "an answer that is not only text")
    text = forms[0]["text"]
    mime, schema = (text.get("mimeType"), text.get("schema")) if isinstance(text, dict) else (None, None)
    if not isinstance(mime, str | None) or not isinstance(schema, dict | None):
        raise settings.wrong("responseFormat", "a format of text")
    return mime or ("application/json" if schema else "text/plain"), schema


def _thinking(settings: Fields) -> Thinking | None:
    said = settings.object("thinkingConfig")
    if said is None:
        return None
    show, budget, level = said.flag("includeThoughts"), said.whole("thinkingBudget"), said.text("thinkingLevel")
    said.leave()
    effort = (
        None
        if level in {None, "THINKING_LEVEL_UNSPECIFIED"}
        else read_effort((level or "").lower(), "generationConfig.thinkingConfig.thinkingLevel")
    )
    if effort is None and budget is None and show is None:
        return None
    return Thinking(effort=effort, budget=budget, show=show)
