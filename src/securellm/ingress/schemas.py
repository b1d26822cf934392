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
            "background": _FLAG,
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

_METADATA: Json = {"type": ["object", "null"], "additionalProperties": TEXT}

KEPT_REQUESTS: Mapping[str, Json] = {
    "conversations.create": object_of(properties={"items": _OBJECTS, "metadata": _METADATA}),
    "conversations.update": object_of(["metadata"], {"metadata": _METADATA}),
    "conversations.items.create": object_of(["items"], {"items": _OBJECTS}),
    "files.create": object_of(
        ["file", "purpose"], {"file": FILE, "purpose": {"enum": ["batch", "user_data", "vision"]}}
    ),
    "batches.create": object_of(
        ["input_file_id", "endpoint", "completion_window"],
        {"input_file_id": TEXT, "endpoint": TEXT, "completion_window": TEXT, "metadata": _METADATA},
    ),
    "message_batches.create": object_of(
        ["requests"],
        {
            "requests": {
                "type": "array",
                "items": object_of(["custom_id", "params"], {"custom_id": TEXT, "params": OBJECT}),
            }
        },
    ),
}
"""The same of the body of an errand, by its name."""

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
    Manner.PLAIN: object_of(
        ["type", "title", "status", "code", "reason", "remedy", "param", "request_id"],
        {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": _CODE,
            "reason": TEXT,
            "remedy": TEXT,
            "param": _maybe("string"),
            "request_id": TEXT,
        },
    ),
}

_WORDS: Json = {"type": ["string", "null"], "maxLength": 80}
_STATED = {"tone": _WORDS, "format": _WORDS, "language": _WORDS}
_STATING: Json = {**object_of((), _STATED), "additionalProperties": False}
_MEMORY = object_of(
    ["id", "text", "consented_at", "consented_in", "offered_in"],
    {"id": TEXT, "text": TEXT, "consented_at": TEXT, "consented_in": TEXT, "offered_in": _maybe("string")},
)
_USED = ("prompt_tokens", "completion_tokens", "total_tokens")
PERSONAL_REQUESTS: Mapping[tuple[str, str], Json] = {
    ("/preferences", "PUT"): _STATING,
    ("/preferences", "PATCH"): _STATING,
    ("/memories", "POST"): {
        **object_of(
            ["text", "consent"],
            {"text": {**TEXT, "maxLength": 500}, "consent": {"const": True}, "offered_in": _maybe("string")},
        ),
        "additionalProperties": False,
    },
    ("/process", "POST"): {**object_of(["text"], {"text": TEXT, "model": MODEL}), "additionalProperties": False},
}
"""Bodies of the paths of a person's own, by path and method; the others take none."""
PERSONAL_ANSWERS: Mapping[str, Json] = {
    "Preferences": object_of([*_STATED, "updated_at"], {**_STATED, "updated_at": _maybe("string")}),
    "Memory": _MEMORY,
    "Memories": object_of(["data"], {"data": _list(_MEMORY)}),
    "Deleted": object_of(["deleted"], {"deleted": {"const": True}}),
    "Processed": object_of(
        ["text", "usage", "model", "latency_ms", "request_id"],
        {
            "text": TEXT,
            "usage": object_of(_USED, {name: _maybe("integer") for name in _USED}),
            "model": _maybe("string"),
            "latency_ms": {"type": "integer", "minimum": 0},
            "request_id": TEXT,
            "suggestions": _list(object_of(["text"], {"text": TEXT})),
        },
    ),
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
