"""Decide what becomes of what was found."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from securellm.core.messages import Replacement
from securellm.guard.model import Candidate, Direction, Finding, FindingType, GuardMode, Specificity, Verdict

BLOCKING_SCORE = {GuardMode.STANDARD: 800, GuardMode.STRICT: 600}
"""From which score on an injection is blocked."""


def action(
    mode: GuardMode,
    kind: FindingType,
    direction: Direction,
    *,
    score: int = 1000,
    redact: frozenset[str] = frozenset(),
) -> Verdict:
    """What a finding of this type asks for. What stands in `redact` is cut out in every mode that does not block it."""
    if mode in (GuardMode.OFF, GuardMode.OBSERVE):
        return Verdict.REDACT if kind in redact and kind is not FindingType.INJECTION else Verdict.ALLOW
    if kind is FindingType.INJECTION:
        blocks = direction is Direction.PROMPT and score >= BLOCKING_SCORE[mode]
        return Verdict.BLOCK if blocks else Verdict.ALLOW
    if kind is FindingType.SECRET and mode is GuardMode.STRICT:
        return Verdict.BLOCK
    return Verdict.REDACT


def verdict(findings: Iterable[Finding]) -> Verdict:
    """The strictest of the findings' actions: one more finding never loosens it."""
    return max((finding.action for finding in findings), key=lambda action: action.severity, default=Verdict.ALLOW)


def replacement_text(kind: FindingType) -> str:
    return f"[{kind.upper()}]"


MOST_FINDINGS = 1_000
"""Findings of one leaf that are reported one by one; every further one is still acted upon."""


class Sighting(NamedTuple):
    """A candidate in one of a leaf's views, in offsets of the leaf's own text."""

    start: int
    end: int
    type: FindingType
    rule: str
    specificity: Specificity
    score: int

    @classmethod
    def of(cls, candidate: Candidate, start: int, end: int) -> "Sighting":
        rule = candidate.rule
        return cls(start, end, rule.type, rule.name, rule.specificity, rule.score)


def order(sighting: Sighting) -> tuple[int, int, int, str]:
    """Sorts sightings by where they begin; of those, the longest, then the most specific first."""
    return sighting.start, -sighting.end, -sighting.specificity, sighting.rule


class Region:
    """Neighbouring sightings that overlap: replaced as one, by the name of the first."""

    __slots__ = ("end", "severity", "start", "text")

    def __init__(self, start: int, end: int, text: str, severity: int) -> None:
        self.start = start
        self.end = end
        self.text = text
        self.severity = severity


class Merger:
    """Turn the sightings of one leaf, given in `order`, into findings and regions that never overlap.

    A sighting inside an earlier one of at least its own strictness adds nothing; any other becomes a finding, so
    that no sighting hides a stricter one.
    """

    def __init__(
        self, mode: GuardMode, direction: Direction, leaf: int, *, redact: frozenset[str] = frozenset()
    ) -> None:
        self._mode = mode
        self._redact = redact
        self._direction = direction
        self._leaf = leaf
        self._strictest = 0
        self.findings: list[Finding] = []
        self.regions: list[Region] = []
        self.seen: dict[str, int] = {}
        """The highest score of each type, also of what adds no finding."""

    def add(self, sighting: Sighting, *, quoted: bool = False) -> None:
        """Take the next sighting. With `quoted`, what replaces it must be a JSON string of its own."""
        wanted = action(self._mode, sighting.type, self._direction, score=sighting.score, redact=self._redact)
        if sighting.score > self.seen.get(sighting.type, -1):
            self.seen[sighting.type] = sighting.score
        region = self.regions[-1] if self.regions else None
        if region is not None and sighting.start < region.end:
            inside = sighting.end <= region.end and wanted.severity <= region.severity
            region.end = max(region.end, sighting.end)
            region.severity = max(region.severity, wanted.severity)
            if inside:
                return
        else:
            text = f'"{replacement_text(sighting.type)}"' if quoted else replacement_text(sighting.type)
            self.regions.append(Region(sighting.start, sighting.end, text, wanted.severity))
        if len(self.findings) >= MOST_FINDINGS and wanted.severity <= self._strictest:
            return
        self._strictest = max(self._strictest, wanted.severity)
        self.findings.append(
            Finding(
                type=sighting.type,
                rule=sighting.rule,
                leaf=self._leaf,
                start=sighting.start,
                end=sighting.end,
                score=sighting.score,
                action=wanted,
            )
        )

    def stretch(self, end: int) -> None:
        """The last region's secret goes on, up to `end`."""
        region = self.regions[-1]
        if end <= region.end:
            return
        for at in range(len(self.findings) - 1, -1, -1):
            if self.findings[at].start < region.start:
                break
            if self.findings[at].end == region.end:
                self.findings[at] = msgspec.structs.replace(self.findings[at], end=end)
        region.end = end


def replacements(leaf: int, regions: Iterable[Region]) -> Iterable[Replacement]:
    for region in regions:
        if region.severity:
            yield Replacement(leaf, region.start, region.end, region.text)


def apply(text: str, replacements: Sequence[Replacement]) -> str:
    """`text` with its leaf's replacements made."""
    parts: list[str] = []
    at = 0
    for replacement in replacements:
        parts += (text[at : replacement.start], replacement.text)
        at = replacement.end
    parts.append(text[at:])
    return "".join(parts)
