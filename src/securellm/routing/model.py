"""The nouns of routing: where a model can be served, and the proof that a way was found."""

import msgspec

from securellm.core.capabilities import Capability
from securellm.core.surfaces import Surface


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One place a model can be served from, the surfaces spoken there, and what it is declared to offer."""

    provider: str
    upstream_model: str
    surfaces: frozenset[Surface]
    healthy: bool = True
    offers: frozenset[Capability] | None = None
    """None: nothing is declared, so nothing is checked."""
    max_output: int | None = None
    """Tokens it writes at most; None: not declared."""


class PlannedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One place to try, and the dialect to speak there: the caller's own where the place speaks it."""

    provider: str
    upstream_model: str
    surface: Surface

    @property
    def place(self) -> str:
        """As records name it: the provider, and what it is asked for there where that is a model."""
        return f"{self.provider}/{self.upstream_model}" if self.upstream_model else self.provider


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that the model has a route: where to try, in order. Equal facts and seed make an equal plan."""

    model: str
    attempts: tuple[PlannedAttempt, ...]
    explanation: tuple[str, ...]
    """One line for each candidate, as declared: where it stands, or why it does not. `attempts` follow from it."""
    seed: int


class FollowUp(msgspec.Struct, frozen=True, kw_only=True):
    """What to do after a failed attempt: wait `delay` seconds, then try."""

    attempt: PlannedAttempt
    delay: float
