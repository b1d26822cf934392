"""Kept-alive connections to one provider, the most recently used first."""

import asyncio
import errno
import socket
import ssl
from collections import deque

from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.transport.connection import Connection
from securellm.transport.model import OutboundRequest, Target, Timeouts, TlsOptions
from securellm.transport.reply import Reply
from securellm.transport.tls import build_context
from securellm.transport.tunnel import Tunnel
from securellm.transport.wire import ReplyReader, encode_head

_GOODBYE = 2.0
"""Seconds a closing TLS connection may wait for the provider's close notice."""


class Pool:
    """Every call names its time limits; nothing is retried, no redirect followed, no environment variable read."""

    def __init__(
        self,
        target: Target,
        *,
        tls: TlsOptions | None = None,
        proxy: Target | None = None,
        max_connections: int = 1000,
        max_idle: int = 64,
        keep_alive: float = 30.0,
        max_reply_head: int = 64 * 1024,
        buffer_limit: int = 64 * 1024,
    ) -> None:
        """`keep_alive`: seconds an unused connection is kept. `buffer_limit`: bytes of a reply's body held unread
        before the provider is made to wait (one more read of the socket may follow). ValueError for bad options."""
        if tls is not None and target.scheme != "https":
            raise ValueError("TLS options need an https address")
        if proxy is not None and (proxy.scheme != "http" or proxy.path):
            raise ValueError("a proxy is written http://host:port, without a path")
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._target = target
        self._proxy = proxy
        self._tls = build_context(tls or TlsOptions()) if target.scheme == "https" else None
        self._max_connections = max_connections
        self._max_idle = max_idle
        self._keep_alive = keep_alive
        self._max_reply_head = max_reply_head
        self._buffer_limit = buffer_limit
        self._taken = 0
        self._live: set[Connection] = set()
        self._sockets: set[Connection] = set()
        self._opening: set[asyncio.Timeout] = set()
        self._idle: list[Connection] = []
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._all_lost: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def open(self) -> int:
        """Connections in use, idle, or being made; never more than `max_connections`."""
        return self._taken

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Calls that wait for a connection."""
        return len(self._waiters)

    async def send(self, request: OutboundRequest, *, timeouts: Timeouts) -> Reply:
        """Send once and return when the reply's head is complete; the caller must close the reply.

        UpstreamFailure: PROVIDER_UNREACHABLE, TIMEOUT, TRUNCATED or BAD_REPLY; its `sent` is False only when no byte
        was written. Fault: INTERNAL for a request that cannot be written, SHUTTING_DOWN after `aclose`. A cancelled
        call closes its socket before the cancellation leaves here.
        """
        head = encode_head(request, self._target)
        started = asyncio.get_running_loop().time()
        total_at = started + timeouts.total
        connection = await self._acquire(started + min(timeouts.connect, timeouts.total))
        reader = ReplyReader(head_only=request.method == "HEAD", max_head=self._max_reply_head)
        return await connection.exchange(head, request.body, reader=reader, timeouts=timeouts, total_at=total_at)

    async def aclose(self) -> None:
        """Cut every connection, fail running calls with Fault(SHUTTING_DOWN), and wait until the sockets are closed."""
        self._closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(_shutting_down())
        for limit in self._opening:
            if not limit.expired():
                limit.reschedule(0.0)
        for connection in tuple(self._sockets):
            connection.fail(_shutting_down())
        while self._sockets:
            if self._all_lost is None:
                self._all_lost = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._all_lost)

    # What connections report

    def made(self, connection: Connection) -> None:
        self._sockets.add(connection)

    def released(self, connection: Connection) -> None:
        connection.park(self._keep_alive)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed or len(self._idle) >= self._max_idle:
            connection.close()
        else:
            self._idle.append(connection)

    def retired(self, connection: Connection) -> None:
        if connection in self._live:
            self._live.remove(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._free()

    def lost(self, connection: Connection) -> None:
        self._sockets.discard(connection)
        if self._all_lost is not None and not self._sockets:
            self._all_lost.set_result(None)
            self._all_lost = None

    # Taking one

    async def _acquire(self, deadline: float) -> Connection:
        while True:
            if self._closed:
                raise _shutting_down()
            while self._idle:
                connection = self._idle.pop()
                if connection.ready():
                    return connection
                connection.abort()
            if self._taken < self._max_connections:
                self._taken += 1
                break
            turn = await self._turn(deadline)
            if turn is None:
                break
            if turn.ready():
                return turn
            turn.abort()
        try:
            connection = await self._open(deadline)
        except BaseException:
            self._free()
            raise
        self._live.add(connection)
        return connection

    async def _turn(self, deadline: float) -> Connection | None:
        """Wait in line: a free connection, or None for the right to open one."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                granted = waiter.result()
                if granted is None:
                    self._free()
                else:
                    self.released(granted)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            if isinstance(error, TimeoutError):
                reason = "every connection was in use until the connect timeout ran out"
                raise UpstreamFailure(Code.TIMEOUT, reason, sent=False) from None
            raise

    def _free(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._taken -= 1

    async def _open(self, deadline: float) -> Connection:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                self._opening.add(limit)
                connection = await (self._connect() if self._proxy is None else self._connect_through(self._proxy))
        except TimeoutError:
            if self._closed:
                raise _shutting_down() from None
            raise UpstreamFailure(Code.TIMEOUT, "the connect timeout ran out", sent=False) from None
        except OSError as error:
            raise UpstreamFailure(Code.PROVIDER_UNREACHABLE, _reason(error), sent=False) from error
        finally:
            self._opening.discard(limit)
        if self._closed:
            connection.abort()
            raise _shutting_down()
        if connection.retired:
            raise UpstreamFailure(Code.PROVIDER_UNREACHABLE, "the connection was closed before use", sent=False)
        return connection

    def _made(self) -> Connection:
        return Connection(self, buffer_limit=self._buffer_limit)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            self._made,
            self._target.host,
            self._target.port,
            ssl=self._tls,
            server_hostname=self._target.host if self._tls else None,
            ssl_shutdown_timeout=_GOODBYE if self._tls else None,
            happy_eyeballs_delay=_head_start(self._target),
        )
        return connection

    async def _connect_through(self, proxy: Target) -> Connection:
        loop = asyncio.get_running_loop()
        transport: asyncio.Transport
        transport, tunnel = await loop.create_connection(
            lambda: Tunnel(self._target), proxy.host, proxy.port, happy_eyeballs_delay=_head_start(proxy)
        )
        try:
            await tunnel.opened
            connection = self._made()
            if self._tls is None:
                transport.set_protocol(connection)
                connection.connection_made(transport)
                transport.resume_reading()
            else:
                secured = await loop.start_tls(
                    transport,
                    connection,
                    self._tls,
                    server_hostname=self._target.host,
                    ssl_shutdown_timeout=_GOODBYE,
                )
                if secured is None:
                    raise ConnectionAbortedError("the proxy closed the connection")
                connection.connection_made(secured)
        except BaseException:
            transport.abort()
            raise
        return connection


def _shutting_down() -> Fault:
    return Fault(Code.SHUTTING_DOWN, "the connection pool is closed")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the provider's certificate was not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {error.reason}"
    if isinstance(error, socket.gaierror):
        return "the provider's name was not resolved"
    # asyncio folds the refusals of several addresses into one OSError without a number.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "the connection was refused"
    # The message itself may name addresses inside the operator's network.
    return f"the connection failed: {errno.errorcode.get(error.errno or 0, type(error).__name__)}"


def _head_start(target: Target) -> float | None:
    """Seconds before the next address of a name is tried too (RFC 8305).

    An address is the only one. Racing it would leave its socket to the garbage collector when a call is cancelled
    as it is connected (CPython's staggered_race).
    """
    return None if target.is_address else 0.25
