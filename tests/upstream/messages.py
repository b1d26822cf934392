"""Anthropic's messages, both API versions, and its count of tokens."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.upstream.answer import Answer, Ask, Stream, check, count, need
from tests.upstream.faces import Refused
from tests.upstream.speech import Call, Speech, speak, texts, tokens, write

VERSIONS = ("2023-06-01", "2026-10-21")
_BLOCKS = {
    "text",
    "image",
    "document",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "web_search_tool_result",
}
_SIGNATURE = "ZmFrZS1zaWduYXR1cmU="


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then answer whole or as a stream of named events."""
    body = ask.body
    version = _version(ask)
    _check(body, version)
    if need(body, "max_tokens", int) < 1:
        raise Refused(400, "max_tokens: Input should be greater than or equal to 1")
    stream = bool(check(body, "stream", bool))
    messages = body["messages"]
    speech = speak(
        ask.behaviour,
        [messages, body.get("system"), body.get("tools")],
        cap=count(body, "max_tokens"),
        tools=_offered(body),
        said=[text for message in messages for text in texts(message["content"])],
    )
    stop = ask.behaviour.stop or ("tool_use" if speech.calls else "max_tokens" if speech.cut else "end_turn")
    if stream:
        return _stream(ask, speech, stop)
    whole = _message(ask, speech) | {"content": _blocks(ask, speech), "stop_reason": stop}
    if ask.behaviour.usage == "none":
        del whole["usage"]
    return Answer(body=write(whole, escape=ask.behaviour.escape), bill=speech.bill())


def count_tokens(ask: Ask) -> Answer:
    """How long a prompt would be."""
    _check(ask.body, _version(ask))
    speech = speak(ask.behaviour, [ask.body["messages"], ask.body.get("system"), ask.body.get("tools")], cap=None)
    return Answer(body=write({"input_tokens": speech.input_tokens}))


