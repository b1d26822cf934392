"""Embeddings: vectors out, no stream."""

from securellm.core.document import Document, Patch, Value
from securellm.core.surfaces import Surface
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.shape import Each, Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_REPLY = Finder(
    Members(
        {
            "id": Mark.OPAQUE,
            "object": Mark.OPAQUE,
            "created": Mark.NUMERIC,
            "model": Mark.OPAQUE,
            "usage": Mark.NUMERIC,
            "data": Each(Members({"object": Mark.OPAQUE, "index": Mark.NUMERIC, "embedding": Mark.ENCODED})),
        }
    )
)


def prepare(
    patch: Patch,
    document: Document,
    *,
    upstream_model: str | None,
    output_cap: int | None,  # noqa: ARG001 - nothing is completed
    cap_fields: tuple[str, ...],  # noqa: ARG001 - one signature for all
    inject_usage: bool,  # noqa: ARG001 - one signature for all
) -> tuple[str, ...]:
    """Make the edits an upstream needs; their names."""
    return requests.set_model(patch, document, upstream_model)


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("data"), list):
        return None
    usage = members.get("usage")
    return replies.Said(
        usage=figures.inclusive(usage, prompt="prompt_tokens", completion=None) if isinstance(usage, dict) else None
    )


EMBEDDINGS = Dialect(surface=Surface.EMBEDDINGS, prepare=prepare, read_reply=read_reply, open_stream=None)
