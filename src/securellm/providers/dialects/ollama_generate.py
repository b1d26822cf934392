"""Ollama's own completion of a prompt, line by line as its chat."""

from securellm.core.document import Document, Value
from securellm.core.surfaces import Surface
from securellm.providers.dialects import replies, requests
from securellm.providers.dialects.machine import named
from securellm.providers.dialects.ollama_chat import CALLS, FIGURES, LineReader, reason, usage
from securellm.providers.dialects.shape import Finder, Mark, Members, Shape
from securellm.providers.model import Dialect, ReplyFacts
from securellm.providers.ndjson import LINES


def _shape(text: Mark) -> Shape:
    return Members(
        {
            **FIGURES,
            "response": text,
            "thinking": text,
            "tool_calls": CALLS,
            "context": Mark.MIRROR,
            "image": Mark.ENCODED,
            "completed": Mark.NUMERIC,
            "total": Mark.NUMERIC,
        }
    )


_REPLY = Finder(_shape(Mark.TEXT))


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    if members.get("error") or type(members.get("done")) is not bool:
        return None
    return replies.Said(text=named(members.get("response")) or "", finish=reason(members), usage=usage(members))


class StreamReader(LineReader):
    """The state machine of a completion."""

    finder = Finder(_shape(Mark.PIECE))


OLLAMA_GENERATE = Dialect(
    surface=Surface.OLLAMA_GENERATE,
    prepare=requests.name_and_cap,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=LINES,
)
