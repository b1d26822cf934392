"""Generated content: as a client speaks and hears it, and what its upstreams are asked."""

import json
from collections.abc import Sequence
from typing import Any

from tests.flows.translated.model import JSON, Asked, Client, Heard, Said

from securellm.core.surfaces import Surface


def path(said: Said) -> tuple[str, str]:
    verb = "streamGenerateContent" if said.stream else "generateContent"
    return f"/v1beta/models/{said.model}:{verb}", "alt=sse" if said.stream else ""


def body(said: Said) -> JSON:
    parts: list[JSON] = [{"text": said.text}]
    if said.picture is not None:
        parts.append({"inlineData": {"mimeType": "image/png", "data": said.picture}})
    config: JSON = {"maxOutputTokens": said.cap}
    body: JSON = {"contents": [{"role": "user", "parts": parts}, *said.before], "generationConfig": config}
    if said.system is not None:
        body["systemInstruction"] = {"parts": [{"text": said.system}]}
    if said.temperature is not None:
        config["temperature"] = said.temperature
    if said.tools:
        functions = [{"name": name, "parametersJsonSchema": schema} for name, schema in said.tools]
        body["tools"] = [{"functionDeclarations": functions}]
    if said.schema is not None:
        config |= {"responseMimeType": "application/json", "responseJsonSchema": said.schema}
    return body


def whole(reply: JSON) -> Heard:
    candidate = reply["candidates"][0]
    parts = candidate["content"]["parts"]
    assert candidate["content"]["role"] == "model"
    usage = reply.get("usageMetadata")
    counted = None
    if usage is not None:
        thought = usage.get("thoughtsTokenCount", 0)
        spent = usage["candidatesTokenCount"] + thought
        counted = usage["promptTokenCount"], usage.get("cachedContentTokenCount", 0), spent, thought
        assert usage["totalTokenCount"] == counted[0] + spent
    said = [part["functionCall"] for part in parts if "functionCall" in part]
    return Heard(
        text="".join(part["text"] for part in parts if "text" in part and not part.get("thought")),
        thought="".join(part["text"] for part in parts if "text" in part and part.get("thought")),
        calls=tuple((call["id"], call["name"], call["args"]) for call in said),
        finish=candidate["finishReason"],
        usage=counted,
        model=reply["modelVersion"],
        turn=[candidate["content"]],
    )


def streamed(events: Sequence[JSON]) -> Heard:
    parts: list[JSON] = []
    for event in events[:-1]:
        [candidate] = event["candidates"]
        assert "finishReason" not in candidate, "only the last chunk says why it ended"
        parts += candidate["content"]["parts"]
    last = events[-1]
    [candidate] = last["candidates"]
    parts += [part for part in candidate["content"]["parts"] if part != {"text": ""}]
    all_of_it = candidate | {"content": {"role": "model", "parts": parts or [{"text": ""}]}}
    return whole(last | {"candidates": [all_of_it]})


def pieces(events: Sequence[JSON]) -> tuple[str, list[str]]:
    parts = [part for event in events for part in event["candidates"][0].get("content", {}).get("parts", ())]
    calls = [json.dumps(part["functionCall"].get("args", {})) for part in parts if "functionCall" in part]
    return "".join(part.get("text", "") for part in parts), calls


def turn(text: str, calls: Sequence[tuple[str, str, str]]) -> list[Any]:
    said = [{"text": text}] if text else []
    made = [{"functionCall": {"id": call, "name": name, "args": json.loads(given)}} for call, name, given in calls]
    return [{"role": "model", "parts": [*said, *made]}]


def results(heard: Heard, results: Sequence[str]) -> list[Any]:
    pairs = zip(heard.calls, results, strict=True)
    parts = [
        {"functionResponse": {"id": call, "name": name, "response": {"output": text}}}
        for (call, name, _), text in pairs
    ]
    return [*heard.turn, {"role": "user", "parts": parts}]


def asked(body: JSON) -> Asked:
    parts = [part for content in body["contents"] for part in content["parts"]]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    config = body.get("generationConfig", {})
    return Asked(
        calls=tuple((call["id"], call["name"], call.get("args", {})) for call in calls),
        results=tuple((result["id"], result["response"]["output"]) for result in results),
        pictures=tuple(part["inlineData"]["data"] for part in parts if "inlineData" in part),
        schema=config.get("responseJsonSchema"),
        tools=tuple(
            (tool["name"], tool["parametersJsonSchema"])
            for group in body.get("tools", ())
            for tool in group["functionDeclarations"]
        ),
        cap=config.get("maxOutputTokens"),
    )


def error(said: JSON, streamed: bool) -> tuple[str, str | None]:
    assert type(said["error"]["code"]) is int
    details = {detail["@type"].rpartition(".")[2]: detail for detail in said["error"]["details"]}
    violations = details.get("BadRequest", {}).get("fieldViolations", [{"field": None}])
    return details["ErrorInfo"]["metadata"]["code"], violations[0]["field"]


CLIENT = Client(
    surface=Surface.GENERATE_CONTENT,
    path=path,
    body=body,
    whole=whole,
    streamed=streamed,
    pieces=pieces,
    turn=turn,
    turns="contents",
    results=results,
    error=error,
    asked=asked,
    finishes={"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS"},
    ends=(b'"finishReason":"',),
    heartbeat=b"\n",
)
