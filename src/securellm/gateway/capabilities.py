"""Every capability the story uses, in one value."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from securellm.cache import Cache, Idempotency
from securellm.core.clock import Clock
from securellm.core.errors import Code
from securellm.custody import Custody
from securellm.finops import Finops
from securellm.gateway.gates import ask
from securellm.gateway.journal import Journal
from securellm.gateway.running import Running
from securellm.gateway.snapshot import Snapshots
from securellm.guard import Guard
from securellm.identity import Identities
from securellm.limits import Limits
from securellm.policy import Policy
from securellm.preferences import PreferenceBook
from securellm.providers import Providers
from securellm.routing import Router
from securellm.telemetry.metrics import Metrics

T = TypeVar("T")


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """Every capability the story uses, wired by `bootstrap`. A broken one refuses; none can be left out."""

    snapshots: Snapshots
    running: Running
    identities: Identities
    policy: Policy
    limits: Limits
    guard: Guard
    cache: Cache
    idempotency: Idempotency
    custody: Custody
    router: Router
    finops: Finops
    providers: Providers
    journal: Journal
    preferences: PreferenceBook
    clock: Clock
    metrics: Metrics
    gate_seconds: float = 10.0
    reservation_seconds: float = 30.0
    """How long a reservation may wait for other requests' holds to be released."""

    def ask(
        self, gate: str, question: Coroutine[Any, Any, T], *, code: Code = Code.GATE_FAILED
    ) -> Coroutine[Any, Any, T]:
        return ask(gate, question, seconds=self.gate_seconds, code=code)

    def record(self, question: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Ask the journal, which has a bound of its own: only well beyond that is it taken for dead."""
        return ask("journal", question, seconds=1.5 * self.gate_seconds, code=Code.AUDIT_UNAVAILABLE)
