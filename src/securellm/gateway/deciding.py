"""What policy is asked about a request: the facts before its content is looked at, and after."""

from securellm.gateway.batching import release_inner
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.model import Request
from securellm.gateway.snapshot import Snapshot, TenantFacts
from securellm.gateway.stages import Admitted, Identified, Permitted
from securellm.guard import GuardMode, Screening
from securellm.policy import Facts


def facts_of(identified: Identified, request: Request, name: str, tenant: TenantFacts, snapshot: Snapshot) -> Facts:
    """What is known of a request for the model `name`, or with an empty name for its errand."""
    identity = identified.identity
    served = snapshot.models.get(name)
    ruled = snapshot.policies.of(tenant.id).asks
    return Facts(
        tenant=identity.tenant,
        key_id=identity.key_id,
        model=name,
        surface=identified.received.surface,
        key_models=identity.models,
        tenant_models=tenant.models,
        known_models=snapshot.models.keys(),
        bundle=snapshot.policy_version,
        errand=None if request.errand is None else request.errand.name,
        policies=snapshot.policies if ruled else None,
        stream=request.stream,
        principal=identity.principal,
        owner=None if identity.user is None else f"user:{identity.user}",
        project=identity.project,
        providers=frozenset({place.provider for place in served.candidates} if served is not None else ()),
        needs=frozenset([need.value for need in request.needs]),
    )


async def release(admitted: Admitted, screening: Screening, gates: Gates, case: Case) -> Admitted:
    """Ask the policy again, now that it is known what the guard found. The former permit is of no use any more."""
    former = admitted.permitted
    assert case.facts is not None
    found = case.seen = None if screening.mode is GuardMode.OFF else screening.seen
    permit = await gates.ask("policy", gates.policy.release(case.facts, found, decision_id=case.decision_id))
    permit = await release_inner(permit, found, gates, case)
    return Admitted(Permitted(former.identified, former.request, permit), admitted.admission)
