"""The nouns of translation: one conversation and one answer, as every dialect could say them."""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import msgspec

from securellm.core.document import Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage

Members = Mapping[str, Value]


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Prose."""

    text: str


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A picture, inline or remote."""

    media_type: str | None = None
    data: str | None = None
    """Base64; None for a remote one."""
    url: str | None = None
    detail: str | None = None


class Audio(msgspec.Struct, frozen=True, kw_only=True):
    """Sound, inline."""

    media_type: str
    data: str
    """Base64."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A document, inline or remote (never one that a provider keeps: its id is nothing to another)."""

    media_type: str | None = None
    data: str | None = None
    """Base64."""
    url: str | None = None
    text: str | None = None
    name: str | None = None


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """What a model thought, and the proof of it that its provider wants back."""

    text: str = ""
    signature: str | None = None
    """Opaque: Anthropic's `signature`, Gemini's `thoughtSignature`, the `encrypted_content` of a responses item.

    Its maker's own words, or marked with the surface it came from (see `signatures`): in what a client is told every
    signature is marked, and what a client sends back marked is unmarked for that surface, and for no other.
    """
    redacted: bool = False
    """There is no text, only ciphertext in `signature`."""
    id: str | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """The model asks for a function to be run."""

    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it. Empty when it wrote none: never taken for `{}` without saying so."""
    signature: str | None = None
    """The proof that Gemini wants back with the call."""
    custom: bool = False
    """Free text input (OpenAI's custom tools), not JSON."""


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the function returned."""

    call_id: str
    name: str | None = None
    """The function's name; looked up from its call where the dialect does not repeat it."""
    parts: tuple["Text | Image | File", ...] = ()
    is_error: bool = False


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The model's own refusal, in words."""

    text: str


Part = Text | Image | Audio | File | Reasoning | ToolCall | ToolResult | Refused


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message. A tool's result is a part of a `user` turn."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]
    name: str | None = None
    """Who speaks, among several users."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function the model may ask for."""

    name: str
    description: str | None = None
    parameters: Members | None = None
    """A JSON Schema; None: the function takes nothing."""
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it may, must or must not."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    names: tuple[str, ...] = ()
    """With `named` the one it must call; with `required` those it may choose among (empty: all)."""


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """What the text of the answer must be."""

    kind: Literal["text", "json", "schema"]
    name: str | None = None
    description: str | None = None
    schema: Members | None = None
    strict: bool | None = None


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How much the model may think, and whether its thoughts are shown."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    budget: int | None = None
    """Tokens; -1 leaves it to the model."""
    show: bool | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request, in no dialect. What a dialect says beyond this stands in `rest`, to be dropped by name or refused."""

    model: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_output: int | None = None
    temperature: int | float | None = None
    top_p: int | float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: int = 1
    presence_penalty: int | float | None = None
    frequency_penalty: int | float | None = None
    format: Format | None = None
    thinking: Thinking | None = None
    user: str | None = None
    """The caller's name for its end user."""
    stream: bool = False
    include_usage: bool = True
    """Whether the caller wants usage in its stream, where its dialect leaves that to it."""
    rest: Mapping[str, Value] = {}
    """Members that none of the above holds, by their dotted path with `*` for any index."""


Finish = Literal["stop", "length", "tools", "filter", "refusal", "pause", "sequence", "malformed", "other"]
"""Why an answer ended. `sequence`: at a stop sequence the caller gave. `malformed`: a tool call that cannot be read."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer among those asked for."""

    parts: tuple[Part, ...]
    finish: Finish
    stop_sequence: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply, in no dialect."""

    id: str | None
    model: str | None
    """As the provider names the model that served."""
    choices: tuple[Choice, ...]
    usage: Usage | None
    service_tier: str | None = None


# What a stream says, step by step. `choice` counts from 0, `block` within its choice, in order of first appearance.


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """The answer has begun."""

    id: str | None = None
    model: str | None = None
    usage: Usage | None = None


class BlockBegan(msgspec.Struct, frozen=True, kw_only=True):
    """A part has begun: its text, or its arguments, follow in `BlockGrew`."""

    block: int
    kind: Literal["text", "reasoning", "refusal", "tool"]
    choice: int = 0
    id: str | None = None
    name: str | None = None
    """Of a tool call."""
    custom: bool = False


class BlockGrew(msgspec.Struct, frozen=True, kw_only=True):
    """The next piece of the part's text or arguments."""

    block: int
    text: str
    choice: int = 0


class BlockSigned(msgspec.Struct, frozen=True, kw_only=True):
    """The part's proof has come (a reasoning's, or a tool call's). A tool call's comes before its arguments."""

    block: int
    signature: str
    redacted: bool = False
    choice: int = 0


class BlockEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The part is complete."""

    block: int
    choice: int = 0


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A choice is complete, and why."""

    finish: Finish
    choice: int = 0
    stop_sequence: str | None = None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """All that was consumed so far."""

    usage: Usage
    service_tier: str | None = None


Step = Began | BlockBegan | BlockGrew | BlockSigned | BlockEnded | Finished | Counted


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's wording depends on beside the provider's own answer."""

    request_id: str
    """Ids that the provider's answer lacks are made from it: no randomness, no clock."""
    model: str
    """The name the client used."""
    created: int
    """Seconds since the Unix epoch."""
    ask: Ask
    asked: Members
    """The client's body, for dialects that repeat it in the answer."""


class ReadSteps(Protocol):
    """Turns the events of an upstream's stream into steps; one for each stream, fed in order."""

    def read(self, members: Members) -> tuple[Step, ...]:
        """What one event's data says. Raises UpstreamFailure(BAD_REPLY) for what this dialect cannot mean."""
        ...

    def end(self) -> tuple[Step, ...]:
        """What the end of the stream says: its terminal event has been read."""
        ...


class WriteSteps(Protocol):
    """Turns steps into the events of the client's dialect, framed; one for each stream."""

    @property
    def sequence(self) -> int:
        """The last `sequence_number` written; -1 before the first, and where the dialect counts none."""
        ...

    def write(self, step: Step) -> bytes:
        """The events that say `step`; empty while nothing can be said yet."""
        ...

    def end(self) -> bytes:
        """What ends the stream: the last events, the terminal one included."""
        ...


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A request in an upstream's dialect."""

    body: bytes
    dropped: tuple[str, ...]
    """Members of the client's request (dotted paths) that only hint, and have no place in the upstream's dialect."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """All that translation knows of one dialect as clients speak it. Each function is pure."""

    surface: Surface
    read_ask: Callable[[Members], Ask]
    """Of a client. Raises Refusal(INVALID_REQUEST) naming the field."""
    write_answer: Callable[[Answer, Occasion], dict[str, Value]]
    """For a client. Raises UpstreamFailure(BAD_REPLY) for what cannot be said."""
    write_steps: Callable[[Occasion], WriteSteps]
    holds: Mapping[str, str] = {}
    """The members of a request that `Ask` holds (dotted paths, `*` for any index), and what each is called in hints."""
    knows: frozenset[str] = frozenset()
    """The documented members that stand in `Ask.rest`: every direction drops, carries or refuses each by name."""


class Speaker(Source, frozen=True, kw_only=True):
    """A dialect that upstreams speak as well."""

    write_ask: Callable[[Ask], tuple[dict[str, Value], tuple[str, ...]]]
    """For an upstream: the members, and the names of the hints of `Ask` it has no place for (`seed`, …).

    Raises Refusal(NOT_REPRESENTABLE) naming what cannot be said. `Ask.rest` is not its concern.
    """
    read_answer: Callable[[Members], Answer]
    """Of an upstream. Raises UpstreamFailure(BAD_REPLY)."""
    read_steps: Callable[[], ReadSteps]
    hints: frozenset[str] = frozenset()
    """What `write_ask` leaves out and names."""
    lacks: frozenset[str] = frozenset()
    """What `write_ask` refuses."""
    bounded: bool = False
    """Whether a request must say how much output it wants at most."""


class Direction(msgspec.Struct, frozen=True, kw_only=True):
    """From a client's dialect to an upstream's, with the rules of just this pair."""

    source: Source
    target: Speaker
    dropped: frozenset[str] = frozenset()
    """Paths of `Ask.rest` that only hint: left out, and named."""
    ignored: frozenset[str] = frozenset()
    """Paths of `Ask.rest` that say what is true of the upstream anyway (a default, an empty value).

    `path=JSON`: only when the value is just that.
    """
    carried: Mapping[str, str] = {}
    """Paths of `Ask.rest` that both dialects know, and where in the target's request each belongs (a dotted path)."""
    adapt: Callable[[Ask], Ask] | None = None
    """What else this pair needs said differently."""
