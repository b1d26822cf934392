"""Server-sent events taken apart without losing a byte (WHATWG HTML, section 9.2)."""

import re

from securellm.core.errors import Code, UpstreamFailure
from securellm.providers.model import Framing, StreamEvent

MAX_EVENT = 16 * 1024 * 1024
MAX_LINES = 16_384
"""Lines of one event: each costs many times its bytes to keep."""
_BLANKS = re.compile(rb"[\r\n]*")
_BOM = b"\xef\xbb\xbf"


class SseParser:
    """Cuts a stream into events at their blank lines, however it is split on its way.

    The `raw` bytes of all events and `pending`, one after the other, are the stream. A byte order mark before the
    first event is an event of its own, without data.
    """

    def __init__(self, *, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._buffer = bytearray()
        self._line = 0
        """Where the line being read begins."""
        self._scanned = 0
        """Up to where that line is known to hold no line end."""
        self._lines: list[bytes] = []
        self._begun = False

    @property
    def pending(self) -> bytes:
        """What has arrived of an event that is not complete."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that `data` completes.

        Raises UpstreamFailure(REPLY_TOO_LARGE) when the event being read is longer than the limit, or has more than
        `MAX_LINES`: after a call that returned the events before it.
        """
        self._refuse_too_long()
        self._buffer += data
        events = self._cut(at_end=False)
        if not events:
            self._refuse_too_long()
        return events

    def _refuse_too_long(self) -> None:
        if len(self._buffer) > self._max_event:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"one event is longer than {self._max_event} bytes")
        if len(self._lines) > MAX_LINES:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"one event has more than {MAX_LINES} lines")

    def end(self) -> list[StreamEvent]:
        """The event that the end of the stream completes: one whose blank line is a lone carriage return.

        An event without its blank line is not one; it stays in `pending`.
        """
        return self._cut(at_end=True)

    def _cut(self, *, at_end: bool) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        buffer = self._buffer
        if not self._begun:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                return events
            self._begun = True
            if buffer.startswith(_BOM):
                events.append(StreamEvent(raw=_BOM, data=b""))
                del buffer[: len(_BOM)]
        taken = 0
        feed = buffer.find(b"\n", self._scanned)
        while True:
            if 0 <= feed < self._scanned:
                feed = buffer.find(b"\n", self._scanned)
            ret = buffer.find(b"\r", self._scanned, feed if feed >= 0 else len(buffer))
            if ret >= 0:
                if ret + 1 == len(buffer) and not at_end:
                    self._scanned = ret
                    break
                stop, after = ret, ret + 2 if buffer[ret + 1 : ret + 2] == b"\n" else ret + 1
            elif feed >= 0:
                stop, after = feed, feed + 1
            else:
                self._scanned = len(buffer)
                break
            line = bytes(buffer[self._line : stop])
            self._line = self._scanned = after
            if line:
                self._lines.append(line)
                continue
            if not self._lines:
                # Blank lines that follow one another say nothing, however many: they are one event.
                after = self._after_blanks(after, at_end=at_end)
                self._line = self._scanned = after
            events.append(_event(bytes(buffer[taken:after]), self._lines))
            self._lines = []
            taken = after
        del buffer[:taken]
        self._line -= taken
        self._scanned -= taken
        return events

    def _after_blanks(self, start: int, *, at_end: bool) -> int:
        blanks = _BLANKS.match(self._buffer, start)
        end = start if blanks is None else blanks.end()
        # The line feed of a last carriage return may still come.
        return end - (not at_end and end > start and end == len(self._buffer) and self._buffer.endswith(b"\r"))


def rewrite(event: StreamEvent, data: bytes) -> bytes:
    """The event's bytes with `data` in place of its data, every other line as it was."""
    if b"\r" in data:
        raise ValueError("a carriage return would end the line")
    parts: list[bytes] = []
    pieces = data.split(b"\n")
    written = False
    for line, ending in _lines_of(event.raw):
        name, prefix = _field(line)
        if name != b"data":
            parts += (line, ending)
        elif not written:
            written = True
            if prefix != b"data: " and any(not piece or piece.startswith(b" ") for piece in pieces):
                prefix = b"data: "  # without its space, the value's own would be taken for it
            parts += (prefix + piece + ending for piece in pieces)
    return b"".join(parts)


def without_notes(event: StreamEvent) -> bytes:
    """The event's bytes without the lines that are neither data nor event name."""
    return b"".join(
        line + ending for line, ending in _lines_of(event.raw) if not line or _field(line)[0] in {b"data", b"event"}
    )


EVENTS = Framing(content_type="text/event-stream", parser=SseParser, rewrite=rewrite, without_notes=without_notes)
"""Server-sent events."""


def _event(raw: bytes, lines: list[bytes]) -> StreamEvent:
    data: list[bytes] = []
    name: str | None = None
    notes: list[str] = []
    for line in lines:
        field, prefix = _field(line)
        if field == b"data":
            data.append(line[len(prefix) :])
        elif field == b"event":
            name = line[len(prefix) :].decode("utf-8", "replace")
        else:
            notes.append(line.decode("utf-8", "replace"))
    return StreamEvent(raw=raw, data=b"\n".join(data), event=name or None, notes="\n".join(notes))


def _field(line: bytes) -> tuple[bytes, bytes]:
    """The field's name, and all that stands before its value."""
    name, colon, value = line.partition(b":")
    return name, name + colon + (b" " if value.startswith(b" ") else b"")


def _lines_of(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Each line and its ending. A lone carriage return is completed: it could meet a line feed of a later line."""
    lines: list[tuple[bytes, bytes]] = []
    for piece in raw.splitlines(keepends=True):
        line = piece.rstrip(b"\r\n")
        ending = piece[len(line) :]
        lines.append((line, b"\r\n" if ending == b"\r" else ending))
    return lines
