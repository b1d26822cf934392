"""Where each key of a TOML file stands, so that a complaint can name its line.

The text is one that `tomllib` has accepted; the scan only finds places, it judges nothing.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

Path = tuple[str | int, ...]
"""Keys, and indexes of array elements, from the root."""

_TOKEN = re.compile(
    r"""
    (?P<comment> \#[^\n]* )
  | (?P<string> "{3} (?: [^"\\] | \\. | "{1,2}(?!") )*+ "{3,5}
              | '{3} (?: [^'] | '{1,2}(?!') )*+ '{3,5}
              | " (?: [^"\\\n] | \\. )*+ "
              | ' [^'\n]*+ ' )
  | (?P<newline> \n )
  | (?P<space> [ \t\r]+ )
  | (?P<mark> [\[\]{}=,.] )
  | (?P<bare> [^\s\[\]{}=,."'#]+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    text: str
    line: int


class _Container:
    """An array or inline table that is being read: the place of what comes next in it."""

    __slots__ = ("at", "index", "path")

    def __init__(self, path: Path, *, array: bool) -> None:
        self.path = path
        self.index: int | None = 0 if array else None
        self.at: Path = path


class Locator:
    """Lines, counted from 1, of every key and every array element of `text`."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._tokens = list(_tokens(text.replace("\r\n", "\n")))
        self._at = 0
        table: Path = ()
        while self._at < len(self._tokens):
            if self._peek() == "\n":
                self._at += 1
            elif self._peek() == "[":
                table = self._header()
            else:
                self._value(self._key(table, end="="))

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest table around it; None when that is the whole file."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return None

    def _peek(self) -> str:
        return self._tokens[self._at].text

    def _found(self, path: Path, line: int) -> None:
        self._lines.setdefault(path, line)

    def _key(self, base: Path, *, end: str) -> Path:
        path = base
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.text == end:
                break
            if token.text != ".":
                path = self._into(path, _unquoted(token.text), token.line)
        return path

    def _into(self, path: Path, name: str, line: int) -> Path:
        path = (*path, name)
        self._found(path, line)
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _header(self) -> Path:
        self._at += 1
        double = self._peek() == "["
        if not double:
            return self._key((), end="]")
        self._at += 1
        names: list[_Token] = []
        while self._peek() != "]":
            if self._peek() != ".":
                names.append(self._tokens[self._at])
            self._at += 1
        self._at += 2
        path: Path = ()
        for token in names[:-1]:
            path = self._into(path, _unquoted(token.text), token.line)
        path = (*path, _unquoted(names[-1].text))
        self._found(path, names[-1].line)
        self._counts[path] = self._counts.get(path, 0) + 1
        path = (*path, self._counts[path] - 1)
        self._found(path, names[-1].line)
        return path

    def _value(self, path: Path) -> None:
        # Without recursion: a file may nest as deep as tomllib allows.
        stack: list[_Container] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            inside = stack[-1] if stack else None
            if token.text == "\n":
                if inside is None:
                    return
                self._at += 1
            elif token.text in ("]", "}"):
                self._at += 1
                stack.pop()
            elif token.text == ",":
                self._at += 1
                if inside is not None and inside.index is not None:
                    inside.index += 1
            else:
                if inside is not None:
                    path = self._place_in(inside, token.line)
                opened = self._peek()
                self._at += 1
                if opened in ("[", "{"):
                    stack.append(_Container(path, array=opened == "["))
                else:
                    self._rest_of_scalar()

    def _place_in(self, inside: _Container, line: int) -> Path:
        if inside.index is None:
            return self._key(inside.path, end="=")
        path = (*inside.path, inside.index)
        self._found(path, line)
        return path

    def _rest_of_scalar(self) -> None:
        # Floats and date-times are several tokens.
        while self._at < len(self._tokens) and self._peek() not in ("\n", ",", "]", "}"):
            self._at += 1


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup not in ("comment", "space"):
            yield _Token(match[0], line)
        line += match[0].count("\n")


def _unquoted(token: str) -> str:
    if token[0] == '"':
        name: str = tomllib.loads(f"k={token}")["k"]
        return name
    return token[1:-1] if token[0] == "'" else token
