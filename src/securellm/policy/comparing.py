"""The difference that a bundle makes: every question that two bundles can tell apart, and what each answers."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from math import gcd, prod
from typing import Any

import msgspec

from securellm.core.capabilities import Capability
from securellm.core.surfaces import Surface
from securellm.policy.bundles import Bundle
from securellm.policy.engine import CompiledBundle, Failed
from securellm.policy.model import INJECTION_STEPS, UNBOUND, Answer, GuardFacts, Obligations, Question, Verdict
from securellm.policy.schema import ADMIN, ADMINISTRATORS, PRINCIPALS, RESOURCES, USE_MODEL, Action

MOST = 40_000
"""Questions of one comparison."""
EXAMPLES = 3
OTHER = "any-other"
"""Stands for every name that no policy says."""


class Lattice(msgspec.Struct, frozen=True, kw_only=True):
    """The questions that some bundles can tell apart."""

    questions: tuple[Question, ...]
    size: int
    """How many there are."""

    @property
    def exhaustive(self) -> bool:
        """Whether every one of them is asked; otherwise they are an even sample."""
        return len(self.questions) == self.size


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as it is compared and shown."""

    decision: str
    """`allow`, `deny` or `error`."""
    rules: tuple[str, ...] = ()
    redact: tuple[str, ...] = ()
    route: tuple[str, ...] | None = None
    approvals: int = 0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Questions that were answered in one way and are now answered in another."""

    before: Standing
    after: Standing
    count: int
    examples: tuple[Question, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changes when one bundle takes the other's place."""

    changes: tuple[Change, ...]
    asked: int
    size: int
    """Questions that there are; more than were asked when they were sampled."""

    @property
    def exhaustive(self) -> bool:
        """Whether every question that could differ was asked."""
        return self.asked == self.size

    @property
    def looser(self) -> int:
        """Questions that were not allowed before and are now."""
        return sum(
            change.count
            for change in self.changes
            if change.after.decision == "allow" and change.before.decision != "allow"
        )


def questions_of(bundles: Sequence[Bundle], *, most: int = MOST) -> Lattice:
    """Every combination of what the bundles mention: each name, each value between their bounds, and one other.

    The texts must have been scanned. What no policy mentions does not vary.
    """
    # Loaded with the first policy, as in `engine`.
    from cedarpy import policies_to_json_str

    named = _Mentioned()
    for bundle in bundles:
        for text in bundle.texts.values():
            for policy in json.loads(policies_to_json_str(text))["staticPolicies"].values():
                named.read(policy)
    axes = named.axes()
    size = prod(len(axis) for axis in axes.values())
    stride = 1 if size <= most else _stride(size, most)
    questions = tuple(_question(_corner(axes, index)) for index in range(0, size, stride))
    return Lattice(questions=questions, size=size)


def compare(old: CompiledBundle | None, new: CompiledBundle | None, lattice: Lattice) -> Comparison:
    """What changes between two bundles; None is no bundle: the allow-lists alone decide, so it allows everything.

    The ids of the policies that decide may change without a change of the decision: that is not counted.
    """
    found: dict[bytes, tuple[Standing, Standing, list[Question], int]] = {}
    for question in lattice.questions:
        before, after = standing(old, question), standing(new, question)
        if _decided(before) == _decided(after):
            continue
        key = msgspec.json.encode((before, after))
        kept = found.get(key, (before, after, [], 0))
        if len(kept[2]) < EXAMPLES:
            kept[2].append(question)
        found[key] = (before, after, kept[2], kept[3] + 1)
    changes = [
        Change(before=before, after=after, count=count, examples=tuple(examples))
        for before, after, examples, count in found.values()
    ]
    changes.sort(key=lambda change: -change.count)
    return Comparison(changes=tuple(changes), asked=len(lattice.questions), size=lattice.size)


def standing(bundle: CompiledBundle | None, question: Question) -> Standing:
    """What a bundle answers, as it is shown."""
    if bundle is None:
        return Standing(decision="allow")
    try:
        answer = bundle.ask(question)
    except Failed:
        return Standing(decision="error")
    return shown(answer)


def shown(answer: Answer) -> Standing:
    obligations: Obligations = answer.obligations if answer.verdict is not Verdict.DENY else UNBOUND
    return Standing(
        decision="deny" if answer.verdict is Verdict.DENY else "allow",
        rules=answer.rules,
        redact=tuple(sorted(obligations.redact)),
        route=None if obligations.route is None else tuple(sorted(obligations.route)),
        approvals=obligations.approvals,
    )


def _decided(standing: Standing) -> tuple[object, ...]:
    return standing.decision, standing.redact, standing.route, standing.approvals


