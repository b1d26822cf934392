"""The life of a bundle: proposed by one person, tried in the shadow, put in force by another."""

from enum import StrEnum

import msgspec

from securellm.core.errors import Code, Refusal
from securellm.policy.bundles import Bundle

LONGEST_REASON = 2_000
"""Letters."""


class State(StrEnum):
    """Where a version stands. Of each scope at most one is in the shadow and at most one enforced."""

    DRAFT = "draft"
    SHADOW = "shadow"
    """Asked beside what is in force; decides nothing."""
    ENFORCED = "enforced"
    RETIRED = "retired"


class Version(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle that somebody proposed. Its text never changes: another text is another version."""

    id: str
    """The bundle's hash."""
    tenant: str
    """Empty for the installation."""
    bundle: Bundle
    state: State = State.DRAFT
    reason: str
    """Why it was proposed."""
    proposed_by: str
    proposed_us: int
    shadowed_by: str | None = None
    shadowed_us: int | None = None
    enforced_by: str | None = None
    enforced_us: int | None = None
    retired_by: str | None = None
    retired_us: int | None = None
    break_glass: str | None = None
    """Why one person alone put it in force, or out of force."""


def proposed(bundle: Bundle, digest: str, *, tenant: str, by: str, reason: str, now_us: int) -> Version:
    """A draft. Raises Refusal (INVALID_REQUEST) without a reason: a change nobody can explain is not made."""
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise Refusal(
            Code.INVALID_REQUEST, f"say in at most {LONGEST_REASON} letters why it is changed", param="reason"
        )
    return Version(id=digest, tenant=tenant, bundle=bundle, reason=reason, proposed_by=by, proposed_us=now_us)


def shadowed(version: Version, *, by: str, now_us: int) -> Version:
    """In the shadow. One person is enough: it decides nothing. Raises Refusal (CONFLICT)."""
    if version.state not in (State.DRAFT, State.RETIRED):
        raise _conflict(version, "tried in the shadow")
    return msgspec.structs.replace(version, state=State.SHADOW, shadowed_by=by, shadowed_us=now_us)


def recalled(version: Version) -> Version:
    """Out of the shadow, where another takes its place."""
    return msgspec.structs.replace(version, state=State.DRAFT if version.enforced_us is None else State.RETIRED)


def enforced(version: Version, *, by: str, now_us: int, break_glass: str | None = None) -> Version:
    """In force: out of the shadow, or again after it was retired.

    Raises Refusal: CONFLICT for one that was never tried, APPROVAL_REQUIRED when `by` is who proposed it or who last
    put it in the shadow and nobody says why one person must do.
    """
    if version.state is not State.SHADOW and (version.state is not State.RETIRED or version.enforced_us is None):
        raise _conflict(version, "put in force: it must be tried in the shadow first")
    _two_people(by, (version.proposed_by,), break_glass)
    return msgspec.structs.replace(
        version, state=State.ENFORCED, enforced_by=by, enforced_us=now_us, break_glass=break_glass
    )


def retired(version: Version, *, by: str, now_us: int) -> Version:
    """Out of force or out of sight, because another took its place or because its end was decided."""
    return msgspec.structs.replace(version, state=State.RETIRED, retired_by=by, retired_us=now_us)


def withdrawn(version: Version, *, by: str, now_us: int, break_glass: str | None = None) -> Version:
    """Out of force without another in its place. Raises Refusal (CONFLICT, APPROVAL_REQUIRED).

    What is in force ends only by another person than the one who put it there: less policy is a change of policy.
    """
    if version.state is State.RETIRED:
        raise _conflict(version, "withdrawn")
    if version.state is State.ENFORCED:
        _two_people(by, (version.enforced_by,), break_glass)
        version = msgspec.structs.replace(version, break_glass=break_glass)
    return retired(version, by=by, now_us=now_us)


def _two_people(by: str, others: tuple[str | None, ...], break_glass: str | None) -> None:
    if by in others and not (break_glass or "").strip():
        raise Refusal(Code.APPROVAL_REQUIRED, "a second person must do this: you did the step before it")


def _conflict(version: Version, what: str) -> Refusal:
    return Refusal(Code.CONFLICT, f"a version that is {version.state.value} cannot be {what}")
