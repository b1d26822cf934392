"""The models a key may use: what every list of models answers, in the gateway's own words."""

from typing import NamedTuple

from securellm.core.capabilities import Capability
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.gateway.capabilities import Gates
from securellm.gateway.completion import recognise
from securellm.gateway.snapshot import ServedModel
from securellm.policy import visible_models
from securellm.providers import DIRECTIONS
from securellm.routing import offered


class VisibleModel(NamedTuple):
    name: str
    owner: str
    """The first provider of its route."""
    surfaces: tuple[Surface, ...]
    """Where it answers this key, in translation or not, sorted by name."""
    context_window: int | None
    """Tokens it takes in at most, where that is known."""
    max_output: int | None
    """Tokens it gives out at most, where that is declared for each of its places."""
    offers: frozenset[Capability] | None
    """What some place of it is declared to offer; None: not declared, so it may be asked anything."""


async def list_models(gates: Gates, *, credential: str | None, client_ip: str) -> tuple[VisibleModel, ...]:
    """Only what this key may use; models of others do not exist here.

    Raises `Refusal` as any request does; whoever answers records it.
    """
    snapshot = gates.snapshots.read()
    identity = await recognise(gates, snapshot, credential, client_ip)
    tenant = snapshot.tenants.get(identity.tenant)
    if tenant is None:
        raise Refusal(Code.INVALID_KEY, "the key's tenant does not exist any more")
    ended = gates.running.ended(identity)
    if ended is not None:
        raise ended()
    names = visible_models(key_models=identity.models, tenant_models=tenant.models, known_models=snapshot.models.keys())
    return tuple(_visible(snapshot.models[name], identity.surfaces) for name in names)


def _visible(model: ServedModel, allowed: tuple[Surface, ...]) -> VisibleModel:
    surfaces = {surface for candidate in model.candidates for surface in candidate.surfaces}
    surfaces |= {asked for asked, spoken in DIRECTIONS if spoken in surfaces}
    outputs = [candidate.max_output for candidate in model.candidates if candidate.max_output is not None]
    return VisibleModel(
        model.name,
        model.candidates[0].provider,
        tuple(sorted(surface for surface in surfaces if not allowed or surface in allowed)),
        model.context_window,
        max(outputs) if len(outputs) == len(model.candidates) else None,
        offered(model.candidates),
    )
