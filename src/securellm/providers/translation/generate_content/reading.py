"""Streams of generated content, read from upstreams."""

from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation.generate_content.answer import (
    is_blocked,
    parts_of,
    read_finish,
    read_part,
    read_usage,
    reason_in,
)
from securellm.providers.translation.members import broken
from securellm.providers.translation.model import (
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Counted,
    Finished,
    Members,
    Part,
    Reasoning,
    Step,
    Text,
    ToolCall,
)

_Said = Literal["text", "reasoning"]


class _Candidate(msgspec.Struct):
    """What is known of one candidate."""

    blocks: int = 0
    open: tuple[_Said, int] | None = None
    """The words that are being said, and their block."""
    calls: int = 0
    reason: str | None = None


class ReadSteps:
    """Reads an upstream's stream. It has no last event: a candidate that has its reason may still be added to."""

    def __init__(self) -> None:
        self._begun = False
        self._candidates: dict[int, _Candidate] = {}
        self._blocked = False
        self._usage: Usage | None = None

    def read(self, members: Members) -> tuple[Step, ...]:
        """What one event says."""
        if members.get("error"):
            raise told(members["error"])
        steps: list[Step] = []
        if not self._begun:
            self._begun = True
            steps.append(Began(id=named(members.get("responseId")), model=named(members.get("modelVersion"))))
        self._blocked = self._blocked or is_blocked(members)
        candidates = members.get("candidates")
        for place, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
            self._candidate(candidate, place, steps)
        usage, tier = read_usage(members)
        if usage is not None:
            self._usage = figures.larger(self._usage, usage) or usage
            steps.append(Counted(usage=self._usage, service_tier=tier))
        return tuple(steps)

    def end(self) -> tuple[Step, ...]:
        """Why each candidate ended."""
        if not self._candidates:
            if not self._blocked:
                raise broken("the stream held no candidates")
            return (Finished(finish="filter"),)
        steps: list[Step] = []
        for index, known in sorted(self._candidates.items()):
            if known.reason is None:
                raise broken("a candidate ended without a reason")
            _silence(known, index, steps)
            steps.append(Finished(finish=read_finish(known.reason, calls=known.calls), choice=index))
        return tuple(steps)

    def _candidate(self, candidate: Value, place: int, steps: list[Step]) -> None:
        if not isinstance(candidate, dict):
            raise broken("a candidate is no object")
        index = candidate.get("index")
        at = index if type(index) is int else place
        known = self._candidates.setdefault(at, _Candidate())
        for part in parts_of(candidate):
            for said in read_part(part):
                _say(known, at, said, steps)
        known.reason = known.reason or reason_in(candidate)


def _say(known: _Candidate, at: int, part: Part, steps: list[Step]) -> None:
    match part:
        case Text():
            block = _speak(known, at, "text", steps)
            steps.append(BlockGrew(block=block, text=part.text, choice=at))
        case Reasoning():
            # The proof of plain words is no part of a thought that is being told.
            alone = part.redacted and not (known.open is not None and known.open[0] == "reasoning")
            block = _speak(known, at, "reasoning", steps)
            if part.text:
                steps.append(BlockGrew(block=block, text=part.text, choice=at))
            if part.signature is not None:
                steps.append(BlockSigned(block=block, signature=part.signature, redacted=alone, choice=at))
                _silence(known, at, steps)
        case ToolCall():
            _silence(known, at, steps)
            block, known.blocks, known.calls = known.blocks, known.blocks + 1, known.calls + 1
            steps.append(BlockBegan(block=block, kind="tool", choice=at, id=part.id or None, name=part.name))
            if part.signature is not None:
                steps.append(BlockSigned(block=block, signature=part.signature, choice=at))
            steps.append(BlockGrew(block=block, text=part.arguments, choice=at))
            steps.append(BlockEnded(block=block, choice=at))
        case _:
            raise broken("the answer holds a part that cannot be translated")


def _speak(known: _Candidate, at: int, kind: _Said, steps: list[Step]) -> int:
    """The block of words of one kind; a new one when something else was said last."""
    if known.open is not None and known.open[0] == kind:
        return known.open[1]
    _silence(known, at, steps)
    known.open, known.blocks = (kind, known.blocks), known.blocks + 1
    steps.append(BlockBegan(block=known.open[1], kind=kind, choice=at))
    return known.open[1]


def _silence(known: _Candidate, at: int, steps: list[Step]) -> None:
    if known.open is not None:
        steps.append(BlockEnded(block=known.open[1], choice=at))
        known.open = None
