"""Things that providers keep, made through the gateway for the requests that name them."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from tests.flows.front import MESSAGES, RESPONSES, Call, World, asking
from tests.flows.inprocess import FORM, KEPT_BODIES, Asked, form, line_for

CONVERSATIONS = "/v1/conversations"
Make = Callable[[World, dict[str, str]], Awaitable[str]]
"""Makes a thing that those already made belong to, and says its id."""


def id_of(call: Call) -> str:
    assert call.status == 200, call.body
    name = call.json()["id"]
    assert isinstance(name, str)
    return name


async def _response(opened: World, made: dict[str, str]) -> str:
    # In the background, for only then can it be cancelled.
    return id_of(await opened.ask(RESPONSES, asking(RESPONSES, background=True)))


async def _conversation(opened: World, made: dict[str, str]) -> str:
    return id_of(await opened.ask(CONVERSATIONS, KEPT_BODIES["conversations.create"]))


async def _item(opened: World, made: dict[str, str]) -> str:
    listed = await opened.ask(f"{CONVERSATIONS}/{made['conversation_id']}/items", b"", method="GET")
    name = listed.json()["data"][0]["id"]
    assert isinstance(name, str)
    return name


def form_of(lines: bytes, purpose: str = "batch", name: str = "in.jsonl") -> bytes:
    """An upload."""
    return form({"purpose": purpose}, ("file", "application/jsonl", lines), filename=name)


async def _file(opened: World, made: dict[str, str]) -> str:
    return id_of(
        await opened.ask("/v1/files", form_of(json.dumps(line_for()).encode()), headers={"content-type": FORM})
    )


async def _batch(opened: World, made: dict[str, str]) -> str:
    body = {**KEPT_BODIES["batches.create"], "input_file_id": await _file(opened, made)}
    return id_of(await opened.ask("/v1/batches", body))


async def _message_batch(opened: World, made: dict[str, str]) -> str:
    request = {"custom_id": "one", "params": asking(MESSAGES)}
    name = id_of(await opened.ask("/v1/messages/batches", {"requests": [request]}))
    # It has ended: before that it can neither be read nor deleted.
    await opened.ask(f"/v1/messages/batches/{name}", b"", method="GET")
    return name


MAKERS: dict[str, Make] = {
    "response_id": _response,
    "conversation_id": _conversation,
    "item_id": _item,
    "file_id": _file,
    "batch_id": _batch,
    "message_batch_id": _message_batch,
}
"""By what the path calls the thing."""


async def path_of(opened: World, asked: Asked) -> str:
    """The errand's path, to things that were just made."""
    made: dict[str, str] = {}
    for name in re.findall(r"{(\w+)}", asked.template):
        made[name] = await MAKERS[name](opened, made)
    return asked.template.format(**made)


async def run(opened: World, asked: Asked, **how: Any) -> Call:
    """The errand, on things that were just made unless a path is given."""
    path = how.pop("path", None) or await path_of(opened, asked)
    headers = {"content-type": asked.content_type, **how.pop("headers", {})}
    given = {"method": asked.method, "headers": headers, **how}
    body = given.pop("body", None) or await _body(opened, asked)
    return await opened.ask(path, body, **given)


async def _body(opened: World, asked: Asked) -> bytes:
    """A good body, whose things exist."""
    if asked.errand == "batches.create":
        return json.dumps({**KEPT_BODIES[asked.errand], "input_file_id": await _file(opened, {})}).encode()
    return asked.body
