"""What the audit keeps of a thing: the digest of its canonical JSON, never the thing."""

import hashlib
from typing import Any

import msgspec

from securellm.core.canonical import Canonical, canonical_bytes


def digest_of(value: object) -> str | None:
    """SHA-256 of the canonical JSON of `value`; None for None."""
    if value is None:
        return None
    return hashlib.sha256(canonical_bytes(_canonical(msgspec.to_builtins(value)))).hexdigest()


def _canonical(value: Any) -> Canonical:
    """`value` without floats, which have no canonical form: each is written as the shortest text that reads back."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {str(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{type(value).__name__} has no canonical form")
