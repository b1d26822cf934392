"""The nouns of routing: where a model can be served, and the proof that a way was found."""

import msgspec

from securellm.core.surfaces import Surface


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One place a model can be served from, and the surfaces spoken there without translation."""

    provider: str
    upstream_model: str
    surfaces: frozenset[Surface]
    healthy: bool = True


class PlannedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One place to try."""

    provider: str
    upstream_model: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that the model has a route: where to try, in order. Equal facts and seed make an equal plan."""

    model: str
    attempts: tuple[PlannedAttempt, ...]
    explanation: tuple[str, ...]
    """One line for each candidate: where it stands, or why it does not."""
    seed: int


class FollowUp(msgspec.Struct, frozen=True, kw_only=True):
    """What to do after a failed attempt: wait `delay` seconds, then try."""

    attempt: PlannedAttempt
    delay: float
