"""JSON Schema of a settings tree, so that the API describes declarations in the words of the file."""

from typing import Any

import msgspec

from securellm.settings.shapes import Choice, Many, Member, Named, Scalar, Shape, Table, table_of

_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "float": {"type": "number"},
    "duration": {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h|d)$"},
    "size": {"type": ["integer", "string"]},
    "date-time": {"type": "string", "format": "date-time"},
    "multiplier": {"type": "string", "pattern": r"^[0-9]{1,6}(\.[0-9]{1,3})?$"},
    "path": {"type": "string", "minLength": 1},
    "amount": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})? [A-Z]{3}$"},
    "price": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,6})? [A-Z]{3}$"},
    "secret reference": {"type": "string", "description": "Where the secret is, never the secret."},
    "address": {"type": "string"},
}


def declaration_schema(tree: type[msgspec.Struct]) -> dict[str, Any]:
    """What a document of this kind may say. The server's own check is stricter: it also knows what else exists."""
    return _shape(table_of(tree))


def _shape(shape: Shape) -> dict[str, Any]:
    match shape:
        case Scalar():
            return dict(_SCALARS[shape.kind.name])
        case Choice():
            return {"enum": list(shape.words)}
        case Many():
            return {"type": "array", "items": _shape(shape.item)}
        case Named():
            return {"type": "object", "additionalProperties": _shape(shape.item)}
        case Table():
            return {
                "type": "object",
                "properties": {member.name: _member(member) for member in shape.members},
                "required": [member.name for member in shape.members if member.required],
                "additionalProperties": False,
            }


def _member(member: Member) -> dict[str, Any]:
    schema, field = _shape(member.shape), member.field
    if schema.get("type") in ("integer", "number"):
        schema |= {name: bound for name, bound in (("minimum", field.ge), ("maximum", field.le)) if bound is not None}
    if field.pattern is not None and schema.get("type") == "string":
        schema["pattern"] = f"^(?:{field.pattern})$"
    if field.min_items:
        schema["minItems"] = field.min_items
    if field.help:
        schema["description"] = f"{field.help[0].upper()}{field.help[1:]}."
    return schema
