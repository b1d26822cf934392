"""What may be preferred and remembered, how a model is told of it, and which sentence asks to be remembered."""

from collections.abc import Mapping, Sequence

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal
from securellm.preferences.model import Memory, Preferences

FIELDS = Preferences.__struct_fields__
LONGEST = 80
"""Characters of one preference."""
LONGEST_MEMORY = 500
"""Characters of one memory."""
MOST_MEMORIES = 50
"""Of one person."""
MOST_OFFERED = 3
"""Suggestions with one answer."""

_ASKS = (
    "please remember that ",
    "please remember ",
    "remember that ",
    "remember: ",
    "por favor, lembre que ",
    "por favor, lembre-se de que ",
    "lembre-se de que ",
    "lembre-se que ",
    "lembre de que ",
    "lembre que ",
    "lembre: ",
    "guarde que ",
    "anote que ",
)
"""How a sentence begins whose speaker asks, in so many words, to have its rest remembered. The longer ones first."""
_ENDS = ".!?\n"
_SEARCHED = 20_000
"""Characters of a text that are looked through."""


class _Words(msgspec.Struct, frozen=True):
    """How a model is told, in one language."""

    head: str
    names: Mapping[str, str]
    memories: str


_ENGLISH = _Words(
    "The person you answer has stated these preferences. Follow them unless the person asks otherwise here.",
    {"tone": "Tone", "format": "Format", "language": "Language of the answer"},
    "The person asked you to remember:",
)
_PORTUGUESE = _Words(
    "A pessoa a quem você responde declarou estas preferências. Siga-as, salvo se ela pedir outra coisa aqui.",
    {"tone": "Tom", "format": "Formato", "language": "Idioma da resposta"},
    "A pessoa pediu que você lembre:",
)


def read_preferences(members: Mapping[str, Value], *, over: Preferences | None = None) -> Preferences:
    """Preferences as a body states them, put over others where some are given. null takes one back.

    Raises:
        Refusal: UNPROCESSABLE naming the member.
    """
    refuse_unknown(members, FIELDS)
    stated = {name: _worded(name, value, LONGEST) for name, value in members.items() if value is not None}
    if over is None:
        return Preferences(**stated)
    changed = {name: stated.get(name) for name in members}
    return Preferences(**{name: changed.get(name, getattr(over, name)) for name in FIELDS})


def read_memory(members: Mapping[str, Value]) -> tuple[str, str | None]:
    """The text that is to be remembered, and the answer that offered it. Without the person's yes there is none.

    Raises:
        Refusal: UNPROCESSABLE naming the member.
    """
    refuse_unknown(members, ("text", "consent", "offered_in"))
    if members.get("consent") is not True:
        raise unprocessable("consent", "a memory is kept only when the person says yes: consent must be true")
    offered = members.get("offered_in")
    return _worded("text", members.get("text"), LONGEST_MEMORY), (
        None if offered is None else _worded("offered_in", offered, LONGEST)
    )


def read_process(members: Mapping[str, Value]) -> tuple[str, str]:
    """The text to process and the model that is asked; an empty one is the default.

    Raises:
        Refusal: UNPROCESSABLE naming the member.
    """
    refuse_unknown(members, ("text", "model"))
    text, model = members.get("text"), members.get("model")
    if not isinstance(text, str) or not text.strip():
        raise unprocessable("text", "text must be a string that says something")
    if model is not None and (not isinstance(model, str) or not model):
        raise unprocessable("model", "model must be the name of a model")
    return text, model or ""


def refuse_unknown(members: Mapping[str, Value], known: Sequence[str]) -> None:
    """Raises Refusal(UNPROCESSABLE) for a member that nobody would read: its author believes otherwise."""
    for name in members:
        if name not in known:
            raise unprocessable(name[:LONGEST], f"no such member; known are {', '.join(known)}")


def unprocessable(member: str, reason: str) -> Refusal:
    return Refusal(Code.UNPROCESSABLE, reason, param=member)


def instruction(preferences: Preferences, memories: Sequence[Memory]) -> str:
    """What a model is told of a person; empty where nothing was stated. In Portuguese where that is their language."""
    words = _PORTUGUESE if _is_portuguese(preferences.language) else _ENGLISH
    lines: list[str] = []
    if preferences:
        lines.append(words.head)
        stated = ((words.names[name], getattr(preferences, name)) for name in FIELDS)
        lines += [f"- {name}: {value}" for name, value in stated if value is not None]
    if memories:
        lines.append(words.memories)
        lines += [f"- {memory.text}" for memory in memories]
    return "\n".join(lines)


def suggestions(text: str) -> tuple[str, ...]:
    """The sentences whose author asks, in so many words, to have them remembered. The rest means nothing here."""
    found: dict[str, None] = {}
    for sentence in _sentences(text[:_SEARCHED]):
        lower = sentence.lower()
        for ask in _ASKS:
            if lower.startswith(ask):
                wanted = sentence[len(ask) :].strip()
                if 0 < len(wanted) <= LONGEST_MEMORY and wanted.isprintable():
                    found.setdefault(wanted)
                break
        if len(found) == MOST_OFFERED:
            break
    return tuple(found)


def _sentences(text: str) -> list[str]:
    sentences, start = [], 0
    for at, character in enumerate(text):
        if character in _ENDS and (character == "\n" or text[at + 1 : at + 2] in ("", " ", "\n")):
            sentences.append(text[start:at].strip())
            start = at + 1
    return [*sentences, text[start:].strip()]


def _worded(name: str, value: Value, longest: int) -> str:
    """One line of words. What could pass for another line of the instruction is refused."""
    if not isinstance(value, str):
        raise unprocessable(name, f"{name} must be a string")
    text = value.strip()
    if not text or len(text) > longest or not text.isprintable():
        raise unprocessable(name, f"{name} must be one line of 1 to {longest} printable characters")
    return text


def _is_portuguese(language: str | None) -> bool:
    spelled = (language or "").lower().replace("_", "-")
    return spelled.split("-")[0] == "pt" or spelled.startswith("portugu")
