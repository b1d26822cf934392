"""Have we answered this: exact answers, each tenant for itself, in this process."""

from securellm.cache.model import Cached, CacheFacts, CacheKey, CacheStats
from securellm.cache.rules import cache_key, cacheable, deterministic, recallable
from securellm.cache.service import Cache

__all__ = [
    "Cache",
    "CacheFacts",
    "CacheKey",
    "CacheStats",
    "Cached",
    "cache_key",
    "cacheable",
    "deterministic",
    "recallable",
]
