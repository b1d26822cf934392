"""Score how much a text reads like an attempt to take over the model, after undoing what would disguise it.

Rules are in `phrases`. They are evaluated on the canonical views of a text (see `views`) and, where there are signs
of it, with look-alike digits read as letters, spaced letters joined, and one level of base64, hex or rot13 undone.
A score only ever grows with another rule that matches.
"""

import binascii
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import re2

from securellm.core.messages import Role
from securellm.guard.detectors import latin1
from securellm.guard.phrases import ABOUT, MARKS, ROT13_STEMS, VOCABULARY, WORDS, Phrase
from securellm.guard.views import readings

MAX_DECODED = 64 << 10
"""Bytes that decoding one text may produce in all."""
MAX_JOINED = 16 << 10
"""Bytes, from the first spaced-out word on, in which letters are joined."""
MAX_ENCODED_RUNS = 16
"""Runs of one text that are tried as base64 or hex."""
_NEAR = 120


class Suspicion(NamedTuple):
    """A rule that matched, and how sure it is: 0..1000."""

    rule: str
    score: int


def may_hold(text: str) -> bool:
    """Whether any rule could match in `text`; False costs a fraction of `assess`."""
    return any(map(_may_hold, readings(text))) or _hidden(text) is not None


def assess(text: str, role: Role) -> tuple[Suspicion, ...]:
    """The rules that match, the surest first; the first one's score counts the others in."""
    best: dict[str, int] = {}
    for lowered in _readings(text):
        for rule, score in _scores(lowered, quotable=role not in (Role.TOOL, Role.DATA)):
            best[rule] = max(score, best.get(rule, 0))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    if not ranked:
        return ()
    (rule, score), *others = ranked
    families = {name.split(".")[0]: value for name, value in reversed(others)}
    families.pop(rule.split(".")[0], None)
    total = min(1000, score + sum(families.values()) * 2 // 5)
    return (Suspicion(rule, total), *(Suspicion(name, value) for name, value in others))


# --- rules, compiled ------------------------------------------------------------------------------------------


def _expand(pattern: str, *, gap: str) -> str:
    for name, words in VOCABULARY.items():
        for most in range(2, 6):
            pattern = pattern.replace(f"<{name}>*{most}", f"(?:(?:{words}) ){{0,{most}}}")
        pattern = pattern.replace(f"<{name}>", f"(?:{words})")
    return pattern.replace(" ?", "\0").replace(" ", gap).replace("\0", " {0,4}")


class _Rules:
    """Phrases compiled for one way of writing: `gap` is what stands between two words."""

    def __init__(self, phrases: Iterable[Phrase], *, gap: str, prefix: str) -> None:
        options = latin1()
        self.phrases = tuple(phrases)
        patterns = [(prefix + _expand(phrase.pattern, gap=gap)).encode("ascii") for phrase in self.phrases]
        self.any = re2.Set.SearchSet(options)
        for pattern in patterns:
            self.any.Add(pattern)
        self.any.Compile()
        self.each = tuple(re2.compile(pattern, options) for pattern in patterns)
        self.benign = tuple(
            re2.compile(_expand(rf"^ (?:{phrase.benign})", gap=gap).encode("ascii"), options) if phrase.benign else None
            for phrase in self.phrases
        )


_GAP = " {1,4}"
_WORD_RULES = _Rules(WORDS, gap=_GAP, prefix=r"\b")
_JOINED_RULES = _Rules([phrase for phrase in WORDS if phrase.weight >= 800], gap=" {0,4}", prefix="")
_MARK_RULES = _Rules(MARKS, gap=" ", prefix="")
_ABOUT = re2.compile(ABOUT.encode("ascii"), latin1())
_TO_WORDS = bytes(byte if (chr(byte).isalnum() and byte < 128) or byte == 1 else 32 for byte in range(256))


def _scores(lowered: bytes, *, quotable: bool) -> Iterator[Suspicion]:
    words = lowered.translate(_TO_WORDS)
    yield from _matches(_WORD_RULES, words, lowered, quotable=quotable)
    yield from _matches(_MARK_RULES, lowered, lowered, quotable=quotable)
    spaced = _SPACED.search(lowered)
    if spaced is not None:
        joined = _join_spaced(lowered[spaced.start() : spaced.start() + MAX_JOINED])
        yield from _matches(_JOINED_RULES, joined, lowered, quotable=False)


def _matches(rules: _Rules, data: bytes, lowered: bytes, *, quotable: bool) -> Iterator[Suspicion]:
    for index in rules.any.Match(data) or ():
        phrase, benign = rules.phrases[index], rules.benign[index]
        # The surest of the first few matches speaks for the rule.
        score, at = 0, 0
        for _ in range(8):
            match = rules.each[index].search(data, at)
            if match is None:
                break
            start, end = match.span()
            weight = phrase.weight
            if benign is not None and benign.search(data[end : end + 64]) is not None:
                weight = weight * 2 // 5
            elif quotable and _is_mentioned(lowered, start, end):
                weight //= 2
            score, at = max(score, weight), max(end, start + 1)
        yield Suspicion(f"injection.{phrase.name}", score)


def _is_mentioned(lowered: bytes, start: int, end: int) -> bool:
    """Whether the match is spoken about: quoted, or announced, by somebody whose subject are attacks."""
    before = lowered[max(0, start - _NEAR) : start]
    if _ABOUT.search(before) is None and _ABOUT.search(lowered[end : end + _NEAR]) is None:
        return False
    if any(before.count(mark) % 2 for mark in (b'"', b"`")) or (
        b"'" in before[-40:] and b"'" in lowered[end : end + 40]
    ):
        return True
    return _ABOUT.search(before[-32:]) is not None


# --- disguises ------------------------------------------------------------------------------------------------

_HINTS = re2.compile(
    rb"[a-z][0-9@$!|]{1,2}[a-z]|\b[0-9@$!|][a-z]{2}|(?:^|[^a-z0-9])[a-z0-9](?:[ ._*|~/\-]{1,2}[a-z0-9]){5}|"
    rb"[a-z0-9+/_\-]{24}|(?:[0-9a-f]{2}[ :,]){12}|" + ROT13_STEMS.encode("ascii"),
    latin1(),
)
_SPACED = re2.compile(rb"(?:^|[^a-z0-9])[a-z0-9](?:[ ._*|~/\-]{1,2}[a-z0-9]){5,}(?:[^a-z0-9]|$)", latin1())
_LEET = re2.compile(rb"[a-z][0-9@$!|]{1,2}[a-z]|\b[0-9@$!|][a-z]{2}", latin1())
_ROT13_STEMS = re2.compile(ROT13_STEMS.encode("ascii"), latin1())
_BASE64 = re2.compile(rb"[A-Za-z0-9+/_\-]{24,}={0,2}", latin1())
_HEX = re2.compile(rb"(?:[0-9A-Fa-f]{2}[ :,]?){16,}", latin1())
_LEET_I = bytes.maketrans(b"013457@$!|", b"oieastasii")
_LEET_L = bytes.maketrans(b"013457@$!|", b"oleastasll")
_ROT13 = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM"
)


