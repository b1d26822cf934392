"""The items of a response, begun and finished."""

import base64
from typing import Any

from tests.upstream.answer import Ask
from tests.upstream.speech import Call, Speech

SEALED = base64.b64encode(b"what the fake thought, encrypted").decode()
"""The encrypted content of a reasoning item."""
Item = dict[str, Any]


def text_part(ask: Ask, text: str) -> Item:
    """A message's content."""
    if ask.behaviour.refusal:
        return {"type": "refusal", "refusal": text}
    notes = [citation()] if ask.behaviour.server_tool and text else []
    return {"type": "output_text", "annotations": notes, "logprobs": [], "text": text}


def citation() -> Item:
    """Where the provider's own search found something."""
    return {"type": "url_citation", "start_index": 0, "end_index": 1, "title": "Found", "url": "https://example.com/"}


def message(ask: Ask, text: str | None, status: str) -> Item:
    """A message; without a text it has no content yet."""
    content = [] if text is None else [text_part(ask, text)]
    name = f"msg_fake{ask.number:08d}"
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def call(ask: Ask, made: Call, position: int, status: str) -> Item:
    """A function call; its arguments stand in it once it is completed."""
    return {
        "id": f"fc_fake{ask.number:08d}x{position}",
        "type": "function_call",
        "status": status,
        "call_id": f"call_fake{ask.number:08d}x{position}",
        "name": made.name,
        "arguments": made.written if status == "completed" else "",
    }


def reasoning(ask: Ask, speech: Speech) -> Item:
    """What was thought: summed up, and encrypted for those who ask for it."""
    summary = [] if ask.behaviour.redacted else [{"type": "summary_text", "text": "".join(speech.thought)}]
    item: Item = {"id": f"rs_fake{ask.number:08d}", "type": "reasoning", "summary": summary}
    if ask.behaviour.redacted or "reasoning.encrypted_content" in (ask.body.get("include") or ()):
        item["encrypted_content"] = SEALED
    return item


def search(ask: Ask, status: str) -> Item:
    """A search that the provider made by itself."""
    action = {"type": "search", "query": "the fake's own question"}
    return {"id": f"ws_fake{ask.number:08d}", "type": "web_search_call", "status": status, "action": action}


def finished(ask: Ask, speech: Speech) -> list[Item]:
    """The whole output of a finished answer."""
    items = [reasoning(ask, speech)] if speech.thought else []
    if ask.behaviour.server_tool:
        items.append(search(ask, "completed"))
    if speech.calls:
        items += [call(ask, made, position, "completed") for position, made in enumerate(speech.calls)]
    else:
        items.append(message(ask, speech.text, "incomplete" if speech.cut else "completed"))
    return items
