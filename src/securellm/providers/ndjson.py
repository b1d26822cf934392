"""JSON lines taken apart without losing a byte: one object a line."""

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.providers.model import Framing, StreamEvent

MAX_LINE = 16 * 1024 * 1024


class LineParser:
    """Cuts a stream at its line feeds, however it is split on its way.

    The `raw` bytes of all events and `pending`, one after the other, are the stream. A blank line is an event
    without data.
    """

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._buffer = bytearray()
        self._scanned = 0
        """Up to where the line being read is known to hold no line feed."""

    @property
    def pending(self) -> bytes:
        """What has arrived of a line that is not complete."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The lines that `data` completes.

        Raises UpstreamFailure(REPLY_TOO_LARGE) when the line being read is longer than the limit: after a call
        that returned the lines before it.
        """
        self._refuse_too_long()
        buffer = self._buffer
        buffer += data
        events: list[StreamEvent] = []
        taken = 0
        while (feed := buffer.find(b"\n", self._scanned)) >= 0:
            events.append(_event(bytes(buffer[taken : feed + 1])))
            taken = self._scanned = feed + 1
        del buffer[:taken]
        self._scanned = len(buffer)
        if not events:
            self._refuse_too_long()
        return events

    def end(self) -> list[StreamEvent]:
        """The last line, where the stream ends without a line feed after a whole object; else it stays in `pending`."""
        try:
            Document(bytes(self._buffer))
        except Refusal:
            return []
        event = _event(bytes(self._buffer))
        self._buffer.clear()
        self._scanned = 0
        return [event]

    def _refuse_too_long(self) -> None:
        if len(self._buffer) > self._max_line:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"one line is longer than {self._max_line} bytes")


def rewrite(event: StreamEvent, data: bytes) -> bytes:
    """The line with `data` in place of its data, its ending as it was."""
    if b"\n" in data:
        raise ValueError("a line feed would end the line")
    return data + event.raw[len(event.data) :]


def without_notes(event: StreamEvent) -> bytes:
    """The line: it has room for nothing but its data."""
    return event.raw


def _event(raw: bytes) -> StreamEvent:
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    return StreamEvent(raw=raw, data=line if line.strip() else b"")


LINES = Framing(content_type="application/x-ndjson", parser=LineParser, rewrite=rewrite, without_notes=without_notes)
"""Newline-delimited JSON."""
