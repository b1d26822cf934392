"""The table every virtual key is found in: it never changes, and a changed one shares all that stayed."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from securellm.identity.model import KeyConflict, VirtualKey

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SHARDS = 256
"""A change copies one shard: with 100,000 keys, some 400 entries."""


class Shards(Mapping[K, V], Generic[K, V]):
    """A mapping that cannot be changed; `changed` gives another one, which copies only the shards it touches."""

    __slots__ = ("_count", "_shards")

    def __init__(self, shards: tuple[dict[K, V], ...], count: int) -> None:
        self._shards = shards
        self._count = count

    @classmethod
    def empty(cls) -> "Shards[K, V]":
        return cls(({},) * _SHARDS, 0)

    def changed(self, *, without: Iterable[K] = (), put: Mapping[K, V] = {}) -> "Shards[K, V]":
        """As this one, first without some keys, then with others put in."""
        shards = list(self._shards)
        fresh: set[int] = set()
        count = self._count

        def shard_of(key: K) -> dict[K, V]:
            place = hash(key) % _SHARDS
            if place not in fresh:
                fresh.add(place)
                shards[place] = shards[place].copy()
            return shards[place]

        for key in without:
            count -= shard_of(key).pop(key, None) is not None
        for key, value in put.items():
            shard = shard_of(key)
            count += key not in shard
            shard[key] = value
        return Shards(tuple(shards), count)

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) % _SHARDS][key]

    def get(self, key: K, default: Any = None, /) -> Any:
        # Every request looks here several times; what the base class offers makes two calls more of it.
        return self._shards[hash(key) % _SHARDS].get(key, default)

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return self._count


class KeyTable(msgspec.Struct, frozen=True):
    """Every virtual key, found by the digest of its token. Never changes; a new one takes its place."""

    by_digest: Mapping[bytes, VirtualKey]
    by_id: Mapping[str, VirtualKey] = {}

    @classmethod
    def of(cls, keys: Iterable[VirtualKey]) -> "KeyTable":
        """Raises `KeyConflict` when two keys share an id or a digest."""
        by_digest: dict[bytes, VirtualKey] = {}
        by_id: dict[str, VirtualKey] = {}
        for key in keys:
            if key.id in by_id:
                raise KeyConflict(f"two virtual keys have the id {key.id}")
            by_id[key.id] = key
            _enter(by_digest, key)
        return cls(_sharded(by_digest), _sharded(by_id))

    def changed(self, changes: Mapping[str, VirtualKey | None]) -> "KeyTable":
        """As `of` would make it once these keys, by id, are what is said here (None: gone). Raises `KeyConflict`."""
        if not changes:
            return self
        former = [key for key_id in changes if (key := self.by_id.get(key_id)) is not None]
        now = [key for key in changes.values() if key is not None]
        leaving = {digest for key in former for digest in digests_of(key)}
        coming: dict[bytes, VirtualKey] = {}
        for key in now:
            _enter(coming, key)
            for digest in digests_of(key):
                twin = self.by_digest.get(digest)
                if twin is not None and digest not in leaving:
                    raise KeyConflict(f"the virtual keys {twin.id} and {key.id} are one token")
        return KeyTable(
            _changed(self.by_digest, without=leaving - coming.keys(), put=coming),
            _changed(self.by_id, without=[key.id for key in former], put={key.id: key for key in now}),
        )

    def find(self, digest: bytes) -> VirtualKey | None:
        return self.by_digest.get(digest)

    def get(self, key_id: str) -> VirtualKey | None:
        return self.by_id.get(key_id)

    def __len__(self) -> int:
        return len(self.by_id)


def digests_of(key: VirtualKey) -> tuple[bytes, ...]:
    """Whatever the key may be presented by."""
    return key.digests


def _enter(by_digest: dict[bytes, VirtualKey], key: VirtualKey) -> None:
    for digest in digests_of(key):
        twin = by_digest.setdefault(digest, key)
        if twin is not key:
            raise KeyConflict(f"the virtual keys {twin.id} and {key.id} are one token")


def _sharded(entries: Mapping[K, V]) -> Shards[K, V]:
    return Shards[K, V].empty().changed(put=entries)


def _changed(shards: Mapping[K, V], *, without: Iterable[K], put: Mapping[K, V]) -> Shards[K, V]:
    if not isinstance(shards, Shards):
        shards = _sharded(shards)
    return shards.changed(without=without, put=put)
