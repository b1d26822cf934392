"""Measure a governed request beside nginx's bare reverse proxy: same machine, same upstream, same minute.

Both sides run on one core, the load and the upstream on another. Their blocks alternate, so that what disturbs the
machine disturbs both; medians are shown, and every block's figure beside them. Nothing is asserted.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.load import CONNECTIONS, Job, drive, generator
from bench.processes import on_core
from bench.sides import Side, start
from bench.upstream import CHUNKS

RESULTS = Path(__file__).parent / "results"
Blocks = dict[str, list[float]]


def main() -> None:
    options = _options()
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        sys.exit("nginx is what the figures stand beside: apt-get install nginx-light wrk")
    with tempfile.TemporaryDirectory(dir=options.dir) as name, ExitStack() as stack:
        figures = measure(start(stack, Path(name), nginx), options, Path(name))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / time.strftime("%Y%m%dT%H%M%S.json")
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures) if options.json else shown(figures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="CPU per governed request beside nginx's.")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one block")
    parser.add_argument("--blocks", type=int, default=5, help="blocks of each side")
    parser.add_argument("--dir", type=Path, help="where the journal lives meanwhile (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", action="store_true", help="keep the figures under bench/results")
    return parser.parse_args()


def measure(sides: tuple[Side, Side], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every figure of one run. CPU in microseconds, memory in bytes, times in seconds."""
    idle = {side.name: side.process.rss_bytes() for side in sides}
    chat: Blocks = {side.name: [] for side in sides}
    stream: Blocks = {side.name: [] for side in sides}
    rate: Blocks = {side.name: [] for side in sides}

    def block(side: Side, job: Job, mark: str) -> tuple[float, float]:
        """CPU microseconds for each answer, and answers a second."""
        before, began = side.process.cpu_seconds(), time.perf_counter()
        with on_core(1):
            answers = drive(job, seconds=options.seconds, mark=mark, folder=folder)
        took = time.perf_counter() - began
        return (side.process.cpu_seconds() - before) / answers * 1e6, answers / took

    for number in range(options.blocks + 1):
        for side in sides:
            cost, answers = block(side, side.chat, f"c{number}")
            streamed, _ = block(side, side.stream, f"s{number}")
            if number:  # the first round only warms both up
                chat[side.name].append(cost)
                rate[side.name].append(answers)
                stream[side.name].append(streamed)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "load": f"{generator()}, {CONNECTIONS} connections, {options.blocks} blocks of {options.seconds:g} s",
        "chat_cpu_us": chat,
        "chat_ratio": _ratio(chat),
        "chat_per_second": rate,
        "stream_cpu_us": stream,
        "stream_ratio": _ratio(stream),
        "rss_idle": idle,
        "rss_loaded": {side.name: side.process.rss_bytes() for side in sides},
        "start_seconds": {side.name: side.process.start_seconds for side in sides},
        "help_seconds": _help_seconds(),
    }


def _ratio(blocks: Blocks) -> float:
    """Ours over nginx's, of medians."""
    return statistics.median(blocks["gateway"]) / max(statistics.median(blocks["nginx"]), 1e-9)


def _help_seconds() -> float:
    command = [str(Path(sys.executable).with_name("securellm")), "--help"]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def shown(figures: dict[str, Any]) -> str:
    """The figures as a table."""

    def row(title: str, name: str, *, ratio: str = "", scale: float = 1.0) -> str:
        blocks = {side: value if isinstance(value, list) else [value] for side, value in figures[name].items()}
        ours, theirs = (statistics.median(blocks[side]) / scale for side in ("gateway", "nginx"))
        each = " | ".join(" ".join(f"{value:.0f}" for value in values) for values in blocks.values() if len(values) > 1)
        return f"{title:34}{ours:9.2f}{theirs:10.2f}" + (f"{figures[ratio]:8.2f}   {each}" if ratio else "")

    return "\n".join(
        [
            f"{figures['machine']}; {figures['load']}",
            f"{'':34}{'gateway':>9}{'nginx':>10}{'ratio':>8}   each block, gateway | nginx",
            row("CPU µs per governed chat request", "chat_cpu_us", ratio="chat_ratio"),
            row(f"CPU µs per stream of {CHUNKS} chunks", "stream_cpu_us", ratio="stream_ratio"),
            row("chat requests per second", "chat_per_second"),
            row("RSS MB, idle", "rss_idle", scale=1e6),
            row("RSS MB, after the load", "rss_loaded", scale=1e6),
            row("start to first answer, s", "start_seconds"),
            f"{'securellm --help, s':34}{figures['help_seconds']:9.3f}",
            "nginx only passes bytes on; the gateway does identity, policy, limits, guard both ways, cache look-up,",
            "a reservation under a hard budget, INTENT and OUTCOME durable before the last byte, and metrics.",
        ]
    )


if __name__ == "__main__":
    main()
