"""The fake's server: its own HTTP/1.1 on asyncio and httptools, so that every byte of an answer can go wrong."""

import asyncio
import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httptools
import msgspec
from tests.upstream import chat, embeddings, messages, responses
from tests.upstream.answer import Answer, Ask
from tests.upstream.behaviour import STANDARD, Behaviour, read_mark
from tests.upstream.faces import (
    CREDENTIAL_HEADERS,
    CREDENTIALS,
    Face,
    Refused,
    authenticate,
    envelope,
    face_of,
    hashed,
    route,
)
from tests.upstream.journal import Entry, Journal
from tests.upstream.speech import write

_SINGLE = ("host", "content-type", "content-length", "authorization", "x-api-key", "anthropic-version", "user-agent")
_DIALECTS: dict[str, Callable[[Ask], Answer]] = {
    "chat": chat.answer,
    "responses": responses.answer,
    "messages": messages.answer,
    "count_tokens": messages.count_tokens,
    "embeddings": embeddings.answer,
}
_ERROR_EVENTS: dict[str, Callable[[Ask, int], tuple[str | None, dict[str, object]]]] = {
    "chat": chat.error_event,
    "responses": responses.error_event,
    "messages": messages.error_event,
}
_HTML = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>cloud edge: error 502</body></html>"
_MODELS = ("fake-large", "fake-small")


class _Gone(Exception):
    """The client has disconnected."""


class _Cut(Exception):
    """The behaviour ends the answer here."""


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
        self._scripts: list[_Script] = []
        self._refused: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # Where it is

    def url(self, face: str = "openai") -> str:
        """The provider's `base_url` as its documentation gives it: with /v1, save for DeepSeek."""
        return f"{self.root}/{face}" + ("" if face == "deepseek" else "/v1")

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

    async def quiet(self, *, seconds: float = 10.0) -> None:
        """Wait until no answer is under way. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self._tasks:
                await asyncio.wait(set(self._tasks))

    # How it runs

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self._host, self.port, ssl=self._tls, backlog=1024
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

    def joined(self, connection: "_Connection") -> int:
        self.opened += 1
        self._connections.add(connection)
        return self.opened

    def left(self, connection: "_Connection") -> None:
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


class _Arrived:
    """One request as the parser delivers it."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.method = ""
        self.keep_alive = True
        self.version = "1.1"

    @property
    def path(self) -> str:
        return self.target.decode("latin-1")

    def header(self, name: str) -> str:
        return next((value for header, value in self.headers if header == name), "")

    def logged(self) -> dict[str, object]:
        """The fields of its log entry; credentials are hashed here and nowhere written."""
        model = stream = None
        try:
            decoded = json.loads(bytes(self.body))
            model, stream = decoded.get("model"), decoded.get("stream")
        except (ValueError, AttributeError, RecursionError):
            pass
        return {
            "face": face_of(self.path),
            "method": self.method,
            "path": self.path,
            "headers": tuple(
                (name, _hidden(value) if name in CREDENTIAL_HEADERS else value) for name, value in self.headers
            ),
            "body": bytes(self.body),
            "model": model if isinstance(model, str) else None,
            "stream": stream if isinstance(stream, bool) else None,
        }


