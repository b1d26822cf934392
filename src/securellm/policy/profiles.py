"""Governance profiles: which actions there are, what each may be given, and on which terms; compiled to Cedar."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_Name = Annotated[str, msgspec.Meta(pattern=_NAME)]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One action by name. An action without a profile is refused; so is a field that its profile does not name."""

    action: _Name
    fields: frozenset[_Name]
    """What the action may be given."""
    required: frozenset[_Name] = frozenset()
    """What it must be given; each also stands in `fields`."""
    roles: frozenset[_Name] | None = None
    """Who may ask for it, by role; None is everybody."""
    max_data_class: Annotated[int, msgspec.Meta(ge=0, le=4)] | None = None
    """The most sensitive data it may be given; data of an unknown class is then refused."""
    redact: frozenset[_Name] = frozenset()
    approvals: Annotated[int, msgspec.Meta(ge=0, le=8)] = 0
    """How many people must approve each use."""


def cedar_of(profiles: Iterable[Profile]) -> str:
    """Two policies for each profile: one permits, one forbids what is beside it, whatever else is permitted."""
    return "".join(_written(profile) for profile in sorted(profiles, key=lambda profile: profile.action))


def _written(profile: Profile) -> str:
    action = profile.action
    # Cedar has no type for an empty set literal.
    within = [f"{_set(profile.fields)}.containsAll(context.fields)" if profile.fields else "context.fields.isEmpty()"]
    if profile.required:
        within.append(f"context.fields.containsAll({_set(profile.required)})")
    if profile.roles is not None:
        holds = " || ".join(f"principal in Role::{json.dumps(role)}" for role in sorted(profile.roles))
        within.append(f"({holds or 'false'})")
    if profile.max_data_class is not None:
        within.append(f"context has data_class && context.data_class <= {profile.max_data_class}")
    annotations = [f'@id("profile.{action}")']
    if profile.redact:
        annotations.append(f'@redact("{", ".join(sorted(profile.redact))}")')
    if profile.approvals:
        annotations.append(f'@require_approval("{profile.approvals}")')
    scope = f'principal, action == Action::"perform", resource == Profile::{json.dumps(action)}'
    condition = f"{{ context has fields && {' && '.join(within)} }}"
    return (
        f"{' '.join(annotations)}\npermit ({scope}) when {condition};\n"
        f'@id("profile.{action}.beside")\nforbid ({scope}) unless {condition};\n'
    )


def _set(names: Iterable[str]) -> str:
    return json.dumps(sorted(names))


def problems_of(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """What is wrong with profiles beyond their shape."""
    found = [
        f"the profile {action} is declared {times} times"
        for action, times in Counter(profile.action for profile in profiles).items()
        if times > 1
    ]
    found += [
        f"the profile {profile.action} requires the field {name} without allowing it"
        for profile in profiles
        for name in sorted(profile.required - profile.fields)
    ]
    return tuple(found)
