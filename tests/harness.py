"""Real processes for the tests: a gateway and the fake upstream, started, driven, killed and read from outside."""

import atexit
import contextlib
import functools
import http.client
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec
from tests.upstream import CREDENTIALS, Behaviour, Entry, read_journal
from tests.warm import Hearth, Process

ROOT = Path(__file__).resolve().parent.parent
SECURELLM = Path(sys.executable).with_name("securellm")
SDKS_PREVIOUS = ROOT / ".venv-sdk-previous"
"""Where `make setup-dev` installs the SDK majors before the newest."""

_KINDS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "xai": "xai",
    "deepseek": "deepseek",
    "ollama": "ollama",
    "compatible": "openai-compatible",
    "gemini": "gemini",
}
"""The kind of provider that each face of the fake stands for."""
_BASES = {"deepseek": "deepseek", "gemini": "gemini/v1beta"}
"""Where a face is, if not under its own name and /v1."""
PRICE = {"input_per_million": "1.00 USD", "output_per_million": "2.00 USD", "cache_read_per_million": "0.10 USD"}
"""What a model of a test site costs: 1 000 nanos for an input token, 2 000 for an output token."""
_START = 45.0
_STOP = 40.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    """Lower-case names; a repeated one is joined by commas."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The `data` of each server-sent event, comments left out."""
        blocks = self.body.decode("utf-8").replace("\r\n", "\n").split("\n\n")
        return [
            "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))
            for block in blocks
            if "data:" in block
        ]

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


class Site:
    """A configuration in the making: every face of a fake upstream as a provider, and what a test adds.

    Without more, one tenant `acme` without a budget may use the models `chat`, `messages` and `embed`.
    """

    def __init__(self, upstream: str) -> None:
        """`upstream` is the fake's root URL."""
        self.environ: dict[str, str] = {}
        self.server: dict[str, object] = {"request_timeout": "5s", "drain": "5s"}
        self.extra = ""
        """More TOML, at the end."""
        self._providers: dict[str, dict[str, object]] = {}
        self._models: list[dict[str, object]] = []
        self._tenants: dict[str, dict[str, object]] = {}
        self._keys: list[dict[str, object]] = []
        for face, kind in _KINDS.items():
            self.provider(face, kind=kind, base_url=f"{upstream}/{_BASES.get(face, f'{face}/v1')}")
        self.model("chat", "openai")
        self.model("messages", "anthropic")
        self.model("embed", "openai", upstream="fake-embed")
        self.tenant("acme")

    def provider(self, name: str, **members: object) -> None:
        """Declare or change a provider."""
        row = self._providers.setdefault(
            name,
            {
                "id": name,
                "limits": {"requests_per_minute": 1_000_000, "burst": 100_000},
                "timeouts": {"connect": "2s", "first_byte": "5s", "idle": "5s", "total": "30s"},
            },
        )
        if CREDENTIALS.get(name):
            variable = f"FAKE_{name.upper()}_CREDENTIAL"
            self.environ[variable] = CREDENTIALS[name]
            row["credential"] = f"env:{variable}"
        row.update(members)

    def model(
        self,
        name: str,
        *providers: str,
        upstream: str = "fake-small",
        price: Mapping[str, str] | None = PRICE,
        **members: object,
    ) -> None:
        """Allow a model, served by these providers in order; without a price, the price book's is meant."""
        route = [{"provider": provider, "model": upstream} for provider in providers]
        row: dict[str, object] = {"name": name, "route": route}
        if price is not None:
            row["price"] = price
        row |= {"default_max_output": 1000, "context_window": 100_000, **members}
        self._models = [other for other in self._models if other["name"] != name] + [row]

    def tenant(self, name: str, *, budget: str | None = None, **members: object) -> None:
        """Declare or change a tenant; a budget is hard, such as `"0.50 USD"`."""
        row = self._tenants.setdefault(name, {"id": name})
        if budget is not None:
            row["budget"] = {"month": budget, "hard": True}
        row.update(members)

    def key(self, tenant: str = "acme", *, models: Sequence[str] = ("*",), **members: object) -> str:
        """Declare a virtual key and say what it is."""
        number = len(self._keys)
        secret = f"slb-test-key-{tenant}-{number:02d}-q7Zr2WvXk9"
        variable = f"TEST_KEY_{number}"
        self.environ[variable] = secret
        self._keys.append({"tenant": tenant, "secret": f"env:{variable}", "models": list(models), **members})
        return secret

    def toml(self, *, data_dir: Path, port: int, admin_port: int) -> str:
        """The file, for these places."""
        server = {"listen": f"127.0.0.1:{port}", "admin_listen": f"127.0.0.1:{admin_port}", **self.server}
        parts = [
            'mode = "test"',
            _table("[server]", server),
            _table("[storage]", {"url": f"sqlite:///{data_dir}"}),
            *(_table("[[providers]]", row) for row in self._providers.values()),
            *(_table("[[models]]", row) for row in self._models),
            *(_table("[[tenants]]", row) for row in self._tenants.values()),
            *(_table("[[keys]]", row) for row in self._keys),
            self.extra,
        ]
        return "\n\n".join(parts)


