"""The nouns of screening: modes, findings, verdicts and the proof that a text was screened."""

from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec

from securellm.core.errors import Code, Refusal
from securellm.core.messages import Replacement

PACK = "2026.11.1"
"""Version of the built-in rules; every screening names the one it was made with."""


class GuardMode(StrEnum):
    """How hard a tenant's guard is."""

    OFF = "off"
    OBSERVE = "observe"
    STANDARD = "standard"
    STRICT = "strict"


class Verdict(StrEnum):
    """What became of a text, or of one finding in it."""

    ALLOW = "allow"
    REDACT = "redact"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """A number that grows with strictness."""
        return _SEVERITY[self]


_SEVERITY = {Verdict.ALLOW: 0, Verdict.REDACT: 1, Verdict.BLOCK: 2}


class Direction(StrEnum):
    """Which way a text travels."""

    PROMPT = "prompt"
    REPLY = "reply"


class FindingType(StrEnum):
    """What a finding is about."""

    CPF = "cpf"
    CNPJ = "cnpj"
    CARD = "card"
    EMAIL = "email"
    PHONE = "phone"
    SECRET = "secret"  # noqa: S105
    INJECTION = "injection"


class Specificity(IntEnum):
    """Of two findings with the same range, the one that says more names it."""

    SHAPE = 1
    ADDRESS = 2
    CHECKED = 3
    KNOWN = 4


class Rule(NamedTuple):
    """What a candidate is reported as."""

    type: FindingType
    name: str
    specificity: Specificity
    score: int = 1000


class Candidate(NamedTuple):
    """A range of a canonical view that a rule holds for."""

    start: int
    end: int
    rule: Rule
    follow: bytes = b""
    """The class whose further characters, if text follows, belong to the candidate."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rule found something, never what. Offsets count characters of the leaf's text."""

    type: str
    rule: str
    leaf: int
    start: int
    end: int
    score: int
    """0..1000; 1000 where a check digit or a vendor's own prefix leaves no doubt."""
    action: Verdict


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that every leaf was screened. Only `Guard` makes one.

    The replacements of a leaf are sorted and never overlap.
    """

    mode: GuardMode
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    seen: tuple[tuple[str, int], ...] = ()
    """Every type that was found and its highest score, however many findings are left out of the list above."""
    redact: frozenset[str] = frozenset()
    """Types that were cut out whatever the mode does with them."""
    pack: str = PACK


class Blocked(Refusal):
    """The guard forbids this text. The reason names types and rules, never what was found."""

    def __init__(self, code: Code, findings: tuple[Finding, ...], *, decision_id: str) -> None:
        causes = sorted({f"{finding.type} ({finding.rule})" for finding in findings if finding.action is Verdict.BLOCK})
        super().__init__(code, "the guard found " + ", ".join(causes), decision_id=decision_id)
        self.findings = findings
