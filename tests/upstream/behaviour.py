"""How the fake provider answers one request: by default as documented, otherwise as the test asks."""

from typing import Literal
from urllib.parse import quote, unquote

import msgspec

MARK = "~"


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Knobs of one answer. Every time is in seconds; events and bytes count from the start of the answer's body."""

    # What the answer says
    reply: tuple[str, ...] | None = None
    """The text, one streamed event for each piece; by default a fixed sentence."""
    echo: bool = False
    """The text is every text of the prompt, one line each."""
    words: int | None = None
    """The text is this many numbered words, one event each."""
    escape: bool = False
    """Spell every character of the text as a JSON escape."""
    tool_arguments: tuple[str, ...] | None = None
    """Pieces of the first tool call's arguments; by default an instance of its schema."""
    empty_arguments: Literal["", "{}"] | None = None
    """Every tool call's arguments are this text; where a dialect has objects, the empty text is no member at all."""
    no_tools: bool = False
    """Answer with text even when tools are offered."""
    no_call_ids: bool = False
    """Leave out the ids of tool calls, in the dialects whose ids are optional."""
    thinking: bool = False
    """The model is one that thinks: reasoning text before the answer, as the dialect shows it."""
    redacted: bool = False
    """What the model thought is sent encrypted, in the dialects that can."""
    stop: str | None = None
    """The finish reason, in the dialect's own word."""
    refusal: bool = False
    """The text is a refusal, where the dialect has a place for one."""
    blocked: str | None = None
    """The prompt is blocked for this reason, and there is no candidate (Gemini)."""
    server_tool: bool = False
    """The provider makes a web search of its own before the answer (messages, responses)."""
    flagged: bool = False
    """What a moderation finds is harmful."""
    media_bytes: int = 64
    """How large a generated picture or sound is."""

    # What it costs
    usage: Literal["documented", "with_choices", "every_chunk", "none"] = "documented"
    """Where a stream puts its usage; `none` leaves it out of whole answers too."""
    input_tokens: int | None = None
    """All tokens of the prompt, cached ones included."""
    output_tokens: int | None = None
    """Visible output tokens."""
    cached: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    tool_use: int = 0
    """Tokens that the provider's own tools put into the prompt, beside `input_tokens` (Gemini)."""
    audio_input: int = 0
    """So many of `input_tokens` are sound."""
    image_input: int = 0
    """So many of `input_tokens` are pictures."""
    audio_output: int = 0
    """Tokens of sound, beside `output_tokens`."""

    # Refusing
    status: int | None = None
    """Answer with this status and the provider's envelope for it."""
    code: str | None = None
    """The envelope's own code, where it has one."""
    retry_after: str | None = None
    """The value of the `retry-after` header."""
    message: str | None = None
    """The envelope's message, for instance one that echoes a secret."""
    failures: int | None = None
    """Refuse only the first so many requests for this very model name; answer the later ones."""
    html: bool = False
    """A load balancer's HTML page, with `status` or 200."""
    garbage: bool = False
    """A body that is no JSON under a JSON content type; in a stream, one event that is none."""
    redirect: str | None = None
    """Answer 307 to this location."""

    # Taking time
    first_byte: float = 0.0
    """Silence before the answer's first byte."""
    between: float = 0.0
    """Silence between two events."""
    queued: float = 0.0
    """After the head, this long only keep-alive comments (streams) or blank lines (whole answers) every 50 ms."""
    hang: bool = False
    """Never answer; the connection stays open."""
    hang_event: int | None = None
    """Send so many events, then nothing more; the connection stays open."""

    # Breaking the bytes
    close_unread: bool = False
    """Close as soon as the request's head is in, without an answer."""
    close_unanswered: bool = False
    """Close once the whole request is in, without an answer."""
    cut_event: int | None = None
    """Close after so many events."""
    cut_byte: int | None = None
    """Close after so many bytes of the answer, its head included."""
    reset: bool = False
    """Every close above is an RST."""
    clean_cut: bool = False
    """A cut stream ends its chunked coding properly: to HTTP it looks whole."""
    write_size: int | None = None
    """Write the answer in pieces of so many bytes, each its own TCP segment."""
    split_utf8: bool = False
    """Break writes inside every multi-byte character."""
    framing: Literal["documented", "length", "close"] = "documented"
    """How the body ends: chunked for streams and length for whole answers, or as said."""
    gzip: bool = False
    """Compress the body although nobody asked."""
    early_hints: bool = False
    """An informational 103 before the answer."""
    head_bytes: int = 0
    """Pad the head with a header of so many bytes."""
    trailing: str = ""
    """Bytes after the answer's end, on the same connection."""

    # Breaking the stream's grammar
    error_event: int | None = None
    """After so many events, the dialect's error event, and the end."""
    no_done: bool = False
    """Leave out the dialect's terminal marker (`[DONE]`, `message_stop`, `response.completed`)."""
    no_finish: bool = False
    """Leave out the finish reason, but send the terminal marker."""
    huge_event: int = 0
    """A first event whose line is at least so many bytes."""
    unknown_event: bool = False
    """An event of a type nobody knows, in the middle."""
    after_done: bool = False
    """More events after the terminal marker."""
    duplicate_event: int | None = None
    """Send event n twice; the first is 0."""
    swap_events: int | None = None
    """Send event n after event n + 1; the first is 0."""
    interleave: bool = False
    """Two tool calls arrive piece by piece in turns."""
    shared_index: bool = False
    """Two tool calls say that they are the same one: one index for both."""
    raw_error: bool = False
    """The error event stands in the stream as bare JSON over several lines, without the dialect's framing."""
    line_ending: Literal["documented", "lf", "crlf", "cr"] = "documented"
    """As documented: a line feed, save for Gemini's CR LF."""


STANDARD = Behaviour()


def marked(base: str, **knobs: object) -> str:
    """A model name that asks for a behaviour: `fake-small~cut_event=3~reset=true`.

    A piece list is written with `|` between its pieces. Raises msgspec.ValidationError on a knob nobody knows.
    """
    words: list[str] = []
    for name, value in knobs.items():
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, tuple | list):
            text = "|".join(quote(str(piece), safe="") for piece in value)
        else:
            text = quote(str(value), safe="")
        words.append(f"{name}={text}")
    name = MARK.join([base, *words])
    read_mark(name)
    return name


def read_mark(model: str) -> tuple[str, Behaviour | None]:
    """The model's own name, and what its mark asks for."""
    base, *words = model.split(MARK)
    if not words:
        return base, None
    knobs: dict[str, object] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in ("reply", "tool_arguments"):
            knobs[name] = tuple(unquote(piece) for piece in value.split("|"))
        else:
            knobs[name] = unquote(value)
    return base, msgspec.convert(knobs, Behaviour, strict=False)
