"""Canonical JSON (RFC 8785, restricted): what is hashed is written in exactly one way.

Only objects, arrays, strings, integers, booleans and null; keys sorted; no spaces; UTF-8. Floats are refused
because two writers may spell them differently.
"""

import json
from collections.abc import Mapping, Sequence

Canonical = None | bool | int | str | Sequence["Canonical"] | Mapping[str, "Canonical"]

_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=True
).encode


def canonical_bytes(value: Canonical) -> bytes:
    """The one spelling of `value`. Raises ValueError on a float or a lone surrogate."""
    _refuse_floats(value)
    try:
        return _encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a lone surrogate has no UTF-8 form") from error


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise ValueError("floats have no canonical form here")
    if isinstance(value, Mapping):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
