"""Schemas of OpenAPI 3.0 as Gemini's clients write them, and the JSON Schemas they are to all others."""

from collections.abc import Mapping

from securellm.core.document import Value
from securellm.providers.translation.generate_content.spelling import camel

_LIMITS = frozenset({"maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"})
"""Whole numbers, which protocol buffers write as strings."""
_ORDERS = frozenset({"propertyOrdering"})
"""What only says in which order properties are generated."""


_ENFORCED = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
"""The keywords that OpenAI documents for schemas which it enforces."""


def json_schema(schema: Mapping[str, Value], *, closed: bool = False) -> dict[str, Value]:
    """The JSON Schema that says the same. `closed`: objects have no other properties than those named.

    So it is with an answer's schema: Gemini generates no other.
    """
    found: dict[str, Value] = {}
    nullable = False
    for given, value in schema.items():
        name = camel(given)
        match name:
            case "nullable":
                nullable = value is True
            case "type" if isinstance(value, str):
                if value != "TYPE_UNSPECIFIED":
                    found["type"] = value.lower()
            case "properties" | "defs" | "$defs" if isinstance(value, dict):
                found["$defs" if name == "defs" else name] = {
                    key: _below(inner, closed=closed) for key, inner in value.items()
                }
            case "items" | "additionalProperties":
                found[name] = _below(value, closed=closed)
            case "anyOf" | "prefixItems" if isinstance(value, list):
                found[name] = [_below(inner, closed=closed) for inner in value]
            case "ref":
                found["$ref"] = value.replace("#/defs/", "#/$defs/") if isinstance(value, str) else value
            case "example":
                found["examples"] = [value]
            case "format" if value == "enum":
                pass
            case _ if name in _LIMITS:
                found[name] = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
            case _ if name not in _ORDERS:
                found[name] = value
    if closed and "properties" in found:
        found.setdefault("additionalProperties", False)
    return _nullable(found) if nullable else found


def is_enforceable(schema: Value) -> bool:
    """Whether every dialect that enforces schemas takes this one: all objects closed, all properties required."""
    if isinstance(schema, list):
        return all(map(is_enforceable, schema))
    if not isinstance(schema, dict):
        return True
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict):
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if set(properties) - {name for name in required if isinstance(name, str)}:
            return False
    below = [schema.get(name) for name in ("items", "anyOf")]
    below += [
        inner
        for name in ("properties", "$defs")
        if isinstance(held := schema.get(name), dict)
        for inner in held.values()
    ]
    return schema.keys() <= _ENFORCED and all(map(is_enforceable, below))


def _below(schema: Value, *, closed: bool) -> Value:
    return json_schema(schema, closed=closed) if isinstance(schema, dict) else schema


def _nullable(schema: dict[str, Value]) -> dict[str, Value]:
    kind, choices, among = schema.get("type"), schema.get("anyOf"), schema.get("enum")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
    elif isinstance(choices, list):
        schema["anyOf"] = [*choices, {"type": "null"}]
    if isinstance(among, list):
        schema["enum"] = [*among, None]
    return schema
