"""May they: the model allow-lists of tenants and keys, default deny."""

from securellm.policy.model import Facts, Permit
from securellm.policy.rules import bundle_of, visible_models
from securellm.policy.service import Policy

__all__ = ["Facts", "Permit", "Policy", "bundle_of", "visible_models"]
