"""JSON Schemas of what stands on the wire, as far as the gateway itself looks at it. What is not named is open."""

from collections.abc import Iterable, Mapping
from typing import Any

from securellm.core.surfaces import Manner, Surface

Json = dict[str, Any]


def ref(kind: str, name: str) -> Json:
    """A component of the document."""
    return {"$ref": f"#/components/{kind}/{name}"}


def object_of(required: Iterable[str] = (), properties: Mapping[str, Json] | None = None) -> Json:
    """An object with at least these members."""
    shape: Json = {"type": "object", "properties": dict(properties or {})}
    if needed := list(required):
        shape["required"] = needed
    return shape


def _maybe(kind: str, least: int | None = None, most: int | None = None) -> Json:
    bounds = {"minimum": least, "maximum": most}
    return {"type": [kind, "null"], **{name: bound for name, bound in bounds.items() if bound is not None}}


def _list(item: Json, *, least: int = 0) -> Json:
    return {"type": "array", "items": item, **({"minItems": least} if least else {})}


MODEL = ref("schemas", "Model")
TEXT: Json = {"type": "string"}
OBJECT: Json = {"type": "object"}
FILE: Json = {"type": "string", "format": "binary"}
_OBJECTS = _list(OBJECT)
_SOME = _list(OBJECT, least=1)
_COUNT = _maybe("integer", 1, 100_000_000)
_FLAG = _maybe("boolean")
_TOOLS: Json = {"type": ["array", "null"], "items": OBJECT}
_CONTENT = object_of(properties={"parts": _OBJECTS, "role": TEXT})
_CONTENTS = _list(_CONTENT, least=1)
_HEARING = object_of(["file"], {"model": MODEL, "file": FILE, "prompt": TEXT, "response_format": TEXT})

REQUESTS: Mapping[Surface, Json] = {
    Surface.CHAT: object_of(
        ["messages"],
        {
            "model": MODEL,
            "messages": _SOME,
            "tools": _TOOLS,
            "stream": _FLAG,
            "max_tokens": _COUNT,
            "max_completion_tokens": _COUNT,
            "n": _maybe("integer", 1, 128),
            "service_tier": _maybe("string"),
        },
    ),
    Surface.RESPONSES: object_of(
        properties={
            "model": MODEL,
            "input": {"oneOf": [TEXT, _OBJECTS]},
            "tools": _TOOLS,
            "stream": _FLAG,
            "background": {"enum": [False, None]},
            "max_output_tokens": _COUNT,
            "max_tool_calls": _COUNT,
            "service_tier": _maybe("string"),
        },
    ),
    Surface.MESSAGES: object_of(
        ["messages"],
        {
            "model": MODEL,
            "messages": _SOME,
            "tools": _TOOLS,
            "stream": _FLAG,
            "max_tokens": _COUNT,
            "service_tier": _maybe("string"),
        },
    ),
    Surface.MESSAGE_TOKENS: object_of(["messages"], {"model": MODEL, "messages": _SOME, "tools": _TOOLS}),
    Surface.EMBEDDINGS: object_of(["input"], {"model": MODEL, "input": {"oneOf": [TEXT, _list(TEXT, least=1)]}}),
    Surface.RERANK: object_of(
        ["query", "documents"],
        {"model": MODEL, "query": TEXT, "documents": _list({"oneOf": [TEXT, OBJECT]}, least=1)},
    ),
    Surface.MODERATIONS: object_of(
        ["input"],
        {
            "model": MODEL,
            "input": {
                "oneOf": [{"type": "string", "minLength": 1}, _list({"oneOf": [TEXT, OBJECT]}, least=1)],
            },
        },
    ),
    Surface.IMAGES: object_of(
        ["prompt"], {"model": MODEL, "prompt": TEXT, "n": _maybe("integer", 1, 16), "stream": _FLAG}
    ),
    Surface.IMAGE_EDITS: object_of(["prompt", "image"], {"model": MODEL, "prompt": TEXT, "image": FILE, "mask": FILE}),
    Surface.SPEECH: object_of(["input"], {"model": MODEL, "input": TEXT, "stream_format": TEXT}),
    Surface.TRANSCRIPTIONS: _HEARING,
    Surface.AUDIO_TRANSLATIONS: _HEARING,
    Surface.GENERATE_CONTENT: object_of(
        ["contents"],
        {
            "contents": _CONTENTS,
            "systemInstruction": _CONTENT,
            "tools": _OBJECTS,
            "generationConfig": object_of(
                properties={"maxOutputTokens": _COUNT, "candidateCount": _maybe("integer", 1, 128)}
            ),
        },
    ),
    Surface.CONTENT_TOKENS: object_of(properties={"contents": _CONTENTS, "generateContentRequest": OBJECT}),
    Surface.EMBED_CONTENT: object_of(["content"], {"content": _CONTENT}),
    Surface.BATCH_EMBED_CONTENTS: object_of(
        ["requests"], {"requests": _list(object_of(["content"], {"content": _CONTENT}), least=1)}
    ),
    Surface.OLLAMA_CHAT: object_of(
        properties={
            "model": MODEL,
            "messages": _OBJECTS,
            "tools": _TOOLS,
            "stream": _FLAG,
            "options": _maybe("object"),
        }
    ),
    Surface.OLLAMA_GENERATE: object_of(
        properties={"model": MODEL, "prompt": TEXT, "system": TEXT, "stream": _FLAG, "options": _maybe("object")}
    ),
    Surface.OLLAMA_EMBED: object_of(properties={"model": MODEL, "input": {"oneOf": [TEXT, _list(TEXT)]}}),
}
"""What the gateway itself requires of a body."""

