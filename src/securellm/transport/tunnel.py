"""A CONNECT tunnel through an HTTP proxy (RFC 9110, section 9.3.6)."""

import asyncio
import re
from typing import cast

from securellm.core.errors import Code, UpstreamFailure
from securellm.transport.model import Target

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")
_MAX_HEAD = 16 * 1024


class Tunnel(asyncio.Protocol):
    """Ask for the tunnel and wait for its head; what follows belongs to the next protocol, so reading stops there."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._head = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Resolves once bytes flow to the target; UpstreamFailure(sent=False) when the proxy says no."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        authority = self._target.authority
        self._transport.write(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode("ascii"))

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        self._head += data
        head, end, after = self._head.partition(b"\r\n\r\n")
        status = _STATUS_LINE.match(head + b"\r\n")
        if not end:
            if len(self._head) > _MAX_HEAD:
                self._refuse("the proxy's answer is too large")
        elif status is None:
            self._refuse("the proxy's answer is malformed")
        elif not status[1].startswith(b"2"):
            self._refuse(f"the proxy refused the tunnel with status {status[1].decode('ascii')}")
        elif after:
            self._refuse("the proxy's answer is malformed")  # the provider speaks only when spoken to
        else:
            self._transport.pause_reading()
            self.opened.set_result(None)

    def eof_received(self) -> None:
        self._refuse("the proxy closed the connection")

    def connection_lost(self, _exc: Exception | None) -> None:
        self._refuse("the proxy closed the connection")

    def _refuse(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(UpstreamFailure(Code.PROVIDER_UNREACHABLE, reason, sent=False))
