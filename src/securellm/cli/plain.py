"""Text of others on a terminal: what would move its cursor, colour it or turn its direction is shown, not obeyed."""

import json
import unicodedata

_OBEYED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories: controls, formats, line ends of other kinds, and what nobody knows how to show."""


def plain(text: str) -> str:
    """`text` with such characters as `\\uXXXX`, line feeds excepted: JSON text stays the JSON text that it was."""
    if text.isprintable():
        return text
    return "".join(character if _is_shown(character) else _spelled(character) for character in text)


def _is_shown(character: str) -> bool:
    return character == "\n" or unicodedata.category(character) not in _OBEYED


def _spelled(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"
