"""What personal data and secrets look like: one linear-time pattern and one exact check for each rule.

A candidate depends only on the bytes of its own range and a few around it (`CONTEXT` to the left), never on where
the text begins or on other candidates. That is why a stream, screened piece by piece, finds what the whole would.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import re2

from securellm.guard.checks import is_card, is_cnpj, is_cpf
from securellm.guard.model import Candidate, FindingType, Rule, Specificity

CONTEXT = 64
"""Bytes to the left of a candidate that its check may look at, generously."""


Check = Callable[[bytes, int, int], Candidate | None]


class Detector(NamedTuple):
    """A pattern, and the check that turns its match into a candidate or rejects it."""

    pattern: bytes
    check: Check
    resume: bytes = b""
    """The next search starts after the first of these bytes in the match; without any, after the match's first byte."""
    whole: bool = False
    """The next search starts after the match."""


def latin1() -> re2.Options:
    """Options under which a byte is a character, as it is in a view."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 64 << 20
    options.log_errors = False
    return options


# --- digits ---------------------------------------------------------------------------------------------------

_DIGITS = b"0123456789"
_ALNUM = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\x01")
_NOT_DIGITS = bytes(byte for byte in range(256) if byte not in _DIGITS)
_NOT_ALNUM = bytes(byte for byte in range(256) if byte not in _ALNUM)
_SEPARATORS = b" \t./-"
_SEP = rb"[ \t./\-]{0,3}"
_LEFT = rb"(?:^|[^0-9A-Za-z\x01])"
_LABELLED = rb"(?:^|[^0-9A-Za-z\x01]|(?i:cpf|cnpj))"

CPF = Rule(FindingType.CPF, "pii.cpf", Specificity.CHECKED)
CNPJ = Rule(FindingType.CNPJ, "pii.cnpj", Specificity.CHECKED)
CARD = Rule(FindingType.CARD, "pii.card", Specificity.CHECKED)
EMAIL = Rule(FindingType.EMAIL, "pii.email", Specificity.ADDRESS)
PHONE = Rule(FindingType.PHONE, "pii.phone", Specificity.SHAPE, 900)
_WEAK_PHONE = Rule(FindingType.PHONE, "pii.phone.context", Specificity.SHAPE, 700)


def _digits(data: bytes, start: int, end: int) -> bytes:
    return data[start:end].translate(None, _NOT_DIGITS)


def _ends_clear(data: bytes, end: int) -> bool:
    return end == len(data) or data[end] not in _ALNUM


def _is_fraction(data: bytes, start: int, end: int) -> bool:
    """Whether an unbroken run of digits is a part of a decimal number."""
    before = start >= 2 and data[start - 1] in b".," and data[start - 2] in _DIGITS
    after = end + 1 < len(data) and data[end] in b".," and data[end + 1] in _DIGITS
    return before or after


def _first(data: bytes, start: int, wanted: bytes) -> int:
    while data[start] not in wanted:
        start += 1
    return start


def _groups(data: bytes, start: int, end: int) -> list[bytes]:
    return data[start:end].translate(_SEPARATORS_TO_SPACE).split()


_SEPARATORS_TO_SPACE = bytes(32 if byte in _SEPARATORS else byte for byte in range(256))


def _is_date(groups: list[bytes]) -> bool:
    """Whether three neighbouring groups read year-month-day or day-month-year."""
    for first, month, last in zip(groups, groups[1:], groups[2:], strict=False):
        year, day = (first, last) if len(first) == 4 else (last, first)
        if len(year) == 4 and len(month) <= 2 and len(day) <= 2 and year[:2] in (b"19", b"20"):
            a, b = int(month), int(day)
            if 1 <= min(a, b) <= 12 and 1 <= max(a, b) <= 31:
                return True
    return False


def _is_address_or_amount(data: bytes, start: int, end: int, groups: list[bytes]) -> bool:
    """Whether digits in dotted groups read as an IPv4 address or a number with thousands separators."""
    if data[start:end].translate(None, _DIGITS).strip(b"."):
        return False
    if len(groups) == 4 and all(len(group) <= 3 and int(group) < 256 for group in groups):
        return True
    return len(groups) > 1 and all(len(group) == 3 for group in groups[1:])


def is_timestamp(digits: bytes) -> bool:
    """Whether 14 digits read yyyymmddhhmmss."""
    year, month, day, hour = digits[:2], int(digits[4:6]), int(digits[6:8]), int(digits[8:10])
    return (
        year in (b"19", b"20")
        and 1 <= month <= 12
        and 1 <= day <= 31
        and hour < 24
        and max(digits[10], digits[12]) < 54
    )


def _check_cpf(data: bytes, start: int, end: int) -> Candidate | None:
    start = _first(data, start, _DIGITS)
    if not _ends_clear(data, end) or not is_cpf(_digits(data, start, end)):
        return None
    if end - start == 11 and _is_fraction(data, start, end):
        return None
    return Candidate(start, end, CPF)


def _check_cnpj(data: bytes, start: int, end: int) -> Candidate | None:
    start = _first(data, start, _DIGITS)
    digits = _digits(data, start, end)
    if not _ends_clear(data, end) or not is_cnpj(digits):
        return None
    if end - start == 14 and (is_timestamp(digits) or _is_fraction(data, start, end)):
        return None
    return Candidate(start, end, CNPJ)


def _check_cnpj_code(data: bytes, start: int, end: int) -> Candidate | None:
    if data[start] not in _ALNUM:
        start += 1
    code = data[start:end].translate(None, _NOT_ALNUM).upper()
    if not _ends_clear(data, end) or code.isdigit() or not is_cnpj(code):
        return None
    if code[:12].isalpha() and b"/" not in data[start:end]:
        return None
    return Candidate(start, end, CNPJ)


def _check_card(data: bytes, start: int, end: int) -> Candidate | None:
    start = _first(data, start, _DIGITS)
    if not _ends_clear(data, end) or not is_card(_digits(data, start, end)):
        return None
    if end - start <= 19 and data[start:end].isdigit() and _is_fraction(data, start, end):
        return None
    return Candidate(start, end, CARD)


def _check_run(data: bytes, start: int, end: int) -> Candidate | None:
    """A run of digits that stands alone, however it is spaced."""
    if (start and data[start - 1] in _ALNUM) or not _ends_clear(data, end):
        return None
    digits = _digits(data, start, end)
    if not 11 <= len(digits) <= 19 or len(digits) == end - start:
        return None
    if len(digits) == 11:
        rule = CPF if is_cpf(digits) else None
    else:
        rule = CNPJ if is_cnpj(digits) else CARD if is_card(digits) else None
    if rule is None:
        return None
    groups = _groups(data, start, end)
    if _is_date(groups) or _is_address_or_amount(data, start, end, groups):
        return None
    return Candidate(start, end, rule)


# --- phones ---------------------------------------------------------------------------------------------------

_DDD = frozenset(
    b"11 12 13 14 15 16 17 18 19 21 22 24 27 28 31 32 33 34 35 37 38 41 42 43 44 45 46 47 48 49 51 53 54 55 "
    b"61 62 63 64 65 66 67 68 69 71 73 74 75 77 79 81 82 83 84 85 86 87 88 89 91 92 93 94 95 96 97 98 99".split()
)
# ITU-T E.164 country codes of three digits begin with one of these pairs; the others below have two digits.
_THREE_DIGIT_CODES = frozenset(b"21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99".split())
_TWO_DIGIT_CODES = frozenset(
    b"20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 "
    b"81 82 84 86 90 91 92 93 94 95 98".split()
)


def _is_brazilian(digits: bytes) -> bool:
    """Whether national digits are a DDD and a mobile (9 + 8) or fixed (2..5 + 7) number."""
    if digits[:2] not in _DDD:
        return False
    if len(digits) == 11:
        return digits[2] == 57
    return len(digits) == 10 and digits[2] in b"2345"


def _is_international(digits: bytes) -> bool:
    if digits[:2] == b"55":
        return _is_brazilian(digits[2:])
    if digits[:1] == b"1":
        return len(digits) == 11 and digits[1] in b"23456789" and digits[4] in b"23456789"
    if digits[:1] == b"7":
        return len(digits) == 11
    return 9 <= len(digits) <= 15 and (digits[:2] in _TWO_DIGIT_CODES or digits[:2] in _THREE_DIGIT_CODES)


def _check_international(data: bytes, start: int, end: int) -> Candidate | None:
    start = data.index(b"+", start, end)
    # The run may take in a number that merely follows; the longest whole groups that make a phone are the phone.
    for stop in range(end, start, -1):
        if data[stop - 1] in _DIGITS and _ends_clear(data, stop):
            digits = _digits(data, start, stop)
            if len(digits) < 8:
                break
            if _is_international(digits):
                return Candidate(start, stop, PHONE)
    return None


def _check_bare_brazilian(data: bytes, start: int, end: int) -> Candidate | None:
    start = _first(data, start, _DIGITS)
    if not _ends_clear(data, end) or data[start + 2 : start + 4] not in _DDD or _is_fraction(data, start, end):
        return None
    return Candidate(start, end, PHONE)


def _opening(data: bytes, start: int, end: int) -> int:
    """Where the number begins: at its first digit, or at the parenthesis before it that the number closes."""
    first = _first(data, start, _DIGITS)
    return first - 1 if first > start and data[first - 1] == 40 and b")" in data[first:end] else first


def _check_domestic(data: bytes, start: int, end: int) -> Candidate | None:
    start = _opening(data, start, end)
    if not _ends_clear(data, end):
        return None
    digits = _digits(data, start, end)
    if not _is_brazilian(digits[1:] if digits[:1] == b"0" else digits):
        return None
    if len(digits) == 10 and digits[2:4] == b"20" and digits[6:8] == b"20":
        return None
    return Candidate(start, end, PHONE)


def _check_north_american(data: bytes, start: int, end: int) -> Candidate | None:
    start = _opening(data, start, end)
    if not _ends_clear(data, end) or (data[start] != 40 and data[start + 3] != data[start + 7]):
        return None
    if end < len(data) and data[end] in b"-." and data[end + 1 : end + 2].isdigit():
        return None
    return Candidate(start, end, PHONE)


_PHONE_WORDS = frozenset(b"tel tels cel call zap wpp sms fax ligue ligar movil phone phones fone fones mobile".split())
_PHONE_WORD_STEMS = (b"telef", b"teleph", b"celular", b"whats", b"contato", b"cellphone")
_NEAR = 24


def _follows_phone_word(data: bytes, at: int) -> bool:
    words = data[max(0, at - _NEAR) : at].lower().translate(_TO_WORDS).split()
    whole = words[1:] if at > _NEAR else words
    return any(word in _PHONE_WORDS or word.startswith(_PHONE_WORD_STEMS) for word in whole)


_TO_WORDS = bytes(byte if byte in _ALNUM else 32 for byte in range(256))


def _check_in_context(data: bytes, start: int, end: int) -> Candidate | None:
    """Digits that could be anything, just after a word that says they are a phone."""
    start = _first(data, start, _DIGITS)
    if not _ends_clear(data, end) or _is_fraction(data, start, end):
        return None
    digits = _digits(data, start, end)
    if len(digits) in (8, 9):
        known = digits[0] == 57 if len(digits) == 9 else digits[0] in b"2345"
    else:
        known = _is_brazilian(digits[2:] if len(digits) > 11 else digits)
    return Candidate(start, end, _WEAK_PHONE) if known and _follows_phone_word(data, start) else None


# --- e-mail ---------------------------------------------------------------------------------------------------


def _check_email(data: bytes, start: int, end: int) -> Candidate | None:
    if data[start : start + 4] == b"git@" and data[end : end + 1] == b":":
        return None
    return Candidate(start, end, EMAIL)


# --- secrets --------------------------------------------------------------------------------------------------

_TOKEN = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"


def _secret(name: str) -> Rule:
    return Rule(FindingType.SECRET, f"secret.{name}", Specificity.KNOWN)


def _key(name: str, *, words: bool = False, exact: bool = False) -> Check:
    """A vendor's prefix and enough of its body; the rest of the run belongs to it.

    With `words`, a body of lower-case words and dashes is a name, not a key. With `exact`, the body has one length.
    """
    rule = _secret(name)

    def check(data: bytes, start: int, end: int) -> Candidate | None:
        if data[start] not in _ALNUM:
            start += 1
        if exact:
            return Candidate(start, end, rule) if _ends_clear(data, end) else None
        body = data[start:end]
        if words and not any(byte in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" for byte in body) and body.count(b"-") > 1:
            return None
        return Candidate(start, _run_end(data, end, _TOKEN), rule, _TOKEN)

    return check


def _run_end(data: bytes, at: int, token: bytes) -> int:
    """Where the run of `token` bytes that begins at `at` ends."""
    tail = data[at : at + 64]
    while tail:
        rest = tail.lstrip(token)
        at += len(tail) - len(rest)
        if rest:
            return at
        tail = data[at : at + 4096]
    return at


_KEYS: tuple[tuple[str, bytes, int, bytes], ...] = (
    # name, prefix, how much body leaves no doubt, what bodies are made of
    ("anthropic", rb"sk-ant-", 16, rb"[A-Za-z0-9_\-]"),
    ("openai", rb"sk-", 20, rb"[A-Za-z0-9_\-]"),
    ("xai", rb"xai-", 20, rb"[A-Za-z0-9_\-]"),
    ("google", rb"AIza", 30, rb"[A-Za-z0-9_\-]"),
    ("github", rb"gh[opsur]_", 30, rb"[A-Za-z0-9]"),
    ("github", rb"github_pat_", 22, rb"[A-Za-z0-9_]"),
    ("gitlab", rb"glpat-", 20, rb"[A-Za-z0-9_\-]"),
    ("slack", rb"xox[abeprs]-", 12, rb"[A-Za-z0-9\-]"),
    ("stripe", rb"[rs]k_live_", 16, rb"[A-Za-z0-9]"),
    ("stripe", rb"[rs]k_test_", 16, rb"[A-Za-z0-9]"),
    ("huggingface", rb"hf_", 30, rb"[A-Za-z0-9]"),
    ("npm", rb"npm_", 30, rb"[A-Za-z0-9]"),
    ("virtual-key", rb"slb_", 16, rb"[A-Za-z0-9_\-]"),
)
_DOTTED_TOKEN = _TOKEN + b"."
_JWT = _secret("jwt")


_ARMOUR = _TOKEN + b"+/=\r\n"
_PRIVATE_KEY = _secret("private-key")


def _check_private_key(data: bytes, start: int, end: int) -> Candidate | None:
    return Candidate(start, _run_end(data, end, _ARMOUR), _PRIVATE_KEY, _ARMOUR)


def _check_jwt(data: bytes, start: int, end: int) -> Candidate | None:
    if data[start] != 101:
        start += 1
    return Candidate(start, _run_end(data, end, _DOTTED_TOKEN), _JWT, _DOTTED_TOKEN)


# --- all of them ----------------------------------------------------------------------------------------------

_LOCAL = rb"[A-Za-z0-9_\x01][A-Za-z0-9._%+'\x01\-]{0,63}@"
_DOMAIN = rb"[A-Za-z0-9\x01](?:[A-Za-z0-9.\x01\-]{0,252}[A-Za-z0-9\x01])?\.[A-Za-z\x01]{2,24}"
_CODE = rb"[0-9A-Z]"
_LOOSE = rb"[ ]?[./\-]?[ ]?"
_ANY_CODE = rb"[0-9A-Za-z]"

DETECTORS: tuple[Detector, ...] = (
    Detector(_LABELLED + rb"[0-9]{3}" + _SEP + rb"[0-9]{3}" + _SEP + rb"[0-9]{3}" + _SEP + rb"[0-9]{2}", _check_cpf),
    Detector(
        _LABELLED
        + rb"[0-9]{2}"
        + _SEP
        + rb"[0-9]{3}"
        + _SEP
        + rb"[0-9]{3}"
        + _SEP
        + rb"[0-9]{4}"
        + _SEP
        + rb"[0-9]{2}",
        _check_cnpj,
    ),
    Detector(
        _LEFT
        + _CODE
        + rb"{2}"
        + _LOOSE
        + _CODE
        + rb"{3}"
        + _LOOSE
        + _CODE
        + rb"{3}"
        + _LOOSE
        + _CODE
        + rb"{4}"
        + _LOOSE
        + rb"[0-9]{2}",
        _check_cnpj_code,
    ),
    Detector(
        _LEFT + _ANY_CODE + rb"{2}\." + _ANY_CODE + rb"{3}\." + _ANY_CODE + rb"{3}/" + _ANY_CODE + rb"{4}-[0-9]{2}",
        _check_cnpj_code,
    ),
    Detector(_LEFT + rb"[0-9]{13,19}", _check_card),
    Detector(_LEFT + rb"[0-9]{4}(?:[ \t./\-]{1,3}[0-9]{4}){3}", _check_card),
    Detector(_LEFT + rb"[0-9]{4}(?:[ \t./\-]{1,3}[0-9]{4}){3}[ \t./\-]{1,3}[0-9]{1,3}", _check_card),
    Detector(_LEFT + rb"[0-9]{4}[ \t./\-]{1,3}[0-9]{6}[ \t./\-]{1,3}[0-9]{4,5}", _check_card),
    Detector(rb"[0-9](?:" + _SEP + rb"[0-9]){10,}", _check_run, whole=True),
    Detector(rb"(?:^|[^0-9A-Za-z\x01+])\+ ?\(?[0-9](?:[ .\-()/]{0,2}[0-9]){7,16}", _check_international),
    Detector(_LEFT + rb"(?:00)?55[1-9][0-9]9[0-9]{8}", _check_bare_brazilian),
    Detector(_LEFT + rb"\(0?[1-9][0-9]\)[ .\-]{0,2}(?:9[ .\-]?)?[2-9][0-9]{3}[ .\-]?[0-9]{4}", _check_domestic),
    Detector(_LEFT + rb"0?[1-9][0-9][ .\-]{1,2}9[ .\-]?[0-9]{4}[ .\-]?[0-9]{4}", _check_domestic),
    Detector(_LEFT + rb"0?[1-9][0-9][ \-]{1,2}[2-5][0-9]{3}-[0-9]{4}", _check_domestic),
    Detector(
        _LEFT + rb"(?:\([2-9][0-9]{2}\)[ .\-]?|[2-9][0-9]{2}[.\-])[2-9][0-9]{2}[.\-][0-9]{4}", _check_north_american
    ),
    Detector(_LEFT + rb"(?:(?:55[ .\-]?)?[1-9][0-9][ .\-]?)?9?[ .\-]?[2-9][0-9]{3}[ .\-]?[0-9]{4}", _check_in_context),
    Detector(_LOCAL + _DOMAIN, _check_email, resume=b"@"),
    *(
        Detector(_LEFT + prefix + body + b"{%d}" % enough, _key(name, words=name in ("openai", "xai")))
        for name, prefix, enough, body in _KEYS
    ),
    Detector(rb"-----BEGIN [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----", _check_private_key, resume=b"B"),
    Detector(_LEFT + rb"A(?:KIA|SIA)[A-Z0-9]{16}", _key("aws", exact=True)),
    Detector(_LEFT + rb"eyJ[A-Za-z0-9_\-]{10,512}\.e[A-Za-z0-9_\-]{8}", _check_jwt),
)


def _beginnings(*parts: bytes) -> bytes:
    """A pattern for whatever a text could begin with that goes on to match the parts in turn."""
    pattern = b""
    for part in reversed(parts):
        pattern = rb"(?:" + part + pattern + rb")?"
    return pattern


# What the end of a text may be the beginning of. Wider than the patterns where that is simpler: a wider one holds a
# stream's text back a little longer, a narrower one would let a match slip through in pieces.
_LIVE = b"|".join(
    (
        rb"[A-Za-z0-9._%+'\x01\-]{1,64}",
        _LOCAL + rb"[A-Za-z0-9.\x01\-]{0,280}",
        rb"\+[ ]?\(?|\(",
        rb"(?:\+[ ]?)?\(?[0-9](?:[ \t./()\-]{0,3}[0-9]){0,18}[ \t./()\-]{0,3}[.,]?",
        _CODE
        + _beginnings(_CODE, _LOOSE, *[_CODE] * 3, _LOOSE, *[_CODE] * 3, _LOOSE, *[_CODE] * 4, _LOOSE, *[_CODE] * 2),
        _ANY_CODE
        + _beginnings(
            _ANY_CODE, rb"\.", *[_ANY_CODE] * 3, rb"\.", *[_ANY_CODE] * 3, rb"/", *[_ANY_CODE] * 4, rb"-", *[_CODE] * 2
        ),
        rb"-----BEGIN[A-Z ]{0,48}-{0,5}",
        rb"eyJ[A-Za-z0-9_\-]{0,512}" + _beginnings(rb"\.", rb"e[A-Za-z0-9_\-]{0,8}"),
    )
)


class _Patterns:
    """Every detector compiled: one set that says which match at all, and each alone to find where."""

    def __init__(self) -> None:
        options = latin1()
        self.any = re2.Set.SearchSet(options)
        for detector in DETECTORS:
            self.any.Add(detector.pattern)
        self.any.Compile()
        self.each = tuple(re2.compile(detector.pattern, options) for detector in DETECTORS)
        self.live = re2.compile(rb"(?:" + _LIVE + rb")\z", options)


_PATTERNS = _Patterns()


def find(data: bytes) -> list[Candidate]:
    """Every candidate of a view, in no particular order."""
    found: list[Candidate] = []
    for index in _PATTERNS.any.Match(data) or ():
        found.extend(_find_by(DETECTORS[index], _PATTERNS.each[index], data))
    return found


def may_hold(data: bytes) -> bool:
    """Whether any pattern matches at all; False costs a fraction of `find`."""
    return bool(_PATTERNS.any.Match(data))


def live_from(data: bytes) -> int:
    """From where on `data`, if text follows it, could still turn out to be (part of) a candidate."""
    match = _PATTERNS.live.search(data)
    return len(data) if match is None else int(match.start())


def extend(data: bytes, at: int, follow: bytes) -> int:
    """Up to where bytes of the class `follow` go on from `at`."""
    return _run_end(data, at, follow)


def _find_by(detector: Detector, pattern: re2._Regexp, data: bytes) -> Iterator[Candidate]:
    at = 0
    while (match := pattern.search(data, at)) is not None:
        start, end = match.span()
        candidate = detector.check(data, start, end)
        if candidate is not None:
            yield candidate
        if detector.whole:
            at = end
        elif detector.resume:
            at = data.index(detector.resume, start) + 1
        elif candidate is not None and candidate.follow:
            at = candidate.end
        else:
            at = start + 1
