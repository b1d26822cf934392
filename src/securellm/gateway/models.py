"""The models a key may use: what GET /v1/models answers, in the gateway's own words."""

from typing import NamedTuple

from securellm.core.errors import Code, GatewayError, Refusal
from securellm.gateway.capabilities import Gates
from securellm.gateway.completion import recognise
from securellm.policy import visible_models


class VisibleModel(NamedTuple):
    name: str
    owner: str
    """The first provider of its route."""
    surfaces: tuple[str, ...]


async def list_models(gates: Gates, *, credential: str | None, client_ip: str) -> tuple[VisibleModel, ...]:
    """Only what this key may use; models of others do not exist here. Raises `Refusal` as any request does."""
    snapshot = gates.snapshots.read()
    try:
        identity = await recognise(gates, snapshot, credential, client_ip)
        tenant = snapshot.tenants.get(identity.tenant)
        if tenant is None:
            raise Refusal(Code.INVALID_KEY, "the key's tenant does not exist any more")
    except GatewayError as error:
        gates.journal.deny_unauthenticated(error, client_ip)
        raise
    names = visible_models(key_models=identity.models, tenant_models=tenant.models, known_models=snapshot.models.keys())
    return tuple(
        VisibleModel(
            name,
            snapshot.models[name].candidates[0].provider,
            tuple(
                sorted(
                    {surface.value for candidate in snapshot.models[name].candidates for surface in candidate.surfaces}
                )
            ),
        )
        for name in names
    )
