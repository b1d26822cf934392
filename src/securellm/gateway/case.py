"""What one request's records will say: filled in as the story goes, read when a record is written."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from securellm.audit import (
    Corrected,
    Denied,
    FindingCount,
    IdempotencyKey,
    Intent,
    Outcome,
    OutcomeStatus,
    PolicyQuestion,
    ScreeningFacts,
)
from securellm.cache import Cached, CacheKey, Claim, Finished
from securellm.core.batches import Workload
from securellm.core.clock import Clock
from securellm.core.errors import Code, GatewayError, UpstreamFailure
from securellm.core.kept import Kept
from securellm.core.money import Nanos
from securellm.core.usage import Usage
from securellm.custody import MOST_AT_ONCE, Deposit, keepable
from securellm.finops import Correction, Reservation, Settlement
from securellm.gateway.model import Received, Request
from securellm.guard import Blocked, Finding, GuardMode, Screening, StreamScreen, Verdict
from securellm.identity import Identity
from securellm.limits import Admission
from securellm.policy import Facts, Permit, PolicyDenied, guard_facts
from securellm.routing import Plan, PlannedAttempt
from securellm.storage import Operation

REPLY_REDACTION = "reply_redaction"
"""The name of the guard's replacements on the way back, in the closed list of changes."""


class Asked(NamedTuple):
    """One model that the requests of a batch ask."""

    facts: Facts
    permit: Permit
    place: str
    """The first of them."""


class Paid(NamedTuple):
    """What a batch did cost."""

    batch: str
    """The provider's id of it."""
    cost: Nanos
    currency: str
    """Empty where it did cost nothing."""
    usage: Usage


