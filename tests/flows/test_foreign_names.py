"""Another tenant's things, named in every place of a body where a provider would look them up."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, MESSAGES, RESPONSES, asking, world
from tests.flows.inprocess import FORM, form
from tests.harness import Site

PNG = ("image", "image/png", b"\x89PNG\r\n\x1a\n")
Body = Callable[[str], dict[str, Any]]


def item(**members: Any) -> dict[str, Any]:
    return {"model": "chat", "input": [members, {"role": "user", "content": "and then"}]}


def part(**members: Any) -> dict[str, Any]:
    return item(role="user", content=[members])


def turn(path: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {**asking(path), "messages": [{"role": "user", "content": list(content)}]}


PLACES: dict[str, tuple[str, Body]] = {
    "previous response": (RESPONSES, lambda name: asking(RESPONSES, previous_response_id=name)),
    "conversation": (RESPONSES, lambda name: asking(RESPONSES, conversation={"id": name})),
    "reference": (RESPONSES, lambda name: item(type="item_reference", id=name)),
    "reference that says who speaks": (RESPONSES, lambda name: item(type="item_reference", id=name, role="user")),
    "reference without a type": (RESPONSES, lambda name: item(id=name, role="user")),
    "picture drawn before": (RESPONSES, lambda name: item(type="image_generation_call", id=name)),
    "thought": (RESPONSES, lambda name: item(type="reasoning", id=name, summary=[])),
    "search": (RESPONSES, lambda name: item(type="file_search_call", id=name, queries=[], status="completed")),
    "container that an item ran in": (
        RESPONSES,
        lambda name: item(type="code_interpreter_call", id="ci_1", container_id=name, code="", outputs=[]),
    ),
    "file": (RESPONSES, lambda name: part(type="input_file", file_id=name)),
    "file of a stored prompt": (
        RESPONSES,
        lambda name: asking(RESPONSES, prompt={"id": "p", "variables": {"a": {"type": "input_file", "file_id": name}}}),
    ),
    "file of a tool": (
        RESPONSES,
        lambda name: asking(
            RESPONSES, tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [name]}}]
        ),
    ),
    "file in chat": (CHAT, lambda name: turn(CHAT, {"type": "file", "file": {"file_id": name}})),
    "file beside its part in chat": (CHAT, lambda name: turn(CHAT, {"type": "file", "file_id": name})),
    "file of a message": (
        MESSAGES,
        lambda name: turn(MESSAGES, {"type": "document", "source": {"type": "file", "file_id": name}}),
    ),
    "file inside a document": (
        MESSAGES,
        lambda name: turn(
            MESSAGES,
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [{"type": "image", "source": {"type": "file", "file_id": name}}],
                },
            },
        ),
    ),
    "container of a message": (MESSAGES, lambda name: asking(MESSAGES, container=name)),
    "items of a conversation": (
        "/v1/conversations",
        lambda name: {"items": [{"type": "image_generation_call", "id": name}]},
    ),
    "entry of a batch": (
        "/v1/messages/batches",
        lambda name: {"requests": [{"custom_id": "one", "params": asking(MESSAGES, container=name)}]},
    ),
}


@pytest.mark.requirement("GW-6", "ID-4")
def test_no_place_of_a_body_leads_to_another_tenants_things(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            # An id is an id: whatever it stands for, it is nothing to another tenant.
            name = str((await opened.ask(RESPONSES, asking(RESPONSES))).json()["output"][0]["id"])
            led: list[str] = []
            for place, (path, body) in PLACES.items():
                call = await opened.ask(path, body(name), key=keys["other"])
                if (call.status, (json.loads(call.body).get("error") or {}).get("code")) != (404, "not_found"):
                    led.append(f"{place}: {call.status}")
            assert led == []
            edit = form({"prompt": "a cat", "model": "chat", "mask[file_id]": name}, PNG)
            drawn = await opened.ask("/v1/images/edits", edit, headers={"content-type": FORM}, key=keys["other"])
            assert (drawn.status, drawn.code) == (404, "not_found")
            assert len(opened.reached()) == 1

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6", "ID-4")
@pytest.mark.parametrize("how", ["raises", "returns another type"])
def test_a_custody_that_cannot_say_whose_a_mentioned_id_is_refuses(tmp_path: Path, how: str) -> None:
    async def dead(*arguments: Any) -> Any:
        if how == "raises":
            raise KeyError("a defect")

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            opened.app.gates.custody.others = dead  # type: ignore[method-assign, assignment]
            call = await opened.ask(RESPONSES, item(type="image_generation_call", id="ig_1"))
            assert (call.status, call.code) == (503, "gate_failed")
            assert opened.reached() == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6")
def test_an_item_that_a_tenant_was_given_or_that_nobody_was_travels_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            opened.behave(thinking=True)
            first = (await opened.ask(RESPONSES, asking(RESPONSES))).json()
            thought = first["output"][0]
            assert thought["type"] == "reasoning"
            said = [{"role": "user", "content": "hello"}, *first["output"], {"role": "user", "content": "and then"}]
            assert (await opened.ask(RESPONSES, {"model": "chat", "input": said})).status == 200
            opened.app.gates.custody._places.clear()
            assert (await opened.ask(RESPONSES, {"model": "chat", "input": said})).status == 200
            unkept = [{"type": "web_search_call", "id": "ws_elsewhere", "status": "completed"}, *said[-1:]]
            before = len(opened.reached())
            await opened.ask(RESPONSES, {"model": "chat", "input": unkept})
            assert len(opened.reached()) == before + 1

    asyncio.run(scenario())
