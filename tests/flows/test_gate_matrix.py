"""Kill each gate in turn, in each way, on every live route: nothing reaches a provider's socket."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flows.inprocess import BODIES, Answer, Asked, application, every_errand, every_request, send
from tests.harness import PRICE, Site, free_ports

from securellm.bootstrap.wiring import Application
from securellm.core.batches import Load, Workload
from securellm.core.errors import Code
from securellm.core.kept import Kept, KeptKind
from securellm.core.surfaces import KEPT, Surface
from securellm.custody import Deposit, Grant
from securellm.ingress.kept import PATHS
from securellm.ingress.routes import ROUTES
from securellm.providers import KINDS

GATES = {
    "identities": "identify",
    "policy": "permit",
    "limits": "admit",
    "custody": "keeper",
    "guard": "screen_prompt",
    "cache": "find",
    "router": "plan",
    "finops": "reserve",
    "journal": "intent",
}


GOVERNED = [row.kind for row in KINDS.values() if not row.demo_only]
PROVIDERS = {surface: kind for surface in Surface for kind in GOVERNED if surface in KINDS[kind].surfaces}
"""A kind of provider that speaks each surface."""
EVERY_PRICE = PRICE | {f"{kind}_per_million": "1.00 USD" for kind in ("audio_input", "audio_output", "image_input")}
NEVER_CACHED = frozenset(
    {
        Surface.MESSAGE_TOKENS,
        Surface.CONTENT_TOKENS,
        Surface.IMAGES,
        Surface.IMAGE_EDITS,
        Surface.SPEECH,
        Surface.TRANSCRIPTIONS,
        Surface.AUDIO_TRANSLATIONS,
        *KEPT,
    }
)


def model_of(surface: Surface) -> str:
    return f"for/{surface.value}"


REQUESTS = [*every_request(model_of), *every_errand(model_of)]


class Killed:
    """A gate of which one method is broken and the rest is as it was."""

    def __init__(self, real: Any, method: str, how: str) -> None:
        self._real, self._method, self._how = real, method, how
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        if name not in (self._method, f"{self._method}_batch"):
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
    site.environ["ANY"] = "a-credential-of-nobody"
    for kind in GOVERNED:
        site.provider(f"a-{kind}", kind=kind, base_url=f"http://127.0.0.1:{socket.port}/v1", credential="env:ANY")
    for surface in Surface:
        site.model(model_of(surface), f"a-{PROVIDERS[surface]}", retries=0, price=EVERY_PRICE)
    site.tenant("acme", budget="100.00 USD", models=[model_of(surface) for surface in Surface])
    site.server["gate_timeout"] = "500ms"
    site.extra = '[finops]\nreservation_wait = "100ms"'
    key = site.key()
    with application(directory, site) as app:
        keep(app)
        yield app, key, socket


def keep(app: Application) -> None:
    """Everything that an errand names is this tenant's, at a provider that serves the errand's surface."""
    for asked in REQUESTS:
        for name in names_in(asked):
            app.gates.custody.note(
                Deposit(
                    tenant="acme",
                    provider=f"a-{PROVIDERS[asked.surface]}",
                    request_id="req_before",
                    things=(Kept(KeptKind.ITEM, name),),
                    workload=WORKLOAD if name == "file_id" else None,
                    grants={name: (Grant(f"a-{PROVIDERS[asked.surface]}", "acme"),)},
                )
            )


WORKLOAD = Workload(
    surface=Surface.CHAT,
    loads=(
        Load(
            model=model_of(Surface.CHAT),
            upstream_model="fake-small",
            requests=1,
            input_tokens=9,
            longest_input=9,
            output_tokens=5,
        ),
    ),
)
"""What the file that a batch is made from asks for."""


def names_in(asked: Asked) -> list[str]:
    return re.findall(r"{(\w+)}", asked.template) if asked.errand else []


def kill(app: Application, gate: str, how: str) -> Killed:
    killed = Killed(getattr(app.gates, gate), GATES[gate], how)
    app.ingress.gates = msgspec.structs.replace(app.gates, **{gate: killed})
    return killed


def test_the_matrix_covers_every_live_route() -> None:
    assert {asked.template for asked in REQUESTS} == {*ROUTES, *PATHS}
    assert {(asked.template, asked.method) for asked in REQUESTS if asked.errand} == {
        (template, method) for template, rows in PATHS.items() for method, row in rows.items() if not row.errand.lists
    }
    assert {route.surface for route in ROUTES.values()} == set(BODIES) == set(Surface) - KEPT
    assert {asked.surface for asked in REQUESTS if asked.errand} == KEPT


def test_with_every_gate_alive_the_same_requests_do_reach_the_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with socket.listening():
            for asked in REQUESTS:
                before = socket.bytes
                answer = await send(app, asked, key=key)
                assert answer.status == 502, (asked, answer.body)
                assert socket.bytes > before, asked
            await app.drain()

    with governed(tmp_path) as (app, key, socket):
        asyncio.run(scenario())


@pytest.mark.requirement("GD-6")
@pytest.mark.parametrize("how", ["raises", "hangs", "returns another type"])
@pytest.mark.parametrize("gate", GATES)
def test_a_dead_gate_refuses_and_nothing_reaches_a_provider(tmp_path: Path, gate: str, how: str) -> None:
    # A stream never asks the cache, nor does what is never the same twice: a dead one is none of their business.
    asked = [each for each in REQUESTS if gate != "cache" or not (each.stream or each.surface in NEVER_CACHED)]
    if gate == "custody":
        asked = [each for each in REQUESTS if names_in(each)]

    async def scenario() -> None:
        killed = kill(app, gate, how)
        async with socket.listening():
            answers = await asyncio.gather(*(send(app, each, key=key) for each in asked))
        assert killed.asked == len(asked)
        for each, answer in zip(asked, answers, strict=True):
            assert_refused(each, answer, gate)
        assert (socket.connections, socket.bytes) == (0, 0)

    with governed(tmp_path) as (app, key, socket):
        asyncio.run(scenario())


def assert_refused(asked: Asked, answer: Answer, gate: str) -> None:
    assert answer.status == 503, (asked, answer.body)
    assert answer.headers["x-securellm-code"] in REFUSED_WITH[gate], (asked, answer.body)


REFUSED_WITH = {gate: {Code.GATE_FAILED, Code.GATE_TIMEOUT} for gate in GATES} | {
    "guard": {Code.GUARD_UNAVAILABLE, Code.GATE_FAILED},
    "journal": {Code.AUDIT_UNAVAILABLE, Code.GATE_FAILED},
}
