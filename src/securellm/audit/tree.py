"""The Merkle tree of RFC 6962, section 2.1, kept as its frontier: O(log n) hashes, one more leaf at a time."""

import hashlib
from collections.abc import Iterable

EMPTY = hashlib.sha256(b"").digest()
"""The head of the tree without leaves."""


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The heads of the perfect subtrees that `size` leaves make, from the largest to the smallest."""

    __slots__ = ("heads", "size")

    def __init__(self, size: int = 0, heads: Iterable[bytes] = ()) -> None:
        """Raises ValueError when `heads` are not as many as a tree of `size` leaves has."""
        self.size = size
        self.heads = list(heads)
        if size < 0 or len(self.heads) != size.bit_count() or any(len(head) != 32 for head in self.heads):
            raise ValueError("the heads do not fit the size")

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        head = leaf
        merging = self.size
        while merging & 1:
            head = node_hash(self.heads.pop(), head)
            merging >>= 1
        self.heads.append(head)
        self.size += 1

    def root(self) -> bytes:
        """The tree head over all leaves so far."""
        if not self.heads:
            return EMPTY
        root = self.heads[-1]
        for head in reversed(self.heads[:-1]):
            root = node_hash(head, root)
        return root
