"""One provider reply as its reader sees it: status, headers, and a bounded stream of body bytes."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from securellm.core.errors import Code, Fault, GatewayError, UpstreamFailure
from securellm.transport.model import Headers
from securellm.transport.wire import ReplyReader


class Source(Protocol):
    """What a reply asks of the connection that fills it."""

    def drained(self) -> None:
        """The buffer is empty: more may be read."""
        ...

    def abort(self) -> None:
        """Close the socket at once."""
        ...


class Reply:
    """Read it once, by `read` or by iteration, from one task; always `aclose` it (or use `async with`).

    Iteration survives a cancelled wait: no byte is lost, and the next `anext` goes on. Every failure of the provider,
    and every time limit, comes out as UpstreamFailure after the bytes that arrived before it.
    """

    __slots__ = ("_chunks", "_closed", "_ended", "_failure", "_reader", "_source", "_waiter", "buffered")

    def __init__(self, reader: ReplyReader, source: Source) -> None:
        self._reader = reader
        self._source = source
        self._chunks: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._failure: GatewayError | None = None
        self._ended = False
        self._closed = False
        self.buffered = 0
        """Body bytes that arrived and were not taken yet."""

    @property
    def status(self) -> int:
        return self._reader.status

    @property
    def headers(self) -> Headers:
        """In the order of arrival; names in lower case, values without surrounding blanks."""
        return self._reader.headers

    async def read(self, limit: int) -> bytes:
        """The whole body, of at most `limit` bytes: UpstreamFailure(REPLY_TOO_LARGE) above. Not resumable."""
        pieces: list[bytes] = []
        size = 0
        try:
            if (self._reader.length or 0) > limit:
                raise self._too_large(limit)
            async for piece in self:
                size += len(piece)
                if size > limit:
                    raise self._too_large(limit)
                pieces.append(piece)
        finally:
            await self.aclose()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """Whatever has arrived, at least one byte, in one piece."""
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise Fault(Code.INTERNAL, "a reply was read after it was closed")
            if self._ended:
                raise StopAsyncIteration
            await self.changed()
        chunks = self._chunks
        self._chunks = []
        self.buffered = 0
        if not self._ended and self._failure is None:
            self._source.drained()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def aclose(self) -> None:
        """Drop the rest. A reply not yet received whole costs its connection, closed before this returns."""
        if self._closed:
            return
        self._closed = True
        self._chunks.clear()
        self.buffered = 0
        if not self._ended and self._failure is None:
            self._source.abort()
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _too_large(self, limit: int) -> UpstreamFailure:
        return UpstreamFailure(
            Code.REPLY_TOO_LARGE, f"the provider's reply exceeds {limit} bytes", provider_status=self.status
        )

    # The connection's side.

    @property
    def head_complete(self) -> bool:
        return self._reader.head_complete

    @property
    def failure(self) -> GatewayError | None:
        return self._failure

    def receive(self, body: bytes) -> None:
        self._chunks.append(body)
        self.buffered += len(body)

    def end(self) -> None:
        self._ended = True

    def fail(self, failure: GatewayError) -> None:
        if self._failure is None and not self._ended:
            self._failure = failure
        self._wake()

    def notify(self) -> None:
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def changed(self) -> None:
        """Wait for the next event on this reply."""
        if self._waiter is not None:
            raise Fault(Code.INTERNAL, "two tasks read one reply")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
