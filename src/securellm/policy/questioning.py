"""Ask bundles many questions where only this process can be harmed: `python -m securellm.policy.questioning`."""

import os
import resource
import sys
from collections.abc import Sequence

import msgspec

from securellm.policy.bundles import Bundle, BundleRefused, checked, hash_of
from securellm.policy.engine import CompiledBundle, Failed
from securellm.policy.explaining import compiled_of
from securellm.policy.model import Answer, Question
from securellm.policy.replaying import FAILED, Inquiry, Replies
from securellm.policy.trial import described, examine

MEMORY = 2 << 30
"""Bytes of address space."""
CPU = 60
"""Seconds."""


def main() -> None:
    """Read an inquiry from standard input and write the replies."""
    os.nice(10)  # The gateway's requests come first.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    inquiry = msgspec.json.decode(sys.stdin.buffer.read(), type=Inquiry)
    sys.stdout.buffer.write(msgspec.json.encode(inquire(inquiry)))


def inquire(inquiry: Inquiry) -> Replies:
    """Try the candidate, then ask. May end the process."""
    candidate, *others = inquiry.bundles
    report = examine(candidate)
    if not report.ok:
        return Replies(problems=report.problems)
    try:
        compiled = [compiled_of(candidate, report), *map(_compiled, others)]
    except ValueError:
        # Whose it is, and what it says, may be nobody's business who asks.
        return Replies(problems=("a bundle in force cannot be read",))
    places: dict[Answer, int] = {}
    given = tuple(
        _asked(compiled, question, who, places) for question, who in zip(inquiry.questions, inquiry.asks, strict=True)
    )
    return Replies(answers=tuple(places), given=given)


def _compiled(bundle: Bundle) -> CompiledBundle:
    """A bundle that has been tried before. Raises ValueError."""
    segments = checked(bundle)
    rows, problems = described(segments)
    if problems:
        raise BundleRefused(tuple(problems))
    return CompiledBundle(hash_of(bundle), [segment.text for segment in segments], rows)


def _asked(
    compiled: Sequence[CompiledBundle], question: Question, who: Sequence[int], places: dict[Answer, int]
) -> tuple[int, ...]:
    found = []
    for index in who:
        try:
            found.append(places.setdefault(compiled[index].ask(question), len(places)))
        except Failed:
            found.append(FAILED)
    return tuple(found)


if __name__ == "__main__":
    main()
