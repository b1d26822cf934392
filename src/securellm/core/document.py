"""A JSON document that remembers its own bytes.

The lossless lane forwards what the client wrote, differing only where a gate changed something. So a body is
parsed once for its values, and spans of its original text are found only for the members that change.

Strict by RFC 8259 and I-JSON (RFC 7493): duplicate names, invalid UTF-8, lone surrogates, NaN, Infinity and
trailing data are refused, because two parsers that disagree about a body are how a guard is bypassed.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

from securellm.core.errors import Code, Refusal
from securellm.core.messages import Path

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]
Span = tuple[int, int]

_SPACE = " \t\n\r"


def _refuse_constant(name: str) -> NoReturn:
    raise Refusal(Code.MALFORMED_JSON, f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Refusal(Code.DUPLICATE_KEY, "an object names a member twice", param=name[:64])
            seen.add(name)
    return members


_scan = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]


_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Document:
    """One JSON value, its original text, and the spans of its parts.

    Raises `Refusal` (MALFORMED_JSON, DUPLICATE_KEY, INVALID_UTF8, TOO_DEEP) on construction.
    """

    __slots__ = ("_known", "root", "text")

    def __init__(self, body: bytes, *, max_depth: int = 64) -> None:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refusal(Code.INVALID_UTF8, f"byte {error.start} is not UTF-8") from None
        start = _skip_space(text, 0)
        try:
            root, end = _scan(text, start)
        except StopIteration as error:
            raise Refusal(Code.MALFORMED_JSON, f"a value is missing at character {error.value}") from None
        except json.JSONDecodeError as error:
            raise Refusal(Code.MALFORMED_JSON, f"{error.msg} at character {error.pos}") from None
        except RecursionError:
            raise Refusal(Code.TOO_DEEP, f"nested deeper than {max_depth} levels") from None
        except ValueError:
            raise Refusal(Code.MALFORMED_JSON, "a number has too many digits") from None
        if _skip_space(text, end) != len(text):
            raise Refusal(Code.MALFORMED_JSON, f"trailing data at character {end}")
        if "\\u" in text:
            _refuse_lone_surrogates(root)
        # Fewer brackets than levels cannot nest deeper than that.
        if text.count("{") + text.count("[") > max_depth:
            _refuse_depth(root, max_depth)
        self.text = text
        self.root: Value = root
        self._known: dict[Path, _Known] = {}

    def members(self) -> dict[str, Value]:
        """The root as an object. Raises `Refusal` when it is not one."""
        if not isinstance(self.root, dict):
            raise Refusal(Code.INVALID_REQUEST, "the body must be a JSON object")
        return self.root

    def span(self, path: Path, *, key: bool = False) -> Span:
        """Characters of `text` that hold the value at `path` (or, with `key`, its member name).

        Raises KeyError when the document has no such place.
        """
        at = _skip_space(self.text, 0)
        for depth, step in enumerate(path):
            known = self._known.get(path[:depth])
            if known is None:
                known = self._known[path[:depth]] = _Known(self.text, at)
            found = known.find(step)
            if found is None:
                raise KeyError(path)
            name_span, value_span = found
            if depth == len(path) - 1:
                return name_span if key else value_span
            at = value_span[0]
        return at, _scan(self.text, at)[1]

    def elements(self, path: Path) -> list[Span]:
        """Where each element of the array at `path` stands. Raises KeyError when the document has no such place."""
        return [span for _, _, span in _elements(self.text, self.span(path)[0])]

    def part(self, span: Span, root: Value) -> "Document":
        """The value `root`, which stands at `span`, as a document of its own; nothing is read again."""
        document = Document.__new__(Document)
        document.text = self.text[span[0] : span[1]]
        document.root = root
        document._known = {}
        return document

    def end_of_object(self, path: Path) -> int:
        """Where the closing brace of the object at `path` stands."""
        return self.span(path)[1] - 1


class Patch:
    """Edits to a document, applied together: the text between them is the original, byte for byte."""

    __slots__ = ("_document", "_edits", "_token", "_token_at")

    def __init__(self, document: Document) -> None:
        self._document = document
        self._edits: list[tuple[int, int, str]] = []
        self._token: _Token | None = None
        """The string that was edited last: many places of one string are edited one after the other."""
        self._token_at: Span = (0, 0)

    def __bool__(self) -> bool:
        return bool(self._edits)

    def set(self, path: Path, value: Value) -> None:
        """Put `value` at `path`, in place of what stands there or as a new last member of its object."""
        written = _write(value)
        try:
            start, end = self._document.span(path)
        except KeyError:
            self._append(path, written)
            return
        self._edits.append((start, end, written))

    def _append(self, path: Path, written: str) -> None:
        close = self._document.end_of_object(path[:-1])
        text = self._document.text
        before = text[:close].rstrip(_SPACE)
        appended_before = any(edit[0] == edit[1] == close for edit in self._edits)
        comma = "" if before.endswith("{") and not appended_before else ","
        self._edits.append((close, close, f"{comma}{_write(path[-1])}:{written}"))

    def remove(self, path: Path) -> None:
        """Take the member at `path` out of its object, with its comma."""
        text = self._document.text
        key_start, _ = self._document.span(path, key=True)
        _, end = self._document.span(path)
        after = _skip_space(text, end)
        if text[after] == ",":
            self._edits.append((key_start, _skip_space(text, after + 1), ""))
            return
        before = len(text[:key_start].rstrip(_SPACE)) - 1
        self._edits.append((before if text[before] == "," else key_start, end, ""))

    def remove_elements(self, path: Path, indexes: Collection[int]) -> None:
        """Take elements out of the array at `path`, with their commas."""
        spans = self._document.elements(path)
        kept_before = False
        for index, (start, end) in enumerate(spans):
            if index not in indexes:
                kept_before = True
            elif kept_before:
                self._edits.append((spans[index - 1][1], end, ""))
            else:
                self._edits.append((start, spans[index + 1][0] if index + 1 < len(spans) else end, ""))

    def rewrite(self, path: Path, write: Callable[[str], str]) -> None:
        """Put what `write` makes of the string at `path` in its place."""
        start, end = self._document.span(path)
        self._edits.append((start, end, _write(write(scanstring(self._document.text, start + 1)[0]))))

    def replace_in_string(self, path: Path, start: int, end: int, text: str, *, key: bool = False) -> None:
        """Replace characters [start, end) of the decoded string at `path`, leaving the rest of it as written."""
        span = self._document.span(path, key=key)
        if self._token is None or self._token_at != span:
            self._token, self._token_at = _Token(self._document.text[span[0] : span[1]]), span
        raw_start, raw_end = self._token.offset(start), self._token.offset(end)
        self._edits.append((span[0] + raw_start, span[0] + raw_end, _write(text)[1:-1]))

    def apply(self) -> bytes:
        """The document with every edit made."""
        text = self._document.text
        parts: list[str] = []
        at = 0
        for start, end, written in sorted(self._edits, key=lambda edit: (edit[0], edit[1])):
            if start < at:
                raise ValueError("edits overlap")
            parts += (text[at:start], written)
            at = end
        parts.append(text[at:])
        return "".join(parts).encode("utf-8")


def raw_offsets(raw: str, start: int, end: int) -> Span:
    """Where decoded characters [start, end) stand in a string token `raw`, its quotes included.

    An escape is one character (a surrogate pair of escapes too) and is never split.
    """
    token = _Token(raw)
    return token.offset(start), token.offset(end)


class _Known:
    """Where the members or elements of one object or array stand, as far as somebody has asked: each is read once."""

    __slots__ = ("_found", "_rest")

    def __init__(self, text: str, at: int) -> None:
        self._rest = _members(text, at) if text[at] == "{" else _elements(text, at)
        self._found: dict[str | int, tuple[Span, Span]] = {}

    def find(self, step: str | int) -> tuple[Span, Span] | None:
        """The spans of its name and value."""
        found = self._found.get(step)
        if found is None:
            for name, name_span, value_span in self._rest:
                self._found[name] = name_span, value_span
                if name == step:
                    return name_span, value_span
        return found


class _Token:
    """A string token, its quotes included, in which places are asked for that mostly rise."""

    __slots__ = ("_at", "_count", "_raw")

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self._at = 1
        self._count = 0

    def offset(self, index: int) -> int:
        """Where the decoded character `index` stands in the token."""
        raw, at, count = self._raw, self._at, self._count
        if index < count:
            at, count = 1, 0
        while count < index:
            slash = raw.find("\\", at, at + index - count)
            if slash < 0:
                at += index - count
                break
            count += slash - at + 1
            at = slash + (2 if raw[slash + 1] != "u" else 12 if _is_pair(raw, slash) else 6)
        self._at, self._count = at, index
        return at


def _is_pair(raw: str, at: int) -> bool:
    return (
        0xD800 <= int(raw[at + 2 : at + 6], 16) < 0xDC00
        and raw[at + 6 : at + 8] == "\\u"
        and 0xDC00 <= int(raw[at + 8 : at + 12], 16) < 0xE000
    )


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _members(text: str, at: int) -> Iterator[tuple[str | int, Span, Span]]:
    if text[at] != "{":
        return
    at = _skip_space(text, at + 1)
    while text[at] != "}":
        name, key_end = scanstring(text, at + 1, True)
        key_span = (at, key_end)
        at = _skip_space(text, _skip_space(text, key_end) + 1)
        _, end = _scan(text, at)
        yield name, key_span, (at, end)
        at = _skip_space(text, end)
        if text[at] == ",":
            at = _skip_space(text, at + 1)


def _elements(text: str, at: int) -> Iterator[tuple[str | int, Span, Span]]:
    if text[at] != "[":
        return
    at = _skip_space(text, at + 1)
    index = 0
    while text[at] != "]":
        _, end = _scan(text, at)
        yield index, (at, at), (at, end)
        index += 1
        at = _skip_space(text, end)
        if text[at] == ",":
            at = _skip_space(text, at + 1)


def _refuse_depth(root: Value, max_depth: int) -> None:
    level: list[Value] = [root]
    for _ in range(max_depth):
        below: list[Value] = []
        for value in level:
            if type(value) is dict:
                below.extend(child for child in value.values() if type(child) is dict or type(child) is list)
            elif type(value) is list:
                below.extend(child for child in value if type(child) is dict or type(child) is list)
        if not below:
            return
        level = below
    raise Refusal(Code.TOO_DEEP, f"nested deeper than {max_depth} levels")


def _refuse_lone_surrogates(root: Value) -> None:
    pending: list[Iterable[Value]] = [[root]]
    while pending:
        for value in pending.pop():
            if isinstance(value, str):
                _refuse_surrogates_in(value)
            elif isinstance(value, list):
                pending.append(value)
            elif isinstance(value, dict):
                for name in value:
                    _refuse_surrogates_in(name)
                pending.append(value.values())


def _refuse_surrogates_in(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Refusal(Code.INVALID_UTF8, "a string holds a lone surrogate") from None
