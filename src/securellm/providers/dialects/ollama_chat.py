"""Ollama's own chat: one JSON object a line, the last one `done` and with the figures."""

from securellm.core.document import Document, Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.machine import Machine, named
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, ReplyFacts, StreamEvent
from securellm.providers.ndjson import LINES

FIGURES: dict[str, Shape] = {
    "model": Mark.OPAQUE,
    "remote_model": Mark.OPAQUE,
    "remote_host": Mark.OPAQUE,
    "created_at": Mark.OPAQUE,
    "done": Mark.OPAQUE,
    "done_reason": Mark.OPAQUE,
    "total_duration": Mark.NUMERIC,
    "load_duration": Mark.NUMERIC,
    "prompt_eval_count": Mark.NUMERIC,
    "prompt_eval_duration": Mark.NUMERIC,
    "eval_count": Mark.NUMERIC,
    "eval_duration": Mark.NUMERIC,
    "logprobs": Mark.MIRROR,
    "error": Mark.TEXT,
}
"""What stands around the text of every line."""
CALLS = Each(
    Members(
        {
            "id": Mark.OPAQUE,
            "type": Mark.OPAQUE,
            "function": Members({"index": Mark.NUMERIC, "name": Mark.TEXT, "arguments": Members({})}),
        }
    )
)


def _shape(text: Mark) -> Shape:
    message: dict[str, Shape] = {
        "role": Mark.OPAQUE,
        "content": text,
        "thinking": text,
        "images": Mark.ENCODED,
        "tool_calls": CALLS,
        "tool_name": Mark.TEXT,
    }
    return Members({**FIGURES, "message": Members(message, other=text)})


_REPLY = Finder(_shape(Mark.TEXT))


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    message = members.get("message")
    if members.get("error") or not isinstance(message, dict):
        return None
    return replies.Said(text=named(message.get("content")) or "", finish=reason(members), usage=usage(members))


def reason(members: dict[str, Value]) -> str | None:
    """Why a line ends the answer; None for one that does not. Old servers give no reason."""
    return (named(members.get("done_reason")) or "done") if members.get("done") is True else None


def usage(members: dict[str, Value]) -> Usage | None:
    """The figures of the last line; the thinking is part of what was generated.

    A figure that is nothing is left out. Of the prompt that means that it stood in the cache, not that there was
    none, so what was consumed is then unknown. Loading or unloading a model consumes nothing.
    """
    went_in, came_out = figures.count(members.get("prompt_eval_count")), figures.count(members.get("eval_count"))
    if went_in is None and came_out is None and members.get("done_reason") in {"load", "unload"}:
        return Usage()
    return None if went_in is None or came_out is None else Usage(input=went_in, output=came_out)


class LineReader(Machine):
    """The state machine of a stream of lines."""

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:  # noqa: ARG002 - of other dialects
        super().__init__()

    def _event(
        self,
        document: Document,
        members: dict[str, Value],
        event: StreamEvent,  # noqa: ARG002 - the signature of every machine
    ) -> EventView:
        if members.get("error"):
            return self._fails(told(members["error"]))
        if type(members.get("done")) is not bool:
            return self._bad("a line does not say whether it is the last one")
        fragments, mirrors = self._texts(document, members)
        written = frozenset(fragment.channel for fragment in fragments if fragment.channel)
        self.finish = reason(members)
        self.terminal = self.finish is not None
        if self.terminal:
            closes = self._close()
            self.usage = usage(members)
        else:
            closes = self._close(keep=written) if written else ()
        model = named(members.get("model"))
        self.model = model or self.model
        return EventView(
            fragments=fragments,
            closes=closes,
            mirrors=mirrors,
            usage=self.usage,
            finish=self.finish,
            terminal=self.terminal,
            model=model,
            model_path=("model",) if model is not None else None,
            document=document,
        )

    def _channel(self, path: Path, members: dict[str, Value]) -> str:  # noqa: ARG002 - one signature for all
        """Where the piece stands: `message/content`, `thinking`."""
        return "/".join(map(str, path))


class StreamReader(LineReader):
    """The state machine of a chat."""

    finder = Finder(_shape(Mark.PIECE))


OLLAMA_CHAT = Dialect(
    surface=Surface.OLLAMA_CHAT,
    prepare=requests.name_and_cap,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=LINES,
)