def _table(head: str, members: Mapping[str, object]) -> str:
    return "\n".join([head, *(f"{name} = {_value(value)}" for name, value in members.items())])


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_value(below)}" for name, below in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(below) for below in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on at this moment.

    Below those that the kernel hands out, and of a stretch for each test process: neither a connection nor a gateway of
    another must take one before ours does.
    """
    first = 10_000 + os.getpid() % 16 * 1_350
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            each = stack.enter_context(socket.socket())
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = first + secrets.randbelow(1_350)
            # Two sockets that nobody listens on yet may be bound to one port.
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", port))
                found += [port] if port not in found else []
    return found


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a child sees: no proxies, no credentials of the person who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "TZ")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **extra}


@functools.cache
def _hearth() -> Hearth | None:
    if os.environ.get("WARM") != "1":
        return None
    hearth = Hearth(SECURELLM, _environment({}))
    atexit.register(hearth.close)
    return hearth


def _begin(words: Sequence[str], *, environment: Mapping[str, str], folder: Path, output: IO[bytes]) -> Process:
    """A `securellm` command in a process group of its own, which writes all it says to `output`."""
    hearth = _hearth()
    with open(os.devnull, "rb") as nothing:
        if hearth is not None and hearth.takes(environment):
            return hearth.launch(words, environment=environment, folder=folder, streams=[nothing, output, output])
        return subprocess.Popen(
            [SECURELLM, *words],
            env=environment,
            cwd=folder,
            stdin=nothing,
            stdout=output,
            stderr=output,
            process_group=0,
        )


def command(
    words: Sequence[str], *, environment: Mapping[str, str], folder: Path, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a `securellm` command to its end."""
    hearth = _hearth()
    if hearth is not None and hearth.takes(environment):
        return hearth.run(words, environment=environment, folder=folder, timeout=timeout)
    return subprocess.run(
        [SECURELLM, *words],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class GatewayProcess:
    """A gateway started from a configuration file, in a process group of its own.

    Entering starts it and waits until `/livez` answers; leaving stops it, and adds what it wrote to standard
    error to an exception that passes. The folder keeps its data, so entering again continues with it.
    """

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self.directory = directory
        self.data_dir = directory / "data"
        self.config = directory / "securellm.toml"
        self.stderr = directory / "stderr.log"
        self.port, self.admin_port = free_ports(2)
        self._process: Process | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # Its life

    def start(self) -> None:
        """Start, and wait until it answers. Raises AssertionError when it does not."""
        self.spawn()
        process = self._process
        assert process is not None
        end = time.monotonic() + _START
        while not self._alive():
            if process.poll() is not None:
                raise AssertionError(f"the gateway ended with {process.returncode}:\n{self.errors()}")
            if time.monotonic() > end:
                self.kill9()
                raise AssertionError(f"the gateway did not answer within {_START:g} s:\n{self.errors()}")
            time.sleep(0.01)

    def spawn(self) -> None:
        """Write the configuration and start, without waiting."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            self.site.toml(data_dir=self.data_dir, port=self.port, admin_port=self.admin_port), encoding="utf-8"
        )
        with self.stderr.open("ab") as stderr:
            self._process = _begin(
                ["serve", "--config", str(self.config)],
                environment=_environment(self.site.environ),
                folder=self.directory,
                output=stderr,
            )

    def _alive(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            socket.create_connection(("127.0.0.1", self.admin_port), timeout=2).close()
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill9(self) -> None:
        """SIGKILL to its whole process group."""
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        self._process = None

    def stop(self) -> None:
        """SIGTERM; it must drain and exit 0."""
        process = self._process
        assert process is not None
        process.terminate()
        try:
            status = process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"the gateway did not stop within {_STOP:g} s:\n{self.errors()}") from None
        self._process = None
        assert status == 0, f"the gateway ended with {status}:\n{self.errors()}"

    def reload(self) -> None:
        """Write the site's configuration again and send SIGHUP."""
        assert self._process is not None
        self.config.write_text(
            self.site.toml(data_dir=self.data_dir, port=self.port, admin_port=self.admin_port), encoding="utf-8"
        )
        self._process.send_signal(signal.SIGHUP)

    def errors(self, *, size: int = 6000) -> str:
        """The end of what it wrote to standard error."""
        return self.stderr.read_bytes()[-size:].decode("utf-8", "replace") if self.stderr.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            if self._process is not None:
                self.kill9()
            error.add_note(f"--- the gateway's standard error ---\n{self.errors()}")
        elif self.running:
            self.stop()

    # Speaking to it

    def request(
        self, method: str, path: str, *, key: str | None = None, body: object = None, headers: Mapping[str, str] = {}
    ) -> Reply:
        """One request on a connection of its own. `body` is JSON unless it is bytes."""
        return request(self.base_url, method, path, key=key, body=body, headers=headers)

    def post(self, path: str, body: object, *, key: str | None = None, headers: Mapping[str, str] = {}) -> Reply:
        return self.request("POST", path, key=key, body=body, headers=headers)

    def chat(self, text: str, *, key: str, model: str = "chat", **members: object) -> Reply:
        """The simplest governed request."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **members}
        return self.post("/v1/chat/completions", body, key=key)

    @property
    def admin_token(self) -> str:
        return (self.data_dir / "keys" / "admin-token").read_text(encoding="utf-8").strip()

    # Reading what it left

    def cli(self, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a `securellm` command beside it, with its environment."""
        return command(arguments, environment=_environment(self.site.environ), folder=self.directory, timeout=timeout)

    def records(self, *types: str) -> list[dict[str, Any]]:
        """The audit records, or only these types, by `audit export`."""
        done = self.cli("audit", "export", "--data-dir", str(self.data_dir))
        assert done.returncode == 0, done.stderr
        records: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
        return [record for record in records if not types or record["type"] in types]

    def record_of(self, reply: Reply) -> dict[str, Any]:
        """The one OUTCOME or DENY of this answer; waits a moment for an aggregate to be written."""
        end = time.monotonic() + 20
        while True:
            found = [r for r in self.records("OUTCOME", "DENY") if r.get("request_id") == reply.request_id]
            if found or time.monotonic() > end:
                assert len(found) == 1, f"{len(found)} records of {reply.request_id}"
                return found[0]
            time.sleep(0.1)

    def verify(self) -> None:
        """`audit verify` must find nothing."""
        done = self.cli("audit", "verify", "--data-dir", str(self.data_dir), "--json")
        assert done.returncode == 0, done.stdout + done.stderr

    def budgets(self) -> list[dict[str, Any]]:
        """The rows of `budget show`."""
        done = self.cli("budget", "show", "--data-dir", str(self.data_dir), "--json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["budgets"]
        return rows

    def create_key(self, tenant: str = "acme", *options: str) -> dict[str, Any]:
        """`securellm key create`, as its JSON says."""
        done = self.cli(
            "key", "create", "--data-dir", str(self.data_dir), "--tenant", tenant, "--model", "*", "--json", *options
        )
        assert done.returncode == 0, done.stderr
        created: dict[str, Any] = json.loads(done.stdout)
        return created


def request(
    base_url: str,
    method: str,
    path: str,
    *,
    key: str | None = None,
    body: object = None,
    headers: Mapping[str, str] = {},
    timeout: float = 60.0,
) -> Reply:
    """One request on a connection of its own. `body` is JSON unless it is bytes."""
    given = dict(headers)
    if key is not None:
        given.setdefault("authorization", f"Bearer {key}")
    data = body if isinstance(body, bytes) or body is None else json.dumps(body, ensure_ascii=False).encode()
    if data is not None:
        given.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request(method, path, body=data, headers=given)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    found: dict[str, str] = {}
    for name, value in answer.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return Reply(status=answer.status, headers=found, body=content)


def raw_exchange(
    port: int,
    data: bytes | Sequence[bytes],
    *,
    pause: float = 0.0,
    seconds: float = 20.0,
    quiet: float | None = None,
    leave: bool = False,
) -> bytes:
    """Everything the server sends before it closes, after these bytes were written with a pause between them.

    Writing stops when the server begins to answer. With `quiet`, so many seconds of silence after the first byte
    of an answer end the reading too; with `leave`, our side is closed once all is written. Raises TimeoutError
    when the server leaves the connection open for `seconds`.
    """
    pieces = [data] if isinstance(data, bytes) else data
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for index, piece in enumerate(pieces):
                if index and pause:
                    readable, _, _ = select.select([connection], [], [], pause)
                    if readable:
                        break
                connection.sendall(piece)
        if leave:
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while True:
                if quiet is not None and received and not select.select([connection], [], [], quiet)[0]:
                    break
                piece = connection.recv(65536)
                if not piece:
                    break
                received += piece
    return received


class UpstreamProcess:
    """The fake upstream as a process of its own: its log survives whatever happens to the gateway."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.root = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.upstream", "--port", "0", "--log", self.log],
            env=_environment({}),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _START)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            self._process.kill()
            raise AssertionError("the fake upstream did not start")
        self.root = json.loads(line)["root"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(20)
        self._process.stdout.close()

    def entries(self, *kinds: str) -> list[Entry]:
        """The log so far, or only these kinds."""
        return [entry for entry in read_journal(self.log) if not kinds or entry.kind in kinds]

    def requests(self) -> list[Entry]:
        return self.entries("request")

    def quiet(self, *, seconds: float = 10.0) -> None:
        """Wait until every request in the log has its answer there too."""
        end = time.monotonic() + seconds
        while True:
            entries = self.entries("request", "answer")
            asked = {entry.order for entry in entries if entry.kind == "request"}
            if asked == {entry.request for entry in entries if entry.kind == "answer"}:
                return
            assert time.monotonic() < end, "answers are still under way"
            time.sleep(0.02)

    def script(self, behaviour: Behaviour, *, model: str | None = None, times: int | None = None) -> None:
        """Behave so for the next `times` requests (of `model`) whose own name asks for nothing."""
        members = msgspec.to_builtins(behaviour)
        body = {"behaviour": members, "model": model, "times": times}
        assert request(self.root, "POST", "/__fake/behaviour", body=body).status == 200

    def default(self, behaviour: Behaviour) -> None:
        """Behave so whenever nothing else is asked."""
        assert request(self.root, "POST", "/__fake/default", body=msgspec.to_builtins(behaviour)).status == 200

    def forget_scripts(self) -> None:
        assert request(self.root, "POST", "/__fake/forget").status == 200


@contextlib.contextmanager
def governed(
    directory: Path, prepare: Callable[[Site], object] | None = None
) -> Iterator[tuple[GatewayProcess, UpstreamProcess]]:
    """A gateway before a fake upstream, both as processes; `prepare` adds to the site before it starts."""
    directory.mkdir(parents=True, exist_ok=True)
    with UpstreamProcess(directory / "upstream.jsonl") as upstream:
        site = Site(upstream.root)
        if prepare is not None:
            prepare(site)
        with GatewayProcess(site, directory) as gateway:
            yield gateway, upstream
