"""The application before a fake upstream, all in the test's own loop, and a client that can misbehave at any moment."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
from tests.flows.inprocess import application
from tests.harness import Site
from tests.upstream import Behaviour, Entry, FakeUpstream

from securellm.audit import export
from securellm.bootstrap.wiring import Application
from securellm.finops import LedgerState, load
from securellm.storage import open_readonly

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
EMBEDDINGS = "/v1/embeddings"
STREAMED = (CHAT, RESPONSES, MESSAGES)
PATHS = (*STREAMED, EMBEDDINGS)

MODELS = {CHAT: "chat", RESPONSES: "chat", MESSAGES: "messages", EMBEDDINGS: "embed"}
"""The model of a test site that serves each surface."""
UPSTREAM_MODELS = {CHAT: "fake-small", RESPONSES: "fake-small", MESSAGES: "fake-small", EMBEDDINGS: "fake-embed"}

TERMINAL = (b"[DONE]", b"message_stop", b"response.completed", b"response.incomplete")
FINISHES = (b'"finish_reason":"', b'"stop_reason":"', b"message_delta")


def asking(path: str, text: str = "hello", **members: Any) -> dict[str, Any]:
    """A good request for `path` that says `text`."""
    body: dict[str, Any] = {"model": MODELS[path]}
    if path in (CHAT, MESSAGES):
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["input"] = text
    if path == MESSAGES:
        body["max_tokens"] = 100
    return {**body, **members}


async def eventually(met: Callable[[], object]) -> None:
    """Wait until `met` is true; for what no event tells of."""
    async with asyncio.timeout(30):
        while not met():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


class Call:
    """One request on its way through the application."""

    def __init__(self, app: Application, scope: dict[str, Any], body: bytes | Sequence[bytes]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.writes: list[bytes] = []
        """Each piece as the application wrote it."""
        self.finished = False
        """Whether the application has ended its answer."""
        self._pieces = [body] if isinstance(body, bytes) else list(body)
        self._whole = isinstance(body, bytes)
        self._gone = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(app.ingress(scope, self._receive, self._send))

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[bytes]:
        """The stream's events, heartbeats left out."""
        return [block + b"\n\n" for block in self.body.split(b"\n\n") if block and block != b": heartbeat"]

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def code(self) -> str:
        return str(self.json()["error"]["code"])

    async def _receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            # A body given in pieces is never completed: its last piece is followed by silence.
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._whole}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self._open.wait()
        if self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            assert self.status == 0, "two heads"
            self.status = message["status"]
            self.raw_headers = message["headers"]
            self.headers = {name.decode("ascii"): value.decode("ascii") for name, value in message["headers"]}
        else:
            assert self.status, "a body before its head"
            assert not self.finished, "bytes after the end"
            if message.get("body"):
                self.writes.append(message["body"])
            self.finished = not message.get("more_body", False)
        self._changed.set()

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait until something the application writes makes `met` true."""
        async with asyncio.timeout(30):
            while not met():
                self._changed.clear()
                await self._changed.wait()

    async def begun(self) -> None:
        """Wait until a byte of the body has come."""
        await self.until(lambda: bool(self.writes))

    def leave(self) -> None:
        """The client closes its connection."""
        self._gone.set()
        self._open.set()

    def stop_reading(self) -> None:
        """From now on nothing the application writes goes through."""
        self._open.clear()

    def read_on(self) -> None:
        self._open.set()

    async def done(self) -> "Call":
        async with asyncio.timeout(30):
            await asyncio.wait([self.task])
        assert self.task.cancelled() or self.task.exception() is None, self.task
        return self


class World:
    """An open application, its upstream, and one key of the tenant `acme`."""

    def __init__(self, app: Application, upstream: FakeUpstream, key: str) -> None:
        self.app = app
        self.upstream = upstream
        self.key = key

    def call(
        self,
        path: str,
        body: object,
        *,
        key: str | None = None,
        headers: Mapping[str, str] = {},
        method: str = "POST",
        query: str = "",
    ) -> Call:
        """Begin a request. `body` is JSON unless it is bytes; a list of bytes is a body that never ends."""
        pieces = isinstance(body, list) and all(isinstance(piece, bytes) for piece in body)
        raw: Any = body if isinstance(body, bytes) or pieces else json.dumps(body).encode()
        given = {
            "host": "localhost",
            "content-type": "application/json",
            **({} if key == "" else {"authorization": f"Bearer {key or self.key}"}),
            **headers,
        }
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in given.items()],
            "client": ("127.0.0.1", 50_000),
        }
        return Call(self.app, scope, raw)

    async def ask(self, path: str, body: object, **how: Any) -> Call:
        """A request and its whole answer."""
        return await self.call(path, body, **how).done()

    def behave(self, *, times: int | None = 1, model: str | None = None, **knobs: Any) -> None:
        """How the upstream answers the next requests."""
        self.upstream.script(Behaviour(**knobs), times=times, model=model)

    # What was left behind

    def records(self, *types: str) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in export(self.app.data.audit)]
        return [record for record in records if not types or record["type"] in types]

    def record_of(self, call: Call, *types: str) -> dict[str, Any]:
        """The one OUTCOME or DENY of this answer (or the one record of these types)."""
        found = [r for r in self.records(*(types or ("OUTCOME", "DENY"))) if r.get("request_id") == call.request_id]
        assert len(found) == 1, found
        return found[0]

    async def recorded(self, *types: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many records of these types, and nothing is on its way any more."""
        await eventually(lambda: len(self.records(*types)) >= count)
        await self.app.gates.journal.drain()
        return self.records(*types)

    def reached(self) -> list[Entry]:
        """The requests the upstream has seen."""
        return self.upstream.requests()

    async def reaching(self, count: int) -> None:
        """Wait until the upstream has seen so many requests."""
        await eventually(lambda: len(self.reached()) >= count)

    def last(self) -> Entry:
        return self.upstream.requests()[-1]

    @property
    def held(self) -> int:
        """Nanos held in memory at this moment."""
        return sum(hold.amount for hold in self.app.finops.snapshot().holds)

    @property
    def open_holds(self) -> int:
        return len(self.app.finops.snapshot().holds)

    def money(self) -> tuple[int, int]:
        """What is settled and what presumed, in nanos."""
        balances = self.app.finops.snapshot().balances
        return sum(balance.settled for balance in balances), sum(balance.presumed for balance in balances)

    def assert_balanced(self) -> None:
        """Nothing is held any more, and the memory says what the ledger says."""
        with open_readonly(self.app.data.audit) as connection:
            stored = load(connection)
        live = self.app.finops.snapshot()
        assert stored.holds == ()
        assert live.holds == ()
        assert _sums(live) == _sums(stored)


