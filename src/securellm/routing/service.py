"""The verbs of routing: plan, and follow up within a retry budget that all requests share."""

from collections.abc import Sequence

from securellm.core.capabilities import Capability
from securellm.core.clock import Clock
from securellm.core.errors import Code
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.routing import rules
from securellm.routing.budget import RetryBudget
from securellm.routing.model import Candidate, FollowUp, Plan


class Router:
    """The gate that alone mints a `Plan`."""

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._randomness = randomness
        self.retries = RetryBudget(clock)

    async def plan(
        self,
        model: str,
        surface: Surface,
        *,
        candidates: Sequence[Candidate],
        pinned: str | None = None,
        needs: frozenset[Capability] = frozenset(),
        output_cap: int | None = None,
        translatable: Sequence[Surface] = (),
        allowed: frozenset[str] | None = None,
        seed: int = 0,
    ) -> Plan:
        """As `rules.plan`. Each plan adds to the shared retry budget."""
        planned = rules.plan(
            model,
            surface,
            candidates=candidates,
            pinned=pinned,
            needs=needs,
            output_cap=output_cap,
            translatable=translatable,
            allowed=allowed,
            seed=seed,
        )
        self.retries.note_request()
        return planned

    def follow_up(
        self,
        plan: Plan,
        code: Code,
        *,
        made: int,
        retries: int = 2,
        first_byte: bool,
        retry_after: float | None = None,
        remaining: float | None = None,
    ) -> FollowUp | None:
        """As `rules.follow_up`, paid from the shared budget; None also when that is empty."""
        following = rules.follow_up(
            plan,
            code,
            made=made,
            retries=retries,
            first_byte=first_byte,
            fraction=self._randomness.fraction(),
            retry_after=retry_after,
            remaining=remaining,
        )
        return following if following is not None and self.retries.take() else None
