"""The nouns of policy: what is asked, what was answered, and the proof that it was yes."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from securellm.core.errors import Code, Refusal
from securellm.policy.schema import Action

_Text = Annotated[str, msgspec.Meta(max_length=256)]
_Names = frozenset[Annotated[str, msgspec.Meta(max_length=256)]]

INJECTION_STEPS = (0, 143, 286, 429, 572, 715, 858, 1000)
"""The only scores a policy sees, so that decisions can be remembered; a score between two counts as the upper."""

REDACTABLE = frozenset({"cpf", "cnpj", "card", "email", "phone", "secret"})
"""What `@redact` may name: the guard's types of findings that can be cut out of a text."""


class GuardFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What screening found, as far as policies see it."""

    injection: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    findings: _Names = frozenset()


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Everything that a decision can depend on. None is not known. Equal questions have equal answers."""

    action: Action
    resource: _Text
    """The id of what it is done to: a model's name, `files.delete`, an action's name, …"""
    principal: Annotated[str, msgspec.Meta(pattern="^(key|user|service|agent):", max_length=256)]
    tenant: _Text
    project: _Text | None = None
    owner: Annotated[str, msgspec.Meta(pattern="^(user|service):", max_length=256)] | None = None
    """Whom a key or an agent acts for."""
    roles: _Names = frozenset()
    surface: _Text = ""
    channel: _Text = "api"
    hour: Annotated[int, msgspec.Meta(ge=0, le=23)] = 0
    """UTC."""
    weekday: Annotated[int, msgspec.Meta(ge=1, le=7)] = 1
    """UTC; Monday is 1."""
    providers: _Names = frozenset()
    needs: _Names = frozenset()
    approved_by: Annotated[int, msgspec.Meta(ge=0, le=99)] = 0
    fields: _Names | None = None
    data_class: Annotated[int, msgspec.Meta(ge=0, le=4)] | None = None
    region: _Text | None = None
    residency: _Text | None = None
    tool_risk: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    budget_state: _Text | None = None
    guard: GuardFacts | None = None


class Obligations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a yes is bound to."""

    redact: frozenset[str] = frozenset()
    """Types of findings that are cut out, whatever the tenant's guard does with them."""
    route: frozenset[str] | None = None
    """The only providers it may go to; None is any."""
    approvals: int = 0
    """How many people must have approved it."""


UNBOUND = Obligations()


class Verdict(StrEnum):
    """What a bundle says."""

    ALLOW = "allow"
    DENY = "deny"
    LATER = "later"
    """Nothing forbids it so far; the rules about what screening finds have not been asked."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one bundle says to one question."""

    verdict: Verdict
    rules: tuple[str, ...]
    """The ids of the policies that decided; none when nothing permits it."""
    obligations: Obligations = UNBOUND


class ShadowResult(StrEnum):
    """How a bundle in the shadow would have answered, beside the one in force."""

    SAME = "same"
    STRICTER = "stricter"
    LOOSER = "looser"
    OTHERWISE_BOUND = "otherwise_bound"
    """Allowed by both, on other terms."""
    UNSCREENED = "unscreened"
    """It asks what screening finds, and the tenant's guard is off."""
    ERROR = "error"


Effect = Literal["permit", "forbid"]


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that policy allows this key this model, or with an empty `model` the errand it asked for."""

    model: str
    decision_id: str
    bundle: str
    """Versions of all that was asked: the allow-lists, then the hashes of the bundles in force."""
    reasons: tuple[str, ...]
    """Stable ids of the rules that said yes."""
    obligations: Obligations = UNBOUND
    awaits_guard: bool = False
    """Not yet final: rules about what screening finds must be asked by `release`, or nothing may be sent."""
    release_due: bool = False
    """Whether `release` has something to ask, be it only for a bundle that is tried in the shadow."""

    @property
    def terms(self) -> str:
        """What an answer under this permit may depend on: equal terms, interchangeable answers."""
        if self.obligations is UNBOUND:
            return self.bundle
        route = self.obligations.route
        kept_to = "*" if route is None else ",".join(sorted(route))
        return f"{self.bundle} redact={','.join(sorted(self.obligations.redact))} route={kept_to}"


class PolicyDenied(Refusal):
    """A policy says no. The caller learns that; which one it was stands in the records."""

    def __init__(self, rules: tuple[str, ...], *, decision_id: str, code: Code = Code.POLICY_DENIED) -> None:
        reason = {
            Code.POLICY_DENIED: "the policy in force does not allow this",
            Code.APPROVAL_REQUIRED: "the policy in force asks for an approval of this",
        }[code]
        super().__init__(code, reason, decision_id=decision_id)
        self.rules = rules