def _sums(state: LedgerState) -> list[tuple[object, ...]]:
    return sorted(tuple(balance) for balance in state.balances if balance.settled or balance.presumed)


@asynccontextmanager
async def world(
    directory: Path, prepare: Callable[[Site], object] | None = None, *, balanced: bool = True
) -> AsyncIterator[World]:
    """Open both. At the end the audit must verify and, if `balanced`, memory and ledger must agree."""
    async with FakeUpstream() as upstream:
        site = Site(upstream.root)
        key = site.key()
        if prepare is not None:
            prepare(site)
        with application(directory, site) as app:
            try:
                opened = World(app, upstream, key)
                yield opened
            finally:
                await app.drain()
            if balanced:
                opened.assert_balanced()


@contextmanager
def gate(owner: Any, method: str, replacement: Any) -> Any:
    """`owner.method` replaced while the block runs."""
    setattr(owner, method, replacement)
    try:
        yield
    finally:
        delattr(owner, method)


class Sluice:
    """A journal whose commits wait until they are let through."""

    def __init__(self, world: World, method: str) -> None:
        """`method` of the journal (`intent`, `attempt`, `outcome`) is held at the writer's door."""
        self._open = asyncio.Event()
        self.waiting = asyncio.Event()
        journal = world.app.gates.journal
        self._real = getattr(journal, method)
        self._world = world
        self._method = method
        self._journal = journal

    async def _held(self, *arguments: Any, **named: Any) -> Any:
        self.waiting.set()
        await self._open.wait()
        return await self._real(*arguments, **named)

    def __enter__(self) -> Self:
        setattr(self._journal, self._method, self._held)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        delattr(self._journal, self._method)

    def let_through(self) -> None:
        self._open.set()


def replaced(world: World, **gates: Any) -> None:
    """Serve from now on with these gates."""
    world.app.ingress.gates = msgspec.structs.replace(world.app.ingress.gates, **gates)
