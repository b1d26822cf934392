"""The Open Responses specification (openresponses.org, 2026-04-24) against what this surface answers and streams.

Restated here is what that document requires of each object and event: which members there are, and of what type.
The specification's own suite asks for the same six things that `ASKED` asks for.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tests.flows.front import RESPONSES, Call, World, asking, world
from tests.harness import Site

INT, NUM, STR, BOOL, LIST, OBJ = "integer", "number", "string", "boolean", "array", "object"


def shape(kind: str | None = None, /, **members: Any) -> dict[str, Any]:
    """An object that has all of these: a type's name, several of them, or a schema; `kind` is its `type`."""
    properties = {
        name: {"type": given if isinstance(given, str) else list(given)} if isinstance(given, str | tuple) else given
        for name, given in members.items()
    }
    if kind is not None:
        properties["type"] = {"const": kind}
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def one_of(*shapes: dict[str, Any]) -> dict[str, Any]:
    """Told apart by their `type`: one that none of them has is an extension, which must name its origin."""
    known = [each["properties"]["type"]["const"] for each in shapes]
    return {"anyOf": [*shapes, {"properties": {"type": {"not": {"enum": known}}}, "required": ["type"]}]}


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def or_null(given: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [given, {"type": "null"}]}


STATUS = {"enum": ["in_progress", "completed", "incomplete"]}
LOGPROB = shape(token=STR, logprob=NUM, bytes=LIST, top_logprobs=LIST)
CITATION = shape("url_citation", url=STR, start_index=INT, end_index=INT, title=STR)
OUTPUT_TEXT = shape("output_text", text=STR, annotations=many(CITATION))
REFUSAL = shape("refusal", refusal=STR)
SUMMARY = shape("summary_text", text=STR)
PART = one_of(OUTPUT_TEXT, REFUSAL, SUMMARY, shape("reasoning_text", text=STR), shape("input_text", text=STR))
ITEM = one_of(
    shape(
        "message",
        id=STR,
        status=STATUS,
        role={"enum": ["user", "assistant", "system", "developer"]},
        content=many(PART),
    ),
    shape("function_call", id=STR, call_id=STR, name=STR, arguments=STR, status=STATUS),
    shape("reasoning", id=STR, summary=many(PART)),
)
USAGE = shape(
    input_tokens=INT,
    output_tokens=INT,
    total_tokens=INT,
    input_tokens_details=shape(cached_tokens=INT),
    output_tokens_details=shape(reasoning_tokens=INT),
)
RESPONSE = shape(
    id=STR,
    object={"const": "response"},
    created_at=INT,
    completed_at=(INT, "null"),
    status=STR,
    incomplete_details=or_null(shape(reason=STR)),
    model=STR,
    previous_response_id=(STR, "null"),
    instructions=(STR, "null"),
    output=many(ITEM),
    error=or_null(shape(code=STR, message=STR)),
    tools=LIST,
    tool_choice=(STR, OBJ),
    truncation={"enum": ["auto", "disabled"]},
    parallel_tool_calls=BOOL,
    text=OBJ,
    top_p=NUM,
    presence_penalty=NUM,
    frequency_penalty=NUM,
    top_logprobs=INT,
    temperature=NUM,
    reasoning=(OBJ, "null"),
    usage=or_null(USAGE),
    max_output_tokens=(INT, "null"),
    max_tool_calls=(INT, "null"),
    store=BOOL,
    background=BOOL,
    service_tier=STR,
    metadata=OBJ,
    safety_identifier=(STR, "null"),
    prompt_cache_key=(STR, "null"),
)
AT = {"sequence_number": INT, "output_index": INT}
IN = {**AT, "item_id": STR}
CONTENT, THOUGHT = {**IN, "content_index": INT}, {**IN, "summary_index": INT}
EVENTS = {
    **{
        f"response.{name}": shape(f"response.{name}", sequence_number=INT, response=RESPONSE)
        for name in ("created", "queued", "in_progress", "completed", "failed", "incomplete")
    },
    **{
        f"response.output_item.{name}": shape(f"response.output_item.{name}", **AT, item=or_null(ITEM))
        for name in ("added", "done")
    },
    **{
        f"response.content_part.{name}": shape(f"response.content_part.{name}", **CONTENT, part=PART)
        for name in ("added", "done")
    },
    **{
        f"response.reasoning_summary_part.{name}": shape(
            f"response.reasoning_summary_part.{name}", **THOUGHT, part=PART
        )
        for name in ("added", "done")
    },
    "response.output_text.delta": shape("response.output_text.delta", **CONTENT, delta=STR, logprobs=many(LOGPROB)),
    "response.output_text.done": shape("response.output_text.done", **CONTENT, text=STR, logprobs=many(LOGPROB)),
    "response.refusal.delta": shape("response.refusal.delta", **CONTENT, delta=STR),
    "response.refusal.done": shape("response.refusal.done", **CONTENT, refusal=STR),
    "response.reasoning_summary_text.delta": shape("response.reasoning_summary_text.delta", **THOUGHT, delta=STR),
    "response.reasoning_summary_text.done": shape("response.reasoning_summary_text.done", **THOUGHT, text=STR),
    "response.function_call_arguments.delta": shape("response.function_call_arguments.delta", **IN, delta=STR),
    "response.function_call_arguments.done": shape("response.function_call_arguments.done", **IN, arguments=STR),
    "response.output_text.annotation.added": shape(
        "response.output_text.annotation.added", **CONTENT, annotation_index=INT, annotation=or_null(CITATION)
    ),
}
LAST = {"response.completed", "response.incomplete", "response.failed"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "name": "forecast", "description": "Weather.", "parameters": CITY, "strict": True}
ASKED: dict[str, dict[str, Any]] = {
    "text": {"input": [{"type": "message", "role": "user", "content": "Say hello in three words."}]},
    "system": {
        "input": [
            {"type": "message", "role": "system", "content": "You talk like a pirate."},
            {"type": "message", "role": "user", "content": "Say hello."},
        ]
    },
    "tool": {"input": [{"type": "message", "role": "user", "content": "What is the weather?"}], "tools": [TOOL]},
    "image": {
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                ],
            }
        ]
    },
    "turns": {
        "input": [
            {"type": "message", "role": "user", "content": "My name is Alice."},
            {"type": "message", "role": "assistant", "content": "Hello Alice!"},
            {"type": "message", "role": "user", "content": "What is my name?"},
        ]
    },
    "short": {"input": "Count.", "max_output_tokens": 16},
}
KNOBS: dict[str, dict[str, Any]] = {
    "thought": {"thinking": True},
    "refused": {"refusal": True},
    "cited": {"server_tool": True},
}
"""What else an answer may be, whatever is asked."""
UPSTREAMS = {"openai": "openai", "chat": "deepseek", "messages": "anthropic", "content": "gemini"}
"""The lossless lane, and translation from each other dialect: the model's name, and its provider."""


