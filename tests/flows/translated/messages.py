"""Messages: as a client speaks and hears them, and what their upstreams are asked."""

import json
from collections.abc import Sequence
from typing import Any

from tests.flows.translated.model import JSON, Asked, Client, Heard, Said, joined

from securellm.core.surfaces import Surface


def path(said: Said) -> tuple[str, str]:
    return "/v1/messages", ""


def body(said: Said) -> JSON:
    content: Any = said.text
    if said.picture is not None:
        source = {"type": "base64", "media_type": "image/png", "data": said.picture}
        content = [{"type": "image", "source": source}, {"type": "text", "text": said.text}]
    body: JSON = {
        "model": said.model,
        "messages": [{"role": "user", "content": content}, *said.before],
        "max_tokens": said.cap,
    }
    if said.system is not None:
        body["system"] = said.system
    if said.temperature is not None:
        body["temperature"] = said.temperature
    if said.tools:
        body["tools"] = [{"name": name, "input_schema": schema} for name, schema in said.tools]
    if said.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": said.schema}}
    return body | ({"stream": True} if said.stream else {})


def whole(reply: JSON) -> Heard:
    blocks, usage = reply["content"], reply["usage"]
    written = usage["cache_creation_input_tokens"]
    counted = usage["input_tokens"] + written + usage["cache_read_input_tokens"]
    assert usage["cache_creation"].keys() == {"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}
    assert sum(usage["cache_creation"].values()) == written
    thought = usage.get("output_tokens_details", {"thinking_tokens": 0})["thinking_tokens"]
    return Heard(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thought="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        calls=tuple((block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        finish=reply["stop_reason"],
        usage=(counted, usage["cache_read_input_tokens"], usage["output_tokens"], thought),
        model=reply["model"],
        turn=[{"role": "assistant", "content": blocks}],
    )


def streamed(events: Sequence[JSON]) -> Heard:
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    message = events[0]["message"]
    blocks: list[JSON] = []
    written = ""
    running = False
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not running, "blocks do not interleave"
                assert event["index"] == len(blocks)
                blocks.append(dict(event["content_block"]))
                written, running = "", True
            case "content_block_delta":
                assert running
                assert event["index"] == len(blocks) - 1
                delta = event["delta"]
                match delta["type"]:
                    case "text_delta":
                        blocks[-1]["text"] += delta["text"]
                    case "thinking_delta":
                        blocks[-1]["thinking"] += delta["thinking"]
                    case "signature_delta":
                        blocks[-1]["signature"] = delta["signature"]
                    case "input_json_delta":
                        written += delta["partial_json"]
            case "content_block_stop":
                running = False
                if blocks[-1]["type"] == "tool_use":
                    # As the SDKs do: no piece at all is an empty object.
                    blocks[-1]["input"] = json.loads(written) if written else {}
            case kind:
                assert kind == "ping"
    assert not running
    last = events[-2]
    return whole(message | last["delta"] | {"content": blocks, "usage": message["usage"] | last["usage"]})


def pieces(events: Sequence[JSON]) -> tuple[str, list[str]]:
    told: dict[int, str] = {}
    text = ""
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            told[event["index"]] = ""
        elif event["type"] == "content_block_delta":
            text += event["delta"].get("text", "")
            if "partial_json" in event["delta"]:
                told[event["index"]] += event["delta"]["partial_json"]
    return text, list(told.values())


def turn(text: str, calls: Sequence[tuple[str, str, str]]) -> list[Any]:
    said = [{"type": "text", "text": text}] if text else []
    made = [{"type": "tool_use", "id": call, "name": name, "input": json.loads(given)} for call, name, given in calls]
    return [{"role": "assistant", "content": [*said, *made]}]


def results(heard: Heard, results: Sequence[str]) -> list[Any]:
    pairs = zip(heard.calls, results, strict=True)
    blocks = [{"type": "tool_result", "tool_use_id": call, "content": text} for (call, _, _), text in pairs]
    return [*heard.turn, {"role": "user", "content": blocks}]


def asked(body: JSON) -> Asked:
    blocks = [
        block for message in body["messages"] if isinstance(message["content"], list) for block in message["content"]
    ]
    return Asked(
        calls=tuple((block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        results=tuple(
            (block["tool_use_id"], joined(block.get("content", "")))
            for block in blocks
            if block["type"] == "tool_result"
        ),
        pictures=tuple(block["source"]["data"] for block in blocks if block["type"] == "image"),
        schema=body.get("output_config", {}).get("format", {}).get("schema"),
        tools=tuple((tool["name"], tool["input_schema"]) for tool in body.get("tools", ())),
        cap=body.get("max_tokens"),
    )


def error(said: JSON, streamed: bool) -> tuple[str, str | None]:
    assert said["type"] == "error"
    return said["error"]["code"], said["error"].get("param")


CLIENT = Client(
    surface=Surface.MESSAGES,
    path=path,
    body=body,
    whole=whole,
    streamed=streamed,
    pieces=pieces,
    turn=turn,
    turns="messages",
    results=results,
    error=error,
    names_errors=True,
    asked=asked,
    finishes={"stop": "end_turn", "tools": "tool_use", "length": "max_tokens"},
    ends=(b"message_delta", b"message_stop", b'"stop_reason":"'),
)