def _hidden(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return f"{scheme} {hashed(token)}" if token else hashed(value)


class _Connection(asyncio.Protocol):
    """One client's connection: parse, log, answer in order."""

    transport: asyncio.Transport

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._arriving: _Arrived | None = None
        self._waiting: list[_Arrived] = []
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
        arriving = self._arriving or _Arrived()
        self._upstream.journal.write("partial", self.number, **arriving.logged(), refused=why, received=self._received)
        self._arriving = None
        self._closing = True
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    # httptools' side

    def on_message_begin(self) -> None:
        self._arriving = _Arrived()

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
                await _Writing(self, STANDARD, arrived).whole(answer)
            else:
                await self._answer(arrived)
            if not arrived.keep_alive and not self.transport.is_closing():
                self.transport.close()
        self._busy = False

    async def _answer(self, arrived: _Arrived) -> None:
        upstream, journal = self._upstream, self._upstream.journal
        self._requests += 1
        began = time.monotonic()
        ask, refused = self._understand(arrived)
        order = journal.write(
            "request", self.number, **arrived.logged(), refused=refused.message if refused is not None else None
        )
        behaviour = ask.behaviour if ask is not None else STANDARD
        face = Face(face_of(arrived.path), ask.surface if ask is not None else "")
        answer: Answer | None = None
        if refused is None and ask is not None:
            ask = msgspec.structs.replace(ask, number=order)
            try:
                answer = self._prepare(ask)
            except Refused as error:
                refused = error
        if answer is None:
            assert refused is not None
            status = refused.status
            body = write(envelope(face.name, face.surface, refused, request_id=f"req_fake{order:08d}"))
            extra = (("retry-after", behaviour.retry_after),) if behaviour.retry_after is not None else ()
            answer = Answer(status=status, headers=(*extra, ("x-fake-refused", "1")), body=body)
        writing = _Writing(self, behaviour, arrived, order=order, face=face)
        whole = False
        try:
            await self._deliver(writing, answer, ask, behaviour)
            whole = writing.finished
        except _Cut:
            await writing.flush()
            self._end_connection(behaviour)
        except _Gone:
            pass
        finally:
            bill = answer.bill
            if bill and answer.events is not None and not whole:
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

    def _understand(self, arrived: _Arrived) -> tuple[Ask | None, Refused | None]:
        """The request as a dialect sees it, and why a strict provider refuses it."""
        behaviour = self._upstream.default
        surface = ""
        try:
            for name in _SINGLE:
                if sum(header == name for header, _ in arrived.headers) > 1:
                    raise Refused(400, f"The header {name} stands more than once.")
            if not arrived.header("host"):
                raise Refused(400, "The header host is missing.")
            face = route(arrived.method, arrived.path.partition("?")[0])
            surface = face.surface
            authenticate(face, arrived.headers, self._upstream.credentials)
            if surface == "models":
                return Ask(
                    face=face.name,
                    surface=surface,
                    headers=tuple(arrived.headers),
                    body={},
                    behaviour=self._upstream.behaviour_for(None),
                    number=0,
                ), None
            if arrived.header("content-type").partition(";")[0].strip().lower() != "application/json":
                raise Refused(400, "The content type must be application/json.")
            body = _strict_json(bytes(arrived.body))
            model = body.get("model")
            behaviour = self._upstream.behaviour_for(model if isinstance(model, str) else None)
            ask = Ask(
                face=face.name,
                surface=surface,
                headers=tuple(arrived.headers),
                body=body,
                behaviour=behaviour,
                number=0,
            )
        except Refused as refused:
            if refused.code is None and refused.status == 401:
                refused.code = "invalid_api_key"
            given = Ask(face=face_of(arrived.path), surface=surface, headers=(), body={}, behaviour=STANDARD, number=0)
            return given, refused
        return ask, None

    def _prepare(self, ask: Ask) -> Answer:
        """What the provider answers when nothing goes wrong below HTTP. Raises `Refused`."""
        how = ask.behaviour
        if ask.surface == "models":
            rows = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in _MODELS]
            return Answer(body=write({"object": "list", "data": rows}))
        name = str(ask.body.get("model"))
        base, _ = read_mark(name)
        known = self._upstream.models
        if base.startswith("no-such") or (known is not None and base not in known):
            if ask.surface in ("messages", "count_tokens"):
                raise Refused(404, f"model: {name}")
            message = f"The model `{name}` does not exist or you do not have access to it."
            raise Refused(404, message, code="model_not_found")
        answer = _DIALECTS[ask.surface](ask)
        if how.html:
            return Answer(status=how.status or 200, headers=(("content-type", "text/html"),), body=_HTML)
        if how.status is not None:
            phrase = HTTPStatus(how.status).phrase if how.status in set(HTTPStatus) else "Overloaded"
            raise Refused(how.status, how.message or phrase, code=how.code)
        if how.redirect is not None:
            return Answer(status=307, headers=(("location", how.redirect),))
        if how.garbage and answer.events is None:
            return msgspec.structs.replace(answer, body=b'{"id": "broken", ')
        return answer

    async def _deliver(self, writing: "_Writing", answer: Answer, ask: Ask | None, behaviour: Behaviour) -> None:
        """Write the answer the way the behaviour says. Raises `_Cut` and `_Gone`."""
        if behaviour.close_unanswered:
            raise _Cut
        await self.rest(behaviour.first_byte)
        if behaviour.hang:
            await self.rest(86_400)
        if answer.events is None or answer.status != 200:
            await writing.whole(answer)
            return
        assert ask is not None
        await writing.stream(answer, ask)

    async def rest(self, seconds: float) -> None:
        """Wait. Raises `_Gone` as soon as the client has left."""
        if seconds <= 0:
            if self._gone.is_set():
                raise _Gone
            return
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return
        raise _Gone

    async def push(self, data: bytes) -> None:
        """Write and wait until the transport takes more. Raises `_Gone`."""
        if self._gone.is_set() or self.transport.is_closing():
            raise _Gone
        self.transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self._gone.is_set():
                raise _Gone

    def _end_connection(self, behaviour: Behaviour) -> None:
        self._closing = True
        self._waiting.clear()
        if behaviour.reset:
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()


