"""Stored responses: asked for again, stopped, listed by what went into them, forgotten."""

from securellm.core.document import Document, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import kept, replies, responses
from securellm.providers.dialects.requests import as_it_is
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.model import Dialect, Errand, ReplyFacts

_ENDS: dict[str, Shape] = {
    "object": Mark.OPAQUE,
    "first_id": Mark.OPAQUE,
    "last_id": Mark.OPAQUE,
    "has_more": Mark.OPAQUE,
}
ITEMS = Finder(Members({**_ENDS, "data": Each(responses.ITEM)}))
FORGOTTEN = Finder(Members({"id": Mark.OPAQUE, "object": Mark.OPAQUE, "deleted": Mark.OPAQUE}))


def read_response(document: Document) -> ReplyFacts:
    """What a stored response says. Its usage was billed when it was made, and is no news."""
    return replies.facts(document, responses.REPLY, _response)


def read_items(document: Document) -> ReplyFacts:
    """What a list of items says: of a response's input, or of a conversation."""
    return replies.facts(document, ITEMS, _items)


def read_forgotten(document: Document) -> ReplyFacts:
    """What a provider says of a thing that it has deleted."""
    return replies.facts(document, FORGOTTEN, _forgotten)


def _response(members: dict[str, Value]) -> replies.Said | None:
    # One that has failed, or has not been answered yet, is as good an answer to this question as any.
    if not isinstance(members.get("output"), list):
        return None
    return replies.Said(usage=Usage(), kept=tuple(kept.of_response(members)))


def _items(members: dict[str, Value]) -> replies.Said | None:
    items = members.get("data")
    if not isinstance(items, list):
        return None
    return replies.Said(usage=Usage(), kept=tuple(thing for item in items for thing in kept.of_item(item, stored=True)))


def _forgotten(members: dict[str, Value]) -> replies.Said | None:
    return replies.Said(usage=Usage()) if members.get("deleted") is True else None


_ONE = Dialect(surface=Surface.STORED_RESPONSES, prepare=as_it_is, read_reply=read_response, open_stream=None)
_LIST = Dialect(surface=Surface.STORED_RESPONSES, prepare=as_it_is, read_reply=read_items, open_stream=None)
_GONE = Dialect(surface=Surface.STORED_RESPONSES, prepare=as_it_is, read_reply=read_forgotten, open_stream=None)

GET = Errand(
    name="stored_responses.get",
    method="GET",
    path="/{id}",
    dialect=_ONE,
    query=frozenset({"include", "include[]", "include_obfuscation"}),
)
DELETE = Errand(name="stored_responses.delete", method="DELETE", path="/{id}", dialect=_GONE, ends=True)
CANCEL = Errand(name="stored_responses.cancel", method="POST", path="/{id}/cancel", dialect=_ONE)
INPUT_ITEMS = Errand(
    name="stored_responses.input_items",
    method="GET",
    path="/{id}/input_items",
    dialect=_LIST,
    query=frozenset({"include", "include[]", "after", "before", "limit", "order"}),
)

ERRANDS = (GET, DELETE, CANCEL, INPUT_ITEMS)
