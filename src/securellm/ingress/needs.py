"""What a request needs a model to be capable of, by what its body holds.

Pure and total: a body that is malformed elsewhere is refused elsewhere. A permission is no need: neither
`parallel_tool_calls: true` nor a hint asks for more than the answer. What switches a feature off needs nothing.
"""

from collections.abc import Iterable, Iterator

from securellm.core.capabilities import Capability
from securellm.core.document import Value
from securellm.ingress.facts import Members, parts

Needs = frozenset[Capability]

_CHAT_PARTS = {
    "image_url": Capability.VISION,
    "input_audio": Capability.AUDIO_INPUT,
    "audio_url": Capability.AUDIO_INPUT,
    "video_url": Capability.VIDEO_INPUT,
    "file": Capability.FILES,
}
_RESPONSES_PARTS = {
    "input_image": Capability.VISION,
    "computer_screenshot": Capability.VISION,
    "input_audio": Capability.AUDIO_INPUT,
    "input_file": Capability.FILES,
}
_MESSAGES_BLOCKS = {
    "image": Capability.VISION,
    "document": Capability.FILES,
    "container_upload": Capability.HOSTED_TOOLS,
    "tool_use": Capability.TOOLS,
    "tool_result": Capability.TOOLS,
}
_MEDIA = {"image": Capability.VISION, "audio": Capability.AUDIO_INPUT, "video": Capability.VIDEO_INPUT}
"""By the first half of a media type; any other is a document."""
_OUTPUTS = {"audio": Capability.AUDIO_OUTPUT, "image": Capability.IMAGE_OUTPUT}

_CALLED_BY_CALLER = (
    "function", "custom", "local_shell", "shell", "apply_patch", "bash_", "text_editor_", "memory_", "namespace",
)  # fmt: skip
"""Prefixes of the tool types whose calls the caller runs, whoever declared them."""
# Tuples: a `type` may be anything, also what has no hash.
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call")
_CALL_OUTPUTS = tuple(f"{call}_output" for call in _CALLS)
_COMPUTER_ITEMS = ("computer_call", "computer_call_output")


_GEMINI_TOOLS = {
    "functionDeclarations": Capability.TOOLS,
    "googleSearch": Capability.WEB_SEARCH,
    "googleSearchRetrieval": Capability.WEB_SEARCH,
    "computerUse": Capability.COMPUTER_USE,
}
_GEMINI_SCHEMAS = ("responseSchema", "responseJsonSchema", "_responseJsonSchema")


def chat_needs(members: Members) -> Needs:
    """Of a chat completion."""
    found: set[Capability] = set()
    for message in parts(members.get("messages")):
        found.update(_known(_CHAT_PARTS, parts(message.get("content"))))
        calls = parts(message.get("tool_calls"))
        found.update(_called(len(calls)))
        if message.get("role") in ("tool", "function") or message.get("function_call"):
            found.add(Capability.TOOLS)
        if isinstance(message.get("audio"), dict):
            found.add(Capability.AUDIO_INPUT)
    found.update(_declared(parts(members.get("tools"))))
    if members.get("functions"):
        found.add(Capability.TOOLS)
    if members.get("web_search_options") is not None:
        found.add(Capability.WEB_SEARCH)
    if members.get("audio") is not None:
        found.add(Capability.AUDIO_OUTPUT)
    found.update(_spoken(members.get("modalities")))
    found.update(_format(members.get("response_format")))
    if _is_on(members.get("reasoning_effort")) or _thinks(members.get("thinking")):
        found.add(Capability.REASONING)
    if members.get("logprobs") is True or _above(members.get("top_logprobs"), 0):
        found.add(Capability.LOGPROBS)
    if _above(members.get("n"), 1):
        found.add(Capability.SEVERAL_CHOICES)
    return frozenset(found)


