"""One HTTP/1.1 connection to a provider: one request at a time, every wait under a deadline."""

import asyncio
import contextlib
import math
import select
import socket
import ssl
from typing import Protocol, cast

from securellm.core.errors import Code, GatewayError, UpstreamFailure
from securellm.transport.model import Timeouts
from securellm.transport.reply import Reply
from securellm.transport.wire import ReplyReader

_SLICE = 256 * 1024
"""Bytes of a request body handed to the socket at a time."""
_TRUSTED_IDLE = 1.0
"""Seconds of rest after which a connection's socket is looked at before it is used again."""


class Owner(Protocol):
    """Where connections come from and go back to."""

    def made(self, connection: "Connection") -> None:
        """Its socket is open."""
        ...

    def released(self, connection: "Connection") -> None:
        """Its reply is complete and it can carry another request."""
        ...

    def retired(self, connection: "Connection") -> None:
        """It will never be used again. Called once."""
        ...

    def lost(self, connection: "Connection") -> None:
        """Its socket is closed. Called once."""
        ...


class Connection(asyncio.Protocol):
    """States: unused or parked (no reply), busy (a reply is being received), retired (for good)."""

    def __init__(self, owner: Owner, *, buffer_limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._buffer_limit = buffer_limit
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._reader: ReplyReader | None = None
        self.retired = False
        self._writing_paused = False
        self._reading_paused = False
        self._unwritten = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._first_byte_at = math.inf
        self._total_at = math.inf
        self._idle = math.inf
        self._heard_at = 0.0
        self._parked_at = 0.0
        self._park_until = math.inf

    # Use

    async def exchange(
        self, head: bytes, body: bytes, *, reader: ReplyReader, timeouts: Timeouts, total_at: float
    ) -> Reply:
        """Write one request and wait for the reply's head. `total_at` is a loop time. Any failure retires us."""
        if self._transport is None or self.retired:
            raise UpstreamFailure(Code.PROVIDER_UNREACHABLE, "the connection was closed before use", sent=False)
        reply = Reply(reader, self)
        self._reply = reply
        self._reader = reader
        now = self._loop.time()
        self._first_byte_at = now + timeouts.first_byte
        self._idle = timeouts.idle
        self._total_at = total_at
        self._watch(min(self._first_byte_at, total_at))
        try:
            await self._write(self._transport, head, body, reply=reply)
            while not reply.head_complete:
                if reply.failure is not None:
                    raise reply.failure
                await reply.changed()
        except BaseException:
            self.abort()
            raise
        return reply

    async def _write(self, transport: asyncio.Transport, head: bytes, body: bytes, *, reply: Reply) -> None:
        if len(body) <= _SLICE:
            transport.write(head + body if body else head)
            return
        self._unwritten = True
        transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), _SLICE):
            while self._writing_paused and not reply.head_complete and reply.failure is None:
                await reply.changed()
            if reply.head_complete or reply.failure is not None:
                return  # an early answer: what is left to say no longer matters
            transport.write(view[start : start + _SLICE])
        self._unwritten = False

    def park(self, seconds: float) -> None:
        """Rest for at most `seconds`, unless anything arrives."""
        self._parked_at = self._loop.time()
        self._park_until = self._parked_at + seconds
        self._watch(self._park_until)

    def ready(self) -> bool:
        """False when a parked connection must not be used: closing, or something arrived on it."""
        transport = self._transport
        if self.retired or transport is None or transport.is_closing():
            return False
        if self._loop.time() - self._parked_at < _TRUSTED_IDLE:
            return True
        plug = transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(plug.fileno(), select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def close(self) -> None:
        """Close in order: a TLS peer is told."""
        if self._retire() and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; the peer sees it without waiting for another turn of the loop."""
        reply = self._detach()
        if reply is not None:
            reply.fail(UpstreamFailure(Code.TRUNCATED, "the call was abandoned"))
        self._retire()
        self.cut()

    def cut(self) -> None:
        """Close the socket whatever state it is in, also one still saying goodbye."""
        transport = self._transport
        if transport is None:
            return
        plug = transport.get_extra_info("socket")
        if plug is not None:
            # asyncio closes an aborted socket only in its next turn.
            with contextlib.suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)
        transport.abort()

    def fail(self, failure: GatewayError) -> None:
        """End the running call with `failure` and close at once."""
        reply = self._detach()
        if reply is not None:
            reply.fail(failure)
        self.abort()

    def drained(self) -> None:
        if self._reading_paused and not self.retired:
            self._resume()
            self._heard_at = self._loop.time()
            self._watch(min(self._heard_at + self._idle, self._total_at))

    def _resume(self) -> None:
        self._reading_paused = False
        cast(asyncio.Transport, self._transport).resume_reading()

    def _detach(self) -> Reply | None:
        reply, self._reply, self._reader = self._reply, None, None
        return reply

    def _retire(self) -> bool:
        if self.retired:
            return False
        self.retired = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.retired(self)
        return True

    # Events of the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        reply, reader = self._reply, self._reader
        if reply is None or reader is None:
            self.abort()  # nothing was asked
            return
        head_complete = reader.head_complete
        try:
            body = reader.feed(data)
        except UpstreamFailure as failure:
            self.fail(failure)
            return
        if body:
            reply.receive(body)
        if reader.complete:
            self._finish(reply, reusable=reader.reusable)
            return
        self._heard_at = self._loop.time()
        if reply.buffered > self._buffer_limit and not self._reading_paused:
            self._reading_paused = True
            cast(asyncio.Transport, self._transport).pause_reading()
        if reader.head_complete:
            if not head_complete:
                self._watch(min(self._heard_at + self._idle, self._total_at))
            reply.notify()

    def _finish(self, reply: Reply, *, reusable: bool) -> None:
        self._detach()
        reply.end()
        transport = cast(asyncio.Transport, self._transport)
        if self._unwritten or transport.get_write_buffer_size():
            self.abort()  # the provider answered before it had the whole request
        elif not reusable or transport.is_closing():
            self.close()
        else:
            if self._reading_paused:
                self._resume()
            self._owner.released(self)
        reply.notify()

    def eof_received(self) -> None:
        self._ended(clean=self._close_announced())

    def connection_lost(self, _exc: Exception | None) -> None:
        self._ended(clean=False)
        self._owner.lost(self)

    def _close_announced(self) -> bool:
        """Under TLS, whether the end was the provider's word: anyone on the way can close a socket."""
        tunnel = cast(asyncio.Transport, self._transport).get_extra_info("ssl_object")
        if tunnel is None:
            return True
        try:
            return not tunnel.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False

    def _ended(self, *, clean: bool) -> None:
        reply, reader = self._reply, self._reader
        if reply is None or reader is None:
            self._retire()
            return
        try:
            reader.end(clean=clean)
        except UpstreamFailure as failure:
            self.fail(failure)
            return
        self._finish(reply, reusable=False)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._reply is not None:
            self._reply.notify()

    # Deadlines: one lazy timer, re-armed only when it fires or when a nearer deadline appears

    def _watch(self, at: float) -> None:
        if at == math.inf:
            return
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _due(self) -> tuple[float, str]:
        if self._reply is None or self._reader is None:
            return self._park_until, "keep-alive"
        if not self._reader.head_complete:
            limit = self._first_byte_at, "first_byte"
        elif self._reading_paused:
            return self._total_at, "total"
        else:
            limit = self._heard_at + self._idle, "idle"
        return min(limit, (self._total_at, "total"))

    def _tick(self) -> None:
        self._timer = None
        at, name = self._due()
        if self._loop.time() < at:
            self._watch(at)
        elif self._reply is None:
            self.close()
        else:
            status = self._reply.status or None
            self.fail(UpstreamFailure(Code.TIMEOUT, f"the {name} timeout ran out", provider_status=status))