def checked(schema: dict[str, Any], value: Any) -> None:
    problems = [f"{error.instance_path}: {error.message[:200]}" for error in jsonschema_rs.iter_errors(schema, value)]
    assert problems == [], (value.get("type"), problems)


def prepare(site: Site) -> None:
    for model, provider in UPSTREAMS.items():
        site.model(model, provider)


def events_of(call: Call) -> Iterator[dict[str, Any]]:
    for block in call.body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line.startswith(("event:", "data:"))]
        if not lines or lines[-1] == "data: [DONE]":
            continue
        event = json.loads(lines[-1].removeprefix("data:"))
        assert lines[0].removeprefix("event:").strip() == event["type"], "the field and the member say the same"
        yield event


async def both(opened: World, model: str, more: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    whole = await opened.ask(RESPONSES, asking(RESPONSES, **{"model": model, **more}))
    assert whole.status == 200, whole.body
    streamed = await opened.ask(RESPONSES, asking(RESPONSES, **{"model": model, "stream": True, **more}))
    assert streamed.headers["content-type"].startswith("text/event-stream")
    return whole.json(), list(events_of(streamed))


@pytest.mark.requirement("GW-2", "GW-7")
@pytest.mark.parametrize("model", UPSTREAMS)
@pytest.mark.parametrize("case", [*ASKED, *KNOBS])
def test_answers_and_streams_are_as_the_specification_requires(tmp_path: Path, model: str, case: str) -> None:
    if case == "cited" and model != "openai":
        return  # A search of the provider's own is asked for in its own dialect only.

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            opened.behave(times=None, **{"short": {"words": 100}, **KNOBS}.get(case, {}))
            more = ASKED.get(case, ASKED["text"])
            if case == "thought":
                more = {**more, "reasoning": {"effort": "high", "summary": "auto"}}
            whole, events = await both(opened, model, more)
            checked(RESPONSE, whole)
            assert whole["model"] == model
            # A refusal of Anthropic's models is a reason to stop, and has no words of its own.
            cut = case == "short" or (case, model) == ("refused", "messages")
            assert whole["status"] == ("incomplete" if cut else "completed")
            assert (whole["completed_at"] is None) == (whole["status"] != "completed")
            if case == "tool":
                assert [item["name"] for item in whole["output"] if item["type"] == "function_call"] == ["forecast"]
            if case == "thought":
                assert whole["output"][0]["type"] == "reasoning"
            follow(events)
            last = events[-1]["response"]
            assert said(last) == said(whole)

    asyncio.run(scenario())


def follow(events: list[dict[str, Any]]) -> None:
    """Each event is one of the specification's (or an extension), in an order that its state machines allow."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] for event in events if event["type"] in LAST] == [events[-1]["type"]], "one end, at the end"
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    texts: dict[tuple[int, int], str] = {}
    begun: dict[int, str] = {}
    done: dict[int, dict[str, Any]] = {}
    for event in events:
        kind = event["type"]
        if kind in EVENTS:
            checked(EVENTS[kind], event)
        index = event.get("output_index", -1)
        if kind == "response.output_item.added":
            assert index == len(begun), "in their order, without a gap"
            begun[index] = event["item"]["id"]
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == begun[index]
            assert event["item"].get("status") != "in_progress"
            done[index] = event["item"]
        elif index >= 0:
            assert index in begun
            assert index not in done, "nothing is said of an item that is done"
            assert event["item_id"] == begun[index]
        place = (index, event.get("content_index", event.get("summary_index", 0)))
        if kind.endswith(".delta"):
            texts[place] = texts.get(place, "") + event["delta"]
        elif kind.endswith((".output_text.done", ".refusal.done", ".summary_text.done", ".arguments.done")):
            whole = next(event[name] for name in ("text", "refusal", "arguments") if name in event)
            assert whole == texts[place], "the pieces make the whole"
    assert [done[index] for index in sorted(done)] == events[-1]["response"]["output"]


def said(response: dict[str, Any]) -> list[Any]:
    """What the output says, without the ids of one answer and the blanks in its JSON."""
    own = {"id", "call_id", "arguments"}
    items = response["output"]
    return [
        ({name: value for name, value in item.items() if name not in own}, json.loads(item.get("arguments", "null")))
        for item in items
    ]
