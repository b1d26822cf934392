"""One connection of the data-plane listener, driven byte by byte, and what it writes back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from securellm.core.errors import Code, Refusal
from securellm.ingress.exchange import AsgiExchange, RawHeaders
from securellm.ingress.protocol import Hardened, hardened

App = Callable[[AsgiExchange], Awaitable[None]]
ASKED = b"POST / HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n\r\n{}"
REST = 0.2


class Wire(asyncio.Transport):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def connected(app: App) -> tuple[Hardened, Wire]:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await app(AsgiExchange(scope, receive, send))

    config = Config(asgi, lifespan="off", timeout_keep_alive=REST, log_config=None)  # type: ignore[arg-type]
    config.load()
    kind = hardened(request_timeout=REST, max_headers=4096, refused=lambda _: None)
    protocol, wire = kind(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


def answering(headers: RawHeaders, body: bytes) -> App:
    async def app(exchange: AsgiExchange) -> None:
        await exchange.answer(200, [*headers, (b"content-length", str(len(body)).encode())], body)

    return app


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not met():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.002)


def written(app: App, asked: bytes = ASKED) -> tuple[list[bytes], bool]:
    """What was written for one request, and whether the connection was closed with it."""

    async def scenario() -> tuple[list[bytes], bool]:
        protocol, wire = await connected(app)
        protocol.data_received(asked)
        await until(lambda: wire.writes or wire.closed)
        closed = wire.closed
        protocol.connection_lost(None)
        return wire.writes, closed

    return asyncio.run(scenario())


def test_a_whole_answer_leaves_in_one_write() -> None:
    (answer,), closed = written(answering([(b"content-type", b"text/plain")], b"hello"))
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
    assert not closed


def test_a_large_answer_is_not_copied_behind_its_head() -> None:
    (head, body), _ = written(answering([], bytes(100_000)))
    assert head.endswith(b"content-length: 100000\r\n\r\n")
    assert body == bytes(100_000)


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ([(b"connection", b"close")], ASKED),
        ([], ASKED.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nconnection: close\r\n")),
        ([], ASKED.replace(b"HTTP/1.1", b"HTTP/1.0")),
    ],
)
def test_an_answer_says_once_that_it_ends_its_connection(headers: RawHeaders, asked: bytes) -> None:
    (answer,), closed = written(answering(headers, b"hello"), asked)
    assert answer.count(b"connection: close\r\n") == 1
    assert closed


def test_an_answer_to_head_has_no_body() -> None:
    (answer,), _ = written(answering([], b"hello"), b"HEAD / HTTP/1.1\r\nhost: gateway\r\n\r\n")
    assert answer.endswith(b"content-length: 5\r\n\r\n")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0b"])
def test_no_header_can_begin_another_line(value: bytes) -> None:
    (answer, *_), _ = written(answering([(b"x-of-a-provider", value)], b"hello"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in answer


def test_a_connection_that_rests_too_long_is_closed_and_one_in_use_is_not() -> None:
    async def scenario() -> None:
        may_answer = asyncio.Event()
        may_answer.set()
        answer = answering([], b"hello")

        async def app(exchange: AsgiExchange) -> None:
            await may_answer.wait()
            await answer(exchange)

        protocol, wire = await connected(app)
        protocol.data_received(ASKED)
        await until(lambda: wire.writes)
        may_answer.clear()
        protocol.data_received(ASKED)
        await asyncio.sleep(1.5 * REST)
        assert not wire.closed
        may_answer.set()
        await until(lambda: wire.closed)
        assert len(wire.writes) == 2

    asyncio.run(scenario())


def test_a_head_that_began_and_does_not_end_is_answered_408() -> None:
    async def scenario() -> None:
        protocol, wire = await connected(answering([], b"hello"))
        protocol.data_received(ASKED)
        await until(lambda: wire.writes)
        protocol.data_received(ASKED[:20])
        await until(lambda: wire.closed)
        assert wire.writes[-1].startswith(b"HTTP/1.1 408 ")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        (b"POST / HTTP/2.0\r\ncontent-length: 2\r\n\r\n{}", b"http_version"),
        (b"GET / HTTP/0.9\r\nhost: a\r\n\r\n", b"http_version"),
        (b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"transfer_encoding"),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\nupgrade: x\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n",
            b"upgrade",
        ),
    ],
)
def test_what_frames_its_body_as_no_other_reader_would_is_refused(head: bytes, cause: bytes) -> None:
    (answer,), closed = written(answering([], b"never"), head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert cause in answer
    assert closed


def test_an_upgrade_without_a_body_is_ignored_and_ends_its_connection() -> None:
    asked = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    (answer,), closed = written(answering([(b"content-length", b"2")], b"ok"), asked)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer
    assert closed


SMUGGLED = b"GET /elsewhere HTTP/1.1\r\nhost: a\r\n\r\n"
H2C = b"POST / HTTP/1.1\r\nconnection: upgrade, http2-settings\r\nhost: a\r\nupgrade: h2c\r\nhttp2-settings: AAE\r\n"
H2C += b"content-length: %d\r\n\r\n" % len(SMUGGLED)


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize("step", [1, 7, len(H2C), len(H2C) + 3, 1000])
@pytest.mark.parametrize("behind", [b"", b"GET /behind HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_a_body_behind_an_upgrade_that_is_not_served_is_that_requests_body_and_nothing_else(
    step: int, behind: bytes
) -> None:
    read: list[tuple[str, bytes]] = []

    async def app(exchange: AsgiExchange) -> None:
        read.append((exchange.path, await exchange.body(limit=1000, seconds=5)))
        await exchange.answer(200, [(b"content-length", b"2")], b"ok")

    async def scenario() -> None:
        protocol, wire = await connected(app)
        sent = H2C + SMUGGLED + behind
        for at in range(0, len(sent), step):
            protocol.data_received(sent[at : at + step])
            await asyncio.sleep(0)
        await until(lambda: wire.closed)
        (answer,) = wire.writes
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer

    asyncio.run(scenario())
    assert read == [("/", SMUGGLED)]


def test_a_body_behind_an_upgrade_that_never_comes_whole_ends_with_its_client() -> None:
    ended: list[Code] = []

    async def app(exchange: AsgiExchange) -> None:
        try:
            await exchange.body(limit=1000, seconds=5)
        except Refusal as refusal:
            ended.append(refusal.code)

    async def scenario() -> None:
        protocol, wire = await connected(app)
        protocol.data_received(H2C + SMUGGLED[:5])
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        await until(lambda: ended)
        assert wire.writes == []

    asyncio.run(scenario())
    assert ended == [Code.CLIENT_DISCONNECTED]