def responses_needs(members: Members) -> Needs:
    """Of a response."""
    found: set[Capability] = set()
    together = 0
    for item in parts(members.get("input")):
        kind = item.get("type")
        if kind in _CALLS:
            together += 1
            found.update(_called(together))
        elif kind != "reasoning":  # It may stand between the calls of one turn.
            together = 0
        if kind in _CALL_OUTPUTS:
            found.add(Capability.TOOLS)
        if kind in _COMPUTER_ITEMS:
            found.add(Capability.COMPUTER_USE)
        output = item.get("output")
        inside = [*parts(item.get("content")), *parts([output] if isinstance(output, dict) else output)]
        found.update(_known(_RESPONSES_PARTS, inside))
    found.update(_declared(parts(members.get("tools"))))
    found.update(_format(_member(members.get("text"), "format")))
    reasoning = members.get("reasoning")
    if _member(reasoning, "effort") != "none" and any(
        _is_on(_member(reasoning, name)) for name in ("effort", "summary", "generate_summary")
    ):
        found.add(Capability.REASONING)
    include = members.get("include")
    wanted = include if isinstance(include, list) else []
    if "reasoning.encrypted_content" in wanted:
        found.add(Capability.REASONING)
    if "message.output_text.logprobs" in wanted or _above(members.get("top_logprobs"), 0):
        found.add(Capability.LOGPROBS)
    return frozenset(found)


def messages_needs(members: Members) -> Needs:
    """Of a message."""
    found: set[Capability] = set()
    for message in parts(members.get("messages")):
        blocks = parts(message.get("content"))
        found.update(_known(_MESSAGES_BLOCKS, blocks))
        found.update(_called(sum(block.get("type") == "tool_use" for block in blocks)))
        for block in blocks:
            found.update(_known(_MESSAGES_BLOCKS, parts(block.get("content"))))
    found.update(_declared(parts(members.get("tools"))))
    if members.get("mcp_servers") or members.get("container"):
        found.add(Capability.HOSTED_TOOLS)
    if _thinks(members.get("thinking")) or _is_on(_member(members.get("output_config"), "effort")):
        found.add(Capability.REASONING)
    found.update(_format(members.get("output_format")))
    found.update(_format(_member(members.get("output_config"), "format")))
    return frozenset(found)


def generate_content_needs(members: Members) -> Needs:
    """Of a Gemini generation. Members may be spelled in either of the two ways that Google reads."""
    found: set[Capability] = set()
    for content in parts(members.get("contents")):
        inside = parts(content.get("parts"))
        found.update(_media(inside))
        found.update(_called(sum(_gemini(part, "functionCall") is not None for part in inside)))
        for part in inside:
            answer = _gemini(part, "functionResponse")
            if answer is not None:
                found.add(Capability.TOOLS)
                found.update(_media(parts(_member(answer, "parts"))))
    for tool in parts(members.get("tools")):
        found.update(
            _GEMINI_TOOLS.get(_camel(name), Capability.HOSTED_TOOLS)
            for name, given in tool.items()
            if given is not None
        )
    config = _gemini(members, "generationConfig")
    if isinstance(config, dict):
        found.update(_generation(config))
    return frozenset(found)


def _generation(config: Members) -> Iterator[Capability]:
    if any(_gemini(config, name) is not None for name in _GEMINI_SCHEMAS):
        yield Capability.JSON_SCHEMA
    elif _gemini(config, "responseMimeType") == "application/json":
        yield Capability.JSON_OBJECT
    if _above(_gemini(config, "candidateCount"), 1):
        yield Capability.SEVERAL_CHOICES
    if _gemini(config, "responseLogprobs") is True or _above(config.get("logprobs"), 0):
        yield Capability.LOGPROBS
    yield from _spoken(_gemini(config, "responseModalities"))
    if _gemini(config, "speechConfig") is not None:
        yield Capability.AUDIO_OUTPUT
    thinking = _gemini(config, "thinkingConfig")
    if isinstance(thinking, dict):
        budget = _gemini(thinking, "thinkingBudget")
        asked = _gemini(thinking, "includeThoughts") is True or _is_on(_gemini(thinking, "thinkingLevel"))
        if budget != 0 and (asked or budget is not None):
            yield Capability.REASONING


