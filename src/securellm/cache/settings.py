"""Have we answered this: the keys of `[cache]` and of `cache` under `[[models]]`."""

from typing import Annotated

import msgspec

from securellm.settings import Bytes, Field, Seconds

LONGEST_MEMORY = 7 * 86_400
"""Seconds."""


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers in this process, each tenant for itself: to equal requests, and to one request asked again."""

    enabled: Annotated[bool, Field(help="answer a repeated request from memory")] = True
    max_entries: Annotated[int, Field(help="answers kept at most", ge=1)] = 10_000
    max_bytes: Annotated[Bytes, Field(help="memory for answers at most", ge=1024)] = Bytes(64 << 20)
    ttl: Annotated[Seconds, Field(help="how long an answer may be given again", ge=1)] = Seconds(3600.0)
    idempotency_ttl: Annotated[
        Seconds, Field(help="how long an `Idempotency-Key` is remembered", ge=1, le=LONGEST_MEMORY)
    ] = Seconds(86_400.0)
    idempotency_max_bytes: Annotated[
        Bytes, Field(help="memory for answers to requests with an `Idempotency-Key` at most", ge=0)
    ] = Bytes(64 << 20)


class ModelCache(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model's own cache rules; an absent key is `[cache]`'s."""

    enabled: Annotated[bool | None, Field(help="answer a repeated request from memory")] = None
    ttl: Annotated[Seconds | None, Field(help="how long an answer may be given again", ge=1)] = None
