"""Moderations: what a provider's own classifier makes of a text; nothing is generated."""

from securellm.core.document import Document, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.shape import Each, Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_REPLY = Finder(
    Members(
        {
            "id": Mark.OPAQUE,
            "model": Mark.OPAQUE,
            "usage": Mark.NUMERIC,
            "results": Each(
                Members(
                    {
                        "flagged": Mark.OPAQUE,
                        "categories": Mark.OPAQUE,
                        "category_scores": Mark.NUMERIC,
                        "category_applied_input_types": Mark.OPAQUE,
                    }
                )
            ),
        }
    )
)


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("results"), list):
        return None
    usage = members.get("usage")
    if usage is None:
        # Who judges for nothing has no figures to tell.
        return replies.Said(usage=Usage())
    told = figures.inclusive(usage, prompt="prompt_tokens", completion=None) if isinstance(usage, dict) else None
    return replies.Said(usage=told)


MODERATIONS = Dialect(
    surface=Surface.MODERATIONS, prepare=requests.name_and_cap, read_reply=read_reply, open_stream=None
)
