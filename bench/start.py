"""Measure what a command costs before it does anything, beside an interpreter that does nothing.

`python -m bench.start`: CPU of whole processes, one of each kind after the other in every round, so that what disturbs
the machine disturbs all of them. Medians are shown, in milliseconds and as multiples of `python -c pass`, with how many
modules each had imported at its end. Nothing is asserted; what may be imported, tests/unit/cli/test_entry.py says.
"""

import argparse
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import on_core

_IDLE = "python -c pass"
_RUN = "import sys; from securellm.cli import main; main(sys.argv[1:])"
_COUNT = """import sys; from securellm.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(len(sys.modules), file=sys.stderr)"""
_FILE = """[storage]
url = "sqlite:///data"

[[providers]]
id = "local"
kind = "ollama"

[[models]]
name = "llama"
route = [{ provider = "local", model = "llama" }]

[[tenants]]
id = "acme"
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.start", description="CPU of a command's start.")
    parser.add_argument("--rounds", type=int, default=9, help="processes of each kind")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with commands() as kinds:
        figures = measure(kinds, options.rounds)
    print(json.dumps(figures) if options.json else shown(figures))


@contextmanager
def commands() -> Iterator[dict[str, list[str]]]:
    """What is started, by the name that is shown for it. A gateway elsewhere is one that answers nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "securellm.toml").write_text(_FILE, encoding="utf-8")
        (folder / "token").write_text("slt_0123456789", encoding="ascii")
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        file, data = str(folder / "securellm.toml"), str(folder / "data")
        # Makes the folder, its keys and its two databases.
        _spent(["key", "create", "--config", file, "--tenant", "acme"])
        elsewhere = ["--url", f"http://127.0.0.1:{port}", "--token-file", str(folder / "token")]
        yield {
            "--help": ["--help"],
            "tenant list --url": ["tenant", "list", *elsewhere],
            "key list --url": ["key", "list", *elsewhere],
            "policy list --url": ["policy", "list", *elsewhere],
            "audit search --url": ["audit", "search", *elsewhere],
            "tenant list --data-dir": ["tenant", "list", "--data-dir", data],
            "tenant list --config": ["tenant", "list", "--config", file],
            "key list --data-dir": ["key", "list", "--data-dir", data],
            "audit verify": ["audit", "verify", "--data-dir", data],
            "audit tail": ["audit", "tail", "--data-dir", data],
            "config check": ["config", "check", file],
            "doctor": ["doctor", "--config", file],
            "completion bash": ["completion", "bash"],
            "serve --help": ["serve", "--help"],
        }


def measure(kinds: dict[str, list[str]], rounds: int) -> dict[str, Any]:
    """Median CPU milliseconds of each kind, and how many modules it imports."""
    spent: dict[str, list[float]] = {_IDLE: [], **{name: [] for name in kinds}}
    for _ in range(rounds):
        spent[_IDLE].append(_cpu([sys.executable, "-c", "pass"]))
        for name, arguments in kinds.items():
            spent[name].append(_spent(arguments))
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "cpu_ms": {name: statistics.median(each) for name, each in spent.items()},
        "modules": {name: _modules(arguments) for name, arguments in kinds.items()},
    }


def _spent(arguments: list[str]) -> float:
    return _cpu([sys.executable, "-c", _RUN, *arguments])


def _cpu(command: list[str]) -> float:
    """CPU milliseconds of a process, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with on_core(1):
        subprocess.run(command, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def _modules(arguments: list[str]) -> int:
    run = subprocess.run(
        [sys.executable, "-c", _COUNT, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True
    )
    return int(run.stderr.splitlines()[-1])


def shown(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    idle = figures["cpu_ms"][_IDLE]
    lines = [figures["machine"], f"{'':26}{'CPU ms':>8}{'x idle':>8}{'modules':>9}"]
    for name, spent in figures["cpu_ms"].items():
        lines.append(f"{name:26}{spent:8.0f}{spent / idle:8.1f}{figures['modules'].get(name, ''):>9}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
