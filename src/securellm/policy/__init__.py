"""May they: the model allow-lists of tenants and keys, and the bundles of Cedar policies in force; default deny."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.policy.bundles import Bundle, BundleRefused, Case, bundle_json, hash_of, open_bundle, read_bundle
    from securellm.policy.comparing import Comparison, Standing, compare, questions_of
    from securellm.policy.engine import CompiledBundle, PolicyRow
    from securellm.policy.explaining import Explanation, compiled_of, explain
    from securellm.policy.facts import Facts
    from securellm.policy.inforce import INSTALLATION, NO_POLICIES, Declared, Policies, compile_policies
    from securellm.policy.lifecycle import State, Version
    from securellm.policy.model import GuardFacts, Obligations, Permit, PolicyDenied, Question
    from securellm.policy.obligations import bound
    from securellm.policy.profiles import Profile
    from securellm.policy.proving import prove
    from securellm.policy.replaying import Held, Lineup, Replay, Traffic
    from securellm.policy.reports import CaseResult, Report
    from securellm.policy.rules import bundle_of, guard_facts, question_of, visible_models
    from securellm.policy.schema import SCHEMA, Action
    from securellm.policy.service import Policy
    from securellm.policy.store import (
        VERSIONS,
        enforce,
        propose,
        stored_policies,
        to_shadow,
        version,
        versions,
        withdraw,
    )
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "INSTALLATION",
    "NO_POLICIES",
    "SCHEMA",
    "VERSIONS",
    "Action",
    "Bundle",
    "BundleRefused",
    "Case",
    "CaseResult",
    "Comparison",
    "CompiledBundle",
    "Declared",
    "Explanation",
    "Facts",
    "GuardFacts",
    "Held",
    "Lineup",
    "Obligations",
    "Permit",
    "Policies",
    "Policy",
    "PolicyDenied",
    "PolicyRow",
    "Profile",
    "Question",
    "Replay",
    "Report",
    "Standing",
    "State",
    "Traffic",
    "Version",
    "bound",
    "bundle_json",
    "bundle_of",
    "compare",
    "compile_policies",
    "compiled_of",
    "enforce",
    "explain",
    "guard_facts",
    "hash_of",
    "open_bundle",
    "propose",
    "prove",
    "question_of",
    "questions_of",
    "read_bundle",
    "stored_policies",
    "to_shadow",
    "version",
    "versions",
    "visible_models",
    "withdraw",
]
