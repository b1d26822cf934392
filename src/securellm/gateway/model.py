"""The nouns of one request's story: what arrived, what it asks, where the answer goes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from securellm.core.capabilities import Capability
from securellm.core.document import Document
from securellm.core.messages import Attachment, Leaf
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.providers import Errand

Headers = tuple[tuple[bytes, bytes], ...]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a surface's extractor reads out of a body: the facts gates decide on, and the body itself."""

    document: Document
    model: str
    """Empty when the caller named none: the default model is meant. An errand has none."""
    stream: bool
    wants_usage: bool
    """Whether the caller itself asked for usage in the stream."""
    leaves: tuple[Leaf, ...]
    attachments: tuple[Attachment, ...] = ()
    """The files of a form; `document` names each by its size and digest, so that it stands for them."""
    message_count: int
    images: int
    """How many images the provider must look at, inline or remote."""
    histories: tuple[str, ...] = ()
    """Ids of all that the request names and a provider keeps: answers, conversations, files."""
    mentions: tuple[str, ...] = ()
    """Ids that stand beside what they are called, where a provider may look for what it keeps all the same."""
    estimate: Estimate
    needs: frozenset[Capability] = frozenset()
    """What a model must offer to be able to answer."""
    deterministic: bool
    """Whether equal requests may share an answer: embeddings, or temperature 0 without tools."""
    cache_control: str = ""
    edits: tuple[str, ...] = ()
    """What was written into the body since it came, by name."""
    background: bool = False
    """Whether the answer may come after the request has ended: it is then shown to whoever asks for it by its id."""
    errand: Errand | None = None
    """What is asked of things that a provider keeps, where no model is asked."""
    names: tuple[str, ...] = ()
    """The ids that the path of an errand names, in their order; each is one of `histories` too."""
    inner: "tuple[Inner, ...]" = ()
    """The requests of a batch that stand in this one, each to a model of its own."""
    speaks: Surface | None = None
    """The surface that all of `inner` speak."""
    text: int | None = None
    """Which of `leaves` is the whole text of the attachment, where that is a text."""


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch."""

    place: str
    """What its refusals call it, such as `line 3`."""
    custom_id: str
    document: Document
    """All of it, its `custom_id` included."""
    member: str
    """The member of `document` that says what is asked."""
    request: Request
    """What is asked; its document is that member alone."""
    first: int
    """Where its leaves begin among those of the request it stands in; the first of them is `custom_id`."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose headers have arrived."""

    request_id: str
    trace_id: str
    traceparent: str
    """The W3C trace context that travels on, with our own span id."""
    surface: Surface
    credential: str | None
    client_ip: str
    headers: Mapping[str, str]
    """Lower-case names; each stands once."""
    started: float
    """Monotonic seconds at the request line."""
    deadline: float | None
    """Monotonic seconds after which the caller no longer waits."""
    query: str
    pinned_provider: str | None
    idempotency_key: str | None = None
    """What the caller calls this request, so that asking again is not asking twice."""
    read: "Callable[[Received], Awaitable[Request]]"
    """Takes the body in and extracts its facts, once. It is given this request, which it does not hold: what holds
    itself stays in memory until the garbage collector looks for it."""
    left: Callable[[], bool]
    """Whether the client has gone away: why the story was cancelled, if it was."""


class Reply(Protocol):
    """Where the story pushes its answer. Leaving the story is what ends it; nothing here outlives it."""

    sequence: int
    """The last `sequence_number` that left, where the dialect counts its events."""
    rates: Callable[[], Headers] | None
    """What an error answer says of the caller's limits, once it is known who asks."""

    @property
    def started(self) -> bool:
        """Whether a byte of the answer has left."""
        ...

    async def send(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer at once."""
        ...

    async def expect_stream(self, headers: Headers) -> None:
        """A stream will follow: begin it with these headers should the silence before it last too long."""
        ...

    async def begin(self, headers: Headers) -> None:
        """The head of a stream, status 200; heartbeats flow from here while it is silent."""
        ...

    async def write(self, data: bytes) -> None:
        """Whole events of the stream. Waits while the client reads slower than the provider writes."""
        ...

    async def end(self, data: bytes) -> None:
        """The last events, and the end."""
        ...
