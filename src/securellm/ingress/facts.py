"""Typed reading of a body's members, with the refusal a caller can act on."""

from collections.abc import Mapping

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal

Members = Mapping[str, Value]


def text(members: Members, name: str, *, default: str | None = None) -> str:
    value = members.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be a string", param=name)
    return value


def flag(members: Members, name: str) -> bool:
    value = members.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be true or false", param=name)
    return value


def count(members: Members, name: str, *, largest: int = 100_000_000) -> int | None:
    """A whole number from 1, or None when it is absent or null."""
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be a whole number from 1 to {largest}", param=name)
    return value


def mapping(members: Members, name: str) -> Members:
    value = members.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be an object", param=name)
    return value


def objects(members: Members, name: str, *, required: bool = False) -> list[Members]:
    """A list of objects; empty when absent."""
    value = members.get(name)
    if value is None and not required:
        return []
    if not isinstance(value, list) or (required and not value):
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be a{' non-empty' if required else ''} list", param=name)
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise Refusal(Code.INVALID_REQUEST, f"{name}[{index}] must be an object", param=f"{name}[{index}]")
    return [item for item in value if isinstance(item, dict)]


def is_zero(value: Value) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and value == 0


def parts(value: Value) -> list[Members]:
    """The objects among a message's content parts; none when the content is a plain string."""
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def names(value: Value | Members, member: str) -> list[str]:
    """The name under `member` of what a provider keeps, if `value` is an object that has one."""
    name = value.get(member) if isinstance(value, Mapping) else None
    return [name] if isinstance(name, str) and name else []


def listed_names(value: Value) -> list[str]:
    """The names in a list of names."""
    return [name for name in value if isinstance(name, str) and name] if isinstance(value, list) else []


def refuse_other_models(members: Members) -> None:
    """Raises Refusal(UNSUPPORTED_FIELD) where the provider may answer with other models than the one that is asked."""
    for name in ("models", "fallbacks"):
        if members.get(name):
            raise Refusal(Code.UNSUPPORTED_FIELD, f"{name} lets models answer that no gate has decided on", param=name)


def asks_for_cache_writes(document: Document) -> bool:
    """Whether a body of OpenAI's asks that its prompt be written to a cache."""
    return "prompt_cache_breakpoint" in document.text or document.members().get("prompt_cache_options") is not None
