"""Have bundles tried in a child process: one that harms its process harms nothing else."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from securellm.policy.bundles import Bundle, hash_of
from securellm.policy.reports import Report

SECONDS = 30.0
"""How long a child may take; its processor time is bounded apart from that."""

_COMMAND = (sys.executable, "-I", "-X", "utf8", "-m", "securellm.policy.trial")


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
    try:
        # An empty environment: the child needs no secret, so it is given none.
        child = subprocess.run(  # noqa: S603 - our own interpreter and module
            _COMMAND,
            input=msgspec.json.encode(bundles),
            capture_output=True,
            timeout=seconds,
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"trying it took longer than {seconds:g} s"
    except OSError as error:
        return f"it could not be tried: {error.strerror}"
    if child.returncode < 0:
        return f"trying it ended its process ({signal.Signals(-child.returncode).name}): too deep or too large"
    try:
        reports = msgspec.json.decode(child.stdout, type=tuple[Report, ...])
    except msgspec.DecodeError:
        return f"trying it failed with {_cause(child.stderr)} (exit status {child.returncode})"
    if child.returncode or [report.hash for report in reports] != [hash_of(bundle) for bundle in bundles]:
        return "trying it gave no report"
    return reports


def _cause(stderr: bytes) -> str:
    """The name of the exception that ended the child, and none of what it says."""
    last = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    name = last.partition(":")[0].rpartition(".")[2]
    return name if name.isidentifier() else "no report"
