"""What the state machines of all streams share: one JSON object an event, and no way back from the end."""

from collections.abc import Iterable

import msgspec

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.core.kept import Kept
from securellm.core.messages import Path
from securellm.core.usage import Usage
from securellm.providers.dialects.shape import Finder, is_name
from securellm.providers.failures import told
from securellm.providers.model import EventView, Fragment, Mirror, StreamEvent

DONE = b"[DONE]"
MOST_CHOICES = 128
"""Answers to one request in one stream: as many as may be asked for."""
MOST_OPEN = 1_024
"""Texts that are being written at the same time: each event looks at all of them."""


class Machine:
    """The state of one stream. A dialect says what its events mean in `_event`, and which texts continue others."""

    finder: Finder

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.model: str | None = None
        self.id: str | None = None
        self.service_tier: str | None = None
        self.server_tool_uses: tuple[tuple[str, int], ...] = ()
        self.kept: tuple[Kept, ...] = ()
        self.terminal = False
        self._broken = False
        self._open: dict[str, None] = {}
        """Channels with text that are not closed, in order of their first text."""

    def read(self, event: StreamEvent) -> EventView:
        """What `event` says. Never raises: whatever is wrong is the view's `failure`, after which all fails."""
        notes = (Fragment(path=(), text=event.notes),) if event.notes and not _is_keepalive(event.notes) else ()
        if self._broken:
            return self._bad("an event came after a failure")
        if event.event is not None and not is_name(event.event):
            return self._bad("an event's name is not one")
        if event.event == "error":
            return self._fails(_error_in(event))
        if not event.data:
            return EventView(fragments=notes)
        if self.terminal:
            return self._trailing(event)
        if event.data.strip() == DONE:
            view = self._done()
        else:
            try:
                document = Document(event.data)
                view = self._event(document, document.members(), event)
            except Refusal as refusal:
                return self._bad(f"an event of the stream is no JSON object: {refusal.code}")
        if view.failure is not None:
            self._broken = True
        elif len(self._open) > MOST_OPEN:
            return self._bad("too many texts are written at the same time")
        elif notes:
            return msgspec.structs.replace(view, fragments=notes + view.fragments)
        return view

    def _keep(self, given: Iterable[Kept]) -> None:
        """Take note of ids that an event gives out, each once."""
        new = [kept for kept in given if kept not in self.kept]
        if new:
            self.kept = (*self.kept, *dict.fromkeys(new))

    def eof(self) -> UpstreamFailure | None:
        """What it means that the stream ends here: nothing after the terminal event, TRUNCATED before it."""
        return None if self.terminal else truncated("the stream ended without its terminal event")

    def _event(self, document: Document, members: dict[str, Value], event: StreamEvent) -> EventView:
        """What an event with data says."""
        raise NotImplementedError

    def _channel(self, path: Path, members: dict[str, Value]) -> str:
        """Which text the piece at `path` continues. Empty: none, it is complete in itself."""
        raise NotImplementedError

    def _done(self) -> EventView:
        """What `[DONE]` says."""
        return self._fails(truncated("the stream ended without its terminal event"))

    def _trailing(self, event: StreamEvent) -> EventView:  # noqa: ARG002 - one signature for all
        """What an event with data says after the terminal one."""
        return self._bad("an event came after the terminal event")

    def _texts(self, document: Document, members: dict[str, Value]) -> tuple[tuple[Fragment, ...], tuple[Mirror, ...]]:
        """Every text of `document`, those that continue others on their channel; and the mirrors."""
        texts = self.finder.find(document)
        fragments: list[Fragment] = []
        for index, leaf in enumerate(texts.leaves):
            channel = self._channel(leaf.path, members) if index in texts.pieces else ""
            if channel:
                self._open[channel] = None
            fragments.append(Fragment(path=leaf.path, text=leaf.text, channel=channel, kind=leaf.kind))
        return tuple(fragments), tuple(texts.mirrors)

    def _close(self, prefix: str = "", *, keep: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Close the open channels that begin with `prefix`, but for those in `keep`."""
        closed = tuple(channel for channel in self._open if channel.startswith(prefix) and channel not in keep)
        for channel in closed:
            del self._open[channel]
        return closed

    def _fails(self, failure: UpstreamFailure) -> EventView:
        self._broken = True
        return EventView(failure=failure, usage=self.usage)

    def _bad(self, reason: str) -> EventView:
        return self._fails(UpstreamFailure(Code.BAD_REPLY, reason))


def truncated(reason: str) -> UpstreamFailure:
    """The stream was cut before its end."""
    return UpstreamFailure(Code.TRUNCATED, reason)


def named(value: Value) -> str | None:
    """A string that says something."""
    return value if isinstance(value, str) and value else None


def _is_keepalive(notes: str) -> bool:
    """Whether comments are a few plain words, in which nothing can hide."""
    return len(notes) < 256 and notes.isascii() and notes.replace(":", "").replace("-", "").replace(" ", "").isalpha()


def _error_in(event: StreamEvent) -> UpstreamFailure:
    try:
        root = Document(event.data).root
    except Refusal:
        return told(None)
    return told(root.get("error") or root if isinstance(root, dict) else root)