_CODE = ref("schemas", "Code")

ERRORS: Mapping[Manner, Json] = {
    Manner.OPENAI: object_of(
        ["error"],
        {
            "error": object_of(
                ["message", "type", "param", "code"],
                {"message": TEXT, "type": TEXT, "param": _maybe("string"), "code": _CODE},
            )
        },
    ),
    Manner.ANTHROPIC: object_of(
        ["type", "error", "request_id"],
        {
            "type": {"const": "error"},
            "error": object_of(["type", "message", "code"], {"type": TEXT, "message": TEXT, "code": _CODE}),
            "request_id": TEXT,
        },
    ),
    Manner.GOOGLE: object_of(
        ["error"],
        {
            "error": object_of(
                ["code", "message", "status", "details"],
                {
                    "code": {"type": "integer", "minimum": 400, "maximum": 599},
                    "message": TEXT,
                    "status": TEXT,
                    "details": _list(object_of(["@type"], {"@type": TEXT}), least=1),
                },
            )
        },
    ),
    Manner.OLLAMA: object_of(["error", "code"], {"error": TEXT, "code": _CODE}),
}

ONE_MODEL: Mapping[Manner, Json] = {
    Manner.OPENAI: object_of(
        ["id", "object", "created", "owned_by"], {"id": TEXT, "object": {"const": "model"}, "owned_by": TEXT}
    ),
    Manner.ANTHROPIC: object_of(["type", "id", "display_name", "created_at"], {"type": {"const": "model"}, "id": TEXT}),
    Manner.GOOGLE: object_of(
        ["name", "displayName", "supportedGenerationMethods"], {"name": {"type": "string", "pattern": "^models/"}}
    ),
    Manner.OLLAMA: object_of(
        ["details", "model_info", "capabilities"],
        {"details": OBJECT, "model_info": OBJECT, "capabilities": _list(TEXT)},
    ),
}

EVERY_MODEL: Mapping[Manner, Json] = {
    Manner.OPENAI: object_of(
        ["object", "data"], {"object": {"const": "list"}, "data": _list(ONE_MODEL[Manner.OPENAI])}
    ),
    Manner.ANTHROPIC: object_of(
        ["data", "has_more", "first_id", "last_id"],
        {"data": _list(ONE_MODEL[Manner.ANTHROPIC]), "has_more": {"type": "boolean"}},
    ),
    Manner.GOOGLE: object_of(["models"], {"models": _list(ONE_MODEL[Manner.GOOGLE]), "nextPageToken": TEXT}),
    Manner.OLLAMA: object_of(
        ["models"], {"models": _list(object_of(["name", "model"], {"name": TEXT, "model": TEXT}))}
    ),
}
