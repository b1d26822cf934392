"""Short ways to screen a text in tests."""

import asyncio

from securellm.core.messages import Kind, Leaf, Role
from securellm.guard import Guard, GuardMode, Screening, apply

GUARD = Guard()


def leaf(text: str, *, kind: Kind = Kind.TEXT, role: Role = Role.USER, name: str = "content") -> Leaf:
    return Leaf(("messages", 0, name), text, role, kind)


def screen(
    text: str, *, mode: GuardMode = GuardMode.STANDARD, kind: Kind = Kind.TEXT, name: str = "content"
) -> Screening:
    """The screening of a reply of one text (replies are not searched for injections)."""
    return asyncio.run(GUARD.screen_reply(mode, [leaf(text, kind=kind, name=name)], decision_id="dec_1"))


def redacted(text: str, *, mode: GuardMode = GuardMode.STANDARD, kind: Kind = Kind.TEXT, name: str = "content") -> str:
    return apply(text, screen(text, mode=mode, kind=kind, name=name).replacements)


def types(text: str) -> list[str]:
    return [finding.type for finding in screen(text).findings]
