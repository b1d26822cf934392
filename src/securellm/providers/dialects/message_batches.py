"""Anthropic's batches of messages: the requests stand in the body, the answers in a file of results."""

from securellm.core.document import Document, Value
from securellm.core.errors import GatewayError
from securellm.core.kept import Kept, KeptKind
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies
from securellm.providers.dialects.machine import named
from securellm.providers.dialects.requests import as_it_is
from securellm.providers.dialects.shape import Finder, Mark, Members
from securellm.providers.dialects.work import Batching, Progress, why
from securellm.providers.model import BatchPart, Dialect, Errand, ReplyFacts

_BATCH = Finder(
    Members(
        {
            "id": Mark.OPAQUE,
            "type": Mark.OPAQUE,
            "processing_status": Mark.OPAQUE,
            "request_counts": Mark.NUMERIC,
            "created_at": Mark.OPAQUE,
            "expires_at": Mark.OPAQUE,
            "ended_at": Mark.OPAQUE,
            "archived_at": Mark.OPAQUE,
            "cancel_initiated_at": Mark.OPAQUE,
            "results_url": Mark.OPAQUE,
        }
    )
)
_FORGOTTEN = Finder(Members({"id": Mark.OPAQUE, "type": Mark.OPAQUE}))


def read_batch(document: Document) -> ReplyFacts:
    """How a batch stands."""
    return replies.facts(document, _BATCH, _batch)


def read_forgotten(document: Document) -> ReplyFacts:
    """What the provider says of a batch that it has deleted."""
    return replies.facts(document, _FORGOTTEN, _forgotten)


def read_results(document: Document, body: bytes, content_type: str) -> ReplyFacts:  # noqa: ARG001 - one signature
    """The results are read line by line, by whoever knows what was asked."""
    return ReplyFacts(usage=Usage())


def _batch(members: dict[str, Value]) -> replies.Said | None:
    name = named(members.get("id"))
    if name is None or members.get("type") != "message_batch":
        return None
    return replies.Said(usage=Usage(), kept=(Kept(KeptKind.BATCH, name),))


def _forgotten(members: dict[str, Value]) -> replies.Said | None:
    return replies.Said(usage=Usage()) if members.get("type") == "message_batch_deleted" else None


def progress(members: dict[str, Value]) -> Progress | None:
    """How far a batch has come. What it cost only its results say, unless nothing was answered."""
    name = named(members.get("id"))
    if name is None or members.get("type") != "message_batch":
        return None
    ended = members.get("processing_status") == "ended"
    answered = figures.count(replies.at(members, ("request_counts", "succeeded")))
    return Progress(id=name, ended=ended, free=ended and answered == 0)


def is_line(members: dict[str, Value]) -> bool:
    """Whether this is a line of results."""
    return isinstance(members.get("custom_id"), str) and isinstance(members.get("result"), dict)


def reply(members: dict[str, Value]) -> Path | None:
    """Where the reply stands in a line that has one."""
    return ("result", "message") if replies.at(members, ("result", "type")) == "succeeded" else None


def withheld(members: dict[str, Value], error: GatewayError) -> dict[str, Value]:
    """The line of a request that failed."""
    code, message = why(error)
    said: dict[str, Value] = {"type": "permission_error", "message": message, "code": code}
    failed: dict[str, Value] = {"type": "error", "error": said, "request_id": None}
    return {"custom_id": members.get("custom_id"), "result": {"type": "errored", "error": failed}}


_LINE = Finder(
    Members(
        {
            "custom_id": Mark.OPAQUE,
            "result": Members(
                {
                    "type": Mark.OPAQUE,
                    "error": Members(
                        {
                            "type": Mark.OPAQUE,
                            "request_id": Mark.OPAQUE,
                            "error": Members({"type": Mark.OPAQUE, "message": Mark.TEXT}),
                        }
                    ),
                }
            ),
        }
    )
)

BATCHING = Batching(progress=progress, is_line=is_line, reply=reply, texts=_LINE, withheld=withheld)

_ONE = Dialect(surface=Surface.MESSAGE_BATCHES, prepare=as_it_is, read_reply=read_batch, open_stream=None)
_GONE = Dialect(surface=Surface.MESSAGE_BATCHES, prepare=as_it_is, read_reply=read_forgotten, open_stream=None)
_RESULTS = Dialect(
    surface=Surface.MESSAGE_BATCHES,
    prepare=as_it_is,
    read_reply=read_batch,
    open_stream=None,
    read_media=read_results,
    raw=True,
)

CREATE = Errand(name="message_batches.create", method="POST", dialect=_ONE, takes="json", batch=BatchPart.BEGUN)
GET = Errand(name="message_batches.get", method="GET", path="/{id}", dialect=_ONE, batch=BatchPart.SEEN)
CANCEL = Errand(name="message_batches.cancel", method="POST", path="/{id}/cancel", dialect=_ONE, batch=BatchPart.SEEN)
DELETE = Errand(name="message_batches.delete", method="DELETE", path="/{id}", dialect=_GONE, ends=True)
RESULTS = Errand(
    name="message_batches.results",
    method="GET",
    path="/{id}/results",
    dialect=_RESULTS,
    batch=BatchPart.ANSWERS,
)

LIST = Errand(name="message_batches.list", method="GET", dialect=_ONE, lists=GET, kind=KeptKind.BATCH)

ERRANDS = (CREATE, LIST, GET, CANCEL, DELETE, RESULTS)
