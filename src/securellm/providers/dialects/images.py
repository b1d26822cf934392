"""Images: pictures out, whole or as events with drafts of each on the way."""

from securellm.core.document import Document, Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.forms import encode
from securellm.providers.dialects.machine import Machine, named
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, ReplyFacts, StreamEvent
from securellm.providers.sse import EVENTS

PICTURE = "picture drawn"
"""The name under which pictures count as uses of the provider's tools: some are sold by the piece."""

_SAID: dict[str, Shape] = {
    "created": Mark.NUMERIC,
    "created_at": Mark.NUMERIC,
    "background": Mark.OPAQUE,
    "output_format": Mark.OPAQUE,
    "quality": Mark.OPAQUE,
    "size": Mark.OPAQUE,
    "usage": Mark.NUMERIC,
    "b64_json": Mark.ENCODED,
}
_REPLY = Finder(
    Members(
        {
            **_SAID,
            "data": Each(Members({"b64_json": Mark.ENCODED, "url": Mark.TEXT, "revised_prompt": Mark.TEXT})),
        }
    )
)


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    pictures = members.get("data")
    if not isinstance(pictures, list):
        return None
    return replies.Said(usage=_usage(members), finish="completed", server_tool_uses=_drawn(len(pictures)))


def _drawn(pictures: int) -> tuple[tuple[str, int], ...]:
    return ((PICTURE, pictures),) if pictures else ()


def _usage(members: dict[str, Value]) -> Usage | None:
    """None where the drawing of another model is billed beside it (`svg_usage`): its price is not this one's."""
    usage = members.get("usage")
    if not isinstance(usage, dict) or members.get("svg_usage") is not None:
        return None
    return figures.inclusive(usage, prompt="input_tokens", completion="output_tokens")


class StreamReader(Machine):
    """The state machine of a stream of pictures: finished with the last `…completed`."""

    finder = Finder(
        Members({**_SAID, "type": Mark.OPAQUE, "partial_image_index": Mark.NUMERIC, "sequence_number": Mark.NUMERIC})
    )

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:  # noqa: ARG002 - of other dialects
        super().__init__()
        self._choices = choices
        self._completed = 0

    def _event(self, document: Document, members: dict[str, Value], event: StreamEvent) -> EventView:
        kind = named(members.get("type")) or event.event or ""
        if kind == "error" or members.get("error"):
            return self._fails(told(members.get("error") or members))
        fragments, mirrors = self._texts(document, members)
        usage = _usage(members)
        if usage is not None:
            # One report for each picture: together they are what was consumed.
            self.usage = usage if self.usage is None else _sum(self.usage, usage)
        if kind.endswith(".completed"):
            self._completed += 1
            self.server_tool_uses = _drawn(self._completed)
            if self._completed >= self._choices:
                self.finish, self.terminal = "completed", True
        return EventView(
            fragments=fragments,
            mirrors=mirrors,
            usage=self.usage if usage is not None else None,
            finish=self.finish,
            terminal=self.terminal,
            document=document,
        )

    def _channel(self, path: Path, members: dict[str, Value]) -> str:  # noqa: ARG002 - one signature for all
        return ""


def _sum(first: Usage, second: Usage) -> Usage:
    return Usage(**{name: getattr(first, name) + getattr(second, name) for name in Usage.__struct_fields__})


IMAGES = Dialect(
    surface=Surface.IMAGES,
    prepare=requests.name_and_cap,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=EVENTS,
)
IMAGE_EDITS = Dialect(
    surface=Surface.IMAGE_EDITS,
    prepare=requests.name_and_cap,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=EVENTS,
    encode=encode,
)
