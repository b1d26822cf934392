"""What a decision about a request rests on."""

from collections.abc import Collection

import msgspec

from securellm.core.surfaces import Surface
from securellm.policy.inforce import Policies


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a request before its content is looked at. In both lists `"*"` stands for every model."""

    tenant: str
    key_id: str
    model: str
    surface: Surface
    key_models: Collection[str]
    tenant_models: Collection[str]
    known_models: Collection[str]
    bundle: str
    """The version of the allow-lists that these facts were read from."""
    errand: str | None = None
    """What is asked of things that a provider keeps, such as `files.delete`; then `model` is empty."""
    policies: Policies | None = None
    """The bundles in force; None where there are none."""
    stream: bool = False
    principal: str = ""
    """`key:<id>` or `service:<id>`; empty is the key."""
    owner: str | None = None
    """`user:<id>` or `service:<id>` for whom the key acts."""
    project: str | None = None
    roles: frozenset[str] = frozenset()
    channel: str = "api"
    providers: frozenset[str] = frozenset()
    """Who can serve the model."""
    needs: frozenset[str] = frozenset()
    approved_by: int = 0
    """How many people approved exactly this."""
    data_class: int | None = None
    region: str | None = None
    residency: str | None = None
    budget_state: str | None = None
