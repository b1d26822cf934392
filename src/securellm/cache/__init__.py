"""Have we answered this: exact answers and one request asked twice, each tenant for itself, in this process."""

from securellm.cache.idempotency import LARGEST_ANSWER, Idempotency
from securellm.cache.model import Cached, CacheFacts, CacheKey, CacheStats, Claim, Finished
from securellm.cache.rules import cache_key, cacheable, deterministic, idempotency_secret, recallable
from securellm.cache.service import Cache
from securellm.cache.store import SCHEMA, IdempotencyReplay, freeing, taking

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