def ollama_needs(members: Members) -> Needs:
    """Of Ollama's own chat or generation."""
    found: set[Capability] = set()
    for message in (members, *parts(members.get("messages"))):
        if message.get("images"):
            found.add(Capability.VISION)
        found.update(_called(len(parts(message.get("tool_calls")))))
        if message.get("role") == "tool":
            found.add(Capability.TOOLS)
    found.update(_declared(parts(members.get("tools"))))
    wanted = members.get("format")
    if isinstance(wanted, dict):
        found.add(Capability.JSON_SCHEMA)
    elif wanted == "json":
        found.add(Capability.JSON_OBJECT)
    if _is_on(members.get("think")):
        found.add(Capability.REASONING)
    if members.get("logprobs") is True or _above(members.get("top_logprobs"), 0):
        found.add(Capability.LOGPROBS)
    return frozenset(found)


def _known(names: dict[str, Capability], typed: Iterable[Members]) -> Iterator[Capability]:
    """What parts of these types need."""
    for part in typed:
        kind = part.get("type")
        if isinstance(kind, str) and kind in names:
            yield names[kind]


def _called(together: int) -> Iterator[Capability]:
    """What a turn with so many calls needs of a model that is to read it."""
    if together:
        yield Capability.TOOLS
    if together > 1:
        yield Capability.PARALLEL_TOOLS


def _declared(tools: Iterable[Members]) -> Iterator[Capability]:
    """What the tools of a list with a `type` each need; one without is the caller's own."""
    for tool in tools:
        kind = tool.get("type")
        if not isinstance(kind, str) or kind.startswith(_CALLED_BY_CALLER):
            yield Capability.TOOLS
            if tool.get("strict") is True or _member(tool.get("function"), "strict") is True:
                yield Capability.STRICT_TOOLS
        elif kind.startswith("web_search"):
            yield Capability.WEB_SEARCH
        elif kind.startswith("computer"):
            yield Capability.COMPUTER_USE
        elif kind == "image_generation":
            yield Capability.IMAGE_OUTPUT
        else:
            yield Capability.HOSTED_TOOLS


def _format(wanted: Value) -> Iterator[Capability]:
    kind = _member(wanted, "type")
    if kind == "json_schema":
        yield Capability.JSON_SCHEMA
    elif kind == "json_object":
        yield Capability.JSON_OBJECT


def _spoken(modalities: Value) -> Iterator[Capability]:
    for name in modalities if isinstance(modalities, list) else ():
        if isinstance(name, str) and name.lower() in _OUTPUTS:
            yield _OUTPUTS[name.lower()]


def _media(inside: Iterable[Members]) -> Iterator[Capability]:
    for part in inside:
        for name in ("inlineData", "fileData"):
            media = _gemini(part, name)
            if isinstance(media, dict):
                kind = _gemini(media, "mimeType")
                yield _MEDIA.get(kind.partition("/")[0].lower() if isinstance(kind, str) else "", Capability.FILES)


def _thinks(thinking: Value) -> bool:
    """Whether an object with a `type` switches thinking on."""
    return _member(thinking, "type") in ("enabled", "adaptive")


def _is_on(value: Value) -> bool:
    """Whether a switch or a level asks for anything."""
    return value is True or (isinstance(value, str) and value.lower() not in ("", "none"))


def _above(value: Value, least: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > least


def _member(value: Value, name: str) -> Value:
    return value.get(name) if isinstance(value, dict) else None


def _gemini(members: Members, name: str) -> Value:
    """A member by its camelCase name, or as protocol buffers spell it."""
    given = members.get(name)
    return given if given is not None else members.get(_snake(name))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
