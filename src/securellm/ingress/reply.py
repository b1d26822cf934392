"""The answer on its way out: written whole or streamed with heartbeats, and ended exactly once."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from securellm.core.clock import Clock
from securellm.core.errors import GatewayError
from securellm.core.surfaces import Manner, Surface
from securellm.gateway.model import Headers
from securellm.ingress.errors import envelope, error_event, error_headers
from securellm.ingress.exchange import Exchange, RawHeaders


class _Streaming(NamedTuple):
    """How a stream looks on the wire, and what may be said in it that says nothing. Only between whole events."""

    content_type: bytes
    heartbeat: bytes


_EVENTS = b"text/event-stream; charset=utf-8"
_COMMENTED = _Streaming(_EVENTS, b": heartbeat\n\n")
"""A comment (HTML Living Standard, server-sent events), which these SDKs skip."""
_STREAMING: Mapping[Manner, _Streaming] = {
    Manner.OPENAI: _COMMENTED,
    Manner.ANTHROPIC: _COMMENTED,
    # A blank line: Google's Python SDK takes a comment for a broken event.
    Manner.GOOGLE: _Streaming(_EVENTS, b"\n"),
    # A space before the next line, which JSON ignores: a blank line would be parsed, and fail.
    Manner.OLLAMA: _Streaming(b"application/x-ndjson", b" "),
}

_STREAM_HEADERS: RawHeaders = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class HttpReply:
    """The reply to one exchange, in its caller's manner."""

    def __init__(
        self,
        exchange: Exchange,
        manner: Manner,
        *,
        surface: Surface | None,
        request_id: str,
        heartbeat: float,
        clock: Clock,
    ) -> None:
        self._exchange = exchange
        self.manner = manner
        self.surface = surface
        self.request_id = request_id
        self._heartbeat = heartbeat
        self._clock = clock
        self._portuguese = False
        self._heart: asyncio.Task[None] | None = None
        self._last_write = 0.0
        self._beginning = False
        self.started = False
        self.finished = False
        self.status = 0
        self.sequence = -1
        self.rates: Callable[[], Headers] | None = None
        self.trace_id: str | None = None
        self.code: str | None = None
        """Of the error it ended with."""

    def speak_portuguese(self, portuguese: bool) -> None:
        """Word errors in Brazilian Portuguese."""
        self._portuguese = portuguese

    async def send(self, status: int, headers: Headers, body: bytes) -> None:
        self.started = self.finished = True
        self.status = status
        length = (b"content-length", str(len(body)).encode("ascii"))
        await self._exchange.answer(status, [*self._always(), *headers, length], body)

    async def expect_stream(self, headers: Headers) -> None:
        """Begin by ourselves once the silence before the first event has lasted one heartbeat."""
        if self._heart is None:
            self._last_write = self._clock.monotonic()
            self._heart = asyncio.create_task(self._beat(headers))

    async def begin(self, headers: Headers) -> None:
        if not self.started:
            self.started = self._beginning = True
            self.status = 200
            self._last_write = self._clock.monotonic()
            try:
                kind = (b"content-type", _STREAMING[self.manner].content_type)
                await self._exchange.head(200, [*self._always(), kind, *_STREAM_HEADERS, *headers])
            except BaseException:
                self.started = False
                raise
            finally:
                self._beginning = False

    async def write(self, data: bytes) -> None:
        self._last_write = self._clock.monotonic()
        await self._exchange.write(data, last=False)

    async def end(self, data: bytes) -> None:
        await self._stop_heart()
        self.finished = True
        await self._exchange.write(data, last=True)

    async def refuse(self, error: GatewayError, *, close: bool = False) -> None:
        """Answer with an error: an HTTP status while nothing has left, an error event afterwards."""
        await self._stop_heart()
        self.code = error.code.value
        if self.finished:
            return
        if not self.started:
            headers = error_headers(error)
            if self.rates is not None:
                headers += self.rates()
            if close:
                headers.append((b"connection", b"close"))
            body = envelope(error, self.manner, request_id=self.request_id, portuguese=self._portuguese)
            await self.send(error.status, tuple(headers), body)
        else:
            assert self.surface is not None
            await self.end(
                error_event(
                    error,
                    self.surface,
                    request_id=self.request_id,
                    sequence=self.sequence,
                    portuguese=self._portuguese,
                )
            )

    def close(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
            self._heart = None

    def _always(self) -> RawHeaders:
        request_id = self.request_id.encode("ascii")
        headers: RawHeaders = [(b"x-request-id", request_id)]
        if self.manner is Manner.ANTHROPIC:
            headers.append((b"request-id", request_id))
        return headers

    async def _stop_heart(self) -> None:
        heart = self._heart
        self.close()
        if heart is not None and self._beginning:
            # The head may be waiting to leave; only afterwards is it known whether the answer has begun.
            await asyncio.wait([heart])

    async def _beat(self, headers: Headers) -> None:
        while True:
            quiet = self._clock.monotonic() - self._last_write
            if quiet >= self._heartbeat:
                await self.begin(headers)
                await self.write(_STREAMING[self.manner].heartbeat)
                quiet = 0.0
            await asyncio.sleep(self._heartbeat - quiet)
