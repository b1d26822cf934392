"""The nouns of policy: the facts a decision rests on, and the proof that it was yes."""

from collections.abc import Collection

import msgspec

from securellm.core.surfaces import Surface


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


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that policy allows this model to this key."""

    model: str
    decision_id: str
    bundle: str
    reasons: tuple[str, ...]
    """Stable ids of the rules that said yes."""
