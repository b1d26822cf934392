"""May they: the model allow-lists of tenants and keys, and the bundles of Cedar policies in force; default deny."""

from securellm.policy.bundles import Bundle, BundleRefused, Case, bundle_json, hash_of, open_bundle, read_bundle
from securellm.policy.comparing import Comparison, Standing, compare, questions_of
from securellm.policy.engine import CompiledBundle, PolicyRow
from securellm.policy.explaining import Explanation, compiled_of, explain
from securellm.policy.inforce import INSTALLATION, NO_POLICIES, Declared, Policies, compile_policies
from securellm.policy.model import Facts, GuardFacts, Obligations, Permit, PolicyDenied, Question
from securellm.policy.profiles import Profile
from securellm.policy.proving import prove
from securellm.policy.replaying import Held, Lineup, Replay, Traffic
from securellm.policy.reports import CaseResult, Report
from securellm.policy.rules import bound, bundle_of, guard_facts, question_of, visible_models
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
from securellm.policy.versions import State, Version

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
