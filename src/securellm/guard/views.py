"""Canonical views of a text, each with a map back to where its characters stand.

A view is ASCII, so that one byte is one character for the pattern engine: look-alike letters and digits of other
scripts become ASCII, invisible characters vanish, everything else becomes `LETTER` or `BREAK`.
"""

import codecs
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

LETTER = "\x01"
"""Stands for a letter that looks like no ASCII one."""
BREAK = "\x02"
"""Stands for anything else that is not ASCII; no pattern crosses it."""
_UNEVEN = "\x03"

MAX_INVISIBLE = 32
"""In a longer run of invisible characters every next one is a `BREAK`: a view never hides an unbounded text."""
LEVELS = 2
"""How often JSON escapes are undone."""


class View(NamedTuple):
    """`data[i]` came from `text[starts[i]:ends[i]]`; without maps, from `text[i]`."""

    data: bytes
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original range of the non-empty `data[start:end]`."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]

    def origin(self, index: int, length: int) -> int:
        """Where `data[index]` began in a text of `length`; `length` for the view's own end."""
        if self.starts is None:
            return index
        return self.starts[index] if index < len(self.starts) else length

    def index_of(self, origin: int) -> int:
        """The first index whose character began at `origin` or later."""
        if self.starts is None:
            return min(origin, len(self.data))
        return bisect_left(self.starts, origin)


class Views(NamedTuple):
    """The views of one text, outermost first."""

    views: tuple[View, ...]
    decoded: int
    """Up to where the text is decoded: beyond it stands the beginning of an escape whose end is not known yet."""
    boundaries: Sequence[int] | None
    """Where decoding could begin afresh with the same result; None means anywhere."""


def readings(text: str) -> list[bytes]:
    """The data of every view of `text`, without the maps: enough to ask whether anything is there at all."""
    found = [fold(text).data]
    for _ in range(LEVELS):
        if "\\" not in text:
            break
        plain = unescape(text, mapped=False)[0]
        if plain == text:
            break
        text = plain
        found.append(fold(text).data)
    return found


def views_of(text: str, *, arguments: bool = False, final: bool = True) -> Views:
    """Every view of `text`: as it stands, and with JSON escapes undone once and twice where there are any.

    With `arguments` the text is JSON itself, and reading it with its escapes as they stand would be a misreading.
    Unless `final`, an escape cut off by the end of the text is left undecoded.
    """
    if "\\" not in text:
        return Views((fold(text),), len(text), None)
    views = [] if arguments else [fold(text)]
    starts: Sequence[int] = range(len(text))
    ends: Sequence[int] = range(1, len(text) + 1)
    decoded = len(text)
    for _ in range(LEVELS):
        if "\\" not in text:
            break
        plain, inner_starts, inner_ends, consumed = unescape(text, final=final)
        if consumed < len(text):
            decoded = min(decoded, starts[consumed])
        if plain == text and views:
            break
        starts = [starts[i] for i in inner_starts]
        ends = [ends[i - 1] for i in inner_ends]
        text = plain
        inner = fold(text)
        views.append(
            View(
                inner.data,
                starts if inner.starts is None else [starts[i] for i in inner.starts],
                ends if inner.ends is None else [ends[i - 1] for i in inner.ends],
            )
        )
    return Views(tuple(views), decoded, starts)


class Quotes:
    """Tells, for places of a JSON text asked in rising order, whether they lie inside a string."""

    def __init__(self) -> None:
        self._at = 0
        self._inside = False

    def inside(self, text: str, base: int, place: int) -> bool:
        """Whether `place` does, where `text` is what the JSON text holds from `base` on."""
        while self._at < place:
            character = text[self._at - base]
            if character == "\\":
                self._at += 1
            elif character == '"':
                self._inside = not self._inside
            self._at += 1
        return self._inside


_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}
_HEX = frozenset("0123456789abcdefABCDEF")


def unescape(text: str, *, final: bool = True, mapped: bool = True) -> tuple[str, list[int], list[int], int]:
    """Undo JSON escapes: the text, where (if `mapped`) each character began and ended, and how much was consumed.

    What is no escape stays as it stands. Unless `final`, stops before an escape the end of the text cuts off.
    """
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at, length = 0, len(text)
    while True:
        slash = text.find("\\", at)
        stop = length if slash < 0 else slash
        if stop > at:
            parts.append(text[at:stop])
            if mapped:
                starts.extend(range(at, stop))
                ends.extend(range(at + 1, stop + 1))
            at = stop
        if slash < 0:
            break
        character, width = _escape(text, at, final=final)
        if not width:
            break
        parts.append(character)
        if mapped:
            starts.append(at)
            ends.append(at + width)
        at += width
    return "".join(parts), starts, ends, at


def _escape(text: str, at: int, *, final: bool) -> tuple[str, int]:
    """The character written by the escape at `at` and its width; width 0 when more text must come first."""
    letter = text[at + 1 : at + 2]
    if letter == "u":
        digits = text[at + 2 : at + 6]
        if not _HEX.issuperset(digits):
            return "\\", 1
        if len(digits) < 4:
            return ("\\", 1) if final else ("", 0)
        code = int(digits, 16)
        if 0xD800 <= code < 0xDC00:
            return _pair(text, at, code, final=final)
        return chr(code), 6
    if not letter:
        return ("\\", 1) if final else ("", 0)
    written = _ESCAPED.get(letter)
    return ("\\", 1) if written is None else (written, 2)