def _version(ask: Ask) -> str:
    version = ask.header("anthropic-version")
    if version is None:
        raise Refused(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        raise Refused(400, f'anthropic-version: "{version[:20]}" is not a valid version')
    return version


def _check(body: Mapping[str, Any], version: str) -> None:
    need(body, "model", str)
    messages = need(body, "messages", list)
    if not messages:
        raise Refused(400, "messages: at least one message is required")
    if version == "2026-10-21":
        for name in ("temperature", "top_p", "top_k"):
            if name in body:
                raise Refused(400, f"{name}: Extra inputs are not permitted")
    temperature = check(body, "temperature", (int, float))
    if temperature is not None and not 0 <= temperature <= 1:
        raise Refused(400, "temperature: range: 0..1")
    for name in ("max_completion_tokens", "stream_options", "n", "functions", "response_format"):
        if name in body:
            raise Refused(400, f"{name}: Extra inputs are not permitted")
    if not isinstance(body.get("system", ""), str | list):
        raise Refused(400, "system: Input should be a valid string or list")
    used: set[str] = set()
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
            raise Refused(400, f"messages.{at}.role: Input should be 'user' or 'assistant'")
        content = message.get("content")
        if isinstance(content, str):
            blocks: list[Any] = []
        elif isinstance(content, list):
            blocks = content
        else:
            raise Refused(400, f"messages.{at}.content: Field required")
        used = _check_blocks(blocks, used, f"messages.{at}", message["role"], version)


def _check_blocks(blocks: Sequence[Any], asked: set[str], place: str, role: str, version: str) -> set[str]:
    """The tool uses these blocks leave open. Raises `Refused` when they leave an earlier one unanswered."""
    used: set[str] = set()
    answered: set[str] = set()
    for at, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in _BLOCKS:
            raise Refused(400, f"{place}.content.{at}: Input tag not expected")
        if kind == "text" and not isinstance(block.get("text"), str):
            raise Refused(400, f"{place}.content.{at}.text: Field required")
        if kind == "tool_use":
            if not isinstance(block.get("input"), dict) or not isinstance(block.get("id"), str):
                raise Refused(400, f"{place}.content.{at}.tool_use.input: Input should be a valid dictionary")
            used.add(block["id"])
        if kind == "tool_result":
            answered.add(str(block.get("tool_use_id")))
        if kind == "thinking" and block.get("signature") != _SIGNATURE:
            raise Refused(400, f"{place}.content.{at}: Invalid `signature` in `thinking` block")
        if version == "2026-10-21" and (
            (role == "assistant" and kind == "document") or (role == "user" and kind == "text" and "citations" in block)
        ):
            raise Refused(400, f"{place}.content.{at}: Extra inputs are not permitted")
    if answered - asked:
        raise Refused(400, f"{place}: unexpected `tool_use_id` found in `tool_result` blocks")
    if asked - answered:
        raise Refused(400, f"{place}: `tool_use` ids were found without `tool_result` blocks immediately after")
    return used


def _offered(body: Mapping[str, Any]) -> list[tuple[str, object]]:
    tools: list[tuple[str, object]] = []
    for at, tool in enumerate(check(body, "tools", list) or ()):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise Refused(400, f"tools.{at}.name: Field required")
        if tool.get("type", "custom") == "custom":
            if not isinstance(tool.get("input_schema"), dict):
                raise Refused(400, f"tools.{at}.input_schema: Field required")
            tools.append((tool["name"], tool["input_schema"]))
    choice = check(body, "tool_choice", dict) or {}
    last = body["messages"][-1]["content"]
    answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
    if choice.get("type") == "none" or answered:
        return []
    if choice.get("type") == "tool":
        return [tool for tool in tools if tool[0] == choice.get("name")]
    return tools[:1] if choice.get("disable_parallel_tool_use") else tools[:2]


def _message(ask: Ask, speech: Speech) -> dict[str, object]:
    return {
        "id": f"msg_fake{ask.number:08d}",
        "type": "message",
        "role": "assistant",
        "model": ask.body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(speech, speech.output_tokens + speech.reasoning),
    }


def _usage(speech: Speech, output: int) -> dict[str, object]:
    """Input tokens exclude what stands in the cache figures; output includes the thinking."""
    usage: dict[str, object] = {
        "input_tokens": speech.fresh,
        "cache_creation_input_tokens": speech.cache_write_5m + speech.cache_write_1h,
        "cache_read_input_tokens": speech.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": speech.cache_write_5m,
            "ephemeral_1h_input_tokens": speech.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": "standard",
    }
    if speech.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": min(speech.reasoning, output)}
    return usage


def _blocks(ask: Ask, speech: Speech) -> list[dict[str, object]]:
    blocks: list[dict[str, object]] = []
    if speech.thought:
        blocks.append({"type": "thinking", "thinking": "".join(speech.thought), "signature": _SIGNATURE})
    if speech.pieces:
        blocks.append({"type": "text", "text": speech.text})
    for position, call in enumerate(speech.calls):
        arguments = _parsed(call)
        blocks.append({"type": "tool_use", "id": _use_id(ask, position), "name": call.name, "input": arguments})
    return blocks


def _parsed(call: Call) -> object:
    return json.loads(call.written or "{}")


def _use_id(ask: Ask, position: int) -> str:
    return f"toolu_fake{ask.number:08d}x{position}"


def _stream(ask: Ask, speech: Speech, stop: str) -> Answer:
    how = ask.behaviour
    stream = Stream(how, named=True)
    start = _message(ask, speech)
    if how.usage == "none":
        start["usage"] = {"input_tokens": 0, "output_tokens": 0}
    else:
        start["usage"] = _usage(speech, 1)
    stream.add({"type": "message_start", "message": start})
    index = 0

    def block(begun: dict[str, object], deltas: Sequence[tuple[dict[str, object], int]]) -> None:
        nonlocal index
        stream.add({"type": "content_block_start", "index": index, "content_block": begun})
        if index == 0:
            stream.add({"type": "ping"})
        for number, (delta, billed) in enumerate(deltas):
            if how.unknown_event and number == 1:
                stream.add({"type": "content_block_future", "index": index, "future": {"kept": True}})
            stream.add({"type": "content_block_delta", "index": index, "delta": delta}, billed=billed)
        stream.add({"type": "content_block_stop", "index": index})
        index += 1

    if speech.thought:
        deltas: list[tuple[dict[str, object], int]] = [
            ({"type": "thinking_delta", "thinking": piece}, 0) for piece in speech.thought
        ]
        signed: dict[str, object] = {"type": "signature_delta", "signature": _SIGNATURE}
        block({"type": "thinking", "thinking": "", "signature": ""}, [*deltas, (signed, 0)])
    pieces = ("x" * how.huge_event, *speech.pieces) if how.huge_event else speech.pieces
    if pieces:
        block(
            {"type": "text", "text": ""}, [({"type": "text_delta", "text": piece}, tokens(piece)) for piece in pieces]
        )
    for position, call in enumerate(speech.calls):
        begun: dict[str, object] = {"type": "tool_use", "id": _use_id(ask, position), "name": call.name, "input": {}}
        parts = ("", *call.arguments)
        block(begun, [({"type": "input_json_delta", "partial_json": part}, tokens(part)) for part in parts])
    stream.billed = speech.output_tokens
    total = speech.output_tokens + speech.reasoning
    delta: dict[str, object] = {"stop_reason": None if how.no_finish else stop, "stop_sequence": None}
    final: dict[str, object] = {"type": "message_delta", "delta": delta}
    if how.usage == "none":
        final["usage"] = {"output_tokens": 0}
    else:
        spent: dict[str, object] = {
            "input_tokens": speech.fresh,
            "cache_creation_input_tokens": speech.cache_write_5m + speech.cache_write_1h,
            "cache_read_input_tokens": speech.cached,
            "output_tokens": total,
        }
        if speech.reasoning:
            spent["output_tokens_details"] = {"thinking_tokens": speech.reasoning}
        final["usage"] = spent
    stream.add(final)
    if not how.no_done:
        stream.add({"type": "message_stop"}, last=True)
    if how.after_done:
        stream.add({"type": "ping"})
    return Answer(events=tuple(stream.events), bill=speech.bill())


def error_event(ask: Ask, sequence: int) -> tuple[str | None, dict[str, object]]:
    """What the provider sends when a stream breaks in the middle."""
    message = ask.behaviour.message or "Overloaded"
    kind = ask.behaviour.code or "overloaded_error"
    return "error", {"type": "error", "error": {"type": kind, "message": message}}
