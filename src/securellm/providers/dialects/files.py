"""OpenAI's files: uploaded, looked at, read, forgotten."""

from securellm.core.document import Document, Value
from securellm.core.kept import Kept, KeptKind
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import forms, replies
from securellm.providers.dialects.requests import as_it_is
from securellm.providers.dialects.shape import Finder, Mark, Members
from securellm.providers.dialects.stored_responses import read_forgotten
from securellm.providers.model import BatchPart, Dialect, Errand, ReplyFacts

_FILE = Finder(
    Members(
        {
            "id": Mark.OPAQUE,
            "object": Mark.OPAQUE,
            "bytes": Mark.NUMERIC,
            "created_at": Mark.NUMERIC,
            "expires_at": Mark.NUMERIC,
            "filename": Mark.TEXT,
            "purpose": Mark.OPAQUE,
            "status": Mark.OPAQUE,
            "status_details": Mark.TEXT,
        }
    )
)


def read_file(document: Document) -> ReplyFacts:
    """What is known of a file."""
    return replies.facts(document, _FILE, _file)


def _file(members: dict[str, Value]) -> replies.Said | None:
    name = members.get("id")
    if not isinstance(name, str) or not name or members.get("object") != "file":
        return None
    return replies.Said(usage=Usage(), kept=(Kept(KeptKind.FILE, name),))


def read_content(document: Document, body: bytes, content_type: str) -> ReplyFacts:  # noqa: ARG001 - one signature
    """What stands in a file is read by whoever knows what it is."""
    return ReplyFacts(usage=Usage())


_ONE = Dialect(surface=Surface.FILES, prepare=as_it_is, read_reply=read_file, open_stream=None)
_UPLOAD = Dialect(surface=Surface.FILES, prepare=as_it_is, read_reply=read_file, open_stream=None, encode=forms.encode)
_GONE = Dialect(surface=Surface.FILES, prepare=as_it_is, read_reply=read_forgotten, open_stream=None)
_CONTENT = Dialect(
    surface=Surface.FILES, prepare=as_it_is, read_reply=read_file, open_stream=None, read_media=read_content, raw=True
)

UPLOAD = Errand(name="files.create", method="POST", dialect=_UPLOAD, takes="form", batch=BatchPart.MADE_FROM)
GET = Errand(name="files.get", method="GET", path="/{id}", dialect=_ONE)
DELETE = Errand(name="files.delete", method="DELETE", path="/{id}", dialect=_GONE, ends=True)
CONTENT = Errand(name="files.content", method="GET", path="/{id}/content", dialect=_CONTENT, batch=BatchPart.ANSWERS)

LIST = Errand(name="files.list", method="GET", dialect=_ONE, lists=GET, kind=KeptKind.FILE)

ERRANDS = (UPLOAD, LIST, GET, DELETE, CONTENT)
