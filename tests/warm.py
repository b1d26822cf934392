"""Commands as processes that need not import the product again: forks of one interpreter that has done so and waits.

Each is a process of its own, with its own arguments, environment, folder, streams, group and end; what it shares with
the others is only that its modules were imported before it began. `make suite` asks for it by WARM=1; `make test-all`,
and every run that does not ask, starts the installed script anew each time.
"""

import gc
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Protocol

_AT_BIRTH = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "OPENSSL_", "TZ")
"""What an interpreter and its libraries read from the environment when they start, and never again."""
_LATE = ("alembic.command", "alembic.context", "psycopg", "pydantic.v1", "sqlalchemy.dialects.postgresql.psycopg")
"""What the libraries import only when something is opened."""


class Process(Protocol):
    """What the tests need of a process; a `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def send_signal(self, sig: int) -> None: ...


class Fork:
    """A process that another forked for us, and tells of."""

    def __init__(self, told: int, words: Sequence[str]) -> None:
        """`told` is where its id can be read, and after its end its status."""
        self._told = os.fdopen(told, "rb")
        self._words = list(words)
        self.returncode: int | None = None
        line = self._told.readline()
        assert line, "the interpreter that waits has ended"
        self.pid = int(line)

    def poll(self) -> int | None:
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self._words, timeout or 0.0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(self._told.read())
            self._told.close()
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Hearth:
    """The interpreter that waits. It ends when this process does."""

    def __init__(self, script: Path, environment: Mapping[str, str]) -> None:
        """`script` is the installed command that each fork stands for; `environment` is what it is born with."""
        self._script = script
        self._born = dict(environment)
        self._lock = threading.Lock()
        self._door, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), script],
                env=self._born,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def close(self) -> None:
        self._door.close()
        self._process.wait(20)

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with this environment would be the same: what counts at birth is as it was."""
        names = {name for name in {*environment, *self._born} if name.startswith(_AT_BIRTH)}
        return all(environment.get(name) == self._born.get(name) for name in names)

    def launch(
        self, words: Sequence[str], *, environment: Mapping[str, str], folder: Path, streams: Sequence[IO[bytes]]
    ) -> Fork:
        """Begin `script` with these words in a process group of its own; input, output and errors are `streams`."""
        asked = {"words": list(words), "environment": dict(environment), "folder": str(folder)}
        data = json.dumps(asked).encode()
        told, telling = os.pipe()
        try:
            with self._lock:
                socket.send_fds(
                    self._door, [len(data).to_bytes(4, "big")], [*(each.fileno() for each in streams), telling]
                )
                self._door.sendall(data)
        finally:
            os.close(telling)
        return Fork(told, [str(self._script), *words])

    def run(
        self, words: Sequence[str], *, environment: Mapping[str, str], folder: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, as `subprocess.run` with captured text does."""
        with open(os.devnull, "rb") as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self.launch(words, environment=environment, folder=folder, streams=[nothing, out, err])
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                raise
            said = []
            for stream in (out, err):
                stream.seek(0)
                said.append(stream.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess([self._script, *words], status, *said)


def _wait_for_work(door: socket.socket) -> list[str] | None:
    """In the interpreter that waits: None when nobody will ask again. In a fork: the words of its command."""
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        head, given, _, _ = socket.recv_fds(door, 4, 4)
        if not head:
            return None
        size, data = int.from_bytes(head, "big"), b""
        while len(data) < size:
            data += door.recv(size - len(data))
        if os.fork():
            for each in given:
                os.close(each)
            continue
        door.close()
        *streams, telling = given
        if command := os.fork():
            for each in streams:
                os.close(each)
            # Both do it: whoever is first, the group is there before anybody hears of it.
            with suppress(ProcessLookupError):
                os.setpgid(command, 0)
            os.write(telling, f"{command}\n".encode())
            _, status = os.waitpid(command, 0)
            os.write(telling, str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        os.setpgid(0, 0)
        os.close(telling)
        for number, each in enumerate(streams):
            os.dup2(each, number)
            os.close(each)
        asked = json.loads(data)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        words: list[str] = asked["words"]
        return words


def _import_all() -> None:
    """Whatever the product may import sooner or later."""
    import securellm

    names = [module.name for module in pkgutil.walk_packages(securellm.__path__, "securellm.")]
    # The first runs only inside a migration, and the other when it is imported.
    wanted = [name for name in names if ".migrations." not in name and not name.endswith("__main__")]
    for name in [*wanted, *_LATE]:
        with suppress(ModuleNotFoundError):
            import_module(name)


if __name__ == "__main__":
    # As for the script: the folder of the program is where modules are looked for first.
    sys.path[0] = str(Path(sys.argv[2]).parent)
    _import_all()
    from securellm.cli import main

    # A fork has only the thread that forked: another would be missing in it, with whatever lock it holds.
    assert len(os.listdir("/proc/self/task")) == 1, threading.enumerate()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        command = _wait_for_work(ours)
    if command is not None:
        sys.argv[:] = [sys.argv[2], *command]
        sys.exit(main())
