"""The bench runs and says what it found; how fast anything is, no test asks."""

import json
import subprocess
import sys

import pytest
from tests.harness import ROOT


@pytest.mark.debian("nginx")
@pytest.mark.timeout(60)
def test_the_bench_prints_what_a_governed_request_costs_beside_nginx() -> None:
    kept = sorted((ROOT / "bench").rglob("*.json"))
    command = [sys.executable, "-m", "bench", "--seconds", "0.2", "--blocks", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for name in ("chat_ratio", "stream_ratio"):
        assert figures[name] > 0
    for name in ("chat_cpu_us", "stream_cpu_us", "chat_per_second"):
        assert all(value > 0 for side in ("gateway", "nginx") for value in figures[name][side])
    assert sorted((ROOT / "bench").rglob("*.json")) == kept


def test_the_bench_of_starts_prints_what_each_command_costs_beside_an_idle_interpreter() -> None:
    command = [sys.executable, "-m", "bench.start", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert all(value > 0 for value in figures["cpu_ms"].values())
    assert figures["modules"]["--help"] < figures["modules"]["tenant list --url"] < figures["modules"]["serve --help"]
