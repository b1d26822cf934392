"""What uvicorn's HTTP/1.1 protocol lacks for a hostile network: deadlines, header caps and one framing."""

import asyncio
import math
import ssl
import sys
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from securellm.ingress.exchange import ANSWER, CONNECTION_LOST, RawHeaders, Send

TLS_EXTENSION = "securellm.peer_certificate"
"""The ASGI extension under which the client's certificate stands (`der`), when the connection presented one."""


class Hardened(HttpToolsProtocol):
    """One connection, whose head must be whole within `request_timeout` and no larger than `max_headers`.

    A connection that is not parseable HTTP, mixes Content-Length with Transfer-Encoding (RFC 9112 section 6.1),
    names Content-Length or Host twice or two different hosts, asks for another protocol with a chunked body, or is too
    slow or too large, gets a bare answer and is closed; whatever was queued behind it is dropped. The body's own
    deadline belongs to the exchange, which can answer in the caller's dialect.
    """

    request_timeout: float = 30.0
    max_headers: int = 64 * 1024
    refused: Callable[[str], None] = staticmethod(lambda _: None)

    def __init__(self, config: Config, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_size = 0
        self._header_bytes = 0
        self._host = b""
        self._length = b""
        self._owed = 0
        self._read = b""
        self._in_head = True
        self._broken = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._rests_until = math.inf
        self._seen: set[bytes] = set()
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._extensions: dict[str, dict[object, object]] = {
            CONNECTION_LOST: {"future": self._lost},
            ANSWER: {"answer": _answer},
        }

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if isinstance(tls, ssl.SSLObject):
            certificate = tls.getpeercert(binary_form=True)
            if certificate is not None:
                self._extensions[TLS_EXTENSION] = {"der": certificate}
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        self._lost.set_result(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._broken or self.transport.is_closing():
            return
        if self._owed:
            self._take_body(data)
            return
        if self._in_head:
            self._head_size += len(data)
        self._read = data
        super().data_received(data)
        self._read = b""
        # A head still open after this read: its parts are counted as they end, what has not ended only here.
        if self._in_head and self._head_size and not self.transport.is_closing():
            if self._head_size > self.max_headers:
                self._refuse(431, "headers_too_large")
            elif self._head_timer is None:
                self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._seen.clear()
        self._header_bytes = 0
        self._host = b""
        self._length = b""

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._header_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self.max_headers:
            raise _Refused(431, "headers_too_large")
        lower = name.lower()
        if lower in (b"content-length", b"host", b"transfer-encoding"):
            if lower in self._seen:
                raise _Refused(400, "repeated_header")
            self._seen.add(lower)
            if lower == b"host":
                self._host = value
            if lower == b"content-length":
                self._length = value
            if lower == b"transfer-encoding" and value.strip().lower() != b"chunked":
                raise _Refused(400, "transfer_encoding")
            if {b"content-length", b"transfer-encoding"} <= self._seen:
                raise _Refused(400, "ambiguous_framing")

    def on_headers_complete(self) -> None:
        self._head_arrived()
        self._in_head = False
        self._head_size = 0
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _Refused(400, "http_version")
        if b"host" not in self._seen and version == "1.1":
            raise _Refused(400, "missing_host")
        if b"transfer-encoding" in self._seen and version == "1.0":
            raise _Refused(400, "transfer_encoding")
        upgrades = self.parser.should_upgrade()
        if upgrades and b"transfer-encoding" in self._seen:
            raise _Refused(400, "upgrade")
        if not self.url.startswith((b"/", b"*")) and not self._names_same_host():
            raise _Refused(400, "ambiguous_host")
        self.scope["extensions"] = self._extensions
        super().on_headers_complete()
        if upgrades and not self._should_upgrade():
            self.cycle.keep_alive = False
            self._owed = int(self._length or b"0")

    def _names_same_host(self) -> bool:
        """Whether a request target with a host of its own and `Host` agree (RFC 9112 section 3.2.2)."""
        authority = self.url.partition(b"://")[2].partition(b"/")[0].partition(b"?")[0]
        return authority.lower() == self._host.strip().lower()

    def on_message_complete(self) -> None:
        if self._owed:
            return  # The parser takes a body behind an upgrade for another protocol; it is read by its length.
        super().on_message_complete()
        self._in_head = True

    def _take_body(self, data: bytes) -> None:
        """Part of a body behind an upgrade that is not served. What follows it is dropped with the connection."""
        body = data[: self._owed]
        self._owed -= len(body)
        if body:
            self.on_body(body)
        if not self._owed:
            self.on_message_complete()
            self._broken = True

    # Rest: one lazy timer, re-armed only when it fires, where the server would make one for each request

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._rests_until = self.loop.time() + self.timeout_keep_alive
        if self._rest_timer is None:
            self._rest_timer = self.loop.call_at(self._rests_until, self._rested)

    def _unset_keepalive_if_required(self) -> None:
        self._rests_until = math.inf

    def _rested(self) -> None:
        self._rest_timer = None
        if self.loop.time() >= self._rests_until:
            self.timeout_keep_alive_handler()
        elif self._rests_until < math.inf:
            self._rest_timer = self.loop.call_at(self._rests_until, self._rested)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own wording
        """Answer what the parser could not take; the cause is one of ours or llhttp's."""
        error = _pending()
        if isinstance(error, _Refused):
            self._refuse(error.status, error.cause)
        else:
            self._refuse(400, "malformed_http")

    def handle_websocket_upgrade(self) -> None:
        self._refuse(400, "upgrade")

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore an upgrade that is not served (RFC 9110 section 7.8), without a log line a caller can cause.

        Java's own client asks for HTTP/2 so with each first request in the clear, and sends its body along.
        """
        if self._owed:
            stopped = sys.exc_info()[1]
            assert isinstance(stopped, httptools.HttpParserUpgrade)
            self._take_body(self._read[stopped.args[0] :])

    def _refuse(self, status: int, cause: str) -> None:
        self.refused(cause)
        self._head_arrived()
        if self.transport.is_closing():
            return
        if self._is_answering() and not self.cycle.more_body:
            # A good request is being answered: what follows it is dropped, and the connection ends with its answer.
            self._broken = True
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if self._is_answering():
            # The broken bytes are the body of the request being read: nobody needs its answer any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not self._is_answering() or not self.cycle.response_started:
            phrase = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}[status]
            text = b"%d %s: %s\n" % (status, phrase, cause.encode("ascii"))
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (status, phrase, len(text), text)
            )
        self.transport.close()

    def _is_answering(self) -> bool:
        cycle: object = self.cycle
        return cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._in_head = True
        self._head_timer = self.loop.call_later(self.request_timeout, self._head_is_late)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(408, "request_timeout")


_ONE_WRITE = 64 * 1024
"""Bytes of a body up to which it is copied behind its head, rather than sent after it."""


async def _answer(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """What `send` would do with a whole answer in two messages, in one write. `headers` hold its content-length."""
    cycle = send.__self__  # type: ignore[attr-defined]
    assert isinstance(cycle, RequestResponseCycle)
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    if cycle.response_started:
        raise RuntimeError("the answer has begun already")
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
    if (b"connection", b"close") in headers:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    written = b"".join(lines)
    if written.count(b"\r") != len(lines) or written.count(b"\n") != len(lines) or b"\0" in written:
        raise RuntimeError("a header holds a line end")
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    head = b"%b%b\r\n" % (STATUS_LINE[status], written)
    if cycle.scope["method"] == "HEAD":
        body = b""
    if len(body) <= _ONE_WRITE:
        cycle.transport.write(head + body)
    else:
        cycle.transport.write(head)
        cycle.transport.write(body)
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


class _Refused(httptools.HttpParserError):
    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status
        self.cause = cause


def _pending() -> BaseException | None:
    """The refusal being handled: httptools wraps what a callback raises in an HttpParserCallbackError."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, _Refused):
        error = error.__cause__ or error.__context__
    return error


def hardened(*, request_timeout: float, max_headers: int, refused: Callable[[str], None]) -> type[Hardened]:
    """The protocol class with an operator's limits."""
    return type(
        "ConfiguredHardened",
        (Hardened,),
        {"request_timeout": request_timeout, "max_headers": max_headers, "refused": staticmethod(refused)},
    )
