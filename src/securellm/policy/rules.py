"""Pure decisions of policy: what a tenant may see, what one of its keys may use, and what a policy is asked."""

import hashlib
from collections.abc import Collection, Iterable, Mapping

from securellm.core.canonical import canonical_bytes
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.policy.facts import Facts
from securellm.policy.model import (
    INJECTION_STEPS,
    Answer,
    GuardFacts,
    Question,
    ShadowResult,
    Verdict,
)
from securellm.policy.schema import Action

EVERY = "*"


def decide(facts: Facts) -> tuple[str, ...]:
    """The ids of the rules that allow the request.

    Raises `Refusal`: UNKNOWN_MODEL for a model the tenant may not see, in the same words whether or not it
    exists; MODEL_NOT_ALLOWED for one the tenant may use and the key may not. An errand names no model: it takes a key
    that may use some model, else MODEL_NOT_ALLOWED. Which providers it reaches follows from those models.
    """
    if facts.errand is not None:
        if not any(_visible(facts, name) for name in facts.known_models):
            raise Refusal(Code.MODEL_NOT_ALLOWED, "the virtual key is not scoped to any model", param="model")
        return ("tenant.models", "key.models")
    if facts.model not in facts.known_models or not _lists(facts.tenant_models, facts.model):
        raise Refusal(Code.UNKNOWN_MODEL, "there is no model of this name", param="model")
    if not _lists(facts.key_models, facts.model):
        raise Refusal(Code.MODEL_NOT_ALLOWED, "the virtual key is not scoped to this model", param="model")
    return ("tenant.models", "key.models")


def visible_models(
    *, key_models: Collection[str], tenant_models: Collection[str], known_models: Collection[str]
) -> tuple[str, ...]:
    """The models that a key may use, in the order in which they are declared."""
    return tuple(
        name for name in known_models if name != EVERY and _lists(tenant_models, name) and _lists(key_models, name)
    )


def _visible(facts: Facts, name: str) -> bool:
    return _lists(facts.tenant_models, name) and _lists(facts.key_models, name)


def bundle_of(*, known_models: Collection[str], tenant_models: Mapping[str, Collection[str]]) -> str:
    """The version of a set of allow-lists: equal lists, equal version."""
    compiled = canonical_bytes(
        {
            "models": sorted(known_models),
            "tenants": {tenant: sorted(models) for tenant, models in tenant_models.items()},
        }
    )
    return f"lists-{hashlib.sha256(compiled).hexdigest()[:32]}"


def _lists(names: Collection[str], model: str) -> bool:
    # A request for "*" itself must not pass through the wildcard's own name.
    return model != EVERY and (model in names or EVERY in names)


def shadow_result(answer: Answer, tried: Answer) -> ShadowResult:
    """What would have been otherwise."""
    if answer.verdict is not tried.verdict:
        return ShadowResult.STRICTER if tried.verdict is Verdict.DENY else ShadowResult.LOOSER
    if answer.verdict is Verdict.ALLOW and answer.obligations != tried.obligations:
        return ShadowResult.OTHERWISE_BOUND
    return ShadowResult.SAME


def question_of(facts: Facts, *, hour: int, weekday: int, guard: GuardFacts | None = None) -> Question:
    """The facts of a request as a policy sees them. Equal questions may share an answer."""
    if facts.errand is not None:
        action = Action.USE_KEPT
    elif facts.surface in EMBEDDING:
        action = Action.EMBED
    else:
        action = Action.STREAM if facts.stream else Action.INVOKE
    return Question(
        action=action,
        resource=clamped(facts.model if facts.errand is None else facts.errand),
        principal=facts.principal or f"key:{facts.key_id}",
        tenant=facts.tenant,
        project=facts.project,
        owner=facts.owner,
        roles=facts.roles,
        surface=facts.surface.value,
        channel=facts.channel,
        hour=hour,
        weekday=weekday,
        providers=facts.providers,
        needs=facts.needs,
        approved_by=facts.approved_by,
        data_class=facts.data_class,
        region=facts.region,
        residency=facts.residency,
        budget_state=facts.budget_state,
        guard=guard,
    )


EMBEDDING = frozenset({Surface.EMBEDDINGS, Surface.EMBED_CONTENT, Surface.BATCH_EMBED_CONTENTS, Surface.OLLAMA_EMBED})


HOUR = 3_600_000_000
"""Microseconds: the step by which time is told to policies."""


def hour_and_weekday(now_us: int) -> tuple[int, int]:
    """In UTC, of microseconds since the Unix epoch; Monday is 1."""
    hours = now_us // HOUR
    # The epoch was a Thursday.
    return hours % 24, (hours // 24 + 3) % 7 + 1


def clamped(text: str) -> str:
    """`text`, or where it is very long its beginning and its digest: different texts stay different."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:160]}…{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


LONGEST_TEXT = 256


def guard_facts(found: Iterable[tuple[str, int]]) -> GuardFacts:
    """What policies see of findings, each a type and a score of 0..1000."""
    highest = 0
    types: set[str] = set()
    for kind, score in found:
        types.add(kind)
        if kind == INJECTION:
            highest = max(highest, score)
    return GuardFacts(injection=next(step for step in INJECTION_STEPS if step >= highest), findings=frozenset(types))


INJECTION = "injection"
"""The type of finding whose score is told."""
