"""Measure what following the control plane costs a replica: CPU of compiles and deltas, and how long the loop stalls.

A store with many virtual keys is followed as a gateway follows it, while a task on the loop asks to be woken every
millisecond; how much later than that it wakes is the stall. `own` is the part of the worst stall during which this
process had a CPU: the rest is other processes' work. Nothing is asserted.
"""

import argparse
import asyncio
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from securellm.bootstrap.compiling import declared_keys
from securellm.bootstrap.config import load_config
from securellm.bootstrap.effective import SHELVES
from securellm.bootstrap.following import Follower
from securellm.bootstrap.standby import Standby
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.finops import shipped
from securellm.gateway.running import Running
from securellm.gateway.snapshot import Snapshots
from securellm.identity import Keyring
from securellm.identity.store import VIRTUAL_KEYS
from securellm.providers import KINDS
from securellm.storage import ControlStore, Session

FILE = """\
mode = "test"

[[providers]]
id = "near"
kind = "mock"
limits = { requests_per_minute = 600, burst = 60 }

[[models]]
name = "small"
route = [{ provider = "near", model = "small" }]

[[tenants]]
id = "acme"
"""
_PEPPER = bytes(32)
_EVERY = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.snapshot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(measure(Path(name), keys=options.keys, rounds=options.rounds))
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{figures['machine']}; {figures['keys']} keys; {options.rounds} rounds")
    print(f"{'':40}{'CPU ms':>10}{'wall ms':>10}{'stall ms':>10}{'own ms':>10}")
    for title, row in figures["rows"].items():
        print(f"{title:40}{row['cpu_ms']:10.2f}{row['wall_ms']:10.1f}{row['stall_ms']:10.2f}{row['own_ms']:10.2f}")
    print(f"memory for the keys: {figures['bytes_a_key']:.0f} bytes each")


async def measure(folder: Path, *, keys: int, rounds: int) -> dict[str, Any]:
    """CPU and wall time are medians of the rounds; the stall is the worst of them all."""
    store = ControlStore.open(folder / "control.db", migrate=True)
    store.write(lambda session: _fill(session, keys))
    path = folder / "securellm.toml"
    path.write_text(FILE)
    clock = SystemClock()
    follower = Follower(
        load_config(path, environ={}, provider_kinds=KINDS),
        declared=lambda file: declared_keys(file, pepper=_PEPPER),
        open_store=lambda: store,
        book=shipped(),
        clock=clock,
        standby=Standby(folder, secret=bytes(32), pepper=_PEPPER, clock=clock),
    )
    before = _resident()
    began, cpu = time.perf_counter(), time.process_time()
    snapshot, confirmed = follower.begin()
    start = {
        "cpu_ms": (time.process_time() - cpu) * 1e3,
        "wall_ms": (time.perf_counter() - began) * 1e3,
        "stall_ms": 0.0,
        "own_ms": 0.0,
    }
    after = _resident()
    snapshots = Snapshots(snapshot, clock=clock, fence=60.0, age=clock.monotonic() - confirmed)
    follower.attach(snapshots, Running(snapshots, clock), lambda _: lambda: None)
    # As a gateway does once it has started.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    ring = Keyring(_PEPPER, clock, SystemRandomness())
    some = [f"key_{number:08d}" for number in range(0, keys, max(1, keys // 1000))]
    left = iter(some)

    def one_key() -> None:
        store.write(lambda session: ring.revoke(session, next(left)))

    def hundred_keys() -> None:
        store.write(lambda session: [ring.revoke(session, next(left)) for _ in range(100)])

    def tenant() -> None:
        name = f"tenant-{clock.now_us()}"
        store.write(lambda session: SHELVES["tenant"].create(session, {"id": name}, id=name, now_us=0))

    def anything() -> None:
        store.write(lambda session: session.note("", tenant="", name=""))

    rows = {"start: read and compile everything": start}
    rows["nothing (the machine's own stall)"] = await _measured(lambda: None, lambda: asyncio.sleep(0.5), rounds)
    rows["a look that finds nothing new"] = await _measured(lambda: None, follower.refresh, rounds)
    rows["one key revoked"] = await _measured(one_key, follower.refresh, rounds)
    rows["100 keys revoked"] = await _measured(hundred_keys, follower.refresh, min(rounds, 5))
    rows["a tenant stored: compile, keys kept"] = await _measured(tenant, follower.refresh, rounds)
    rows["anything may have changed: read it all"] = await _measured(anything, follower.refresh, rounds)
    store.close()
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}, {sys.platform}",
        "keys": keys,
        "rows": rows,
        "bytes_a_key": (after - before) / keys,
    }


async def _measured(change: Callable[[], object], look: Callable[[], Awaitable[None]], rounds: int) -> dict[str, float]:
    cpu, wall, stall, own = [], [], [], []
    for _ in range(rounds):
        change()
        stalls: list[tuple[float, float]] = []
        watching = asyncio.create_task(_watch(stalls))
        await asyncio.sleep(0.05)
        stalls.clear()
        began, used = time.perf_counter(), time.process_time()
        await look()
        cpu.append((time.process_time() - used) * 1e3)
        wall.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        stall.append(max(late for late, _ in stalls) * 1e3)
        own.append(max(ours for _, ours in stalls) * 1e3)
    return {
        "cpu_ms": statistics.median(cpu),
        "wall_ms": statistics.median(wall),
        "stall_ms": max(stall),
        "own_ms": max(own),
    }


async def _watch(stalls: list[tuple[float, float]]) -> None:
    while True:
        due, used = time.perf_counter() + _EVERY, time.process_time()
        await asyncio.sleep(_EVERY)
        late = time.perf_counter() - due
        stalls.append((late, min(late, time.process_time() - used)))


def _fill(session: Session, keys: int) -> None:
    for start in range(0, keys, 1000):
        rows = [
            {
                "id": f"key_{number:08d}",
                "tenant": "acme",
                "name": f"key number {number}",
                "prefix": "slb_abcdefgh",
                "digest": number.to_bytes(32, "big"),
                "models": ["small"],
                "surfaces": [],
                "ip_ranges": [],
                "created_us": 0,
                "etag": 1,
            }
            for number in range(start, min(start + 1000, keys))
        ]
        session.run(insert(VIRTUAL_KEYS).values(rows))
    session.note("", tenant="", name="")


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    main()
