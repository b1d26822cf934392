"""Chat completions: as a client speaks and hears them, and what their upstreams are asked."""

import json
from collections.abc import Sequence
from typing import Any

from tests.flows.translated.model import JSON, Asked, Client, Heard, Said, joined

from securellm.core.surfaces import Surface


def path(said: Said) -> tuple[str, str]:
    return "/v1/chat/completions", ""


def body(said: Said) -> JSON:
    content: Any = said.text
    if said.picture is not None:
        url = {"url": f"data:image/png;base64,{said.picture}"}
        content = [{"type": "text", "text": said.text}, {"type": "image_url", "image_url": url}]
    messages = [{"role": "system", "content": said.system}] if said.system is not None else []
    body: JSON = {
        "model": said.model,
        "messages": [*messages, {"role": "user", "content": content}, *said.before],
        "max_completion_tokens": said.cap,
    }
    if said.temperature is not None:
        body["temperature"] = said.temperature
    if said.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in said.tools
        ]
    if said.schema is not None:
        form = {"name": "trip", "schema": said.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if said.stream else {})


def usage(usage: JSON | None) -> tuple[int, int, int, int] | None:
    if usage is None:
        return None
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    thought = usage["completion_tokens_details"]["reasoning_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"], thought


def whole(reply: JSON) -> Heard:
    choice = reply["choices"][0]
    message = choice["message"]
    calls = message.get("tool_calls") or ()
    return Heard(
        text=message["content"] or "",
        thought=message.get("reasoning_content") or "",
        calls=tuple((call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls),
        finish=choice["finish_reason"],
        usage=usage(reply.get("usage")),
        model=reply["model"],
        turn=[{name: value for name, value in message.items() if value is not None} | {"content": message["content"]}],
    )


def streamed(events: Sequence[JSON]) -> Heard:
    message: JSON = {"role": "assistant", "content": None}
    calls: dict[int, JSON] = {}
    finish, usage = None, None
    for event in events:
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            assert finish is None, "a choice goes on after its finish"
            assert choice["index"] == 0
            delta, finish = choice["delta"], choice["finish_reason"]
            for name in ("content", "reasoning_content", "refusal"):
                if delta.get(name):
                    message[name] = (message.get(name) or "") + delta[name]
            for piece in delta.get("tool_calls", ()):
                if "id" in piece:
                    assert piece["index"] == len(calls), "calls begin in order, once"
                    calls[piece["index"]] = {**piece, "function": dict(piece["function"])}
                    del calls[piece["index"]]["index"]
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    if calls:
        message["tool_calls"] = list(calls.values())
    models = {event["model"] for event in events}
    assert len(models) == 1
    choice = {"message": message, "finish_reason": finish}
    return whole({"choices": [choice], "usage": usage, "model": models.pop()})


def pieces(events: Sequence[JSON]) -> tuple[str, list[str]]:
    deltas = [choice["delta"] for event in events for choice in event["choices"]]
    told: dict[int, str] = {}
    for piece in (piece for delta in deltas for piece in delta.get("tool_calls", ())):
        told[piece["index"]] = told.get(piece["index"], "") + piece["function"]["arguments"]
    return "".join(delta.get("content") or "" for delta in deltas), list(told.values())


def turn(text: str, calls: Sequence[tuple[str, str, str]]) -> list[Any]:
    made = [
        {"id": call, "type": "function", "function": {"name": name, "arguments": given}} for call, name, given in calls
    ]
    return [{"role": "assistant", "content": text or None, **({"tool_calls": made} if made else {})}]


def results(heard: Heard, results: Sequence[str]) -> list[Any]:
    pairs = zip(heard.calls, results, strict=True)
    return [*heard.turn, *({"role": "tool", "tool_call_id": call, "content": text} for (call, _, _), text in pairs)]


def asked(body: JSON) -> Asked:
    calls = [call for message in body["messages"] for call in message.get("tool_calls", ())]
    parts = [
        part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    form = body.get("response_format", {})
    return Asked(
        calls=tuple(
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls
        ),
        results=tuple(
            (message["tool_call_id"], joined(message["content"]))
            for message in body["messages"]
            if message["role"] == "tool"
        ),
        pictures=tuple(part["image_url"]["url"].partition(",")[2] for part in parts if part["type"] == "image_url"),
        schema=form.get("json_schema", {}).get("schema"),
        tools=tuple((tool["function"]["name"], tool["function"]["parameters"]) for tool in body.get("tools", ())),
        cap=body.get("max_completion_tokens"),
    )


def error(said: JSON, streamed: bool) -> tuple[str, str | None]:
    return said["error"]["code"], said["error"]["param"]


CLIENT = Client(
    surface=Surface.CHAT,
    path=path,
    body=body,
    whole=whole,
    streamed=streamed,
    pieces=pieces,
    turn=turn,
    turns="messages",
    results=results,
    error=error,
    asked=asked,
    finishes={"stop": "stop", "tools": "tool_calls", "length": "length"},
    ends=(b"[DONE]", b'"finish_reason":"'),
)
