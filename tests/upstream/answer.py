"""One answer before it becomes bytes: a whole body, or the events of a stream with what each has cost so far."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from tests.upstream.behaviour import Behaviour
from tests.upstream.faces import Refused
from tests.upstream.memory import Memory
from tests.upstream.speech import write


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, written out, and the visible output tokens billed once it has left."""

    frame: bytes
    billed: int = 0
    last: bool = False
    """It is the dialect's terminal marker."""


class Framing(msgspec.Struct, frozen=True, kw_only=True):
    """How a dialect's stream looks below its JSON."""

    media: str
    event: Callable[[bytes, str | None, bytes], bytes]
    """The frame of data, a name and a line ending."""
    alive: bytes
    """What says nothing but that the answer is still coming."""
    eol: bytes = b"\n"
    """The documented line ending."""


def _sse(data: bytes, name: str | None, eol: bytes) -> bytes:
    return (b"event: " + name.encode() + eol if name is not None else b"") + b"data: " + data + eol * 2


def _line(data: bytes, name: str | None, eol: bytes) -> bytes:
    return data + eol


SSE = Framing(media="text/event-stream; charset=utf-8", event=_sse, alive=b": keep-alive\n\n")
GOOGLE_SSE = Framing(media="text/event-stream", event=_sse, alive=b": keep-alive\r\n\r\n", eol=b"\r\n")
NDJSON = Framing(media="application/x-ndjson", event=_line, alive=b"\n")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider would send."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    events: tuple[Event, ...] | None = None
    framing: Framing = SSE
    broken: bytes = b""
    """The frame that says the stream broke, if `error_event` asks for one."""
    bill: dict[str, int] = {}


class Form(msgspec.Struct, frozen=True):
    """A multipart body: its fields, and the name and content of each file."""

    fields: tuple[tuple[str, str], ...] = ()
    files: dict[str, tuple[str, bytes]] = {}
    """By field; of a list (`image[]`) the last."""
    types: tuple[tuple[str, str], ...] = ()
    """The field and content type of every file, in order."""

    def all(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return [value for field, value in self.fields if field == name]

    def get(self, name: str) -> str | None:
        """The first value of a field."""
        return next(iter(self.all(name)), None)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a dialect sees it: routed, authenticated, parsed."""

    face: str
    surface: str
    headers: tuple[tuple[str, str], ...]
    body: dict[str, Any]
    behaviour: Behaviour
    number: int
    """Its order number, from which every id in the answer is made."""
    model: str = ""
    """The model it names, wherever that stands; empty when it names none."""
    place: dict[str, str] = {}
    """The named pieces of its path."""
    query: dict[str, str] = {}
    form: Form = Form()
    memory: Memory = msgspec.field(default_factory=Memory)

    def header(self, name: str) -> str | None:
        return next((value for header, value in self.headers if header == name), None)


class Stream:
    """Collects the events of a streamed answer, in the dialect's framing and with the behaviour's line ending."""

    def __init__(self, behaviour: Behaviour, *, named: bool = False, framing: Framing = SSE) -> None:
        self._behaviour = behaviour
        self._named = named
        self._framing = framing
        endings = {"documented": framing.eol, "lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
        self._eol = endings[behaviour.line_ending]
        self.events: list[Event] = []
        self.billed = 0

    def add(self, value: Mapping[str, object], *, billed: int = 0, last: bool = False) -> None:
        """One event; in a named dialect its `type` member is also the event's name."""
        self.billed += billed
        name = str(value["type"]) if self._named else None
        self.raw(write(value, escape=self._behaviour.escape), name=name, last=last)

    def raw(self, data: bytes, *, name: str | None = None, last: bool = False) -> None:
        self.events.append(Event(self._framing.event(data, name, self._eol), self.billed, last))

    def comment(self, text: str) -> None:
        self.events.append(Event(b": " + text.encode() + self._eol * 2, self.billed))

    def answer(
        self,
        bill: dict[str, int],
        *,
        error: Mapping[str, object],
        name: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        """The whole stream, its events out of order where asked, and the error event that may break it."""
        if self._behaviour.raw_error:
            broken = json.dumps(error, indent=2).encode() + self._framing.eol
        else:
            broken = self._framing.event(write(error), name, self._framing.eol)
        events = _disturbed(self.events, self._behaviour)
        return Answer(events=events, framing=self._framing, broken=broken, bill=bill, headers=headers)


def _disturbed(events: Sequence[Event], how: Behaviour) -> tuple[Event, ...]:
    """The events as they are sent; what has been billed still only rises."""
    at = how.swap_events
    frames = [(event.frame, event.last) for event in events]
    if at is not None and 0 <= at < len(frames) - 1:
        frames[at : at + 2] = [frames[at + 1], frames[at]]
    sent = [Event(frame, event.billed, last) for (frame, last), event in zip(frames, events, strict=True)]
    if how.duplicate_event is not None and 0 <= how.duplicate_event < len(sent):
        sent.insert(how.duplicate_event, sent[how.duplicate_event])
    return tuple(sent)


def turns(pieces: Sequence[Sequence[Any]], *, interleave: bool) -> list[tuple[int, Any]]:
    """Each list's pieces with the number of their list: one list after the other, or by turns."""
    if not interleave:
        return [(number, piece) for number, each in enumerate(pieces) for piece in each]
    longest = max(map(len, pieces), default=0)
    return [(number, each[at]) for at in range(longest) for number, each in enumerate(pieces) if at < len(each)]


def need(body: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], *, param: str | None = None) -> Any:
    """A required member of the right type. Raises `Refused` 400."""
    if name not in body:
        raise Refused(400, f"Missing required parameter: '{param or name}'.", param=param or name)
    return check(body, name, kinds, param=param)


def page_size(ask: Ask, *, most: int = 100) -> int:
    """How many rows a list shows at once. Raises `Refused` 400."""
    written = ask.query.get("limit") or "20"
    if not (written.isdecimal() and 1 <= int(written) <= most):
        raise Refused(400, "Invalid 'limit': integer out of range.", param="limit")
    return int(written)


def check(body: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], *, param: str | None = None) -> Any:
    """A member of the right type, or None when it is absent or null. Raises `Refused` 400."""
    value = body.get(name)
    if value is None:
        return None
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise Refused(400, f"Invalid type for '{param or name}'.", param=param or name, code="invalid_type")
    return value


def count(body: Mapping[str, Any], name: str, *, least: int = 1, most: int | None = None) -> int | None:
    """An integer member within bounds, or None when it is absent or null. Raises `Refused` 400."""
    value: int | None = check(body, name, int)
    if value is not None and (value < least or (most is not None and value > most)):
        raise Refused(400, f"Invalid '{name}': integer out of range.", param=name, code="integer_out_of_range")
    return value