def _may_hold(data: bytes) -> bool:
    lowered = data.lower()
    return bool(
        _WORD_RULES.any.Match(lowered.translate(_TO_WORDS))
        or _MARK_RULES.any.Match(lowered)
        or _HINTS.search(lowered) is not None
    )


def _readings(text: str) -> Iterator[bytes]:
    """What the text can be read as, in lower-case ASCII: each distinct reading once."""
    seen: set[bytes] = set()
    for reading in _all_readings(text):
        if reading not in seen:
            seen.add(reading)
            yield reading


def _all_readings(text: str) -> Iterator[bytes]:
    hidden = _hidden(text)
    if hidden is not None:
        yield hidden.encode("ascii").lower()
    for data in readings(text):
        lowered = data.lower()
        yield lowered
        if _LEET.search(lowered) is not None:
            yield lowered.translate(_LEET_I)
            yield lowered.translate(_LEET_L)
        if _ROT13_STEMS.search(lowered) is not None:
            yield lowered.translate(_ROT13)
        for decoded in _decoded_runs(data):
            for inner in readings(decoded):
                yield inner.lower()


def _hidden(text: str) -> str | None:
    """What the text says in Unicode tag characters, which show nothing and which models read as ASCII."""
    if text.isascii() or max(text) < "\U000e0020":
        return None
    return "".join(chr(ord(c) - 0xE0000) for c in text if "\U000e0020" <= c <= "\U000e007e") or None


def _join_spaced(lowered: bytes) -> bytes:
    """`lowered` with letters that stand singly joined; a wider gap between them parts words."""
    words: list[bytes] = []
    single = False
    for token in lowered.translate(_TO_WORDS).split(b" "):
        if single and len(token) == 1:
            words[-1] += token
        elif token:
            words.append(token)
        single = len(token) == 1
    return b" ".join(words)


def _decoded_runs(data: bytes) -> Iterator[str]:
    budget = MAX_DECODED
    for pattern, decode in ((_BASE64, _from_base64), (_HEX, _from_hex)):
        at = 0
        for _ in range(MAX_ENCODED_RUNS):
            match = pattern.search(data, at)
            if match is None or budget <= 0:
                break
            start, at = match.span()
            decoded = decode(data[start : min(at, start + 2 * budget)])
            if decoded is None:
                continue
            budget -= len(decoded)
            text = decoded.decode("utf-8", "replace")
            if _is_prose(text):
                yield text


def _from_base64(run: bytes) -> bytes | None:
    plain = run.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    plain = plain[: len(plain) - 1] if len(plain) % 4 == 1 else plain
    try:
        return binascii.a2b_base64(plain + b"=" * (-len(plain) % 4))
    except binascii.Error:
        return None


def _from_hex(run: bytes) -> bytes | None:
    try:
        return bytes.fromhex(run.decode("ascii").replace(":", " ").replace(",", " "))
    except ValueError:
        return None


def _is_prose(text: str) -> bool:
    """Whether what was decoded can be read; random bytes cannot."""
    sample = text[:512]
    readable = sum(character.isprintable() or character in "\n\t\r" for character in sample)
    return len(sample) >= 8 and "\ufffd" not in sample[:-4] and readable * 10 >= len(sample) * 9
