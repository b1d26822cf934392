"""Ranking documents by a query: scores out, no stream; the shape that Cohere, Jina and vLLM share."""

from securellm.core.document import Document, Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import embeddings, figures, replies
from securellm.providers.dialects.shape import Each, Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_REPLY = Finder(
    Members(
        {
            "id": Mark.OPAQUE,
            "object": Mark.OPAQUE,
            "model": Mark.OPAQUE,
            "usage": Mark.NUMERIC,
            "meta": Members(
                {
                    "api_version": Mark.OPAQUE,
                    "billed_units": Mark.NUMERIC,
                    "tokens": Mark.NUMERIC,
                    "warnings": Mark.TEXT,
                }
            ),
            "results": Each(
                Members(
                    {
                        "index": Mark.NUMERIC,
                        "relevance_score": Mark.NUMERIC,
                        "document": Members({"text": Mark.TEXT, "multi_modal": Mark.TEXT}),
                    }
                )
            ),
        }
    )
)


_COUNTED: tuple[Path, ...] = (
    ("usage", "prompt_tokens"),
    ("usage", "total_tokens"),
    ("meta", "billed_units", "input_tokens"),
    ("meta", "tokens", "input_tokens"),
)
"""Where the providers of this shape say how much they read."""


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("results"), list):
        return None
    return replies.Said(usage=_usage(members), server_tool_uses=_searches(members))


def _usage(members: dict[str, Value]) -> Usage | None:
    """Whatever figure the provider gives, as input; one that bills by searches alone has no tokens to bill."""
    for place in _COUNTED:
        tokens = figures.count(replies.at(members, place))
        if tokens is not None:
            return Usage(input=tokens)
    return Usage() if _searches(members) else None


def _searches(members: dict[str, Value]) -> tuple[tuple[str, int], ...]:
    """How many searches are billed, where the provider bills by them: up to a hundred documents make one."""
    searches = figures.count(replies.at(members, ("meta", "billed_units", "search_units")))
    return (("search", searches),) if searches else ()


RERANK = Dialect(surface=Surface.RERANK, prepare=embeddings.prepare, read_reply=read_reply, open_stream=None)
