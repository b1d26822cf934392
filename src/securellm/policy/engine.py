"""Cedar, and what must stand around it so that no error ever becomes a yes.

The engine skips a policy that fails, also one that forbids; so a decision with any diagnostic error is no decision.
Without a schema it would not even notice that an attribute is missing; so the schema is always passed.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from securellm.core.errors import Code, Fault
from securellm.policy.model import UNBOUND, Answer, Effect, Obligations, Question, Verdict
from securellm.policy.rules import bound
from securellm.policy.schema import GUARD, PRINCIPALS, RESOURCES, SCHEMA, Action

_encode = msgspec.json.Encoder(order="deterministic").encode


class _Cedar(NamedTuple):
    engine: ModuleType
    schema: Any


@cache
def _cedar() -> _Cedar:
    # Loaded with the first policy: a gateway without any should not pay for the engine.
    import cedarpy

    return _Cedar(cedarpy, cedarpy.Schema.from_str(SCHEMA))


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one policy of a bundle."""

    id: str
    """Its `@id`."""
    effect: Effect
    obligations: Obligations = UNBOUND
    mentions_guard: bool = False
    note: str = ""


class Failed(Fault):
    """The engine gave no clean decision. Nothing is allowed on its account."""

    def __init__(self, reason: str) -> None:
        super().__init__(Code.GATE_FAILED, f"the policy engine gave no decision: {reason}")


class Told(NamedTuple):
    """What the engine said to one question."""

    allowed: bool
    rules: tuple[str, ...]


class PolicySet:
    """Parsed policies. Raises ValueError for a text that is not Cedar; a hostile text may end the process.

    So a text comes here only after `scanning.segments`, and in the gateway only after it has been tried in a child.
    """

    def __init__(self, text: str) -> None:
        self._cedar = _cedar()
        self._parsed = self._cedar.engine.PolicySet.from_str(text)

    def __len__(self) -> int:
        return len(self._parsed)

    def ask(self, question: Question) -> Told:
        """Raises Failed."""
        cedar, schema = self._cedar
        try:
            result = cedar.is_authorized(request_of(question), self._parsed, entities_of(question), schema)
            decision, diagnostics = result.decision, result.diagnostics
            named = diagnostics.id_annotations_by_reason
            rules = tuple(sorted([named[reason] for reason in diagnostics.reasons]))
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise Failed(type(error).__name__) from None
        if decision is cedar.Decision.NoDecision:
            raise Failed("the question does not fit the schema")
        if diagnostics.errors:
            raise Failed("a policy failed")
        return Told(decision is cedar.Decision.Allow, rules)


class CompiledBundle:
    """A bundle that can be asked. Never changes."""

    def __init__(self, hash: str, segments: Sequence[str], rows: Sequence[PolicyRow]) -> None:  # noqa: A002 - its name
        """`segments` and `rows` are the policies in the same order. Raises ValueError."""
        if len(segments) != len(rows):
            raise ValueError("not every policy is described")
        self.hash = hash
        self.rows: Mapping[str, PolicyRow] = {row.id: row for row in rows}
        if len(self.rows) != len(rows):
            raise ValueError("two policies have one id")
        self.mentions_guard = any(row.mentions_guard for row in rows)
        self._whole = PolicySet("".join(segments))
        if len(self._whole) != len(rows):
            raise ValueError("the text holds another number of policies")
        self._before: PolicySet | None = None
        if self.mentions_guard:
            before = [text for text, row in zip(segments, rows, strict=True) if not row.mentions_guard]
            self._before = PolicySet("".join(before))

    def ask(self, question: Question) -> Answer:
        """What it says. Raises Failed.

        Before screening, the rules about what screening finds are left out: what the others forbid is final, all else
        is LATER, with the obligations that hold already.
        """
        early = self._before if question.guard is None else None
        told = (self._whole if early is None else early).ask(question)
        if not told.allowed and (early is None or told.rules):
            return Answer(verdict=Verdict.DENY, rules=told.rules)
        obligations = bound(self.rows[rule].obligations for rule in told.rules)
        verdict = Verdict.ALLOW if early is None else Verdict.LATER
        return Answer(verdict=verdict, rules=told.rules, obligations=obligations)

    def ask_all(self, questions: Iterable[Question]) -> list[Answer | Failed]:
        """As `ask`, for each; what fails is part of the answer."""
        answers: list[Answer | Failed] = []
        for question in questions:
            try:
                answers.append(self.ask(question))
            except Failed as failure:
                answers.append(failure)
        return answers


def request_of(question: Question) -> dict[str, Any]:
    """The question in the engine's words. The context holds integers, bounded texts and sets of them, nothing else."""
    kind, _, principal = question.principal.partition(":")
    context: dict[str, Any] = {
        "surface": question.surface,
        "channel": question.channel,
        "hour": question.hour,
        "weekday": question.weekday,
        "providers": question.providers,
        "needs": question.needs,
        "approved_by": question.approved_by,
    }
    for name in _OPTIONAL:
        value = getattr(question, name)
        if value is not None:
            context[name] = value
    if question.guard is not None:
        context[GUARD] = {"injection": question.guard.injection, "findings": question.guard.findings}
    return {
        "principal": {"type": PRINCIPALS[kind], "id": principal},
        "action": {"type": "Action", "id": question.action.value},
        "resource": {"type": RESOURCES[question.action], "id": question.resource},
        "context": _encode(context).decode("utf-8"),
    }


_OPTIONAL = ("fields", "data_class", "region", "residency", "tool_risk", "budget_state")


def entities_of(question: Question) -> str:
    """Who is in what. The principal belongs to its tenant, project, roles and to whom it acts for."""
    kind, _, principal = question.principal.partition(":")
    parents = [{"type": "Tenant", "id": question.tenant}]
    if question.project is not None:
        parents.append({"type": "Project", "id": question.project})
    if question.owner is not None:
        owner, _, owner_id = question.owner.partition(":")
        parents.append({"type": PRINCIPALS[owner], "id": owner_id})
    parents += [{"type": "Role", "id": role} for role in sorted(question.roles)]
    known = [{"uid": {"type": PRINCIPALS[kind], "id": principal}, "attrs": {}, "parents": parents}]
    if question.action in _GROUPED:
        family, _, rest = question.resource.partition(_GROUPED[question.action][1])
        if rest:
            kind_of, group = RESOURCES[question.action], _GROUPED[question.action][0]
            uid = {"type": kind_of, "id": question.resource}
            known.append({"uid": uid, "attrs": {}, "parents": [{"type": group, "id": family}]})
    return _encode(known).decode("utf-8")


_GROUPED = {Action.USE_KEPT: ("Kept", "."), Action.TOOL_CALL: ("Server", "/")}
"""Whose resources belong to a group: `files.delete` to `files`, `server/tool` to its server."""