class _Mentioned:
    """The names and attributes that policies mention, in the engine's JSON form of them."""

    def __init__(self) -> None:
        self._entities: dict[str, set[str]] = {}
        self._attributes: set[str] = set()
        self._words: set[str] = set()
        self._numbers: set[int] = set()

    def read(self, node: Any) -> None:
        waiting = [node]
        while waiting:
            here = waiting.pop()
            if isinstance(here, list):
                waiting += here
            elif isinstance(here, dict):
                kind, name = here.get("type"), here.get("id")
                if isinstance(kind, str) and isinstance(name, str):
                    self._entities.setdefault(kind, set()).add(name)
                if isinstance(here.get("attr"), str):
                    self._attributes.add(here["attr"])
                waiting += here.values()
            elif isinstance(here, str):
                self._words.add(here)
            elif isinstance(here, int) and not isinstance(here, bool):
                self._numbers.add(here)

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The values that each member of a question takes."""
        actions = self._actions()
        resources = {RESOURCES[action] for action in actions}
        deeds = [
            (action, resource, principal)
            for action in actions
            for resource in self._ids(RESOURCES[action])
            for principal in self._principals(ADMINISTRATORS if action in ADMIN else PRINCIPALS.keys())
        ]
        axes: dict[str, tuple[Any, ...]] = {"deed": tuple(deeds), "tenant": self._ids("Tenant")}
        for member, kind in (("project", "Project"), ("roles", "Role")):
            if kind in self._entities:
                axes[member] = (None, *self._ids(kind)[:-1])
        owners = [
            f"{kind.lower()}:{name}" for kind in ("User", "Service") for name in sorted(self._entities.get(kind, ()))
        ]
        if owners:
            axes["owner"] = (None, *owners)
        contexts = self._contexts(resources)
        return axes | {member: values for member, values in contexts.items() if member in self._attributes}

    def _actions(self) -> tuple[Action, ...]:
        named = self._entities.get("Action", set())
        mentioned = {action for action in Action if action.value in named or RESOURCES[action] in self._entities}
        if USE_MODEL in named or not mentioned or "Model" in self._entities:
            mentioned |= {Action.INVOKE, Action.STREAM, Action.EMBED}
        return (*sorted(mentioned), *([Action.RETRIEVE] if Action.RETRIEVE not in mentioned else []))

    def _ids(self, kind: str) -> tuple[str, ...]:
        return (*sorted(self._entities.get(kind, ())), OTHER)

    def _principals(self, kinds: Collection[str]) -> tuple[str, ...]:
        named = [f"{kind}:{name}" for kind in kinds for name in sorted(self._entities.get(PRINCIPALS[kind], ()))]
        return (*named, f"{'user' if kinds is ADMINISTRATORS else 'key'}:{OTHER}")

    def _contexts(self, resources: Iterable[str]) -> Mapping[str, tuple[Any, ...]]:
        words = self._words
        return {
            "surface": self._among(surface.value for surface in Surface),
            "channel": self._among(("api", "process", "console", "mcp", "admin")),
            "hour": tuple(range(24)),
            "weekday": tuple(range(1, 8)),
            "providers": _sets(self._said()),
            "needs": _sets(sorted({capability.value for capability in Capability} & words)),
            "fields": (None, *_sets(self._said())) if "Profile" in resources else (None,),
            "approved_by": (0, 1, 2, 3, 8),
            "data_class": (None, *range(5)),
            "tool_risk": (None, *range(6)),
            "region": (None, *self._said(), OTHER),
            "residency": (None, *self._said(), OTHER),
            "budget_state": (None, *self._said(), OTHER),
            "guard": self._screenings(),
        }

    def _among(self, known: Iterable[str]) -> tuple[str, ...]:
        return (*sorted(set(known) & self._words), OTHER)

    def _said(self) -> tuple[str, ...]:
        """Words of policies that may be values: no name of the language, of an attribute or of an entity."""
        names = {name for names in self._entities.values() for name in names} | self._entities.keys()
        return tuple(sorted(self._words - names - self._attributes - _LANGUAGE))[:6]

    def _screenings(self) -> tuple[GuardFacts, ...]:
        found = _sets(sorted(_FINDINGS & self._words))
        steps = INJECTION_STEPS if "injection" in self._attributes else (0,)
        return tuple(GuardFacts(injection=step, findings=findings) for step in steps for findings in found)


_FINDINGS = {"cpf", "cnpj", "card", "email", "phone", "secret", "injection"}
_LANGUAGE = {
    *("principal", "action", "resource", "context", "permit", "forbid", "when", "unless", "All", "in", "==", "is"),
    *("use_model", "id", "note", "redact", "route", "require_approval"),
}


def _sets(names: Sequence[str]) -> tuple[frozenset[str], ...]:
    """No name, each alone, all, and each pair; then a name that nobody said."""
    few = list(names)[:6]
    picked = [frozenset[str](), *(frozenset({name}) for name in few), *map(frozenset, combinations(few, 2))]
    return tuple(dict.fromkeys([*picked, frozenset(few), frozenset({OTHER}), frozenset({*few, OTHER})]))


def _question(members: dict[str, Any]) -> Question:
    action, resource, principal = members.pop("deed")
    if not principal.startswith(("key:", "agent:")):
        members.pop("owner", None)  # people and services act for themselves
    role = members.pop("roles", None)
    if role is not None:
        members["roles"] = frozenset({role})
    return Question(action=action, resource=resource, principal=principal, **members)


def _corner(axes: Mapping[str, tuple[Any, ...]], index: int) -> dict[str, Any]:
    """The combination with this number, without making those before it."""
    members = {}
    for name, axis in axes.items():
        index, at = divmod(index, len(axis))
        members[name] = axis[at]
    return members


def _stride(size: int, most: int) -> int:
    """About `size / most`, and without a divisor in common with `size`: so every value of every axis is met."""
    stride = size // most + 1
    while gcd(stride, size) > 1:
        stride += 1
    return stride
