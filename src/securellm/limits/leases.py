"""Parallel leases: who holds a place, so that each is given back exactly once."""

from collections.abc import Sequence


class Leases:
    """Places counted by name, each taken by an owner and given back by that owner once."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._owners: dict[int, tuple[str, ...]] = {}

    def held(self, name: str) -> int:
        return self._held.get(name, 0)

    def take(self, owner: int, names: Sequence[str]) -> None:
        """One place under each name. Raises ValueError when `owner` holds places already."""
        if owner in self._owners:
            raise ValueError("this owner holds places already")
        self._owners[owner] = tuple(names)
        for name in names:
            self._held[name] = self.held(name) + 1

    def release(self, owner: int) -> bool:
        """Give back what `owner` holds; False when it holds nothing (any more)."""
        names = self._owners.pop(owner, None)
        if names is None:
            return False
        for name in names:
            left = self._held[name] - 1
            if left:
                self._held[name] = left
            else:
                del self._held[name]
        return True
