"""Ollama's own embeddings: vectors out, no stream."""

from securellm.core.document import Document, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import embeddings, figures, replies
from securellm.providers.dialects.ollama_chat import FIGURES
from securellm.providers.dialects.shape import Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_REPLY = Finder(Members({**FIGURES, "embeddings": Mark.ENCODED, "embedding": Mark.ENCODED}))


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("embeddings"), list):
        return None
    went_in = figures.count(members.get("prompt_eval_count"))
    return replies.Said(usage=None if went_in is None else Usage(input=went_in))


OLLAMA_EMBED = Dialect(
    surface=Surface.OLLAMA_EMBED, prepare=embeddings.prepare, read_reply=read_reply, open_stream=None
)
