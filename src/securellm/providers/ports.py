"""What carries a request to a provider: the transport's pool, or the demo's mock inside the process."""

from collections.abc import AsyncIterator
from typing import Protocol

from securellm.transport import Headers, OutboundRequest, Timeouts


class UpstreamReply(Protocol):
    """A provider's answer, its body not read yet. To be closed whichever way it is left."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers:
        """Names in lower case."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `UpstreamFailure`."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `UpstreamFailure` (REPLY_TOO_LARGE beyond `limit` bytes)."""
        ...

    async def aclose(self) -> None:
        """Give the connection up, or back. May be called twice."""
        ...


class Sender(Protocol):
    """Sends one request and waits for the head of its answer. Raises `UpstreamFailure`."""

    async def send(self, request: OutboundRequest, *, timeouts: Timeouts) -> UpstreamReply: ...
