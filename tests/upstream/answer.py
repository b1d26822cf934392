"""One answer before it becomes bytes: a whole body, or the events of a stream with what each has cost so far."""

from collections.abc import Mapping
from typing import Any

import msgspec
from tests.upstream.behaviour import Behaviour
from tests.upstream.faces import Refused
from tests.upstream.speech import write


class Event(msgspec.Struct, frozen=True):
    """One event of a stream, written out, and the visible output tokens billed once it has left."""

    frame: bytes
    billed: int = 0
    last: bool = False
    """It is the dialect's terminal marker."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider would send."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    events: tuple[Event, ...] | None = None
    bill: dict[str, int] = {}


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a dialect sees it: routed, authenticated, parsed."""

    face: str
    surface: str
    headers: tuple[tuple[str, str], ...]
    body: dict[str, Any]
    behaviour: Behaviour
    number: int
    """Its order number, from which every id in the answer is made."""

    def header(self, name: str) -> str | None:
        return next((value for header, value in self.headers if header == name), None)


class Stream:
    """Collects the events of a streamed answer, in the dialect's framing and with the behaviour's line ending."""

    def __init__(self, behaviour: Behaviour, *, named: bool) -> None:
        self._behaviour = behaviour
        self._named = named
        self._eol = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[behaviour.line_ending]
        self.events: list[Event] = []
        self.billed = 0

    def add(self, value: Mapping[str, object], *, billed: int = 0, last: bool = False) -> None:
        """One event; in a named dialect its `type` member is also the event's name."""
        self.billed += billed
        name = str(value["type"]) if self._named else None
        self.raw(write(value, escape=self._behaviour.escape), name=name, last=last)

    def raw(self, data: bytes, *, name: str | None = None, last: bool = False) -> None:
        head = b"event: " + name.encode() + self._eol if name is not None else b""
        self.events.append(Event(head + b"data: " + data + self._eol * 2, self.billed, last))

    def comment(self, text: str) -> None:
        self.events.append(Event(b": " + text.encode() + self._eol * 2, self.billed))


def need(body: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], *, param: str | None = None) -> Any:
    """A required member of the right type. Raises `Refused` 400."""
    if name not in body:
        raise Refused(400, f"Missing required parameter: '{param or name}'.", param=param or name)
    return check(body, name, kinds, param=param)


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
