"""Gemini's request as its schema allows it: every member by name, in either of proto JSON's two spellings."""

import re
from collections.abc import Mapping
from typing import Any

from tests.upstream.faces import Refused

_Members = Mapping[str, str]
"""Each member's kind: `value` (anything), a message, `[message]` or `{message}` (a map of them)."""


def _plain(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "value")


_SCHEMA = {
    **_plain("type", "format", "title", "description", "nullable", "default", "minItems", "maxItems", "enum"),
    **_plain("required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example"),
    **_plain("propertyOrdering", "minimum", "maximum"),
    "items": "Schema",
    "anyOf": "[Schema]",
    "properties": "{Schema}",
}
_EMBED = {**_plain("model", "taskType", "title", "outputDimensionality", "autoTruncate"), "content": "Content"}
_MESSAGES: dict[str, _Members] = {
    "GenerateContentRequest": {
        **_plain("model", "cachedContent", "serviceTier", "store", "labels", "continuationToken"),
        "contents": "[Content]",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "toolConfig": "ToolConfig",
        "safetySettings": "[SafetySetting]",
        "generationConfig": "GenerationConfig",
    },
    "CountTokensRequest": {
        "model": "value",
        "contents": "[Content]",
        "generateContentRequest": "GenerateContentRequest",
    },
    "EmbedContentRequest": _EMBED,
    "BatchEmbedContentsRequest": {"model": "value", "requests": "[EmbedContentRequest]"},
    "Content": {"role": "value", "parts": "[Part]"},
    "Part": {
        **_plain("text", "thought", "thoughtSignature", "executableCode", "codeExecutionResult", "videoMetadata"),
        **_plain("mediaResolution", "partMetadata", "toolCall", "toolResponse", "mediaProcessing"),
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
    },
    "Blob": _plain("mimeType", "data"),
    "FileData": _plain("mimeType", "fileUri"),
    "FunctionCall": _plain("id", "name", "args"),
    "FunctionResponse": _plain("id", "name", "response", "willContinue", "scheduling", "parts"),
    "Tool": {
        **_plain("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "computerUse", "googleMaps"),
        **_plain("fileSearch", "mcpServers"),
        "functionDeclarations": "[FunctionDeclaration]",
    },
    "FunctionDeclaration": {
        **_plain("name", "description", "behavior", "parametersJsonSchema", "responseJsonSchema"),
        "parameters": "Schema",
        "response": "Schema",
    },
    "ToolConfig": {
        **_plain("retrievalConfig", "includeServerSideToolInvocations"),
        "functionCallingConfig": "FunctionCallingConfig",
    },
    "FunctionCallingConfig": _plain("mode", "allowedFunctionNames"),
    "SafetySetting": _plain("category", "threshold"),
    "GenerationConfig": {
        **_plain("stopSequences", "responseMimeType", "responseJsonSchema", "responseModalities", "candidateCount"),
        **_plain("maxOutputTokens", "temperature", "topP", "topK", "seed", "presencePenalty", "frequencyPenalty"),
        **_plain("responseLogprobs", "logprobs", "enableEnhancedCivicAnswers", "speechConfig", "mediaResolution"),
        **_plain("imageConfig", "audioTranscriptionConfig", "responseFormat"),
        "responseSchema": "Schema",
        "thinkingConfig": "ThinkingConfig",
    },
    "ThinkingConfig": _plain("includeThoughts", "thinkingBudget", "thinkingLevel"),
    "Schema": _SCHEMA,
}


def read(body: Mapping[str, Any], message: str) -> dict[str, Any]:
    """The request with every member in camel case. Raises `Refused` 400 on a member that Google does not know."""
    problems: list[tuple[str, str]] = []
    value = _message(body, message, "", problems)
    if problems:
        violations = [{"field": place, "description": told} if place else {"description": told}
                      for place, told in problems]  # fmt: skip
        raise Refused(
            400,
            "\n".join(told for _, told in problems),
            details=[{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}],
        )
    return value


def _message(value: Any, message: str, place: str, problems: list[tuple[str, str]]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        problems.append((place, f"Invalid value at '{place}' (type.googleapis.com/{message}), {value!r}"))
        return {}
    members = _MESSAGES[message]
    result: dict[str, Any] = {}
    for given, below in value.items():
        name = re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), given)
        inner = f"{place}.{_snake(name)}" if place else _snake(name)
        if name not in members or (given != name and given != _snake(name)):
            where = f" at '{place}'" if place else ""
            problems.append(
                (place, f'Invalid JSON payload received. Unknown name "{given}"{where}: Cannot find field.')
            )
        elif name in result:
            problems.append((place, f"Invalid JSON payload received. Duplicate field '{name}'."))
        elif below is not None:
            result[name] = _member(below, members[name], inner, problems)
    return result


def _member(value: Any, kind: str, place: str, problems: list[tuple[str, str]]) -> Any:
    if kind == "value":
        return value
    if kind.startswith("["):
        # Proto JSON takes one message where a list stands; Google does so for contents and parts.
        items = value if isinstance(value, list) else [value]
        return [_message(item, kind[1:-1], f"{place}[{at}]", problems) for at, item in enumerate(items)]
    if kind.startswith("{"):
        if not isinstance(value, Mapping):
            problems.append((place, f"Invalid value at '{place}' (Map), {value!r}"))
            return {}
        return {
            name: _message(item, kind[1:-1], f"{place}[{at}].value", problems)
            for at, (name, item) in enumerate(value.items())
        }
    return _message(value, kind, place, problems)


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name)
