"""JSON as we write it, and the events that carry it."""

import json
from collections.abc import Mapping

from securellm.core.document import Value

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class UnwritableError(ValueError):
    """What was read is beyond what can be written: the number 1e999, thousands of levels."""


def text_of(value: Value | Mapping[str, Value]) -> str:
    """A value as JSON text. Raises UnwritableError, which the engine lays to whoever sent the number."""
    try:
        return _encode(value)
    except (ValueError, RecursionError):
        raise UnwritableError("a number or a depth is beyond what JSON can write") from None


def data(members: Mapping[str, Value]) -> bytes:
    """An event that is only data."""
    return f"data: {text_of(members)}\n\n".encode()


def event(members: Mapping[str, Value]) -> bytes:
    """An event named as its `type` says."""
    return f"event: {members['type']}\ndata: {text_of(members)}\n\n".encode()
