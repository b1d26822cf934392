"""The only place that draws randomness."""

import os
import random
from typing import Protocol


class Randomness(Protocol):
    """Entropy as the product sees it; the simulator owns a seeded one."""

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes, fit for keys and ids."""
        ...

    def fraction(self) -> float:
        """A number in [0, 1), for jitter; never for secrets."""
        ...


class SystemRandomness:
    """The operating system's generator."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    def fraction(self) -> float:
        return random.random()
