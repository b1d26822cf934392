"""The fake provider as a server: where it is, how it behaves, what it has seen."""

import asyncio
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from tests.upstream.answer import Answer
from tests.upstream.behaviour import STANDARD, Behaviour, read_mark
from tests.upstream.connection import Connection
from tests.upstream.faces import CREDENTIALS, Refused
from tests.upstream.journal import Entry, Journal
from tests.upstream.memory import Memory


class _Script(msgspec.Struct, kw_only=True):
    """A behaviour asked for by a control call."""

    behaviour: Behaviour
    model: str | None = None
    times: int | None = None


class FakeUpstream:
    """The fake provider, on the running loop (`async with`), in a thread (`in_thread`) or as a process (`-m`).

    The behaviour of a request is the mark in its model's name, else the first fitting `script`, else `default`.
    """

    def __init__(
        self,
        *,
        log: Path | None = None,
        credentials: Mapping[str, str] = CREDENTIALS,
        models: frozenset[str] | None = None,
        default: Behaviour = STANDARD,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.journal = Journal(log)
        self.credentials = dict(credentials)
        self.models = models
        self.default = default
        self.port = port
        self.received = 0
        """Bytes received so far on all connections."""
        self.opened = 0
        """Connections accepted so far."""
        self._host = host
        self._tls = tls
        self.memories: defaultdict[str, Memory] = defaultdict(Memory)
        """What each face remembers."""
        self._scripts: list[_Script] = []
        self._refused: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # Where it is

    def url(self, face: str = "openai") -> str:
        """The provider's `base_url` as its documentation gives it; `ollama-native` is Ollama's without its /v1."""
        if face == "ollama-native":
            return f"{self.root}/ollama"
        return f"{self.root}/{face}" + {"deepseek": "", "gemini": "/v1beta"}.get(face, "/v1")

    @property
    def root(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    # What it does

    def script(self, behaviour: Behaviour, *, model: str | None = None, times: int | None = None) -> None:
        """Behave so for the next `times` requests (of `model`) whose own name asks for nothing."""
        self._scripts.append(_Script(behaviour=behaviour, model=model, times=times))

    def forget_scripts(self) -> None:
        self._scripts.clear()
        self._refused.clear()

    def requests(self) -> list[Entry]:
        """Every whole request so far, in order."""
        return self.journal.requests()

    def answers(self, *, seconds: float = 10.0) -> list[Entry]:
        """What became of every request so far, in order; for another thread. Raises TimeoutError."""
        end = time.monotonic() + seconds
        while True:
            done = self.journal.entries("answer")
            if len(done) == len(self.requests()):
                return sorted(done, key=lambda entry: entry.request or 0)
            if time.monotonic() > end:
                raise TimeoutError("answers are still under way")
            time.sleep(0.002)

    async def quiet(self, *, seconds: float = 10.0) -> None:
        """Wait until no answer is under way. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self._tasks:
                await asyncio.wait(set(self._tasks))

    # How it runs

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), self._host, self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every connection and wait until the log is whole."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self.quiet()
        await self._server.wait_closed()
        while self._connections:  # noqa: ASYNC110 - each leaves in a callback of its own
            await asyncio.sleep(0.001)
        self.journal.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Run on a loop of its own while the block runs, for tests that are not asynchronous."""
        ready = threading.Event()
        ended: list[Callable[[], object]] = []

        async def main() -> None:
            done = asyncio.Event()
            loop = asyncio.get_running_loop()
            await self.start()
            ended.append(lambda: loop.call_soon_threadsafe(done.set))
            ready.set()
            await done.wait()
            await self.stop()

        thread = threading.Thread(target=asyncio.run, args=(main(),), name="fake-upstream")
        thread.start()
        if not ready.wait(10):
            raise TimeoutError("the fake upstream did not start")
        try:
            yield self
        finally:
            ended[0]()
            thread.join(10)

    # What connections ask of it

    def joined(self, connection: Connection) -> int:
        self.opened += 1
        self._connections.add(connection)
        return self.opened

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def behaviour_for(self, model: str | None) -> Behaviour:
        """Raises `Refused` 400 on a mark that nobody understands."""
        if model is not None:
            try:
                _, marked = read_mark(model)
            except msgspec.ValidationError as error:
                raise Refused(400, f"The fake does not understand this model's mark: {error}") from None
            if marked is not None:
                return self._after_failures(model, marked)
        for script in self._scripts:
            if script.model is None or script.model == model:
                if script.times is not None:
                    script.times -= 1
                    if script.times <= 0:
                        self._scripts.remove(script)
                return self._after_failures(model or "", script.behaviour)
        return self.default

    def _after_failures(self, model: str, behaviour: Behaviour) -> Behaviour:
        if behaviour.failures is None:
            return behaviour
        self._refused[model] = self._refused.get(model, 0) + 1
        if self._refused[model] <= behaviour.failures:
            return behaviour
        return msgspec.structs.replace(behaviour, status=None, html=False)

    def control(self, path: str, body: bytes) -> Answer:
        """A control call: not logged, not part of any provider."""
        if path == "/__fake/behaviour":
            asked = msgspec.json.decode(body, type=_Script)
            self._scripts.append(asked)
        elif path == "/__fake/default":
            self.default = msgspec.json.decode(body, type=Behaviour)
        elif path == "/__fake/forget":
            self.forget_scripts()
        elif path == "/__fake/log":
            lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in self.journal.entries())
            return Answer(headers=(("content-type", "application/jsonl"),), body=lines)
        elif path != "/__fake/live":
            return Answer(status=404)
        return Answer(body=b"{}")
