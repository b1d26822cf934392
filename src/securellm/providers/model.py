"""The nouns of talking to upstreams: a kind of provider, what a reply says, what one event of a stream says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

from securellm.core.document import Document, Patch, Value
from securellm.core.errors import UpstreamFailure
from securellm.core.kept import Kept, KeptKind
from securellm.core.messages import Attachment, Kind, Leaf, Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage

NOTHING: Mapping[str, str] = MappingProxyType({})


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a provider may be asked when the configuration does not say."""

    requests_per_minute: int
    burst: int


class ProviderKind(msgspec.Struct, frozen=True, kw_only=True):
    """What all providers of one kind have in common; one row of the registry."""

    kind: str
    """The name used in the configuration."""
    default_base_url: str | None
    """None: the configuration must give one."""
    auth: Literal["bearer", "x-api-key", "x-goog-api-key", "none"]
    credential_required: bool
    demo_only: bool = False
    """Answers from inside the process; refused outside demo and tests."""
    default_rate: Rate
    surfaces: Mapping[Surface, str]
    """The path of each surface below the base address, `{model}` standing for the model's name there.

    One that begins with `../` leaves the base address's last segment out.
    """
    stream_paths: Mapping[Surface, str] = msgspec.field(default_factory=dict)
    """Where streams are asked for, of the surfaces that say so by another path. A query is part of it."""
    cap_fields: Mapping[Surface, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """The members by which this kind bounds its output. The first is the one we write."""
    extra_headers: Mapping[str, str] = NOTHING
    """Sent when the client sent none of that name. Lower-case names."""
    forwarded_headers: frozenset[str] = frozenset()
    """Client headers that travel on. Lower-case names."""
    forwarded_query: frozenset[str] = frozenset()
    """Client query parameters that travel on."""


class Mirror(msgspec.Struct, frozen=True):
    """A member that spells a text again, in pieces or in bytes (log probabilities).

    A piece cannot be mended. The leaves and fragments whose path begins with `path` are the joined tokens, of which
    nothing in the document is a span: when a replacement is due in one of them, or in any text of the same
    document, the whole member is to be set to `blank`.
    """

    path: Path
    blank: Value = None

    def holds(self, path: Path) -> bool:
        """Whether a leaf or fragment at `path` is one of the joined tokens, not a string of the document."""
        return path[: len(self.path)] == self.path


class Piece(msgspec.Struct, frozen=True):
    """Where a part of a text stands: characters [start, end) of it, from `at` on in the string at `place`."""

    place: Path
    start: int
    end: int
    at: int = 0


class Run(msgspec.Struct, frozen=True):
    """A text whose leaf is at `path`, and the strings it is spread over, in order; between two stands what joins them.

    Where a reply is no JSON, its pieces stand in the body itself, at the empty place.
    """

    path: Path
    pieces: tuple[Piece, ...]

    def cuts(self, start: int, end: int, text: str) -> Iterator[tuple[Path, int, int, str]]:
        """What to replace in each string (place, start, end, text): `text` stands in the first of them."""
        for piece in self.pieces:
            first, last = max(start, piece.start), min(end, piece.end)
            if first < last:
                yield piece.place, piece.at + first - piece.start, piece.at + last - piece.start, text
                text = ""


class Fragment(msgspec.Struct, frozen=True, kw_only=True):
    """One text of an event that must be screened before the event may leave."""

    path: Path
    """Where it stands in the event's data. Empty: in the event's other lines (a comment), outside the data."""
    text: str
    channel: str = ""
    """What it continues: the texts of one channel, in order, are one text. Empty: it is complete in itself."""
    kind: Kind = Kind.TEXT

    @property
    def whole(self) -> bool:
        """Whether the text is complete in itself."""
        return not self.channel

    @property
    def arguments(self) -> bool:
        """Whether the text is (a piece of) the JSON of a tool call."""
        return self.kind is Kind.ARGUMENTS


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """What one event of a stream says."""

    fragments: tuple[Fragment, ...] = ()
    closes: tuple[str, ...] = ()
    """Channels whose text is complete with this event: what is held of them can be decided now.

    Should the upstream write to a closed channel again, its text continues where it ended.
    """
    usage: Usage | None = None
    """Everything consumed so far, on events that report it."""
    finish: str | None = None
    """The dialect's own reason, on the first event that says that the whole answer is finished."""
    terminal: bool = False
    """Whether this is the dialect's last event."""
    failure: UpstreamFailure | None = None
    """Set: the stream is over, badly; the event must not leave."""
    model: str | None = None
    """The model that serves, on events that name it."""
    model_path: Path | None = None
    drop: bool = False
    """Set: the event exists only because we asked for it; it must not leave."""
    removals: tuple[Path, ...] = ()
    """Members that exist only because we asked for them: to be removed before the event leaves."""
    mirrors: tuple[Mirror, ...] = ()
    document: Document | None = None
    """The event's data, when it is JSON."""


class ReplyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole reply says."""

    id: str | None = None
    model: str | None = None
    """The model that served, as the provider names it."""
    model_path: Path | None = None
    finish: str | None = None
    """The dialect's own reason."""
    usage: Usage | None = None
    """None: the provider gave no figures, or none that can be believed."""
    text: str = ""
    """What the assistant says, without reasoning and tool calls."""
    leaves: tuple[Leaf, ...] = ()
    """Every text to be screened. A leaf inside a mirror has no string at its path: see `Mirror`."""
    mirrors: tuple[Mirror, ...] = ()
    runs: tuple[Run, ...] = ()
    """Leaves that no single string holds."""
    server_tool_uses: tuple[tuple[str, int], ...] = ()
    """How often the provider ran its own tools, by name."""
    kept: tuple[Kept, ...] = ()
    """What the provider keeps from now on, by the ids that the reply gives out."""
    service_tier: str | None = None
    failure: UpstreamFailure | None = None
    """Set when the body is an error, or is not a reply of this dialect, whatever its HTTP status said."""


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream and the exact bytes that carried it."""

    raw: bytes
    """With its ending blank line, and whatever comments and blank lines stood before it."""
    data: bytes
    """The data lines, joined by line feeds. Empty for an event that is only comments."""
    event: str | None = None
    """The event field, when there is one."""
    notes: str = ""
    """Comments and other lines that are not data or event name, which a client may show."""


class StreamReader(Protocol):
    """The state machine of one stream: fed each event in order, it says what the event means."""

    @property
    def usage(self) -> Usage | None:
        """Everything consumed so far, as far as the provider has said."""
        ...

    @property
    def finish(self) -> str | None: ...

    @property
    def model(self) -> str | None: ...

    @property
    def id(self) -> str | None:
        """The provider's id of the answer, on the surface whose answers can be continued by it."""
        ...

    @property
    def server_tool_uses(self) -> tuple[tuple[str, int], ...]: ...

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What the provider keeps from now on, by the ids that the events so far gave out."""
        ...

    @property
    def service_tier(self) -> str | None: ...

    @property
    def terminal(self) -> bool:
        """Whether the dialect's last event was read."""
        ...

    def read(self, event: StreamEvent) -> EventView:
        """What `event` says. Never raises: whatever is wrong is the view's `failure`, after which all fails."""
        ...

    def eof(self) -> UpstreamFailure | None:
        """What it means that the stream ends here: nothing after the terminal event, TRUNCATED before it."""
        ...


class Prepare(Protocol):
    """How a request is changed for an upstream of the same dialect: the closed list, by name, of what it did."""

    def __call__(
        self,
        patch: Patch,
        document: Document,
        *,
        upstream_model: str | None,
        output_cap: int | None,
        cap_fields: tuple[str, ...],
        inject_usage: bool,
    ) -> tuple[str, ...]: ...


class Encode(Protocol):
    """Writes a request whose fields are the members of a JSON object as its dialect wants it."""

    def __call__(self, fields: bytes, attachments: Sequence[Attachment]) -> tuple[bytes, str]:
        """The body and its content type."""
        ...


class OpenStream(Protocol):
    """Begins the reading of a stream."""

    def __call__(self, *, injected_usage: bool = False, choices: int = 1) -> StreamReader: ...


class EventParser(Protocol):
    """Cuts a stream into events, however it is split on its way, without losing a byte."""

    @property
    def pending(self) -> bytes:
        """What has arrived of an event that is not complete."""
        ...

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that `data` completes. Raises UpstreamFailure(REPLY_TOO_LARGE) for one that is too long."""
        ...

    def end(self) -> list[StreamEvent]:
        """The events that the end of the stream completes."""
        ...


class Framing(msgspec.Struct, frozen=True, kw_only=True):
    """How events stand in a stream."""

    content_type: str
    parser: Callable[[], EventParser]
    rewrite: Callable[[StreamEvent, bytes], bytes]
    """The event's bytes with other data in place of its own."""
    without_notes: Callable[[StreamEvent], bytes]
    """The event's bytes without what is neither data nor the event's name."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How an upstream of one surface is asked and read."""

    surface: Surface
    prepare: Prepare
    read_reply: Callable[[Document], ReplyFacts]
    open_stream: OpenStream | None
    """None: the surface does not stream."""
    framing: Framing | None = None
    """How its streams are framed; None exactly where it does not stream."""
    encode: Encode | None = None
    """How a request is written that is not JSON."""
    read_media: Callable[[Document, bytes, str], ReplyFacts] | None = None
    """What a reply says that is not JSON: given the request, the reply and its content type. None: it is JSON."""
    raw: bool = False
    """Whether `read_media` reads every reply, whatever type it says it is of."""


ID = "{id}"
"""Where the path of an errand names a thing."""


class BatchPart(Enum):
    """What an errand is in the life of a batch."""

    MADE_FROM = auto()
    """Its requests are handed in, in a file."""
    BEGUN = auto()
    """It begins, and will cost."""
    SEEN = auto()
    """It is looked at, or stopped: it may say that it has ended, and what it cost."""
    ANSWERS = auto()
    """Its answers are read, or a file that may hold them."""


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of things that a provider keeps, or of the place where it keeps them. No model is named."""

    name: str
    """In policies and records, such as `stored_responses.delete`."""
    method: Literal["GET", "POST", "DELETE"]
    path: str = ""
    """What follows the path of its surface; `{id}` stands for each id in turn."""
    dialect: Dialect
    """How it is written and its answer read. Never streamed."""
    takes: Literal["nothing", "json", "form"] = "nothing"
    query: frozenset[str] = frozenset()
    """The parameters that travel on."""
    ends: bool = False
    """Whether the thing that the path names last is kept no more once this is answered."""
    batch: BatchPart | None = None
    lists: "Errand | None" = None
    """The errand that shows one of what this lists. A list is made here, of what the tenant has: never by the provider,
    to whom all tenants are one."""
    kind: KeptKind | None = None
    """What is listed."""

    @property
    def surface(self) -> Surface:
        return self.dialect.surface

    @property
    def looks(self) -> bool:
        """Whether it only looks: then it can be asked again, and what it shows was given out before."""
        return self.method == "GET"
