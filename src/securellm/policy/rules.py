"""Pure decisions of policy: what a tenant may see, and what one of its keys may use."""

import hashlib
from collections.abc import Collection, Mapping

from securellm.core.canonical import canonical_bytes
from securellm.core.errors import Code, Refusal
from securellm.policy.model import Facts

EVERY = "*"


def decide(facts: Facts) -> tuple[str, ...]:
    """The ids of the rules that allow the request.

    Raises `Refusal`: UNKNOWN_MODEL for a model the tenant may not see, in the same words whether or not it
    exists; MODEL_NOT_ALLOWED for one the tenant may use and the key may not.
    """
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
