"""Kill each gate in turn, in each way, on every live route: nothing reaches a provider's socket."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flows.inprocess import BODIES, application, post
from tests.harness import Site, free_ports

from securellm.bootstrap.wiring import Application
from securellm.core.errors import Code
from securellm.ingress.app import ROUTES

GATES = {
    "identities": "identify",
    "policy": "permit",
    "limits": "admit",
    "guard": "screen_prompt",
    "cache": "find",
    "router": "plan",
    "finops": "reserve",
    "journal": "intent",
}


class Killed:
    """A gate of which one method is broken and the rest is as it was."""

    def __init__(self, real: Any, method: str, how: str) -> None:
        self._real, self._method, self._how = real, method, how
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._real, name)
        return {"raises": self._raise, "hangs": self._hang, "returns another type": self._return}[self._how]

    async def _raise(self, *arguments: object, **named: object) -> object:
        self.asked += 1
        raise KeyError("a defect")

    async def _hang(self, *arguments: object, **named: object) -> object:
        self.asked += 1
        return await asyncio.Event().wait()

    async def _return(self, *arguments: object, **named: object) -> object:
        self.asked += 1
        return True


class Socket:
    """A provider's listening socket that counts what reaches it."""

    def __init__(self) -> None:
        self.connections = 0
        self.bytes = 0
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        while data := await reader.read(65536):
            self.bytes += len(data)
            if self.bytes and b"\r\n\r\n" in data:
                body = b"{}"
                writer.write(b"HTTP/1.1 500 E\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n" + body)
        writer.close()

    @asynccontextmanager
    async def listening(self) -> Any:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()
            for writer in self._writers:
                writer.close()


@contextmanager
def governed(directory: Path) -> Iterator[tuple[Application, str, Socket]]:
    socket = Socket()
    socket.port = free_ports(1)[0]
    site = Site("http://127.0.0.1:1")
    site.provider("here", kind="openai-compatible", base_url=f"http://127.0.0.1:{socket.port}/v1")
    site.provider("there", kind="anthropic", base_url=f"http://127.0.0.1:{socket.port}/v1", credential="env:ANY")
    site.environ["ANY"] = "a-credential-of-nobody"
    site.model("any", "here", retries=0)
    site.model("claude", "there", retries=0)
    site.tenant("acme", budget="100.00 USD")
    site.server["gate_timeout"] = "100ms"
    site.extra = '[finops]\nreservation_wait = "100ms"'
    key = site.key()
    with application(directory, site) as app:
        yield app, key, socket


def kill(app: Application, gate: str, how: str) -> Killed:
    killed = Killed(getattr(app.gates, gate), GATES[gate], how)
    app.ingress.gates = msgspec.structs.replace(app.gates, **{gate: killed})
    return killed


def test_the_matrix_covers_every_live_route() -> None:
    assert set(BODIES) == set(ROUTES)


def test_with_every_gate_alive_the_same_requests_do_reach_the_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with socket.listening():
            for number, (path, body) in enumerate(BODIES.items(), start=1):
                answer = await post(app, path, body, key=key)
                assert answer.status == 502, answer.body
                assert socket.connections >= 1
                assert socket.bytes > 0, number
            await app.drain()

    with governed(tmp_path) as (app, key, socket):
        asyncio.run(scenario())


@pytest.mark.requirement("GD-6")
@pytest.mark.parametrize("how", ["raises", "hangs", "returns another type"])
@pytest.mark.parametrize("gate", GATES)
def test_a_dead_gate_refuses_and_nothing_reaches_a_provider(tmp_path: Path, gate: str, how: str) -> None:
    async def scenario() -> None:
        async with socket.listening():
            for path, body in BODIES.items():
                for streamed in (False, True) if "stream" not in body and "input" not in body else (False,):
                    killed = kill(app, gate, how)
                    asked = {**body, "stream": True} if streamed else body
                    answer = await post(app, path, asked, key=key)
                    if gate == "cache" and streamed:
                        # A stream never asks the cache, so a dead one is none of its business.
                        assert killed.asked == 0
                        continue
                    assert killed.asked == 1, (path, streamed)
                    assert answer.status == 503, (path, answer.body)
                    assert code_of(path, answer.json()) in REFUSED_WITH[gate], answer.body
                    assert socket.bytes == before, path

    with governed(tmp_path) as (app, key, socket):
        before = 0
        if gate == "cache":
            asyncio.run(only_whole(app, key, socket, gate, how))
        else:
            asyncio.run(scenario())


async def only_whole(app: Application, key: str, socket: Socket, gate: str, how: str) -> None:
    async with socket.listening():
        for path, body in BODIES.items():
            killed = kill(app, gate, how)
            answer = await post(app, path, body, key=key)
            assert killed.asked == 1
            assert answer.status == 503, answer.body
            assert code_of(path, answer.json()) in REFUSED_WITH[gate]
            assert (socket.connections, socket.bytes) == (0, 0)


REFUSED_WITH = {gate: {Code.GATE_FAILED, Code.GATE_TIMEOUT} for gate in GATES} | {
    "guard": {Code.GUARD_UNAVAILABLE, Code.GATE_FAILED},
    "journal": {Code.AUDIT_UNAVAILABLE, Code.GATE_FAILED},
}


def code_of(path: str, body: Any) -> str:
    assert json.dumps(body)
    return str(body["error"]["code"])
