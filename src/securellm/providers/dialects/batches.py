"""OpenAI's batches: made from a file of requests, answered in another file within a day."""

from securellm.core.document import Document, Value
from securellm.core.errors import GatewayError
from securellm.core.kept import Kept, KeptKind
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies
from securellm.providers.dialects.machine import named
from securellm.providers.dialects.requests import as_it_is
from securellm.providers.dialects.shape import Each, Finder, Mark, Members
from securellm.providers.dialects.work import Batching, Progress, why
from securellm.providers.model import BatchPart, Dialect, Errand, ReplyFacts

ENDS = frozenset({"completed", "failed", "expired", "cancelled"})
"""What it can be said to be once nothing more is answered."""

_TIMES = (
    "created", "in_progress", "expires", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled",
)  # fmt: skip
_BATCH = Finder(
    Members(
        {
            **{f"{time}_at": Mark.NUMERIC for time in _TIMES},
            "id": Mark.OPAQUE,
            "object": Mark.OPAQUE,
            "endpoint": Mark.OPAQUE,
            "model": Mark.OPAQUE,
            "status": Mark.OPAQUE,
            "completion_window": Mark.OPAQUE,
            "input_file_id": Mark.OPAQUE,
            "output_file_id": Mark.OPAQUE,
            "error_file_id": Mark.OPAQUE,
            "request_counts": Mark.NUMERIC,
            "usage": Mark.NUMERIC,
            "metadata": Mark.TEXT,
            "errors": Members(
                {
                    "object": Mark.OPAQUE,
                    "data": Each(
                        Members(
                            {
                                "code": Mark.OPAQUE,
                                "line": Mark.NUMERIC,
                                "param": Mark.TEXT,
                                "message": Mark.TEXT,
                            }
                        )
                    ),
                }
            ),
        }
    )
)


def read_batch(document: Document) -> ReplyFacts:
    """How a batch stands. What it consumed is paid by the request that made it, and is no usage of this one."""
    return replies.facts(document, _BATCH, _batch)


def _batch(members: dict[str, Value]) -> replies.Said | None:
    if members.get("object") != "batch" or not named(members.get("id")):
        return None
    files = (members.get("output_file_id"), members.get("error_file_id"))
    return replies.Said(
        usage=Usage(),
        kept=(
            Kept(KeptKind.BATCH, str(members["id"])),
            *(Kept(KeptKind.FILE, file) for file in files if isinstance(file, str) and file),
        ),
    )


def progress(members: dict[str, Value]) -> Progress | None:
    """How far a batch has come, and what it cost."""
    name = named(members.get("id"))
    if name is None or members.get("object") != "batch":
        return None
    ended = members.get("status") in ENDS
    answered = figures.count(replies.at(members, ("request_counts", "completed")))
    usage = members.get("usage")
    return Progress(
        id=name,
        ended=ended,
        free=ended and answered == 0 and not members.get("output_file_id"),
        usage=figures.inclusive(usage, prompt="input_tokens", completion="output_tokens")
        if ended and isinstance(usage, dict)
        else None,
        model=named(members.get("model")),
    )


def is_line(members: dict[str, Value]) -> bool:
    """Whether this is a line of an output or error file."""
    return isinstance(members.get("custom_id"), str) and ("response" in members or "error" in members)


def reply(members: dict[str, Value]) -> Path | None:
    """Where the reply stands in a line that has one."""
    answered = replies.at(members, ("response", "status_code")) == 200
    return ("response", "body") if answered and replies.at(members, ("response", "body")) is not None else None


def withheld(members: dict[str, Value], error: GatewayError) -> dict[str, Value]:
    """The line of a request that failed otherwise than by an HTTP status."""
    code, message = why(error)
    said: dict[str, Value] = {"code": code, "message": message}
    return {"id": members.get("id"), "custom_id": members.get("custom_id"), "response": None, "error": said}


_LINE = Finder(
    Members(
        {
            "id": Mark.OPAQUE,
            "custom_id": Mark.OPAQUE,
            "response": Members({"status_code": Mark.NUMERIC, "request_id": Mark.OPAQUE}),
            "error": Members({"code": Mark.OPAQUE, "message": Mark.TEXT}),
        }
    )
)

BATCHING = Batching(progress=progress, is_line=is_line, reply=reply, texts=_LINE, withheld=withheld)

_ONE = Dialect(surface=Surface.BATCHES, prepare=as_it_is, read_reply=read_batch, open_stream=None)

CREATE = Errand(name="batches.create", method="POST", dialect=_ONE, takes="json", batch=BatchPart.BEGUN)
GET = Errand(name="batches.get", method="GET", path="/{id}", dialect=_ONE, batch=BatchPart.SEEN)
CANCEL = Errand(name="batches.cancel", method="POST", path="/{id}/cancel", dialect=_ONE, batch=BatchPart.SEEN)

LIST = Errand(name="batches.list", method="GET", dialect=_ONE, lists=GET, kind=KeptKind.BATCH)

ERRANDS = (CREATE, LIST, GET, CANCEL)
