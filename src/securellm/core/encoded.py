"""Texts that travel encoded: as the base64 or the percent escapes of a data URI (RFC 2397), or as bare base64.

What a model reads as text must be read as text here too, whatever it is wrapped in and called.
"""

import binascii
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]*")
_FOLDED = re.compile(r"[ \t\r\n]+")
_HEAD = re.compile(r"data:[a-z]+/[a-z.+-]{0,80}[0-9]{0,2}[a-z]{0,8};base64,")
"""A head in which nothing can hide. What else it may say, parameters among it, is text."""
_TEXT = re.compile(
    r"\s*(?:text/|application/(?:[a-z0-9.-]+\+)?(?:json|jsonl|xml|yaml|x-yaml|csv|javascript|x-javascript|x-sh|sql)\b)",
    re.IGNORECASE,
)
_LOOKED_AT = 4_096
"""Characters of base64 by which bytes are told from a text."""
_URL_ALPHABET = str.maketrans("-_", "+/")
_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Encoded(NamedTuple):
    """An encoded value: `head` as it stands, then its payload."""

    head: str
    text: str | None
    """What the payload says; None: it is no text."""
    media: bool
    """Whether the payload is base64 that is no text, and nothing else."""

    @property
    def plain_head(self) -> bool:
        return not self.head or _HEAD.fullmatch(self.head) is not None


def read(value: str, *, kind: str = "", shortest: int) -> Encoded:
    """`value` as what it is; `kind` is the media type that is declared beside it, if one is.

    What is shorter than `shortest` characters is media only if it says so: it could be a word.
    """
    head, payload, escaped = _split(value)
    if len(payload) < shortest and not (head or kind):
        return Encoded("", None, media=False)
    if escaped:
        return Encoded(head, _decode(unquote_to_bytes(payload)), media=False)
    folded = _FOLDED.sub("", payload) if any(mark in payload for mark in " \t\r\n") else payload
    if _BASE64.fullmatch(folded) is None:
        return Encoded(head, None, media=False)
    declared = _TEXT.match(kind) is not None or _TEXT.match(head[5:]) is not None
    if not declared and not _begins_a_text(folded[:_LOOKED_AT]):
        return Encoded(head, None, media=folded is payload and len(payload) >= shortest)
    return Encoded(head, _decode(_bytes(folded)), media=False)


def cut(value: str, cuts: Iterable[tuple[int, int, str]]) -> str:
    """`value` with parts of its head and text replaced: sorted `cuts` count in the two of them, one after the other."""
    head, payload, escaped = _split(value)
    data = unquote_to_bytes(payload) if escaped else _bytes(_FOLDED.sub("", payload))
    codec = _codec(data)
    text = head + data.decode(codec)
    ends = len(head)
    parts: tuple[list[str], list[str]] = ([], [])
    at = 0
    for start, end, instead in cuts:
        _add(parts, text, at, start, ends)
        parts[start >= ends].append(instead)
        at = end
    _add(parts, text, at, len(text), ends)
    written = "".join(parts[1]).encode(codec, "replace")
    payload = quote_from_bytes(written) if escaped else binascii.b2a_base64(written, newline=False).decode("ascii")
    return "".join(parts[0]) + payload


def _add(parts: tuple[list[str], list[str]], text: str, start: int, end: int, ends: int) -> None:
    parts[0].append(text[start : min(end, ends)])
    parts[1].append(text[max(start, ends) : end])


def _split(value: str) -> tuple[str, str, bool]:
    """The head with its comma, the payload, and whether that is in percent escapes."""
    if value[:5].lower() != "data:":
        return "", value, False
    head, comma, payload = value.partition(",")
    if not comma:
        return "", value, False
    return head + comma, payload, not head.rstrip().lower().endswith(";base64")


def _begins_a_text(base64: str) -> bool:
    data = _bytes(base64[: len(base64) // 4 * 4] or base64)
    if data.startswith(_MARKS):
        return True
    if data.startswith(b"%PDF-") or b"\0" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut off.
        return error.start >= len(data) - 3 and error.reason == "unexpected end of data"
    return True


def _bytes(base64: str) -> bytes:
    """What base64 of either alphabet says; what is padded in its middle is several one after the other."""
    parts = base64.translate(_URL_ALPHABET).split("=")
    return b"".join(binascii.a2b_base64(part[: len(part) - (len(part) % 4 == 1)] + "==") for part in parts if part)


def _decode(data: bytes) -> str:
    return data.decode(_codec(data))


def _codec(data: bytes) -> str:
    """In what `data` is written, if it is a text: the last guess takes every byte for a character."""
    some = data[:400]
    halves = (some[::2], some[1::2])
    for codec, zeros in (("utf-16-be", halves[0]), ("utf-16-le", halves[1])):
        if len(zeros) > 1 and zeros.count(0) * 2 > len(zeros) and _reads(data, codec):
            return codec
    if data.startswith(_MARKS) and _reads(data, "utf-16"):
        return "utf-16"
    return "utf-8" if _reads(data, "utf-8") else "latin-1"


def _reads(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True
