"""The verbs of the cache: find, store."""

from collections import OrderedDict

from securellm.cache.model import Cached, CacheKey, CacheStats
from securellm.core.clock import Clock

OVERHEAD = 1024
"""Bytes an entry costs beside its body and strings, at most (measured on CPython 3.11: under 900)."""


class Cache:
    """Answers in memory, the longest unused forgotten first. Runs on the one event loop."""

    def __init__(self, *, max_entries: int, max_bytes: int, ttl: float, clock: Clock) -> None:
        """`ttl` in seconds."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[CacheKey, tuple[Cached, float]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    async def find(self, key: CacheKey) -> Cached | None:
        """The kept answer, unless it is too old."""
        entry = self._entries.get(key)
        if entry is not None and self._clock.monotonic() < entry[1]:
            self._entries.move_to_end(key)
            self._hits += 1
            return entry[0]
        if entry is not None:
            self._remove(key)
        self._misses += 1
        return None

    async def store(self, key: CacheKey, cached: Cached, *, ttl: float | None = None) -> None:
        """Keep an answer for `ttl` seconds (the cache's own when None) in place of a former one.

        Only a 200 is kept, and only one that fits.
        """
        if key in self._entries:
            self._remove(key)
        size = size_of(key, cached)
        if cached.status != 200 or size > self._max_bytes or self._max_entries < 1:
            return
        while len(self._entries) >= self._max_entries or self._bytes + size > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._evictions += 1
        self._entries[key] = (cached, self._clock.monotonic() + (self._ttl if ttl is None else ttl))
        self._bytes += size

    def clear(self) -> None:
        """Forget every answer."""
        self._entries.clear()
        self._bytes = 0

    @property
    def stats(self) -> CacheStats:
        return CacheStats(
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            entries=len(self._entries),
            bytes=self._bytes,
        )

    def _remove(self, key: CacheKey) -> None:
        cached, _ = self._entries.pop(key)
        self._bytes -= size_of(key, cached)


def size_of(key: CacheKey, cached: Cached) -> int:
    """Bytes of memory an entry is accounted with."""
    strings = len(cached.content_type) + len(cached.model_served) + len(cached.request_id)
    return OVERHEAD + len(key) + len(cached.body) + strings