class Case:
    """The facts of one request so far. Only the story writes here; only records and headers are made from it."""

    def __init__(self, received: Received, clock: Clock) -> None:
        self.received = received
        self._clock = clock
        self.decision_id = f"dec_{received.request_id.partition('_')[2]}"
        self.identity: Identity | None = None
        self.request: Request | None = None
        self.model = ""
        self.pinned: str | None = None
        """The one provider that may answer: the caller said so, or what the request continues is kept there."""
        self.facts: Facts | None = None
        """What policy was asked about."""
        self.inner_facts: list[Facts] = []
        """What it was asked about each model that the requests of a batch ask."""
        self.seen: Sequence[tuple[str, int]] | None = None
        """The types and scores that screening found; None before, and where nobody looked."""
        self.policy_version = ""
        self.rules: tuple[str, ...] = ()
        """The ids of the rules that permitted it."""
        self.guard_mode = GuardMode.STRICT
        self.guard_version = ""
        self.redact: frozenset[str] = frozenset()
        """Types that policy has cut out, whatever the tenant's guard does with them."""
        self.cache = "bypass"
        self.cache_key: CacheKey | None = None
        self.claim: Claim | None = None
        """That this is the first request of its idempotency key."""
        self.plan: Plan | None = None
        self.target: PlannedAttempt | None = None
        self.admission: Admission | None = None
        self.reservation: Reservation | None = None
        """What is held for it now; set before its record is on the way, so that whatever happens it is settled."""
        self.may_be_billed = False
        """Whether bytes of the running attempt may have reached a provider that has not said no."""
        self.billable_before = False
        """Whether that was so of an attempt before it."""
        self.changes: tuple[str, ...] = ()
        self.stream_screen: StreamScreen | None = None
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.model_served: str | None = None
        self.server_tool_uses: tuple[tuple[str, int], ...] = ()
        self.service_tier: str | None = None
        self.whole = False
        """Whether the provider's answer ended as its dialect says it must."""
        self.deposit: Deposit | None = None
        """What the provider keeps, and keeps no more, once the OUTCOME says so."""
        self.asked: list[Asked] = []
        """The models that the requests of a batch ask."""
        self.caps: dict[str, int | None] = {}
        """By the name of a model, how many tokens it may write where a request of the batch does not say."""
        self.workload: Workload | None = None
        """What the batch asks for that this request is about."""
        self.pledging: str | None = None
        """What the provider has begun and goes on with: all that is held stays presumed for it."""
        self.paid: Paid | None = None
        """What an earlier batch did cost, as the provider says now."""
        self.correction: Correction | None = None
        """The claim to say so in the OUTCOME."""
        self.corrects: Corrected | None = None
        self.beside: list[Operation] = []
        """What else is written in the OUTCOME's transaction."""
        self.then: list[Callable[[], None]] = []
        """What else follows once the OUTCOME is durable."""
        self.key_freed = False
        """Whether the OUTCOME says that the idempotency key may be used again."""
        self.closed = False
        """Whether the OUTCOME is written, or being written."""
        self.cut: Callable[[], GatewayError] | None = None
        """Makes the error that says why the story was stopped from outside: the caller's right to it has ended."""
        self.first_byte_us: int | None = None
        self.attempt_started = received.started
        self._kept: dict[str, Kept] = {}
        self._gone: list[str] = []
        self._prompt_findings: list[_Kind] = []
        self._reply_findings: list[_Kind] = []

    def screened(self, screening: Screening) -> None:
        self.guard_mode = screening.mode
        self.guard_version = screening.pack
        self.redact = screening.redact
        if self.seen is None and screening.mode is not GuardMode.OFF:
            self.seen = screening.seen
        self._prompt_findings += _kinds(screening.findings)

    def reply_screened(self, screening: Screening) -> None:
        self._reply_findings += _kinds(screening.findings)

    def withheld(self, findings: Iterable[Finding]) -> None:
        """One part of a reply is not given out, for what was found in it."""
        self._reply_findings += _kinds(findings)

    def note_first_byte(self) -> None:
        if self.first_byte_us is None:
            self.first_byte_us = self._elapsed_us(self.received.started)

    def keep(self, given: Iterable[Kept]) -> None:
        """The provider has given out ids by which this tenant may ask for something again."""
        for kept in given:
            if keepable(kept.id) and len(self._kept) < MOST_AT_ONCE:
                self._kept[kept.id] = kept

    def end(self, name: str) -> None:
        """The provider does not keep this any more."""
        self._gone.append(name)

    def attempt_seconds(self) -> float:
        return self._clock.monotonic() - self.attempt_started

    def intent(self) -> Intent:
        request, plan, identity, reservation = self.request, self.plan, self.identity, self.reservation
        assert request is not None
        assert plan is not None
        assert identity is not None
        assert reservation is not None
        target = self.target or plan.attempts[0]
        return Intent(
            request_id=self.received.request_id,
            trace_id=self.received.trace_id,
            tenant=identity.tenant,
            key_id=identity.key_id,
            principal=identity.principal,
            surface=self.received.surface,
            model=self.model,
            provider=target.provider,
            upstream_model=target.upstream_model,
            errand=None if request.errand is None else request.errand.name,
            names=request.names,
            route=tuple(attempt.place for attempt in plan.attempts),
            stream=request.stream,
            message_count=request.message_count,
            client_ip=self.received.client_ip or None,
            policy_version=self.policy_version,
            rules=self.rules,
            asked=self._questions(),
            price_version=reservation.price_version,
            guard_version=self.guard_version,
            decision_ids=(self.decision_id,),
            findings=_counts(self._prompt_findings),
            output_cap=reservation.output_cap,
            period=reservation.period,
            currency=reservation.currency,
            hold=reservation.amount,
            cache="miss" if self.cache == "miss" else "bypass",
            idempotency=None if self.claim is None else _stated(self.claim),
        )

    def outcome(self, settlement: Settlement, error: GatewayError | None) -> Outcome:
        if self.stream_screen is not None:
            self._reply_findings += _kinds(self.stream_screen.findings)
        findings = self._reply_findings
        if isinstance(error, Blocked):
            findings = findings + _kinds(error.findings)
        self.deposit = self._left_with_the_provider(settlement.reservation.tenant)
        self.key_freed = error is not None and self._certainly_unbilled(settlement)
        return Outcome(
            request_id=self.received.request_id,
            status=_status(error),
            http_status=200 if error is None else error.status,
            code=None if error is None else error.code,
            reason=None if error is None else error.reason,
            provider_code=error.provider_code if isinstance(error, UpstreamFailure) else None,
            provider=None if self.target is None else self.target.provider,
            model_served=self.model_served,
            finish=self.finish,
            attempts=settlement.reservation.attempt,
            usage=self.usage or Usage(),
            settled=settlement.settled,
            presumed=settlement.presumed,
            cost_known=settlement.cost_known,
            duration_us=self._elapsed_us(self.received.started),
            first_byte_us=self.first_byte_us,
            findings=_counts(findings),
            changes=(*self.changes, REPLY_REDACTION) if _redacted(findings) else self.changes,
            kept=() if self.deposit is None else self.deposit.things,
            gone=() if self.deposit is None else self.deposit.gone,
            workload=None if self.deposit is None else self.deposit.workload,
            pledged=None if settlement.pledge is None else settlement.pledge.thing,
            corrects=self.corrects,
            key_freed=self.key_freed,
        )

    def cached(self, hit: Cached | Finished, settlement: Settlement) -> Outcome:
        return Outcome(
            request_id=self.received.request_id,
            status=OutcomeStatus.CACHED if isinstance(hit, Cached) else OutcomeStatus.REPLAYED,
            http_status=hit.status,
            model_served=hit.model_served,
            attempts=0,
            settled=settlement.settled,
            presumed=settlement.presumed,
            cost_known=settlement.cost_known,
            duration_us=self._elapsed_us(self.received.started),
            answer_of=hit.request_id,
        )

    def denied(self, error: GatewayError) -> Denied:
        identity = self.identity
        findings = self._prompt_findings
        if isinstance(error, Blocked):
            findings = _kinds(error.findings)
        return Denied(
            request_id=self.received.request_id,
            trace_id=self.received.trace_id,
            tenant=None if identity is None else identity.tenant,
            key_id=None if identity is None else identity.key_id,
            principal=None if identity is None else identity.principal,
            surface=self.received.surface,
            model=self.model or None,
            errand=None if self.request is None or self.request.errand is None else self.request.errand.name,
            code=error.code,
            reason=error.reason,
            policy_version=self.policy_version or None,
            rules=error.rules if isinstance(error, PolicyDenied) else (),
            asked=self._questions() if isinstance(error, PolicyDenied) else (),
            decision_id=self.decision_id,
            client_ip=self.received.client_ip or None,
            findings=_counts(findings),
        )

    def _questions(self) -> tuple[PolicyQuestion, ...]:
        """What policy was asked. What a file was uploaded with was screened then: its models are asked without that."""
        if self.facts is None:
            return ()
        screened = None if self.seen is None else _screened(self.seen)
        own = _question(self.facts, screened)
        if not self.inner_facts:
            return (own,)
        screened = screened if self.asked else None
        inner = (
            msgspec.structs.replace(_question(facts, screened), model=facts.model, surface=facts.surface)
            for facts in self.inner_facts
        )
        return (own, *inner)

    def _left_with_the_provider(self, tenant: str) -> Deposit | None:
        if self.target is None or not (self._kept or self._gone):
            return None
        return Deposit(
            tenant=tenant,
            provider=self.target.provider,
            request_id=self.received.request_id,
            things=tuple(self._kept.values()),
            gone=tuple(self._gone),
            workload=self.workload if self._kept else None,
        )

    def _certainly_unbilled(self, settlement: Settlement) -> bool:
        """Whether asking again under the same idempotency key pays for nothing twice."""
        spent = settlement.settled or settlement.presumed or not settlement.cost_known
        return self.claim is not None and not spent and not self.billable_before

    def _elapsed_us(self, since: float) -> int:
        return max(0, int((self._clock.monotonic() - since) * 1_000_000))


