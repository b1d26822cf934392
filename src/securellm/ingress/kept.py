"""Paths to what providers keep: each names a thing by its id, and no model."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.custody import not_found
from securellm.gateway.model import Request
from securellm.ingress import batches, conversations, files
from securellm.ingress.errands import Headers, Read, Sent, asked
from securellm.ingress.forms import read_form
from securellm.ingress.query import Query
from securellm.providers import ERRANDS, Errand

ID = r"^[A-Za-z0-9_][A-Za-z0-9._:=~-]{0,255}$"
"""What an id in a path may be: it means the same in every address, encoded or not, and is never `.` or `..`."""
QUERY_VALUE = r"^[A-Za-z0-9._:=~,-]{0,256}$"
"""What a parameter that travels on may be: names, ids and numbers. No text that a guard would have to read."""
_ID = re.compile(ID.strip("^$"))
_VALUE = re.compile(QUERY_VALUE.strip("^$"))


class Row(NamedTuple):
    """One method of one path."""

    template: str
    errand: Errand
    read: Read


class KeptPlace(NamedTuple):
    """Where the path of one request leads."""

    rows: Mapping[str, Row]
    """By method."""
    names: tuple[str, ...]
    """The ids as the path spells them."""

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.rows)

    @property
    def surface(self) -> Surface:
        return next(iter(self.rows.values())).errand.surface

    @property
    def manner(self) -> Manner:
        return manner_of(self.surface)

    def model(self, query: Query) -> str:  # noqa: ARG002 - as a governed path is asked
        """No model is named."""
        return ""

    def asked(self, method: str, body: bytes, headers: Headers, query: Query, *, max_depth: int) -> Request:
        """What is asked for. Raises Refusal for an id that cannot be one, and a body or query that is not taken."""
        row = self.rows[method]
        if not all(map(_ID.fullmatch, self.names)):
            raise not_found()
        _refuse_odd(query, row.errand)
        sent = Sent(row.errand, self.names, headers, max_depth=max_depth)
        match row.errand.takes:
            case "form":
                document, attachments = read_form(body, headers.get("content-type", ""))
                sent = sent._replace(document=document, attachments=attachments)
            case "json":
                sent = sent._replace(document=Document(body, max_depth=max_depth))
            case _ if body.strip() not in (b"", b"{}"):
                raise Refusal(Code.INVALID_REQUEST, "this path takes no body")
        return row.read(sent)


def _refuse_odd(query: Query, errand: Errand) -> None:
    """What does not travel on is ignored, as everywhere; but nobody who asks for a stream is answered without one."""
    if query.one("stream") not in (None, "", "false"):
        raise Refusal(Code.UNSUPPORTED_FIELD, "what is kept is shown whole, never as a stream", param="stream")
    for name in errand.query:
        if not all(map(_VALUE.fullmatch, query.every(name))):
            raise Refusal(Code.INVALID_REQUEST, f"{name} holds what no name, id or number does", param=name)


_RESPONSE = "{response_id}"
_CONVERSATION = "/v1/conversations/{conversation_id}"
_FILE = "/v1/files/{file_id}"
_BATCH = "/v1/batches/{batch_id}"
_MESSAGE_BATCH = "/v1/messages/batches/{message_batch_id}"
_ITEM = f"{_CONVERSATION}/items/{{item_id}}"


def _stored(prefix: str) -> tuple[Row, ...]:
    one = f"{prefix}/{_RESPONSE}"
    return (
        Row(one, ERRANDS["stored_responses.get"], asked),
        Row(one, ERRANDS["stored_responses.delete"], asked),
        Row(f"{one}/cancel", ERRANDS["stored_responses.cancel"], asked),
        Row(f"{one}/input_items", ERRANDS["stored_responses.input_items"], asked),
    )


_ROWS = (
    *_stored("/v1/responses"),
    *_stored("/openai/responses"),
    Row("/v1/conversations", ERRANDS["conversations.create"], conversations.extract),
    Row(_CONVERSATION, ERRANDS["conversations.get"], asked),
    Row(_CONVERSATION, ERRANDS["conversations.update"], conversations.extract),
    Row(_CONVERSATION, ERRANDS["conversations.delete"], asked),
    Row(f"{_CONVERSATION}/items", ERRANDS["conversations.items.create"], conversations.extract),
    Row(f"{_CONVERSATION}/items", ERRANDS["conversations.items.list"], asked),
    Row(_ITEM, ERRANDS["conversations.items.get"], asked),
    Row(_ITEM, ERRANDS["conversations.items.delete"], asked),
    Row("/v1/files", ERRANDS["files.create"], files.read_upload),
    Row("/v1/files", ERRANDS["files.list"], asked),
    Row(_FILE, ERRANDS["files.get"], asked),
    Row(_FILE, ERRANDS["files.delete"], asked),
    Row(f"{_FILE}/content", ERRANDS["files.content"], asked),
    Row("/v1/batches", ERRANDS["batches.create"], batches.read_batch),
    Row("/v1/batches", ERRANDS["batches.list"], asked),
    Row(_BATCH, ERRANDS["batches.get"], asked),
    Row(f"{_BATCH}/cancel", ERRANDS["batches.cancel"], asked),
    Row("/v1/messages/batches", ERRANDS["message_batches.create"], batches.read_message_batch),
    Row("/v1/messages/batches", ERRANDS["message_batches.list"], asked),
    Row(_MESSAGE_BATCH, ERRANDS["message_batches.get"], asked),
    Row(_MESSAGE_BATCH, ERRANDS["message_batches.delete"], asked),
    Row(f"{_MESSAGE_BATCH}/cancel", ERRANDS["message_batches.cancel"], asked),
    Row(f"{_MESSAGE_BATCH}/results", ERRANDS["message_batches.results"], asked),
)


def _by_template(rows: tuple[Row, ...]) -> dict[str, dict[str, Row]]:
    paths: dict[str, dict[str, Row]] = {}
    for row in rows:
        paths.setdefault(row.template, {})[row.errand.method] = row
    return paths


PATHS: Mapping[str, Mapping[str, Row]] = _by_template(_ROWS)
"""The rows of every path, by method."""

_PATTERNS = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "([^/]*)", re.escape(template))), rows) for template, rows in PATHS.items()
]


def find(path: str) -> KeptPlace | None:
    """The rows of a path as it was sent: nothing is decoded, so no two spellings lead to one thing."""
    for pattern, rows in _PATTERNS:
        found = pattern.fullmatch(path)
        if found is not None:
            return KeptPlace(rows, found.groups())
    return None
