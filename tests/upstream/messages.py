"""Anthropic's messages, both API versions, and its count of tokens."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from tests.upstream.answer import Answer, Ask, Stream, check, count, need, turns
from tests.upstream.behaviour import Behaviour
from tests.upstream.faces import Refused
from tests.upstream.messages_cache import cached
from tests.upstream.messages_check import SEALED, check_request, sign
from tests.upstream.speech import Call, Speech, speak, texts, tokens, write

_Delta = tuple[dict[str, object], int]
_Block = tuple[dict[str, object], list[_Delta], dict[str, object]]
"""A block as a stream begins it, what follows with its tokens, and the block as a whole."""
_QUERY = {"query": "the fake's own question"}


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then answer whole or as a stream of named events."""
    body = ask.body
    check_request(ask)
    if need(body, "max_tokens", int) < 1:
        raise Refused(400, "max_tokens: Input should be greater than or equal to 1")
    stream = bool(check(body, "stream", bool))
    messages = body["messages"]
    thinking = body.get("thinking") or {}
    how = cached(ask)
    how = msgspec.structs.replace(how, thinking=how.thinking or thinking.get("type") == "enabled")
    if thinking.get("type") == "disabled":
        how = msgspec.structs.replace(how, thinking=False)
    form = (body.get("output_config") or {}).get("format") or {}
    speech = speak(
        how,
        [messages, body.get("system"), body.get("tools")],
        cap=count(body, "max_tokens"),
        tools=_offered(body),
        schema=form.get("schema"),
        said=[text for message in messages for text in texts(message["content"])],
        stops=body.get("stop_sequences") or (),
    )
    reason = "tool_use" if speech.calls else "max_tokens" if speech.cut else "end_turn"
    if speech.stopped is not None:
        reason = "stop_sequence"
    if how.refusal:
        reason = "refusal"
    end: dict[str, object] = {"stop_reason": how.stop or reason, "stop_sequence": speech.stopped}
    if end["stop_reason"] == "refusal":
        end["stop_details"] = {"type": "refusal", "category": None, "explanation": "The fake would rather not."}
    parts = _blocks(ask, speech, shown=thinking.get("display") != "omitted")
    if stream:
        return _stream(ask, speech, parts, end)
    whole = _message(ask, speech) | {"content": [block for _, _, block in parts]} | end
    if how.usage == "none":
        del whole["usage"]
    return Answer(body=write(whole, escape=how.escape), bill=speech.bill())


def count_tokens(ask: Ask) -> Answer:
    """How long a prompt would be."""
    check_request(ask, counting=True)
    speech = speak(ask.behaviour, [ask.body["messages"], ask.body.get("system"), ask.body.get("tools")], cap=None)
    return Answer(body=write({"input_tokens": speech.input_tokens}))


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
        "stop_details": None,
        "usage": _usage(ask, speech, speech.output_tokens + speech.reasoning),
    }


def _usage(ask: Ask, speech: Speech, output: int) -> dict[str, object]:
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
    if ask.behaviour.server_tool:
        usage["server_tool_use"] = {"web_search_requests": 1, "web_fetch_requests": 0}
    return usage


def _blocks(ask: Ask, speech: Speech, *, shown: bool) -> list[_Block]:
    how = ask.behaviour
    blocks: list[_Block] = []
    if speech.thought and how.redacted:
        sealed: dict[str, object] = {"type": "redacted_thinking", "data": SEALED}
        blocks.append((sealed, [], sealed))
    elif speech.thought:
        blocks.append(_thinking(speech.thought if shown else ()))
    if how.server_tool:
        blocks += _searched(ask)
    pieces = ("x" * how.huge_event, *speech.pieces) if how.huge_event else speech.pieces
    if pieces:
        deltas: list[_Delta] = [({"type": "text_delta", "text": piece}, tokens(piece)) for piece in pieces]
        blocks.append(({"type": "text", "text": ""}, deltas, {"type": "text", "text": speech.text}))
    blocks += [_call(ask, call, position) for position, call in enumerate(speech.calls)]
    return blocks


