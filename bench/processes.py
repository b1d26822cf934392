"""Processes under measurement: where they run, what processor time and memory they and their children use."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside stays on one core, where the machine has that many."""
    mine = os.sched_getaffinity(0)
    cores = sorted(mine)
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


class Process:
    """A server as a child, ready when its port answers; left by SIGTERM."""

    def __init__(
        self, command: Sequence[str], *, port: int, folder: Path, core: int, environ: Mapping[str, str] | None = None
    ) -> None:
        self._log = folder / f"{port}.log"
        started = time.perf_counter()
        with on_core(core), self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command, env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        while not _answers(port):
            if self._child.poll() is not None or time.perf_counter() - started > 20:
                self.stop()
                raise RuntimeError(f"{command[0]} did not start:\n{self._log.read_text(encoding='utf-8')[-2000:]}")
            time.sleep(0.002)
        self.start_seconds = time.perf_counter() - started

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far."""
        ticks = 0
        for pid in self._tree():
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / _TICK

    def rss_bytes(self) -> int:
        """Resident memory of the whole tree; pages that its processes share are counted in each."""
        pages = (Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1] for pid in self._tree())
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _tree(self) -> list[int]:
        found, pending = [], [self._child.pid]
        while pending:
            pid = pending.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(FileNotFoundError):  # A thread may end between being listed and being read.
                    pending += map(int, (task / "children").read_text(encoding="ascii").split())
        return found


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection, suppress(OSError):
        connection.request("GET", "/livez")
        return connection.getresponse().status < 500
    return False
