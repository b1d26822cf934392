"""Conversations: made, named anew, forgotten, and the items in them."""

from securellm.core.document import Document, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import kept, replies, responses
from securellm.providers.dialects.requests import as_it_is
from securellm.providers.dialects.shape import Finder, Mark, Members
from securellm.providers.dialects.stored_responses import read_forgotten, read_items
from securellm.providers.model import Dialect, Errand, ReplyFacts

_ONE = Finder(
    Members({"id": Mark.OPAQUE, "object": Mark.OPAQUE, "created_at": Mark.NUMERIC, "metadata": Mark.TEXT}),
)
_ITEM = Finder(responses.ITEM)


def read_made(document: Document) -> ReplyFacts:
    """What a provider says of a conversation that it has just made: it is kept from now on."""
    return replies.facts(document, _ONE, _made)


def read_conversation(document: Document) -> ReplyFacts:
    """What a provider says of a conversation."""
    return replies.facts(document, _ONE, _conversation)


def read_item(document: Document) -> ReplyFacts:
    """One item of a conversation."""
    return replies.facts(document, _ITEM, _item)


def _made(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("id"), str):
        return None
    return replies.Said(usage=Usage(), kept=tuple(kept.of_conversation(members)))


def _conversation(members: dict[str, Value]) -> replies.Said | None:
    return replies.Said(usage=Usage()) if isinstance(members.get("id"), str) else None


def _item(members: dict[str, Value]) -> replies.Said | None:
    if not isinstance(members.get("id"), str):
        return None
    return replies.Said(usage=Usage(), kept=tuple(kept.of_item(members, stored=True)))


_MADE = Dialect(surface=Surface.CONVERSATIONS, prepare=as_it_is, read_reply=read_made, open_stream=None)
_KNOWN = Dialect(surface=Surface.CONVERSATIONS, prepare=as_it_is, read_reply=read_conversation, open_stream=None)
_GONE = Dialect(surface=Surface.CONVERSATIONS, prepare=as_it_is, read_reply=read_forgotten, open_stream=None)
_ITEMS = Dialect(surface=Surface.CONVERSATIONS, prepare=as_it_is, read_reply=read_items, open_stream=None)
_PIECE = Dialect(surface=Surface.CONVERSATIONS, prepare=as_it_is, read_reply=read_item, open_stream=None)
_INCLUDE = frozenset({"include", "include[]"})

ERRANDS = (
    Errand(name="conversations.create", method="POST", dialect=_MADE, takes="json"),
    Errand(name="conversations.get", method="GET", path="/{id}", dialect=_KNOWN),
    Errand(name="conversations.update", method="POST", path="/{id}", dialect=_KNOWN, takes="json"),
    Errand(name="conversations.delete", method="DELETE", path="/{id}", dialect=_GONE, ends=True),
    Errand(
        name="conversations.items.create",
        method="POST",
        path="/{id}/items",
        dialect=_ITEMS,
        takes="json",
        query=_INCLUDE,
    ),
    Errand(
        name="conversations.items.list",
        method="GET",
        path="/{id}/items",
        dialect=_ITEMS,
        query=_INCLUDE | {"after", "limit", "order"},
    ),
    Errand(name="conversations.items.get", method="GET", path="/{id}/items/{id}", dialect=_PIECE, query=_INCLUDE),
    Errand(name="conversations.items.delete", method="DELETE", path="/{id}/items/{id}", dialect=_KNOWN, ends=True),
)
