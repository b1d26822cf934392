"""Cedar, and what must stand around it so that no error ever becomes a yes.

The engine skips a policy that fails, also one that forbids; so a decision with any diagnostic error is no decision.
Without a schema it would not even notice that an attribute is missing; so the schema is always passed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from securellm.core.errors import Code, Fault
from securellm.policy.model import UNBOUND, Answer, Effect, Obligations, Question, Verdict
from securellm.policy.obligations import bound
from securellm.policy.schema import GUARD, PRINCIPALS, RESOURCES, SCHEMA, Action

SLICED = 4_000
"""Policies that the slices of one bundle hold at most together; what exceeds that is asked of the whole bundle."""

_encode = msgspec.json.Encoder(order="deterministic").encode

Name = tuple[str, str]
"""An entity: its type and its id."""


class _Cedar(NamedTuple):
    engine: ModuleType
    schema: Any


@cache
def _cedar() -> _Cedar:
    # Loaded with the first policy: a gateway without any should not pay for the engine.
    import cedarpy

    return _Cedar(cedarpy, cedarpy.Schema.from_str(SCHEMA))


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the parentheses of a policy; None is everything. A question that it leaves out never applies."""

    principal: Name | None = None
    """Who must be asking, or in what they must be."""
    actions: frozenset[Action] | None = None
    resource: Name | None = None
    """What must be asked for, or in what it must be."""


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one policy of a bundle."""

    id: str
    """Its `@id`."""
    effect: Effect
    head: Head = Head()
    names: frozenset[Name] | None = None
    """Every entity that it names anywhere; None when that is not known."""
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

    def ask(self, question: Question, *, named: Collection[Name] | None = None) -> Told:
        """Raises Failed. `named` are at least the entities that the policies name: of others nothing need be said."""
        cedar, schema = self._cedar
        try:
            result = cedar.is_authorized(request_of(question), self._parsed, entities_of(question, named), schema)
            decision, diagnostics = result.decision, result.diagnostics
            ids = diagnostics.id_annotations_by_reason
            rules = tuple(sorted([ids[reason] for reason in diagnostics.reasons]))
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise Failed(type(error).__name__) from None
        if decision is cedar.Decision.NoDecision:
            raise Failed("the question does not fit the schema")
        if diagnostics.errors:
            raise Failed("a policy failed")
        return Told(decision is cedar.Decision.Allow, rules)


class _Heads:
    """Which policies' heads take a question in. Sets of policies are integers, a bit for each."""

    def __init__(self, heads: Iterable[Head]) -> None:
        self._principals: dict[Name | None, int] = {None: 0}
        self._resources: dict[Name | None, int] = {None: 0}
        self._actions = dict.fromkeys(Action, 0)
        for number, head in enumerate(heads):
            bit = 1 << number
            self._principals[head.principal] = self._principals.get(head.principal, 0) | bit
            self._resources[head.resource] = self._resources.get(head.resource, 0) | bit
            for action in Action if head.actions is None else head.actions:
                self._actions[action] |= bit

    def taking(self, question: Question) -> int:
        """The policies that may apply; no other can. Raises Failed."""
        principals, resources = self._principals, self._resources
        by_principal, by_resource = principals[None], resources[None]
        try:
            for name in _asking(question):
                by_principal |= principals.get(name, 0)
            for name in _asked_for(question):
                by_resource |= resources.get(name, 0)
            return by_principal & self._actions[question.action] & by_resource
        except (KeyError, TypeError) as error:
            raise Failed(type(error).__name__) from None


