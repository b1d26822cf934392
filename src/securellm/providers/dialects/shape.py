"""Every text of a JSON value, found by the declared shape of its dialect.

What a shape does not declare is screened: its strings, its names, and its numbers long enough to identify someone.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Union

import msgspec

from securellm.core import encoded
from securellm.core.document import Document, Value
from securellm.core.messages import Kind, Leaf, Path, Role
from securellm.providers.model import Mirror

_LONG_NUMBER = 10_000_000
"""Numbers from here on have digits enough to be an identifier."""
_SHORTEST_ENCODED = 24
_LONGEST_NAME = 1_024
_SHORTEST_NUMBER = 9
_OF_NUMBERS = "0123456789.,-/()+:"


class Mark(Enum):
    """What a place holds."""

    TEXT = auto()
    """Prose, complete in itself."""
    ARGUMENTS = auto()
    """JSON in a string, complete in itself."""
    PIECE = auto()
    """A piece of streamed prose."""
    ARGUMENTS_PIECE = auto()
    """A piece of streamed JSON."""
    OPAQUE = auto()
    """A name or id that the provider chose; exempt while it has the form of one."""
    ENCODED = auto()
    """Base64 (media, signatures, encrypted text, vectors) or a list of numbers; exempt while it has that form, and the
    base64 is not that of a text."""
    NUMERIC = auto()
    """Figures; exempt, however long."""
    MIRROR = auto()
    """Log probabilities: the text again, token by token."""


class Each(msgspec.Struct, frozen=True):
    """An array of things of one shape."""

    shape: "Shape"


class Members(msgspec.Struct, frozen=True):
    """An object; what it holds under any other name has the mark `other`."""

    known: Mapping[str, "Shape"]
    other: Mark = Mark.TEXT


Shape = Union[Mark, Each, Members]  # noqa: UP007 - the name is used before its parts are defined

_SILENT = frozenset({type(None), bool})
_FIGURES = frozenset({int, float})
_NO_MEMBERS: Mapping[str, Shape] = MappingProxyType({})
_NO_BLANK: list[Value] = []


class Texts(msgspec.Struct, frozen=True):
    """What was found: leaves in document order, the places of streamed pieces among them, and mirrors."""

    leaves: list[Leaf]
    pieces: frozenset[int]
    """Which of the leaves (by index) continue an earlier text."""
    mirrors: list[Mirror]


class Finder:
    """Finds the texts of documents of one shape."""

    __slots__ = ("_shape",)

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def find(self, document: Document) -> Texts:
        search = _Search(document)
        search.walk(document.root, self._shape, ())
        return Texts(search.leaves, frozenset(search.pieces), search.mirrors)


def every_text() -> Finder:
    """Finds every text, whatever it stands in: of what has no shape."""
    return Finder(Members(_NO_MEMBERS))


class _Search:
    __slots__ = ("document", "leaves", "mirrors", "pieces")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.leaves: list[Leaf] = []
        self.pieces: list[int] = []
        self.mirrors: list[Mirror] = []

    def walk(self, value: Value, shape: Shape, path: Path) -> None:
        kind = type(value)
        if kind is str:
            self._text(str(value), shape, path)
        elif shape is Mark.MIRROR:
            self._mirror(value, path)
        elif isinstance(value, dict):
            self._object(value, shape, path)
        elif isinstance(value, list):
            self._array(value, shape, path)
        elif (kind is int or kind is float) and shape is not Mark.NUMERIC and shape is not Mark.ENCODED:
            self._number(value, path)

    def _text(self, text: str, shape: Shape, path: Path) -> None:
        if not text:
            return
        kind = Kind.TEXT
        if shape is Mark.OPAQUE:
            if is_name(text):
                return
        elif shape is Mark.ENCODED:
            read = encoded.read(text, shortest=_SHORTEST_ENCODED)
            if read.text is not None:
                text, kind = read.head + read.text, Kind.ENCODED
            elif read.media:
                if read.plain_head:
                    return
                text = read.head
        elif shape is Mark.PIECE:
            self.pieces.append(len(self.leaves))
        elif shape is Mark.ARGUMENTS_PIECE:
            self.pieces.append(len(self.leaves))
            kind = Kind.ARGUMENTS
        elif shape is Mark.ARGUMENTS:
            kind = Kind.ARGUMENTS
        self.leaves.append(Leaf(path, text, Role.ASSISTANT, kind))

    def _object(self, members: dict[str, Value], shape: Shape, path: Path) -> None:
        known, other = (shape.known, shape.other) if isinstance(shape, Members) else (_NO_MEMBERS, _inherited(shape))
        for name, child in members.items():
            below = known.get(name)
            if below is None:
                below = other
                if not ((other is Mark.NUMERIC or other is Mark.OPAQUE) and is_name(name)):
                    self.leaves.append(Leaf((*path, name), name, Role.ASSISTANT, Kind.KEY))
            kind = type(child)
            if kind in _SILENT or (below is Mark.NUMERIC and kind in _FIGURES):
                continue
            if below is Mark.OPAQUE and kind is str and is_name(str(child)):
                continue
            self.walk(child, below, (*path, name))

    def _array(self, elements: list[Value], shape: Shape, path: Path) -> None:
        below = shape.shape if isinstance(shape, Each) else _inherited(shape)
        if (below is Mark.ENCODED or below is Mark.NUMERIC) and _FIGURES.issuperset(map(type, elements)):
            return
        for index, element in enumerate(elements):
            self.walk(element, below, (*path, index))

    def _number(self, value: Value, path: Path) -> None:
        assert isinstance(value, int | float)
        if -_LONG_NUMBER < value < _LONG_NUMBER:
            return
        start, end = self.document.span(path)
        self.leaves.append(Leaf(path, self.document.text[start:end], Role.ASSISTANT, Kind.NUMBER))

    def _mirror(self, value: Value, path: Path) -> None:
        if not value:
            return
        self.mirrors.append(Mirror(path, _NO_BLANK if isinstance(value, list) else None))
        rows: dict[Path, list[str]] = {}
        _spell(value, (), rows)
        for row, texts in rows.items():
            self.pieces.append(len(self.leaves))
            self.leaves.append(Leaf((*path, *row), "".join(texts), Role.ASSISTANT))


def _inherited(shape: Shape) -> Mark:
    """What stands inside a place that was not declared to be an object or array."""
    return shape if isinstance(shape, Mark) else Mark.TEXT


def _spell(value: Value, row: Path, rows: dict[Path, list[str]]) -> None:
    """Join the tokens of log probabilities: those chosen in one row, the nth alternatives in a row each."""
    if isinstance(value, str):
        rows.setdefault(row, []).append(value)
    elif isinstance(value, list):
        for element in value:
            _spell(element, row, rows)
    elif isinstance(value, dict):
        for name, child in value.items():
            if name in _ALTERNATIVES and isinstance(child, list):
                for rank, alternative in enumerate(child, 1):
                    _spell(alternative, (*row, rank), rows)
            elif name == "token":
                _spell(child, row, rows)
            elif name not in _FIGURES_OF_TOKENS or not _are_figures(child):
                if name not in _LISTS_OF_TOKENS:
                    rows.setdefault((*row, "names"), []).append(f"{name} ")
                _spell(child, (*row, name), rows)


def _are_figures(value: Value) -> bool:
    elements = value if isinstance(value, list) else (value,)
    return not any(isinstance(element, str | list | dict) for element in elements)


_ALTERNATIVES = frozenset({"top_logprobs", "candidates"})
"""What holds, at one place of the text, the tokens that might have stood there, best first."""
_FIGURES_OF_TOKENS = frozenset({"bytes", "logprob", "tokenId", "logProbability", "logProbabilitySum"})
_LISTS_OF_TOKENS = frozenset({"content", "refusal", "chosenCandidates", "topCandidates"})


def is_name(text: str) -> bool:
    """Whether a text has the form of a name or id: printable ASCII without spaces, not too long, no number
    that could be somebody's.

    An address is none either: no provider's name or id holds an `@` and a domain.
    """
    return (
        len(text) <= _LONGEST_NAME
        and text.isascii()
        and text.isprintable()
        and " " not in text
        and ("@" not in text or "." not in text)
        and (len(text) < _SHORTEST_NUMBER or text.strip(_OF_NUMBERS) != "")
    )
