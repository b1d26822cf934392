"""Google's contents: what every surface that takes them must know, in either spelling of each name."""

import re
from collections.abc import Iterable, Iterator
from itertools import product
from urllib.parse import urlsplit

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Path
from securellm.ingress import facts
from securellm.ingress.facts import Members
from securellm.ingress.leaves import Shape

_CAPITAL = re.compile(r"([A-Z])")


def snake(name: str) -> str:
    """The other spelling of a name: `maxOutputTokens` is `max_output_tokens`."""
    return _CAPITAL.sub(lambda found: f"_{found[1].lower()}", name)


def taken(members: Members, name: str) -> Value:
    """The member in whichever spelling it has. Raises Refusal(INVALID_REQUEST) when it has both."""
    other = snake(name)
    if other != name and other in members:
        if name in members:
            raise Refusal(Code.INVALID_REQUEST, f"{name} is given twice, in both its spellings", param=name)
        return members[other]
    return members.get(name)


def mapping(members: Members, name: str) -> Members:
    """An object in either spelling; empty when absent."""
    return facts.mapping({name: taken(members, name)}, name)


def listed(members: Members, name: str, *, required: bool = False) -> list[Members]:
    """A list of objects in either spelling; one object alone stands for a list of it."""
    value = taken(members, name)
    return facts.objects({name: [value] if isinstance(value, dict) else value}, name, required=required)


def count(members: Members, name: str, *, largest: int = 100_000_000) -> int | None:
    """A whole number from 1 in either spelling, or None."""
    return facts.count({name: taken(members, name)}, name, largest=largest)


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What contents ask a provider to take in beside their text."""

    images: int = 0
    audio: bool = False
    unseen: bool = False
    """Whether there is something whose size in tokens we cannot tell: a file, a film, a page."""
    kept: tuple[str, ...] = ()
    """Names of what the provider keeps for those who know the name."""


def hear(contents: Iterable[Members]) -> Heard:
    """Go through the parts of contents. Raises Refusal(INVALID_REQUEST) for parts that are none."""
    images = 0
    audio = unseen = False
    kept: list[str] = []
    for content in contents:
        for part in _media(listed(content, "parts")):
            inline, stored = taken(part, "inlineData"), taken(part, "fileData")
            for blob in (inline, stored):
                kind = taken(blob, "mimeType") if isinstance(blob, dict) else None
                family = kind.partition("/")[0].lower() if isinstance(kind, str) else ""
                images += family == "image"
                audio = audio or family == "audio"
                unseen = unseen or (isinstance(blob, dict) and family != "image")
            if isinstance(stored, dict):
                unseen = True
                kept += kept_names(taken(stored, "fileUri"))
    return Heard(images=images, audio=audio, unseen=unseen or audio, kept=tuple(kept))


def kept_names(uri: Value) -> Iterator[str]:
    """The name behind an address that the provider resolves with the operator's credential; none for a public one."""
    if not isinstance(uri, str) or not uri:
        return
    try:
        address = urlsplit(uri)
        host = address.hostname or ""
    except ValueError:
        yield uri
        return
    if address.scheme in ("http", "https") and host and "googleapis" not in host:
        return
    _, found, name = address.path.partition("/files/")
    yield f"files/{name.partition(':')[0]}" if found and host else uri


def _media(parts: Iterable[Members]) -> Iterator[Members]:
    """The parts, and the parts of the tool answers among them."""
    for part in parts:
        yield part
        answer = taken(part, "functionResponse")
        if isinstance(answer, dict):
            yield from listed(answer, "parts")


def spelled(*names: str) -> frozenset[str]:
    """Each name in both spellings."""
    return frozenset(names) | frozenset(map(snake, names))


def places(*paths: str) -> frozenset[Path]:
    """Paths in every mixture of spellings, with the list of a single thing left out or not."""
    found: set[Path] = set()
    for path in paths:
        choices: list[tuple[Path, ...]] = []
        for step in path.split("."):
            plain, listed_, _ = step.partition("[]")
            spellings: tuple[Path, ...] = tuple((name,) for name in {plain, snake(plain)})
            choices.append(spellings + tuple((*each, "*") for each in spellings) if listed_ else spellings)
        found.update(sum(mixture, ()) for mixture in product(*choices))
    return frozenset(found)


_HOLDERS = (
    "contents[]",
    "systemInstruction",
    "content",
    "generateContentRequest.contents[]",
    "generateContentRequest.systemInstruction",
    "requests[].content",
)
_TURNS = tuple(holder for holder in _HOLDERS if not holder.endswith("systemInstruction"))
_IDS = ("functionCall", "functionResponse", "toolCall", "toolResponse", "executableCode", "codeExecutionResult")
_MEDIA = ("thoughtSignature", "inlineData.data", "functionResponse.parts[].inlineData.data")

SHAPE = Shape(
    names=spelled(
        "model", "contents", "content", "role", "parts", "text", "thought", "thoughtSignature", "inlineData",
        "mimeType", "data", "displayName", "fileData", "fileUri", "functionCall", "functionResponse", "id", "name",
        "args", "response", "willContinue", "scheduling", "executableCode", "language", "code", "codeExecutionResult",
        "outcome", "output", "toolCall", "toolResponse", "toolType", "videoMetadata", "startOffset", "endOffset",
        "fps", "mediaResolution", "level", "partMetadata", "systemInstruction", "tools", "functionDeclarations",
        "description", "parameters", "parametersJsonSchema", "responseJsonSchema", "behavior", "type", "format",
        "title", "nullable", "enum", "items", "minItems", "maxItems", "properties", "required", "propertyOrdering",
        "anyOf", "minimum", "maximum", "minLength", "maxLength", "pattern", "additionalProperties", "googleSearch",
        "googleSearchRetrieval", "codeExecution", "urlContext", "computerUse", "environment",
        "excludedPredefinedFunctions", "googleMaps", "enableWidget", "fileSearch", "fileSearchStoreNames",
        "metadataFilter", "topK", "mcpServers", "toolConfig", "functionCallingConfig", "mode", "allowedFunctionNames",
        "retrievalConfig", "latLng", "latitude", "longitude", "languageCode", "includeServerSideToolInvocations",
        "safetySettings", "category", "threshold", "generationConfig", "stopSequences", "responseMimeType",
        "responseSchema", "responseModalities", "candidateCount", "maxOutputTokens", "temperature", "topP", "seed",
        "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "enableEnhancedCivicAnswers",
        "speechConfig", "voiceConfig", "prebuiltVoiceConfig", "voiceName", "multiSpeakerVoiceConfig",
        "speakerVoiceConfigs", "speaker", "thinkingConfig", "includeThoughts", "thinkingBudget", "thinkingLevel",
        "imageConfig", "aspectRatio", "imageSize", "cachedContent", "serviceTier", "store", "labels",
        "continuationToken", "generateContentRequest", "requests", "taskType", "outputDimensionality", "autoTruncate",
        "embedContentConfig",
    ),
    ids=places(*(f"{holder}.parts[].{name}.id" for holder in _HOLDERS for name in _IDS)),
    media=places("continuationToken", *(f"{holder}.parts[].{name}" for holder in _HOLDERS for name in _MEDIA)),
    numbers=frozenset({"seed"}),
    system=spelled("systemInstruction"),
    user=spelled("contents", "content", "requests", "generateContentRequest"),
    turns=places(*_TURNS),
    results=spelled("functionResponse", "toolResponse", "codeExecutionResult"),
)  # fmt: skip
"""Of every body that holds contents."""
