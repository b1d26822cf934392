"""The verbs of approvals: propose a change, find it again, and decide it once."""

from collections.abc import Callable
from typing import Any

import msgspec

from securellm.approvals import store
from securellm.approvals.model import Proposal, State, Verdict
from securellm.approvals.rules import decide, digest_of, state_at
from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.storage import Session

LIFETIME_US = 72 * 3600 * 1_000_000
"""Microseconds until a proposal that nobody decided counts as refused."""

MOST_OPEN = 100
"""Proposals of one principal that may wait at once."""


class Approvals:
    """Proposals of all tenants. Blocking: every method runs inside the caller's transaction."""

    def __init__(self, clock: Clock, randomness: Randomness) -> None:
        self._clock = clock
        self._ids = Ids(clock, randomness)

    def propose(
        self,
        session: Session,
        *,
        action: str,
        tenant: str | None,
        permission: str,
        arguments: dict[str, Any],
        requester: str,
        reason: str = "",
    ) -> Proposal:
        """Keep a change until another person decides it.

        Raises `Refusal`: CONFLICT when too many of the requester's wait already.
        """
        now_us = self._clock.now_us()
        if store.open_of(session, requester, now_us=now_us) >= MOST_OPEN:
            raise Refusal(Code.CONFLICT, f"{MOST_OPEN} proposals of the same principal wait already")
        proposal = Proposal(
            id=self._ids.new("prp"),
            tenant=tenant,
            action=action,
            permission=permission,
            arguments=arguments,
            digest=digest_of(action=action, tenant=tenant, arguments=arguments, requester=requester),
            requester=requester,
            reason=reason,
            created_us=now_us,
            expires_us=now_us + LIFETIME_US,
        )
        store.put(session, proposal)
        return proposal

    def get(self, session: Session, proposal_id: str) -> Proposal:
        """As of now. Raises `Refusal` (NOT_FOUND)."""
        found = store.get(session, proposal_id)
        if found is None:
            raise Refusal(Code.NOT_FOUND, "no proposal has this id")
        return self.as_of_now(found)

    def page(
        self,
        session: Session,
        *,
        after: str | None,
        limit: int,
        tenant: str | None = None,
        pending: bool = False,
    ) -> tuple[Proposal, ...]:
        """Up to `limit` proposals beyond the id `after`; of one tenant, or of all in scope."""
        pending_at = self._clock.now_us() if pending else None
        found = store.page(session, after=after, limit=limit, tenant=tenant, pending_at=pending_at)
        return tuple(self.as_of_now(proposal) for proposal in found)

    def decide(
        self,
        session: Session,
        proposal_id: str,
        verdict: Verdict,
        *,
        by: str,
        digest: str | None = None,
        note: str = "",
        alone: bool = False,
        execute: Callable[[Proposal], str] | None = None,
    ) -> Proposal:
        """Decide it, and once enough have approved `execute` it in this very transaction, or nothing of both.

        `execute` returns the id of what it made or changed. Raises what it and `rules.decide` raise.
        """
        proposal = self.get(session, proposal_id)
        decided = decide(proposal, verdict, by=by, digest=digest, note=note, now_us=self._clock.now_us(), alone=alone)
        if decided.state is State.EXECUTED:
            if execute is None:
                raise ValueError("an approval executes what it approves")
            decided = msgspec.structs.replace(decided, result=execute(proposal))
        if not store.replace(session, decided, before=proposal):
            raise Refusal(Code.CONFLICT, "the proposal was decided meanwhile")
        return decided

    def as_of_now(self, proposal: Proposal) -> Proposal:
        """`proposal`, expired where its time is over."""
        state: State = state_at(proposal, now_us=self._clock.now_us())
        return proposal if state is proposal.state else msgspec.structs.replace(proposal, state=state)
