"""Have bundles tried in a child process: one that harms its process harms nothing else."""

from collections.abc import Sequence

import msgspec

from securellm.policy.bundles import Bundle, hash_of
from securellm.policy.confining import command_of, confined
from securellm.policy.reports import Report

SECONDS = 30.0
"""How long a child may take; its processor time is bounded apart from that."""

_COMMAND = command_of("securellm.policy.trial")


def prove(bundles: Sequence[Bundle], *, seconds: float = SECONDS) -> tuple[Report, ...]:
    """A report on each, in order. Blocks for some tenths of a second. Never raises on account of a bundle.

    All share one child; should it die, each is tried in a child of its own, and the one that killed it is refused.
    """
    if not bundles:
        return ()
    reports = _tried(bundles, seconds)
    if isinstance(reports, tuple):
        return reports
    if len(bundles) == 1:
        return (Report(hash=hash_of(bundles[0]), problems=(reports,)),)
    return tuple(prove((bundle,), seconds=seconds)[0] for bundle in bundles)


def _tried(bundles: Sequence[Bundle], seconds: float) -> tuple[Report, ...] | str:
    """The reports, or what ended the child."""
    told = confined(_COMMAND, msgspec.json.encode(bundles), seconds=seconds)
    if isinstance(told, str):
        return told
    try:
        reports = msgspec.json.decode(told, type=tuple[Report, ...])
    except msgspec.DecodeError:
        return "trying it gave no report (exit status 0)"
    if [report.hash for report in reports] != [hash_of(bundle) for bundle in bundles]:
        return "trying it gave no report (exit status 0)"
    return reports