class _Writing:
    """One answer on its way out, counted byte by byte."""

    def __init__(
        self,
        connection: _Connection,
        behaviour: Behaviour,
        arrived: _Arrived,
        *,
        order: int = 0,
        face: Face | None = None,
    ) -> None:
        self._connection = connection
        self._how = behaviour
        self._arrived = arrived
        self._order = order
        self._face = face or Face("openai", "")
        self.status: int | None = None
        self.events = 0
        self.sent = 0
        self.billed = 0
        self.finished = False

    async def whole(self, answer: Answer) -> None:
        """The head with its length, then the body."""
        how = self._how
        body, headers = answer.body, dict(answer.headers)
        headers.setdefault("content-type", "application/json")
        accepted = {token.partition(";")[0].strip() for token in self._arrived.header("accept-encoding").split(",")}
        if body and (how.gzip or ("gzip" in accepted and headers["content-type"] == "application/json")):
            body = gzip.compress(body)
            headers["content-encoding"] = "gzip"
        if answer.status == 401:
            headers.setdefault("www-authenticate", "Bearer")
        if how.framing == "close":
            headers["connection"] = "close"
            self._arrived.keep_alive = False
        elif how.queued:
            headers["transfer-encoding"] = "chunked"
        else:
            headers["content-length"] = str(len(body))
        await self._head(answer.status, headers)
        if how.queued:
            shape = bytes if how.framing == "close" else _chunk
            await self._wait_queued(shape(b"\n"))
            await self._write(shape(body) if how.framing == "close" else _chunk(body) + b"0\r\n\r\n")
        else:
            await self._write(body)
        self.finished = True

    async def stream(self, answer: Answer, ask: Ask) -> None:
        """The head, then event after event."""
        how = self._how
        assert answer.events is not None
        frames = [event.frame for event in answer.events]
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        framing = how.framing
        if self._arrived.version == "1.0" and framing == "documented":
            framing = "close"
        if framing == "length":
            headers["content-length"] = str(sum(map(len, frames)))
        elif framing == "close":
            headers["connection"] = "close"
            self._arrived.keep_alive = False
        else:
            headers["transfer-encoding"] = "chunked"
        shape = _chunk if framing == "documented" else bytes
        await self._head(200, headers)
        if how.queued:
            await self._wait_queued(shape(b": keep-alive\n\n"))
        for index, event in enumerate(answer.events):
            await self._before(index, ask, shape)
            if index:
                await self._connection.rest(how.between)
            await self._write(shape(event.frame))
            self.events += 1
            self.billed = event.billed
        if how.cut_event == len(frames):
            raise _Cut
        if framing == "documented":
            await self._write(b"0\r\n\r\n")
        self.finished = True

    async def _before(self, index: int, ask: Ask, shape: Callable[[bytes], bytes]) -> None:
        """Whatever goes wrong before event `index`."""
        how = self._how
        if how.hang_event == index:
            await self._connection.rest(86_400)
        if how.garbage and index == 1:
            await self._write(shape(b"data: {not json\n\n"))
        if how.error_event == index:
            name, value = _ERROR_EVENTS[ask.surface](ask, index)
            head = f"event: {name}\n".encode() if name is not None else b""
            await self._write(shape(head + b"data: " + write(value) + b"\n\n"))
            if how.framing == "documented":
                await self._write(b"0\r\n\r\n")
            else:
                self._arrived.keep_alive = False
            raise _Ended
        if how.cut_event == index:
            if how.clean_cut:
                await self._write(b"0\r\n\r\n")
                raise _Ended
            raise _Cut

    async def flush(self) -> None:
        """Let the client's kernel have what was written, so that a reset cannot take it back."""
        for _ in range(100):
            if not self._connection.transport.get_write_buffer_size():
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)

    async def _wait_queued(self, sign: bytes) -> None:
        end = time.monotonic() + self._how.queued
        while time.monotonic() < end:
            await self._write(sign)
            await self._connection.rest(0.05)

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Overloaded"
        lines = [f"HTTP/1.1 {status} {phrase}", f"date: {formatdate(usegmt=True)}", "server: fake"]
        anthropic = self._face.name == "anthropic" or self._face.surface == "messages"
        name = f"req_fake{self._order:08d}"
        lines.append(f"request-id: {name}" if anthropic else f"x-request-id: {name}")
        if anthropic:
            lines += ["anthropic-ratelimit-requests-limit: 50", "anthropic-ratelimit-requests-remaining: 49"]
        elif self._face.name == "openai":
            lines += ["x-ratelimit-limit-requests: 500", "x-ratelimit-remaining-requests: 499"]
            lines += ["openai-version: 2020-10-01", "openai-processing-ms: 12"]
        lines += [f"{header}: {value}" for header, value in headers.items()]
        if self._how.head_bytes:
            lines.append(f"x-padding: {'p' * self._how.head_bytes}")
        hints = "HTTP/1.1 103 Early Hints\r\nlink: </style>; rel=preload\r\n\r\n" if self._how.early_hints else ""
        self.status = status
        await self._write((hints + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def _write(self, data: bytes) -> None:
        """Raises `_Cut` at the behaviour's byte, `_Gone` when nobody listens any more."""
        for piece in self._pieces(data):
            room = len(piece) if self._how.cut_byte is None else self._how.cut_byte - self.sent
            if room < len(piece):
                if room > 0:
                    await self._connection.push(piece[:room])
                    self.sent += room
                raise _Cut
            await self._connection.push(piece)
            self.sent += len(piece)
            if len(piece) < len(data):
                await asyncio.sleep(0)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._how.write_size is not None:
            size = self._how.write_size
            yield from (data[at : at + size] for at in range(0, len(data), size))
        elif self._how.split_utf8:
            start = 0
            for at in range(1, len(data)):
                if data[at] & 0xC0 == 0x80:
                    yield data[start:at]
                    start = at
            yield data[start:]
        else:
            yield data


class _Ended(_Gone):
    """The behaviour ended the stream in its own way; the connection may go on."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _strict_json(body: bytes) -> dict[str, Any]:
    """The body as an object, read as strictly as any provider reads it. Raises `Refused` 400."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a member stands twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise Refused(400, "The body of your request must be a JSON object.")
    return value
