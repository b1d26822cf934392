"""Responses: as a client speaks and hears them, and what their upstreams are asked."""

import json
from collections.abc import Sequence
from typing import Any

from tests.flows.translated.model import JSON, Asked, Client, Heard, Said, joined

from securellm.core.surfaces import Surface


def path(said: Said) -> tuple[str, str]:
    return "/v1/responses", ""


def body(said: Said) -> JSON:
    content: Any = said.text
    if said.picture is not None:
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{said.picture}", "detail": "auto"}
        content = [{"type": "input_text", "text": said.text}, image]
    body: JSON = {
        "model": said.model,
        "input": [{"role": "user", "content": content}, *said.before],
        "max_output_tokens": said.cap,
        "store": False,
    }
    if said.system is not None:
        body["instructions"] = said.system
    if said.temperature is not None:
        body["temperature"] = said.temperature
    if said.tools:
        body["tools"] = [
            {"type": "function", "name": name, "parameters": schema, "strict": True} for name, schema in said.tools
        ]
    if said.schema is not None:
        body["text"] = {"format": {"type": "json_schema", "name": "trip", "schema": said.schema, "strict": True}}
    return body | ({"stream": True} if said.stream else {})


def whole(reply: JSON) -> Heard:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[tuple[str, str, Any]] = []
    for item in reply["output"]:
        match item["type"]:
            case "message":
                texts += [part["text"] for part in item["content"]]
            case "reasoning":
                thoughts += [part["text"] for part in item["summary"]]
            case "function_call":
                calls.append((item["call_id"], item["name"], item["arguments"]))
    usage = reply["usage"]
    counted = None
    if usage is not None:
        cached, thought = usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]
        counted = usage["input_tokens"], cached, usage["output_tokens"], thought["reasoning_tokens"]
    return Heard(
        text="".join(texts),
        thought="".join(thoughts),
        calls=tuple(calls),
        finish=reply["status"],
        usage=counted,
        model=reply["model"],
        turn=reply["output"],
    )


def streamed(events: Sequence[JSON]) -> Heard:
    """The last event holds it all; what came before must have said the same."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last["type"] in ("response.completed", "response.incomplete")
    items: dict[int, JSON] = {}
    told: dict[tuple[int, str], str] = {}
    for event in events[2:-1]:
        index, kind = event["output_index"], event["type"].removeprefix("response.")
        match kind:
            case "output_item.added":
                assert index == len(items)
                items[index] = event["item"]
            case "output_item.done":
                assert event["item"]["id"] == items[index]["id"]
                items[index] = event["item"]
            case "content_part.added" | "content_part.done":
                assert event["item_id"] == items[index]["id"]
            case _ if kind.endswith(".delta"):
                name = kind.removesuffix(".delta")
                told[index, name] = told.get((index, name), "") + event["delta"]
            case "output_text.done":
                assert told.get((index, "output_text"), "") == event["text"]
            case "function_call_arguments.done":
                assert told.get((index, "function_call_arguments"), "") == event["arguments"]
    output = last["response"]["output"]
    assert output == [items[index] for index in sorted(items)]
    heard = whole(last["response"])
    deltas = "".join(text for (_, kind), text in sorted(told.items()) if kind == "output_text")
    assert deltas == heard.text
    return heard


def pieces(events: Sequence[JSON]) -> tuple[str, list[str]]:
    told: dict[int, str] = {}
    text = ""
    for event in events:
        if event["type"] == "response.output_text.delta":
            text += event["delta"]
        elif event["type"] == "response.function_call_arguments.delta":
            told[event["output_index"]] = told.get(event["output_index"], "") + event["delta"]
    return text, list(told.values())


def turn(text: str, calls: Sequence[tuple[str, str, str]]) -> list[Any]:
    said = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
    made = [{"type": "function_call", "call_id": call, "name": name, "arguments": given} for call, name, given in calls]
    return [*(said if text else ()), *made]


def results(heard: Heard, results: Sequence[str]) -> list[Any]:
    pairs = zip(heard.calls, results, strict=True)
    outputs = ({"type": "function_call_output", "call_id": call, "output": text} for (call, _, _), text in pairs)
    return [*heard.turn, *outputs]


def asked(body: JSON) -> Asked:
    items: list[JSON] = body["input"]
    parts = [part for item in items if isinstance(item.get("content"), list) for part in item["content"]]
    return Asked(
        calls=tuple(
            (item["call_id"], item["name"], json.loads(item["arguments"]))
            for item in items
            if item.get("type") == "function_call"
        ),
        results=tuple(
            (item["call_id"], joined(item["output"])) for item in items if item.get("type") == "function_call_output"
        ),
        pictures=tuple(part["image_url"].partition(",")[2] for part in parts if part["type"] == "input_image"),
        schema=body.get("text", {}).get("format", {}).get("schema"),
        tools=tuple((tool["name"], tool["parameters"]) for tool in body.get("tools", ())),
        cap=body.get("max_output_tokens"),
    )


def error(said: JSON, streamed: bool) -> tuple[str, str | None]:
    if not streamed:
        return said["error"]["code"], said["error"]["param"]
    assert said["type"] == "error"
    return said["code"], said["param"]


CLIENT = Client(
    surface=Surface.RESPONSES,
    path=path,
    body=body,
    whole=whole,
    streamed=streamed,
    pieces=pieces,
    turn=turn,
    turns="input",
    results=results,
    error=error,
    names_errors=True,
    asked=asked,
    finishes={"stop": "completed", "tools": "completed", "length": "incomplete"},
    ends=(b"response.completed", b"response.incomplete"),
)
