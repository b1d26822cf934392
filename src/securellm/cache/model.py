"""The nouns of the cache: what an answer is kept under, the answer, the facts that decide, one request asked twice."""

from typing import NamedTuple, NewType

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


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a request is the first of its idempotency key. Only `Idempotency` makes one."""

    key: bytes
    """A keyed digest of tenant, principal and the caller's own name for the request."""
    fingerprint: bytes
    """A keyed digest of all that the answer depends on."""
    expires_us: int
    """When the key is forgotten: microseconds since the Unix epoch."""
    request_id: str


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """An answer exactly as it left, to be given again to whoever asks the same under the same key."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Those that say what the answer is and where it came from."""
    body: bytes
    streamed: bool
    model_served: str
    request_id: str
    """The request that was really sent."""


class KeyEvent(NamedTuple):
    """A row of the table of idempotency keys: a request took a key, or gave it back."""

    key: bytes
    event: str
    """`taken` or `freed`."""
    fingerprint: bytes
    request_id: str
    expires_us: int
