"""The verbs of policy: permit, release, or refuse."""

from collections import OrderedDict
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault
from securellm.policy.engine import Failed
from securellm.policy.facts import Facts
from securellm.policy.inforce import Deciding, Policies, Scope
from securellm.policy.model import (
    UNBOUND,
    Answer,
    GuardFacts,
    Obligations,
    Permit,
    PolicyDenied,
    Question,
    ShadowResult,
    Verdict,
)
from securellm.policy.obligations import bound
from securellm.policy.rules import HOUR, decide, guard_facts, hour_and_weekday, question_of, shadow_result
from securellm.telemetry.logs import logger
from securellm.telemetry.metrics import Metrics

REMEMBERED = 16_384
"""Decisions that are kept at most."""

_LISTS = frozenset({"key_models", "tenant_models", "known_models", "bundle", "policies"})
"""The facts that are no part of a question: the allow-lists have decided by them, and the policies are the same."""
_asked = attrgetter(*(name for name in Facts.__struct_fields__ if name not in _LISTS))
"""All other facts, also those that are added one day."""

_log = logger("policy")
_UNRULED = Answer(verdict=Verdict.ALLOW, rules=())


class _Shadow(NamedTuple):
    """What a bundle in the shadow would have changed."""

    result: ShadowResult
    bundle: str
    rules: tuple[str, ...] = ()


class _Decision(NamedTuple):
    """What all bundles together said to one question."""

    denied: tuple[str, ...] | None
    """The policies that forbid it; empty when none permits it; None when it is permitted."""
    permitted: tuple[str, ...]
    obligations: Obligations
    shadows: tuple[_Shadow, ...]


class Policy:
    """The gate that alone mints a `Permit`. The allow-lists speak first; then each bundle in force must permit too."""

    def __init__(self, clock: Clock, *, metrics: Metrics, remembered: int = REMEMBERED) -> None:
        self._clock = clock
        self._metrics = metrics
        self._remembered = remembered
        self._memo: OrderedDict[object, _Decision] = OrderedDict()
        self._policies: Policies | None = None
        """Those that the remembered decisions were made by."""

    async def permit(self, facts: Facts, *, decision_id: str) -> Permit:
        """Raises `Refusal` (UNKNOWN_MODEL, MODEL_NOT_ALLOWED, POLICY_DENIED, APPROVAL_REQUIRED), Fault (GATE_FAILED).

        Where a bundle asks what screening finds, the permit awaits `release`.
        """
        reasons = decide(facts)
        if facts.policies is None:
            return Permit(model=facts.model, decision_id=decision_id, bundle=facts.bundle, reasons=reasons)
        deciding = facts.policies.of(facts.tenant)
        return self._permitted(facts, deciding, None, reasons, decision_id, last=False)

    async def release(self, facts: Facts, found: Iterable[tuple[str, int]] | None, *, decision_id: str) -> Permit:
        """Ask again, now that screening has found something or nothing: types and scores, None when nobody looked.

        Raises as `permit` does. What it returns awaits nothing.
        """
        reasons = decide(facts)
        if facts.policies is None:
            return Permit(model=facts.model, decision_id=decision_id, bundle=facts.bundle, reasons=reasons)
        deciding = facts.policies.of(facts.tenant)
        if found is None and deciding.needs_guard:
            raise Fault(Code.GATE_FAILED, "a policy asks what screening finds, and nothing was screened")
        guard = None if found is None else guard_facts(found)
        return self._permitted(facts, deciding, guard, reasons, decision_id, last=True)

    async def ask(self, question: Question, policies: Policies, *, decision_id: str, unruled: bool = False) -> Permit:
        """May this be done that is no request for a model: an action with a profile, a tool, a change. Not remembered.

        Where no bundle is in force it is refused, unless `unruled`. The question holds what screening found where a
        bundle asks for it. Raises `Refusal` (POLICY_DENIED, APPROVAL_REQUIRED), Fault (GATE_FAILED).
        """
        deciding = policies.of(question.tenant)
        if deciding.broken:
            raise _broken()
        if deciding.needs_guard and question.guard is None:
            raise Fault(Code.GATE_FAILED, "a policy asks what screening finds, and nothing was screened")
        if not unruled and all(scope.enforced is None for scope in deciding.scopes):
            raise PolicyDenied((), decision_id=decision_id)
        decision = _decide(deciding, question, final=True)
        self._tell(decision.shadows, question.tenant, decision_id)
        _refuse(decision, decision_id, approved_by=question.approved_by)
        return Permit(
            model="",
            decision_id=decision_id,
            bundle=deciding.basis,
            reasons=decision.permitted,
            obligations=decision.obligations,
        )

    def basis(self, facts: Facts) -> str:
        """The versions of all that decides about these facts, as a permit names them."""
        if facts.policies is None:
            return facts.bundle
        return _named(facts, facts.policies.of(facts.tenant))

    def _permitted(
        self,
        facts: Facts,
        deciding: Deciding,
        guard: GuardFacts | None,
        reasons: tuple[str, ...],
        decision_id: str,
        *,
        last: bool,
    ) -> Permit:
        if deciding.broken:
            raise _broken()
        decision = self._decided(facts, deciding, guard, last=last)
        if decision.shadows:
            self._tell(decision.shadows, facts.tenant, decision_id)
        _refuse(decision, decision_id, approved_by=facts.approved_by)
        return Permit(
            model=facts.model,
            decision_id=decision_id,
            bundle=_named(facts, deciding),
            reasons=reasons + decision.permitted,
            obligations=decision.obligations,
            awaits_guard=deciding.needs_guard and not last,
            release_due=deciding.release_due and not last,
        )

    def _decided(self, facts: Facts, deciding: Deciding, guard: GuardFacts | None, *, last: bool) -> _Decision:
        """What the bundles say, remembered. Raises Failed, which is never remembered."""
        if facts.policies is not self._policies:
            self._memo.clear()
            self._policies = facts.policies
        hours = self._clock.now_us() // HOUR
        key = (_asked(facts), hours, guard, last)
        decision = self._memo.get(key)
        if decision is not None:
            self._memo.move_to_end(key)
            return decision
        hour, weekday = hour_and_weekday(hours * HOUR)
        question = question_of(facts, hour=hour, weekday=weekday, guard=guard)
        decision = _decide(deciding, question, final=last or not deciding.release_due)
        self._memo[key] = decision
        if len(self._memo) > self._remembered:
            self._memo.popitem(last=False)
        return decision

    def _tell(self, shadows: tuple[_Shadow, ...], tenant: str, decision_id: str) -> None:
        """Count what bundles in the shadow would have changed, and log it where they would."""
        for shadow in shadows:
            self._metrics.policy_shadow.labels(shadow.result.value).inc()
            if shadow.result not in (ShadowResult.SAME, ShadowResult.UNSCREENED):
                _log.info(
                    "policy_shadow",
                    decision_id=decision_id,
                    tenant=tenant,
                    result=shadow.result.value,
                    bundle=shadow.bundle,
                    rules=shadow.rules,
                )


