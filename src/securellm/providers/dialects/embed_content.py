"""Embedding contents, one or several: vectors out, no stream."""

from securellm.core.document import Document, Patch, Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.shape import Each, Finder, Mark, Members
from securellm.providers.model import Dialect, ReplyFacts

_VECTOR = Members(
    {
        "values": Mark.ENCODED,
        "shape": Mark.NUMERIC,
        "statistics": Members({"tokenCount": Mark.NUMERIC, "truncated": Mark.OPAQUE}),
    }
)
_MODAL = Each(Members({"modality": Mark.OPAQUE, "tokenCount": Mark.NUMERIC}))
_REPLY = Finder(
    Members(
        {
            "embedding": _VECTOR,
            "embeddings": Each(_VECTOR),
            "usageMetadata": Members({"promptTokensDetails": _MODAL, "promptTokenDetails": _MODAL}, other=Mark.NUMERIC),
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
    """Make the edits an upstream needs; their names. Each request of several names its model, as the path does."""
    asked = document.members().get("requests")
    places: list[Path] = [("model",)]
    places += [("requests", at, "model") for at in range(len(asked) if isinstance(asked, list) else 0)]
    return requests.name_where_named(patch, document, upstream_model, places=places, prefix="models/")


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("embedding"), dict) and not isinstance(members.get("embeddings"), list):
        return None
    usage = members.get("usageMetadata")
    return replies.Said(usage=figures.by_modality(usage) if isinstance(usage, dict) else None)


EMBED_CONTENT = Dialect(surface=Surface.EMBED_CONTENT, prepare=prepare, read_reply=read_reply, open_stream=None)
BATCH_EMBED_CONTENTS = Dialect(
    surface=Surface.BATCH_EMBED_CONTENTS, prepare=prepare, read_reply=read_reply, open_stream=None
)
