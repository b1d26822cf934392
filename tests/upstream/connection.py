"""One client's connection to the fake: its own HTTP/1.1 on asyncio and httptools."""

import asyncio
import socket
import struct
import time
from typing import TYPE_CHECKING

import httptools
import msgspec
from tests.upstream.answer import Answer
from tests.upstream.arrived import Arrived
from tests.upstream.behaviour import STANDARD, Behaviour
from tests.upstream.envelopes import envelope
from tests.upstream.faces import Face, Refused, face_of
from tests.upstream.speech import write
from tests.upstream.understanding import prepare, understand
from tests.upstream.writing import Cut, Gone, Writing

if TYPE_CHECKING:
    from tests.upstream.server import FakeUpstream


class Connection(asyncio.Protocol):
    """One client's connection: parse, log, answer in order."""

    transport: asyncio.Transport

    def __init__(self, upstream: "FakeUpstream") -> None:
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._arriving: Arrived | None = None
        self._waiting: list[Arrived] = []
        self._busy = False
        self._gone = asyncio.Event()
        self._gone_at = 0.0
        self._writable = asyncio.Event()
        self._writable.set()
        self._closing = False
        self._received = 0
        self._requests = 0
        self.number = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.number = self._upstream.joined(self)
        self._upstream.journal.write("connection", self.number)

    def connection_lost(self, error: Exception | None) -> None:
        self._gone_at = time.monotonic()
        self._gone.set()
        self._writable.set()
        journal = self._upstream.journal
        if self._arriving is not None:
            journal.write("partial", self.number, **self._arriving.logged(), received=self._received)
        journal.write("closed", self.number, received=self._received, requests=self._requests)
        self._upstream.left(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._upstream.received += len(data)
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse_bytes("an upgrade was asked for")
        except httptools.HttpParserError as error:
            self._refuse_bytes(f"not HTTP: {error}")

    def abort(self) -> None:
        self.transport.abort()

    def _refuse_bytes(self, why: str) -> None:
        arriving = self._arriving or Arrived()
        self._upstream.journal.write("partial", self.number, **arriving.logged(), refused=why, received=self._received)
        self._arriving = None
        self._closing = True
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    # httptools' side

    def on_message_begin(self) -> None:
        self._arriving = Arrived()

    def on_url(self, target: bytes) -> None:
        assert self._arriving is not None
        self._arriving.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._arriving is not None
        self._arriving.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        assert self._arriving is not None
        self._arriving.method = self._parser.get_method().decode("ascii")
        if self._upstream.default.close_unread:
            self._closing = True
            self._end_connection(self._upstream.default)
        elif self._arriving.header("expect").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        assert self._arriving is not None
        self._arriving.body += data

    def on_message_complete(self) -> None:
        arrived = self._arriving
        assert arrived is not None
        arrived.keep_alive = self._parser.should_keep_alive()
        arrived.version = self._parser.get_http_version()
        self._arriving = None
        if self._closing:
            return
        self._waiting.append(arrived)
        if not self._busy:
            self._busy = True
            self._upstream.spawn(self._work())

    # Answering

    async def _work(self) -> None:
        while self._waiting and not self._gone.is_set():
            arrived = self._waiting.pop(0)
            if arrived.path.startswith("/__fake/"):
                answer = self._upstream.control(arrived.path, bytes(arrived.body))
                await Writing(self, STANDARD, arrived).whole(answer)
            else:
                await self._answer(arrived)
            if not arrived.keep_alive and not self.transport.is_closing():
                self.transport.close()
        self._busy = False

    async def _answer(self, arrived: Arrived) -> None:
        upstream, journal = self._upstream, self._upstream.journal
        self._requests += 1
        began = time.monotonic()
        ask, refused = understand(arrived, upstream)
        order = journal.write(
            "request", self.number, **arrived.logged(), refused=refused.message if refused is not None else None
        )
        behaviour = ask.behaviour if ask is not None else STANDARD
        face = Face(face_of(arrived.path), ask.surface if ask is not None else "")
        answer: Answer | None = None
        if refused is None and ask is not None:
            ask = msgspec.structs.replace(ask, number=order)
            try:
                answer = prepare(ask, upstream.models)
            except Refused as error:
                refused = error
        if answer is None:
            assert refused is not None
            status = refused.status
            body = write(envelope(face.name, face.surface, refused, request_id=f"req_fake{order:08d}"))
            # Google says it in the body instead.
            told = behaviour.retry_after is not None and face.name != "gemini"
            extra = (("retry-after", behaviour.retry_after or ""),) if told else ()
            answer = Answer(status=status, headers=(*extra, ("x-fake-refused", "1")), body=body)
        writing = Writing(self, behaviour, arrived, order=order, face=face)
        whole = False
        try:
            await self._deliver(writing, answer, behaviour)
            whole = writing.finished
        except Cut:
            await writing.flush()
            self._end_connection(behaviour)
        except Gone:
            pass
        finally:
            bill = answer.bill
            if "output" in bill and answer.events is not None and not whole:
                bill = {**bill, "output": min(bill["output"], writing.billed)}
            journal.write(
                "answer",
                self.number,
                request=order,
                face=face.name,
                status=writing.status,
                refused=refused.message if refused is not None else None,
                usage=bill or None,
                events=writing.events,
                sent=writing.sent,
                whole=whole,
                gone_after=self._gone_at - began if self._gone.is_set() and not whole else None,
            )
        if upstream.default.trailing or behaviour.trailing:
            self.transport.write((behaviour.trailing or upstream.default.trailing).encode("latin-1"))

    async def _deliver(self, writing: "Writing", answer: Answer, behaviour: Behaviour) -> None:
        """Write the answer the way the behaviour says. Raises `Cut` and `Gone`."""
        if behaviour.close_unanswered:
            raise Cut
        await self.rest(behaviour.first_byte)
        if behaviour.hang:
            await self.rest(86_400)
        if answer.events is None or answer.status != 200:
            await writing.whole(answer)
            return
        await writing.stream(answer)

    async def rest(self, seconds: float) -> None:
        """Wait. Raises `Gone` as soon as the client has left."""
        if seconds <= 0:
            if self._gone.is_set():
                raise Gone
            return
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return
        raise Gone

    async def push(self, data: bytes) -> None:
        """Write and wait until the transport takes more. Raises `Gone`."""
        if self._gone.is_set() or self.transport.is_closing():
            raise Gone
        self.transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self._gone.is_set():
                raise Gone

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def _end_connection(self, behaviour: Behaviour) -> None:
        self._closing = True
        self._waiting.clear()
        if behaviour.reset:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
