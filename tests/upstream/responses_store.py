"""Stored responses and conversations: asked for again, listed, cancelled, deleted."""

import time
from collections.abc import Sequence
from typing import Any

from tests.upstream.answer import Answer, Ask, check, need, page_size
from tests.upstream.faces import Refused
from tests.upstream.memory import Stored
from tests.upstream.speech import write


def get(ask: Ask) -> Answer:
    """A response as it is now; one in the background gets on each time somebody looks."""
    stored = _stored(ask)
    if not stored.later:
        return Answer(body=write(stored.value))
    stored.value, *stored.later = stored.later
    return Answer(body=write(stored.value), bill={} if stored.later else stored.bill)


def delete(ask: Ask) -> Answer:
    """Forget a response."""
    _stored(ask)
    name = ask.place["id"]
    del ask.memory.responses[name]
    return Answer(body=write({"id": name, "object": "response", "deleted": True}))


def cancel(ask: Ask) -> Answer:
    """Stop a response in the background; it costs nothing if it was not finished."""
    stored = _stored(ask)
    if not stored.value["background"]:
        raise Refused(400, "Cannot cancel a synchronous response.")
    if stored.later:
        stored.value, stored.later = {**stored.value, "status": "cancelled"}, []
    return Answer(body=write(stored.value))


def input_items(ask: Ask) -> Answer:
    """What went into a response, newest first unless asked otherwise."""
    return _page(ask, _stored(ask).items)


def create_conversation(ask: Ask) -> Answer:
    """An empty conversation, or one with its first items."""
    name = f"conv_fake{ask.number:08d}"
    value = {"id": name, "object": "conversation", "created_at": int(time.time())}
    value["metadata"] = check(ask.body, "metadata", dict) or {}
    ask.memory.conversations[name] = value
    ask.memory.items[name] = _named(ask)
    return Answer(body=write(value))


def conversation(ask: Ask) -> Answer:
    """A conversation, without its items."""
    return Answer(body=write(_conversation(ask)))


def update_conversation(ask: Ask) -> Answer:
    """A conversation with other metadata."""
    value = _conversation(ask)
    value["metadata"] = need(ask.body, "metadata", dict)
    return Answer(body=write(value))


def delete_conversation(ask: Ask) -> Answer:
    """Forget a conversation; its items are kept."""
    value = _conversation(ask)
    del ask.memory.conversations[value["id"]]
    return Answer(body=write({"id": value["id"], "object": "conversation.deleted", "deleted": True}))


def items(ask: Ask) -> Answer:
    """A conversation's items."""
    return _page(ask, ask.memory.items[_conversation(ask)["id"]])


def add_items(ask: Ask) -> Answer:
    """More items for a conversation."""
    added = _named(ask)
    ask.memory.items[_conversation(ask)["id"]] += added
    return Answer(body=write(_listed(added, more=False)))


def item(ask: Ask) -> Answer:
    """One item of a conversation."""
    return Answer(body=write(_item(ask)))


def delete_item(ask: Ask) -> Answer:
    """Take an item out of its conversation."""
    value = _conversation(ask)
    ask.memory.items[value["id"]].remove(_item(ask))
    return Answer(body=write(value))


def _item(ask: Ask) -> dict[str, Any]:
    for row in ask.memory.items[_conversation(ask)["id"]]:
        if row["id"] == ask.place["item"]:
            return row
    raise Refused(404, f"Item with id '{ask.place['item']}' not found in conversation.")


def _stored(ask: Ask) -> Stored:
    stored = ask.memory.responses.get(ask.place["id"])
    if stored is None:
        raise Refused(404, f"Response with id '{ask.place['id']}' not found.")
    return stored


def _conversation(ask: Ask) -> dict[str, Any]:
    value = ask.memory.conversations.get(ask.place["id"])
    if value is None:
        raise Refused(404, f"Conversation with id '{ask.place['id']}' not found.")
    return value


def _named(ask: Ask) -> list[dict[str, Any]]:
    rows = check(ask.body, "items", list) or []
    return [{"type": "message", "id": f"item_fake{ask.number:08d}x{at}", **row} for at, row in enumerate(rows)]


def _page(ask: Ask, rows: Sequence[dict[str, Any]]) -> Answer:
    ordered = list(rows) if ask.query.get("order") == "asc" else list(reversed(rows))
    after = ask.query.get("after")
    names = [row["id"] for row in ordered]
    start = names.index(after) + 1 if after in names else 0
    size = page_size(ask)
    return Answer(body=write(_listed(ordered[start : start + size], more=start + size < len(ordered))))


def _listed(rows: Sequence[dict[str, Any]], *, more: bool) -> dict[str, object]:
    ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": None, "last_id": None}
    return {"object": "list", "data": list(rows), **ends, "has_more": more}
