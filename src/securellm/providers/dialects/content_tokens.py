"""Counting the tokens of contents: a number out, nothing generated and nothing billed."""

from securellm.core.document import Document, Patch, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.shape import Each, Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_MODAL = Each(Members({"modality": Mark.OPAQUE, "tokenCount": Mark.NUMERIC}))
_REPLY = Finder(
    Members(
        {
            "totalTokens": Mark.NUMERIC,
            "totalBillableCharacters": Mark.NUMERIC,
            "cachedContentTokenCount": Mark.NUMERIC,
            "promptTokensDetails": _MODAL,
            "cacheTokensDetails": _MODAL,
        }
    )
)
_PLACES = (("model",), ("generateContentRequest", "model"), ("generate_content_request", "model"))


def prepare(
    patch: Patch,
    document: Document,
    *,
    upstream_model: str | None,
    output_cap: int | None,  # noqa: ARG001 - nothing is generated
    cap_fields: tuple[str, ...],  # noqa: ARG001 - one signature for all
    inject_usage: bool,  # noqa: ARG001 - one signature for all
) -> tuple[str, ...]:
    """Make the edits an upstream needs; their names. The path names the model, so the body need not."""
    return requests.name_where_named(patch, document, upstream_model, places=_PLACES, prefix="models/")


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    # A zero is left out of the figures, so that the count of nothing is an empty object.
    if members.get("error") or (members and figures.count(members.get("totalTokens")) is None):
        return None
    return replies.Said(usage=Usage())


CONTENT_TOKENS = Dialect(surface=Surface.CONTENT_TOKENS, prepare=prepare, read_reply=read_reply, open_stream=None)
