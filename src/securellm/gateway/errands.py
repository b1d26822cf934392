"""What no model answers: errands to the providers that keep a tenant's things."""

from collections.abc import Iterator

from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.custody import MOST_AT_ONCE
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.model import Request
from securellm.gateway.snapshot import ServedModel, Snapshot, TenantFacts
from securellm.gateway.stages import Permitted
from securellm.policy import visible_models
from securellm.providers import DIALECTS, BatchPart, Dialect, ReplyFacts
from securellm.routing import Candidate, PlannedAttempt
from securellm.transport import Timeouts

_LOOKS_AGAIN = 2
"""Attempts that may follow the first of an errand that only looks. Any other is never made twice by us."""


def served(permitted: Permitted, tenant: TenantFacts, snapshot: Snapshot) -> ServedModel:
    """The model that was permitted; of an errand, the providers that it may go to in the shape of a model.

    Those are the providers of the models that this key may use, the default model's first: whoever may not speak to
    any model there has nothing to look for there. Raises Refusal(NO_ROUTE) where none of them keeps such things.
    """
    errand = permitted.request.errand
    if errand is None:
        return snapshot.models[permitted.permit.model]
    places: dict[str, Candidate] = {}
    timeouts: dict[tuple[str, str], Timeouts] = {}
    names: dict[tuple[str, str], str] = {}
    for model in _usable(permitted, tenant, snapshot):
        for place in model.candidates:
            names.setdefault((place.provider, place.upstream_model), model.name)
            if errand.surface in place.surfaces and place.provider not in places:
                places[place.provider] = Candidate(
                    provider=place.provider, upstream_model="", surfaces=frozenset({errand.surface})
                )
                timeouts[place.provider, ""] = model.timeouts[place.provider, place.upstream_model]
    if not places:
        raise Refusal(Code.NO_ROUTE, f"no provider of a model that this key may use speaks {errand.surface}")
    return ServedModel(
        name="",
        candidates=tuple(places.values()),
        prices={},
        price_version=snapshot.models[next(iter(snapshot.models))].price_version,
        default_max_output=0,
        context_window=None,
        max_image_tokens=None,
        retries=_LOOKS_AGAIN if errand.looks else 0,
        timeouts=timeouts,
        cached=False,
        cache_ttl=None,
        names=names,
    )


def _usable(permitted: Permitted, tenant: TenantFacts, snapshot: Snapshot) -> Iterator[ServedModel]:
    """The models that this key may use, the default first."""
    key_models = permitted.identified.identity.models
    names = visible_models(key_models=key_models, tenant_models=tenant.models, known_models=snapshot.models.keys())
    for name in sorted(names, key=lambda name: name != snapshot.default_model):
        yield snapshot.models[name]


def dialect_of(request: Request, target: PlannedAttempt) -> Dialect:
    """How `target` is asked and read."""
    return DIALECTS[target.surface] if request.errand is None else request.errand.dialect


def told_name(model: ServedModel, target: PlannedAttempt, named: str | None) -> str | None:
    """What the caller calls the model that the provider names so; None where that is the same name."""
    if named is None:
        return None
    known = model.names.get((target.provider, named)) if not model.name else model.name
    return None if known == named or (model.name and named != target.upstream_model) else known


async def note_kept(facts: ReplyFacts, request: Request, target: PlannedAttempt, gates: Gates, case: Case) -> None:
    """What the provider keeps from now on, and what it does not keep any more.

    An errand that only looks is shown what was given out before. Of that, what the provider gave to nobody so far is
    this tenant's: it stands in a thing of this tenant's. What another was given stays another's. Raises
    UpstreamFailure(BAD_REPLY) for a thing that was not asked for.
    """
    errand = request.errand
    if request.names and facts.id is not None and facts.id not in request.names:
        raise UpstreamFailure(Code.BAD_REPLY, "the provider answered with another thing than was asked for")
    things = facts.kept[:MOST_AT_ONCE]
    shown = errand is not None and (errand.looks or errand.batch is BatchPart.SEEN)
    if shown and things and case.identity is not None:
        tenant = case.identity.tenant
        things = await gates.ask("custody", gates.custody.unknown(tenant, things, provider=target.provider))
    case.keep(things)
    if errand is not None and errand.ends:
        case.end(request.names[-1])
