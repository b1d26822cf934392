"""A reply that remembers what it sends, so that the same request can be answered again."""

from collections.abc import Callable

from securellm.cache import LARGEST_ANSWER
from securellm.gateway.model import Headers, Reply

Keep = Callable[[int, Headers, bytes, bool], None]
"""Takes a whole answer: its status, lasting headers and body, and whether it was streamed."""

_LASTING = frozenset(
    {
        b"content-type",
        b"x-securellm-dropped",
        b"x-securellm-max-output",
        b"x-securellm-model",
        b"x-securellm-provider",
        b"x-securellm-translated",
    }
)
"""Headers that say what an answer is. All others speak of one request: its id, cost, limits."""


class RecordingReply:
    """Hands everything on, and the whole answer to `keep` before its last bytes leave.

    What the carrier adds by itself, such as heartbeats, is not seen here. An answer larger than can be given again is
    handed on only.
    """

    def __init__(self, reply: Reply, keep: Keep) -> None:
        self._reply = reply
        self._keep = keep
        self._headers: Headers = ()
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def sequence(self) -> int:
        return self._reply.sequence

    @sequence.setter
    def sequence(self, number: int) -> None:
        self._reply.sequence = number

    @property
    def rates(self) -> Callable[[], Headers] | None:
        return self._reply.rates

    @rates.setter
    def rates(self, rates: Callable[[], Headers] | None) -> None:
        self._reply.rates = rates

    @property
    def started(self) -> bool:
        return self._reply.started

    async def send(self, status: int, headers: Headers, body: bytes) -> None:
        self._keep(status, _lasting(headers), body, False)
        await self._reply.send(status, headers, body)

    async def expect_stream(self, headers: Headers) -> None:
        await self._reply.expect_stream(headers)

    async def begin(self, headers: Headers) -> None:
        self._headers = _lasting(headers)
        await self._reply.begin(headers)

    async def write(self, data: bytes) -> None:
        self._take(data)
        await self._reply.write(data)

    async def end(self, data: bytes) -> None:
        self._take(data)
        if self._size <= LARGEST_ANSWER:
            self._keep(200, self._headers, b"".join(self._parts), True)
        await self._reply.end(data)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= LARGEST_ANSWER:
            self._parts.append(data)
        else:
            self._parts.clear()


def _lasting(headers: Headers) -> Headers:
    return tuple((name, value) for name, value in headers if name in _LASTING)
