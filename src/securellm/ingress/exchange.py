"""One HTTP exchange as the dialects see it, whatever server carries it; and its first carrier, raw ASGI."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from securellm.core.errors import Code, Refusal
from securellm.gateway.gates import bounded

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]
Answer = Callable[[Send, int, RawHeaders, bytes], Awaitable[None]]


_DISCARD_BYTES = 1024 * 1024
_DISCARD_SECONDS = 0.25
"""How much of an unread body is worth reading so that the connection can be used again."""


CONNECTION_LOST = "securellm.connection_lost"
"""The ASGI extension under which a future stands (`future`) that is done once the client's connection is lost."""


ANSWER = "securellm.answer"
"""The ASGI extension under which a function stands (`answer`) that takes `send` and a whole answer, for one write."""


class ClientGone(Exception):
    """The client closed its side before the exchange was over."""


class Exchange(Protocol):
    """Method, path and headers in; a body to read; an answer to write."""

    method: str
    path: str
    query: str
    headers: RawHeaders
    peer: str

    async def body(self, *, limit: int, seconds: float) -> bytes:
        """The whole body, inflated. Raises Refusal (BODY_TOO_LARGE, REQUEST_TIMEOUT, UNSUPPORTED_ENCODING, …)."""
        ...

    async def discard(self) -> bool:
        """Take in what is left of a body nobody will read; False when the connection must end with the answer."""
        ...

    def when_gone(self, act: Callable[[], None]) -> Callable[[], None]:
        """Have `act` called once the client has left, after its body was read; calling the result takes that back."""
        ...

    async def answer(self, status: int, headers: RawHeaders, body: bytes) -> None:
        """All of it at once; `headers` hold its content-length."""
        ...

    async def head(self, status: int, headers: RawHeaders) -> None: ...

    async def write(self, data: bytes, *, last: bool) -> None: ...


class AsgiExchange:
    """An exchange over an ASGI `http` scope (ASGI 3, spec version 2.3)."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        # As it was sent: nothing is decoded, so no two spellings reach one route.
        self.path: str = scope["raw_path"].decode("latin-1")
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers: RawHeaders = scope["headers"]
        client = scope.get("client")
        self.peer: str = client[0] if client else ""
        self._unread = True
        extensions = scope.get("extensions", {})
        self._lost: asyncio.Future[None] | None = extensions.get(CONNECTION_LOST, {}).get("future")
        self._answer: Answer | None = extensions.get(ANSWER, {}).get("answer")

    async def body(self, *, limit: int, seconds: float) -> bytes:
        encodings = [
            value.decode("latin-1").strip().lower() for name, value in self.headers if name == b"content-encoding"
        ]
        inflate = Inflate(encodings, limit=limit)
        try:
            return await bounded(self._read(inflate), seconds=seconds)
        except TimeoutError:
            raise Refusal(Code.REQUEST_TIMEOUT, f"the body was not complete within {seconds:g} s") from None

    async def _read(self, inflate: "Inflate") -> bytes:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Refusal(Code.CLIENT_DISCONNECTED, "the client left before its body was complete")
            self._unread = message.get("more_body", False)
            inflate.feed(message.get("body", b""))
            if not self._unread:
                return inflate.close()

    async def discard(self) -> bool:
        if not self._unread:
            return True
        if any(name == b"expect" for name, _ in self.headers):
            return False
        size = 0
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while self._unread:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or size > _DISCARD_BYTES:
                        return False
                    self._unread = message.get("more_body", False)
        except TimeoutError:
            return False
        return True

    def when_gone(self, act: Callable[[], None]) -> Callable[[], None]:
        # Our own protocol tells; under another server somebody has to wait for the message.
        lost = self._lost or asyncio.ensure_future(self._until_gone())

        def left(future: asyncio.Future[None]) -> None:
            if not future.cancelled():
                act()

        lost.add_done_callback(left)

        def forget() -> None:
            lost.remove_done_callback(left)
            if lost is not self._lost:
                lost.cancel()

        return forget

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, status: int, headers: RawHeaders, body: bytes) -> None:
        if self._answer is not None:
            await self._answer(self._send, status, headers, body)
            return
        await self.head(status, headers)
        await self.write(body, last=True)

    async def head(self, status: int, headers: RawHeaders) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, last: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


class Inflate:
    """Collects a body that may be compressed; its size is counted after inflation (RFC 9110 section 8.4)."""

    def __init__(self, encodings: list[str], *, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        names = [name for value in encodings for name in value.split(",")] if encodings else []
        names = [name.strip() for name in names if name.strip() not in ("", "identity")]
        if not names:
            self._inflater = None
        elif names in (["gzip"], ["x-gzip"], ["deflate"]):
            self._inflater = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, told by the header
        else:
            raise Refusal(Code.UNSUPPORTED_ENCODING, "the body's Content-Encoding is not supported")

    def feed(self, data: bytes) -> None:
        if self._inflater is None:
            self._keep(data)
            return
        if data and self._inflater.eof:
            raise Refusal(Code.MALFORMED_JSON, "data follows the end of the compressed body")
        try:
            # One byte beyond the limit tells a bomb from a body that fits, without inflating the bomb.
            self._keep(self._inflater.decompress(data, self._limit - self._size + 1))
        except zlib.error:
            raise Refusal(Code.MALFORMED_JSON, "the compressed body is damaged") from None
        if self._inflater.unused_data:
            raise Refusal(Code.MALFORMED_JSON, "data follows the end of the compressed body")

    def close(self) -> bytes:
        if self._inflater is not None and self._parts and not self._inflater.eof:
            raise Refusal(Code.MALFORMED_JSON, "the compressed body ends early")
        return b"".join(self._parts)

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise Refusal(Code.BODY_TOO_LARGE, f"the body is larger than {self._limit} bytes")
        if data:
            self._parts.append(data)
