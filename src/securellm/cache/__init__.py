"""Have we answered this: exact answers and one request asked twice, each tenant for itself, in this process."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.cache.idempotency import LARGEST_ANSWER, Idempotency
    from securellm.cache.model import Cached, CacheFacts, CacheKey, CacheStats, Claim, Finished
    from securellm.cache.rules import cache_key, cacheable, deterministic, idempotency_secret, recallable
    from securellm.cache.service import Cache
    from securellm.cache.store import SCHEMA, IdempotencyReplay, freeing, taking
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "LARGEST_ANSWER",
    "SCHEMA",
    "Cache",
    "CacheFacts",
    "CacheKey",
    "CacheStats",
    "Cached",
    "Claim",
    "Finished",
    "Idempotency",
    "IdempotencyReplay",
    "cache_key",
    "cacheable",
    "deterministic",
    "freeing",
    "idempotency_secret",
    "recallable",
    "taking",
]
