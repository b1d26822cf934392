"""An answer on its way out: every byte of it can go wrong, and every byte is counted."""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

from tests.upstream.answer import Answer
from tests.upstream.arrived import Arrived
from tests.upstream.behaviour import Behaviour
from tests.upstream.faces import OLLAMA_NATIVE, Face


class Gone(Exception):
    """The client has disconnected."""


class Cut(Exception):
    """The behaviour ends the answer here."""


class Ended(Gone):
    """The behaviour ended the stream in its own way; the connection may go on."""


class Wire(Protocol):
    """Where the bytes go."""

    async def rest(self, seconds: float) -> None:
        """Wait. Raises `Gone` as soon as the client has left."""

    async def push(self, data: bytes) -> None:
        """Write and wait until the transport takes more. Raises `Gone`."""

    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""


class Writing:
    """One answer on its way out, counted byte by byte."""

    def __init__(
        self,
        connection: Wire,
        behaviour: Behaviour,
        arrived: Arrived,
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
        if answer.status == 401 and self._face.name != "gemini":
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

    async def stream(self, answer: Answer) -> None:
        """The head, then event after event."""
        how = self._how
        assert answer.events is not None
        frames = [event.frame for event in answer.events]
        style = answer.framing
        headers = {"content-type": style.media, "cache-control": "no-cache", **dict(answer.headers)}
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
            await self._wait_queued(shape(style.alive))
        for index, event in enumerate(answer.events):
            await self._before(index, answer, shape)
            if index:
                await self._connection.rest(how.between)
            await self._write(shape(event.frame))
            self.events += 1
            self.billed = event.billed
        if how.cut_event == len(frames):
            raise Cut
        if framing == "documented":
            await self._write(b"0\r\n\r\n")
        self.finished = True

    async def _before(self, index: int, answer: Answer, shape: Callable[[bytes], bytes]) -> None:
        """Whatever goes wrong before event `index`."""
        how = self._how
        if how.hang_event == index:
            await self._connection.rest(86_400)
        if how.garbage and index == 1:
            await self._write(shape(answer.framing.event(b"{not json", None, answer.framing.eol)))
        if how.error_event == index:
            await self._write(shape(answer.broken))
            if how.framing == "documented":
                await self._write(b"0\r\n\r\n")
            else:
                self._arrived.keep_alive = False
            raise Ended
        if how.cut_event == index:
            if how.clean_cut:
                await self._write(b"0\r\n\r\n")
                raise Ended
            raise Cut

    async def flush(self) -> None:
        """Let the client's kernel have what was written, so that a reset cannot take it back."""
        for _ in range(100):
            if not self._connection.unsent():
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
        if self._face.name == "gemini":
            lines.append("server-timing: gfet4t7; dur=12")
        elif self._face.surface not in OLLAMA_NATIVE:
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
        """Raises `Cut` at the behaviour's byte, `Gone` when nobody listens any more."""
        for piece in self._pieces(data):
            room = len(piece) if self._how.cut_byte is None else self._how.cut_byte - self.sent
            if room < len(piece):
                if room > 0:
                    await self._connection.push(piece[:room])
                    self.sent += room
                raise Cut
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


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
