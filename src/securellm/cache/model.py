"""The nouns of the cache: what an answer is kept under, the answer, and the facts that decide."""

from typing import NewType

import msgspec

from securellm.core.usage import Usage

CacheKey = NewType("CacheKey", bytes)
"""A digest of everything an answer depends on, the tenant first."""


class Cached(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it was given, after screening."""

    status: int
    body: bytes
    content_type: str
    usage: Usage
    model_served: str
    request_id: str
    """The request that was really sent."""


class CacheFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether a request may share an answer."""

    stream: bool
    deterministic: bool
    redacted: bool
    """Whether the guard changed anything, in either direction."""
    control: str = ""
    """The caller's `x-securellm-cache` header."""


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start, and what is held now."""

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int