def _thinking(pieces: Sequence[str]) -> _Block:
    text = "".join(pieces)
    deltas: list[_Delta] = [({"type": "thinking_delta", "thinking": piece}, 0) for piece in pieces]
    deltas.append(({"type": "signature_delta", "signature": sign(text)}, 0))
    begun: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
    return begun, deltas, {"type": "thinking", "thinking": text, "signature": sign(text)}


def _searched(ask: Ask) -> list[_Block]:
    """A search that the provider made by itself, and what it found."""
    name = f"srvtoolu_fake{ask.number:08d}"
    used: dict[str, object] = {"type": "server_tool_use", "id": name, "name": "web_search", "input": {}}
    delta: dict[str, object] = {"type": "input_json_delta", "partial_json": json.dumps(_QUERY)}
    found = {
        "type": "web_search_result",
        "url": "https://example.com/found",
        "title": "Found",
        "encrypted_content": SEALED,
        "page_age": None,
    }
    result: dict[str, object] = {"type": "web_search_tool_result", "tool_use_id": name, "content": [found]}
    return [(used, [(delta, 0)], {**used, "input": _QUERY}), (result, [], result)]


def _call(ask: Ask, call: Call, position: int) -> _Block:
    name = f"toolu_fake{ask.number:08d}x{position}"
    begun: dict[str, object] = {"type": "tool_use", "id": name, "name": call.name, "input": {}}
    deltas: list[_Delta] = [
        ({"type": "input_json_delta", "partial_json": piece}, tokens(piece)) for piece in ("", *call.arguments)
    ]
    return begun, deltas, {**begun, "input": json.loads(call.written or "{}")}


def _stream(ask: Ask, speech: Speech, blocks: Sequence[_Block], end: Mapping[str, object]) -> Answer:
    how = ask.behaviour
    stream = Stream(how, named=True)
    start = _message(ask, speech)
    start["usage"] = {"input_tokens": 0, "output_tokens": 0} if how.usage == "none" else _usage(ask, speech, 1)
    stream.add({"type": "message_start", "message": start})
    calls = [block for block in blocks if block[0]["type"] == "tool_use"]
    index = 0
    for block in blocks if not how.interleave else blocks[: len(blocks) - len(calls)]:
        _send(stream, how, [block], index)
        index += 0 if how.shared_index and block in calls else 1
    if how.interleave and calls:
        _send(stream, how, calls, index)
    stream.billed = speech.output_tokens
    delta = {"stop_reason": None, "stop_sequence": None} if how.no_finish else end
    final: dict[str, object] = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0}}
    if how.usage != "none":
        total = _usage(ask, speech, speech.output_tokens + speech.reasoning)
        final["usage"] = {
            name: value for name, value in total.items() if name not in ("cache_creation", "service_tier")
        }
    stream.add(final)
    if not how.no_done:
        stream.add({"type": "message_stop"}, last=True)
    if how.after_done:
        stream.add({"type": "ping"})
    error = {"type": how.code or "overloaded_error", "message": how.message or "Overloaded"}
    return stream.answer(speech.bill(), error={"type": "error", "error": error}, name="error")


def _send(stream: Stream, how: Behaviour, blocks: Sequence[_Block], first: int) -> None:
    """These blocks side by side, from this index on."""
    for number, (begun, _, _) in enumerate(blocks):
        index = first + (0 if how.shared_index else number)
        stream.add({"type": "content_block_start", "index": index, "content_block": begun})
        if first == number == 0:
            stream.add({"type": "ping"})
    for number, (at, (delta, billed)) in enumerate(turns([row for _, row, _ in blocks], interleave=True)):
        index = first + (0 if how.shared_index else at)
        if how.unknown_event and number == 1:
            stream.add({"type": "content_block_future", "index": index, "future": {"kept": True}})
        stream.add({"type": "content_block_delta", "index": index, "delta": delta}, billed=billed)
    for number in range(len(blocks)):
        stream.add({"type": "content_block_stop", "index": first + (0 if how.shared_index else number)})