def _refuse(decision: _Decision, decision_id: str, *, approved_by: int) -> None:
    """Raises PolicyDenied unless it is permitted, and approved by as many people as it must be."""
    if decision.denied is not None:
        raise PolicyDenied(decision.denied, decision_id=decision_id)
    if decision.obligations.approvals > approved_by:
        raise PolicyDenied(decision.permitted, decision_id=decision_id, code=Code.APPROVAL_REQUIRED)


def _broken() -> Fault:
    return Fault(Code.GATE_FAILED, "a policy bundle in force cannot be loaded")


def _decide(deciding: Deciding, question: Question, *, final: bool) -> _Decision:
    """Ask every bundle. With `final`, or once it is denied, those in the shadow too. Raises Failed."""
    answers = [_UNRULED if scope.enforced is None else scope.enforced.ask(question) for scope in deciding.scopes]
    denials = [answer.rules for answer in answers if answer.verdict is Verdict.DENY]
    permits = [answer for answer in answers if answer.verdict is not Verdict.DENY]
    shadows = [
        _shadow(scope, answer, question)
        for scope, answer in zip(deciding.scopes, answers, strict=True)
        if scope.shadow is not None and answer.verdict is not Verdict.LATER and (final or denials)
    ]
    return _Decision(
        denied=sum(denials, ()) if denials else None,
        permitted=sum((answer.rules for answer in permits), ()),
        obligations=bound(answer.obligations for answer in permits) if not denials else UNBOUND,
        shadows=tuple(shadow for shadow in shadows if shadow is not None),
    )


def _shadow(scope: Scope, answer: Answer, question: Question) -> _Shadow | None:
    """What the bundle in the shadow would have changed. It never decides, and never fails."""
    shadow = scope.shadow
    if shadow is None:
        return None
    if shadow.mentions_guard and question.guard is None:
        return _Shadow(ShadowResult.UNSCREENED, shadow.hash)
    try:
        tried = shadow.ask(question)
    except Failed:
        return _Shadow(ShadowResult.ERROR, shadow.hash)
    return _Shadow(shadow_result(answer, tried), shadow.hash, tried.rules)


def _named(facts: Facts, deciding: Deciding) -> str:
    return f"{facts.bundle} {deciding.basis}" if deciding.basis else facts.bundle
