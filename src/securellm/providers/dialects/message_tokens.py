"""Counting the tokens of messages: a number out, nothing generated and nothing billed."""

from securellm.core.document import Document, Patch, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.shape import Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_REPLY = Finder(
    Members(
        {"input_tokens": Mark.NUMERIC, "context_management": Members({"original_input_tokens": Mark.NUMERIC})},
    )
)


def prepare(
    patch: Patch,
    document: Document,
    *,
    upstream_model: str | None,
    output_cap: int | None,  # noqa: ARG001 - nothing is generated
    cap_fields: tuple[str, ...],  # noqa: ARG001 - one signature for all
    inject_usage: bool,  # noqa: ARG001 - one signature for all
) -> tuple[str, ...]:
    """Make the edits an upstream needs; their names."""
    return requests.set_model(patch, document, upstream_model)


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    return None if figures.count(members.get("input_tokens")) is None else replies.Said(usage=Usage())


MESSAGE_TOKENS = Dialect(surface=Surface.MESSAGE_TOKENS, prepare=prepare, read_reply=read_reply, open_stream=None)