class CompiledBundle:
    """A bundle that can be asked. What it says never changes.

    A question is asked only of the policies whose heads take it in, and the engine is told only of entities that some
    policy names: it would look at all the others, too, and to no end.
    """

    def __init__(self, hash: str, segments: Sequence[str], rows: Sequence[PolicyRow], *, sliced: int = SLICED) -> None:  # noqa: A002 - its name
        """`segments` and `rows` are the policies in the same order. Raises ValueError."""
        if len(segments) != len(rows):
            raise ValueError("not every policy is described")
        self.hash = hash
        self.rows: Mapping[str, PolicyRow] = {row.id: row for row in rows}
        if len(self.rows) != len(rows):
            raise ValueError("two policies have one id")
        self._segments = tuple(segments)
        self._heads = _Heads(row.head for row in rows)
        self._named = _united(row.names for row in rows)
        self._late = sum(1 << number for number, row in enumerate(rows) if row.mentions_guard)
        self.mentions_guard = bool(self._late)
        whole = PolicySet("".join(segments))
        if len(whole) != len(rows):
            raise ValueError("the text holds another number of policies")
        self._whole = (1 << len(rows)) - 1
        self._slices = {self._whole: whole, self._whole & ~self._late: self._parsed(self._whole & ~self._late)}
        self._room = sliced

    def ask(self, question: Question) -> Answer:
        """What it says. Raises Failed.

        Before screening, the rules about what screening finds are left out: what the others forbid is final, all else
        is LATER, with the obligations that hold already.
        """
        early = self.mentions_guard and question.guard is None
        told = self._slice(self._heads.taking(question), early=early).ask(question, named=self._named)
        if not told.allowed and (not early or told.rules):
            return Answer(verdict=Verdict.DENY, rules=told.rules)
        obligations = bound(self.rows[rule].obligations for rule in told.rules)
        verdict = Verdict.LATER if early else Verdict.ALLOW
        return Answer(verdict=verdict, rules=told.rules, obligations=obligations)

    def _slice(self, taking: int, *, early: bool) -> PolicySet:
        """The policies `taking`, or with them others that cannot apply."""
        if early:
            taking &= ~self._late
        found = self._slices.get(taking)
        if found is not None:
            return found
        size = taking.bit_count()
        if size > self._room:
            return self._slices[self._whole & ~self._late if early else self._whole]
        self._room -= size
        # Two threads may both make it: the same slice, and a little less room.
        return self._slices.setdefault(taking, self._parsed(taking))

    def _parsed(self, policies: int) -> PolicySet:
        return PolicySet("".join(text for number, text in enumerate(self._segments) if policies >> number & 1))

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


def _asking(question: Question) -> list[Name]:
    """The principal, then all that it is in: its tenant, its project, whom it acts for, its roles."""
    kind, _, principal = question.principal.partition(":")
    names = [(PRINCIPALS[kind], principal), ("Tenant", question.tenant)]
    if question.project is not None:
        names.append(("Project", question.project))
    if question.owner is not None:
        owner, _, owner_id = question.owner.partition(":")
        names.append((PRINCIPALS[owner], owner_id))
    if question.roles:
        names += [("Role", role) for role in sorted(question.roles)]
    return names


def _asked_for(question: Question) -> list[Name]:
    """The resource, then what it is in."""
    names = [(RESOURCES[question.action], question.resource)]
    if question.action in _GROUPED:
        group, separator = _GROUPED[question.action]
        family, _, rest = question.resource.partition(separator)
        if rest:
            names.append((group, family))
    return names


def entities_of(question: Question, named: Collection[Name] | None = None) -> str:
    """Who is in what, and what is in what, as JSON for the engine; with `named` only where that is one of them."""
    known = []
    for first, *others in (_asking(question), _asked_for(question)):
        groups = others if named is None else [name for name in others if name in named]
        if groups:
            known.append(_entity(first, groups))
    return _encode(known).decode("utf-8") if known else "[]"


def _entity(name: Name, groups: Iterable[Name]) -> dict[str, Any]:
    return {"uid": _uid(name), "attrs": {}, "parents": [_uid(group) for group in groups]}


def _uid(name: Name) -> dict[str, str]:
    return {"type": name[0], "id": name[1]}


def _united(names: Iterable[frozenset[Name] | None]) -> frozenset[Name] | None:
    """All of them; None when one is not known."""
    united: set[Name] = set()
    for one in names:
        if one is None:
            return None
        united |= one
    return frozenset(united)


_GROUPED = {Action.USE_KEPT: ("Kept", "."), Action.TOOL_CALL: ("Server", "/")}
"""Whose resources belong to a group: `files.delete` to `files`, `server/tool` to its server."""