def _pair(text: str, at: int, high: int, *, final: bool) -> tuple[str, int]:
    tail = text[at + 6 : at + 12]
    if len(tail) < 6 and not final and "\\u"[: len(tail)] == tail[:2] and _HEX.issuperset(tail[2:]):
        return "", 0
    digits = tail[2:]
    if len(tail) == 6 and tail[:2] == "\\u" and _HEX.issuperset(digits):
        low = int(digits, 16)
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 12
    return chr(high), 6


def fold(text: str) -> View:
    """`text` in ASCII: NFKC, digits, dashes and spaces of every script, look-alikes; invisible characters removed."""
    if text.isascii():
        return View(text.encode("ascii"))
    try:
        return View(codecs.charmap_encode(text, "strict", _COMMON)[0].translate(_COMMON_FOLDED))
    except UnicodeEncodeError:
        even = text.translate(_TABLE)
    if _UNEVEN not in even:
        return View(even.encode("ascii"))
    return _fold_unevenly(text, even)


def _fold_unevenly(text: str, even: str) -> View:
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = invisible = 0
    while True:
        uneven = even.find(_UNEVEN, at)
        stop = len(even) if uneven < 0 else uneven
        if stop > at:
            parts.append(even[at:stop])
            starts.extend(range(at, stop))
            ends.extend(range(at + 1, stop + 1))
            invisible = 0
        if uneven < 0:
            break
        folded = _fold_character(text[uneven])
        if folded:
            invisible = 0
        else:
            invisible += 1
            if invisible > MAX_INVISIBLE:
                folded, invisible = BREAK, 0
        parts.append(folded)
        starts.extend([uneven] * len(folded))
        ends.extend([uneven + 1] * len(folded))
        at = uneven + 1
    return View("".join(parts).encode("ascii"), starts, ends)


_LOOKALIKES = dict(
    zip(
        "аеорсхуіјѕкмтнвгпԁһӏɡԛԝүАВЕКМНОРСТХУІЈЅԌԚԜ"
        "αοερτυχνικηωβγΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
        "ıłđøƒħŧəɑɩʀʏɴʜᴀʙᴄᴅᴇꜰɢɪᴊᴋʟᴍᴏᴘꞯꜱᴛᴜᴠᴡᴢŁĐØĦŦ",
        "aeopcxyijskmthbrndhlgqwyABEKMHOPCTXYIJSGQW"
        "aoeptuxvikhwbyABEZHIKMNOPTYX"
        "ildofhteairynhabcdefgijklmopqstuvwzLDOHT",
        strict=True,
    )
)
_PUNCTUATION = {
    **dict.fromkeys("‘’‚‛′´`", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("·•∙⋅․‧・", "."),
    **dict.fromkeys("∕⁄⧸", "/"),
    **dict.fromkeys("−⁃➖", "-"),
    **dict.fromkeys("…™℠®©ªº°", BREAK),
    **dict.fromkeys("\u115f\u1160\u3164\uffa0\u180e", ""),
    "\u2800": " ",
}
_BY_CATEGORY = {"Pd": "-", "Zs": " ", "Zl": "\n", "Zp": "\n", "Mn": "", "Me": "", "Cf": ""}


def _fold_character(character: str) -> str:
    if character.isascii():
        return character
    known = _PUNCTUATION.get(character) if character not in _LOOKALIKES else _LOOKALIKES[character]
    if known is not None:
        return known
    category = unicodedata.category(character)
    if category in _BY_CATEGORY:
        return _BY_CATEGORY[category]
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    decomposed = unicodedata.normalize("NFKD", character)
    return "".join(map(_fold_part, decomposed)) if decomposed != character else _fold_part(character)


def _fold_part(character: str) -> str:
    if character.isascii():
        return character
    known = _LOOKALIKES.get(character, _PUNCTUATION.get(character))
    if known is not None:
        return known
    category = unicodedata.category(character)
    if category in _BY_CATEGORY:
        return _BY_CATEGORY[category]
    return LETTER if category[0] == "L" else BREAK


class _Table(dict[int, str]):
    """For `str.translate`: the folded character, or a mark where it is not exactly one."""

    _LARGEST = 8_192

    def __missing__(self, code: int) -> str:
        folded = _fold_character(chr(code))
        if len(folded) != 1:
            folded = _UNEVEN
        if len(self) < self._LARGEST:
            self[code] = folded
        return folded


_TABLE = _Table({code: chr(code) for code in range(128)})
# The letters and marks of Western European prose, encoded to one byte each by the fastest road there is.
_FREQUENT = (
    "áàâãäåçéèêëíìîïñóòôõöúùûüýÿÁÀÂÃÄÅÇÉÈÊËÍÌÎÏÑÓÒÔÕÖÚÙÛÜÝøØłđßðþæœ‘’‚“”„«»–—―‐‑−…•·\u00a0\u2002\u2003\u2009\u202f"
    "¿¡§©®™°ºª€£¥¢±×÷→←≤≥≠✓✔★☆►▪■●"
)
_EVEN = "".join(sorted({character for character in _FREQUENT if len(_fold_character(character)) == 1}))
_COMMON = codecs.charmap_build("".join(map(chr, range(128))) + _EVEN + "\ufffe" * (128 - len(_EVEN)))
_COMMON_FOLDED = bytes(range(128)) + "".join(map(_fold_character, _EVEN)).ljust(128, BREAK).encode("ascii")