def _status(error: GatewayError | None) -> OutcomeStatus:
    if error is None:
        return OutcomeStatus.OK
    if error.code is Code.TRUNCATED:
        return OutcomeStatus.TRUNCATED
    if error.code is Code.CLIENT_DISCONNECTED:
        return OutcomeStatus.CLIENT_DISCONNECTED
    return OutcomeStatus.FAILED if isinstance(error, UpstreamFailure) else OutcomeStatus.REFUSED


def _stated(claim: Claim) -> IdempotencyKey:
    return IdempotencyKey(key=claim.key.hex(), fingerprint=claim.fingerprint.hex(), expires_us=claim.expires_us)


def _question(facts: Facts, screened: ScreeningFacts | None) -> PolicyQuestion:
    return PolicyQuestion(
        stream=facts.stream,
        owner=facts.owner,
        project=facts.project,
        roles=tuple(sorted(facts.roles)),
        channel=facts.channel,
        providers=tuple(sorted(facts.providers)),
        needs=tuple(sorted(facts.needs)),
        approved_by=facts.approved_by,
        data_class=facts.data_class,
        region=facts.region,
        residency=facts.residency,
        budget_state=facts.budget_state,
        screened=screened,
    )


_CLEAN = ScreeningFacts()


def _screened(seen: Sequence[tuple[str, int]]) -> ScreeningFacts:
    if not seen:
        return _CLEAN
    found = guard_facts(seen)
    return ScreeningFacts(injection=found.injection, findings=tuple(sorted(found.findings)))


_Kind = tuple[str, str, str]
"""Of a finding: its type, the rule that found it, and what was done."""


def _redacted(findings: Sequence[_Kind]) -> bool:
    return any(action == Verdict.REDACT for _, _, action in findings)


def _kinds(findings: Iterable[Finding]) -> list[_Kind]:
    return [(finding.type, finding.rule, finding.action.value) for finding in findings]


def _counts(kinds: Sequence[_Kind]) -> tuple[FindingCount, ...]:
    if not kinds:
        return ()
    return tuple(
        FindingCount(type=type_, rule=rule, action=action, count=count)
        for (type_, rule, action), count in sorted(Counter(kinds).items())
    )
