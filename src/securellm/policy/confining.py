"""Run one of our own modules in a child process: what harms it harms nothing else."""

import signal
import subprocess
import sys
from collections.abc import Sequence


def command_of(module: str) -> tuple[str, ...]:
    """How one of our own modules is run: by this interpreter, apart from the environment and from the user's files."""
    return (sys.executable, "-I", "-X", "utf8", "-m", module)


def confined(command: Sequence[str], data: bytes, *, seconds: float) -> bytes | str:
    """What the child writes to its standard output when it reads `data`, or the reason why it wrote nothing. Blocks."""
    try:
        # An empty environment: the child needs no secret, so it is given none.
        child = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, input=data, capture_output=True, timeout=seconds, env={}, check=False
        )
    except subprocess.TimeoutExpired:
        return f"trying it took longer than {seconds:g} s"
    except OSError as error:
        return f"it could not be tried: {error.strerror}"
    if child.returncode < 0:
        return f"trying it ended its process ({signal.Signals(-child.returncode).name}): too deep or too large"
    if child.returncode:
        return f"trying it failed with {_cause(child.stderr)} (exit status {child.returncode})"
    return child.stdout


def _cause(stderr: bytes) -> str:
    """The name of the exception that ended the child, and none of what it says."""
    last = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    name = last.partition(":")[0].rpartition(".")[2]
    return name if name.isidentifier() else "no report"
