"""kill -9 at any moment loses no record that was acknowledged, and leaves a log that verifies and goes on."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.audit.logs import check, intent, opened

from securellm.audit import export

ROOT = Path(__file__).parents[3]
KILLS = 20


def run_and_kill(path: Path, *, first: int, after: int) -> set[str]:
    """Let a process append to `path`, kill it once it has acknowledged `after` records, and return all it has."""
    command = [sys.executable, "-m", "tests.unit.audit.acknowledging", str(path), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = b""
        while said.count(b"\n") < after:
            heard = os.read(process.stdout.fileno(), 4096)
            assert heard, "the process ended by itself"
            said += heard
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read()
        assert process.wait(20) == -signal.SIGKILL
    return set(said.decode("ascii").split("\n")[:-1])


@pytest.mark.requirement("AU-3", "AU-4")
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    moments = random.Random(9)
    acknowledged: set[str] = set()
    for kill in range(KILLS):
        acknowledged |= run_and_kill(path, first=kill * 1_000_000, after=moments.randrange(1, 400))
        report = check(path)
        assert report.intact, (kill, report.problems)
        entries = [json.loads(line) for line in export(path)]
        assert acknowledged <= {entry.get("request_id") for entry in entries}
        assert [entry["epoch"] for entry in entries if entry["type"] == "BOOT"] == list(range(1, kill + 2))
        assert len(entries) == report.records
    with opened(path) as (writer, log):
        writer.perform(log.appending(intent(-1)))
    assert check(path).intact
    assert [file.name for file in tmp_path.iterdir()] == ["audit.db"]
