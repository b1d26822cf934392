"""Look a policy text over in one pass before any parser sees it.

The engine's parser and its printer recurse: a thousand nested parentheses, `if … else if …` or attribute chains end
the process (measured with cedarpy 4.12.2). So size, nesting and operators are counted here first, without recursion.
"""

from typing import NamedTuple

LONGEST_TEXT = 64 << 10
"""Bytes of one text."""
MOST_POLICIES = 200
"""Policies of one bundle: a decision costs time for each."""
DEEPEST = 100
"""Brackets within brackets."""
MOST_OPERATORS = 512
"""Of one policy: a chain of them is a tree as deep as it is long."""

_OPERATORS = frozenset(".+-*<>=!|&")
_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(")]}")


class ScanRefused(ValueError):
    """The text must not reach the parser. The message says where and why; it never repeats the text."""


class Segment(NamedTuple):
    """One policy of a text, with what stands before it."""

    text: str
    line: int
    """Where it begins, from 1."""


def segments(text: str) -> tuple[Segment, ...]:
    """The policies of a text, one by one. Raises ScanRefused."""
    _refuse_letters(text)
    found: list[Segment] = []
    brackets: list[str] = []
    start, line, begins, operators = 0, 1, 1, 0
    at, length = 0, len(text)
    while at < length:
        letter = text[at]
        if letter == "\n":
            line += 1
        elif letter == '"':
            end = _string_end(text, at, line)
            at = end
            continue
        elif letter == "/" and text.startswith("//", at):
            end = text.find("\n", at)
            at = length if end < 0 else end
            continue
        elif letter in _OPENING:
            brackets.append(_OPENING[letter])
            operators += letter == "["
            if len(brackets) > DEEPEST:
                raise ScanRefused(f"line {line}: nested deeper than {DEEPEST} brackets")
        elif letter in _CLOSING:
            if not brackets or brackets.pop() != letter:
                raise ScanRefused(f"line {line}: a closing bracket that opens nowhere")
        elif letter in _OPERATORS or (letter == "e" and text.startswith("else", at)):
            operators += 1
        elif letter == ";" and not brackets:
            found.append(Segment(text[start : at + 1], begins))
            start, begins, operators = at + 1, line, 0
            if len(found) > MOST_POLICIES:
                raise ScanRefused(f"more than {MOST_POLICIES} policies")
        if operators > MOST_OPERATORS:
            raise ScanRefused(f"line {line}: more than {MOST_OPERATORS} operators in one policy")
        at += 1
    if brackets:
        raise ScanRefused("a bracket is never closed")
    if _says_something(text[start:]):
        raise ScanRefused("the last policy does not end in a semicolon")
    return tuple(found)


def _refuse_letters(text: str) -> None:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ScanRefused("a lone surrogate is not text") from None
    if size > LONGEST_TEXT:
        raise ScanRefused(f"longer than {LONGEST_TEXT} bytes")
    for letter in text:
        # Control and direction letters make a text read otherwise than it decides.
        if (letter < " " and letter not in "\n\t") or letter in _INVISIBLE:
            raise ScanRefused(f"the invisible letter U+{ord(letter):04X}")


_INVISIBLE = frozenset(map(chr, (0x7F, *range(0x80, 0xA0), 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F))))
_INVISIBLE |= frozenset(map(chr, (*range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC))))


def _string_end(text: str, at: int, line: int) -> int:
    """Where the string that begins at `at` has ended."""
    while True:
        at += 1
        if at >= len(text) or text[at] == "\n":
            raise ScanRefused(f"line {line}: a string is never closed")
        if text[at] == "\\":
            at += 1
        elif text[at] == '"':
            return at + 1


def _says_something(rest: str) -> bool:
    return any(line.strip() and not line.strip().startswith("//") for line in rest.split("\n"))
