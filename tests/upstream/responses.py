"""OpenAI's responses: items in, items out, typed events with rising sequence numbers."""

import time
from collections.abc import Mapping
from typing import Any

from tests.upstream.answer import Answer, Ask, Stream, check, count, need
from tests.upstream.faces import Refused
from tests.upstream.speech import Call, Speech, speak, texts, tokens, write

_ROLES = {"system", "developer", "user", "assistant"}


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then answer whole or as a stream of typed events."""
    body = ask.body
    need(body, "model", str)
    given = body.get("input")
    if given is None and not any(body.get(name) for name in ("previous_response_id", "prompt", "conversation")):
        raise Refused(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    _check_input(given)
    for name in ("messages", "max_tokens"):
        if name in body:
            raise Refused(400, f"Unsupported parameter: '{name}'.", param=name, code="unsupported_parameter")
    stream = bool(check(body, "stream", bool))
    cap = count(body, "max_output_tokens", least=16)
    said = [given] if isinstance(given, str) else [text for item in given or () for text in texts(item.get("content"))]
    speech = speak(
        ask.behaviour,
        [given, body.get("instructions"), body.get("tools")],
        cap=cap,
        tools=_offered(body),
        schema=_schema(body),
        said=said,
    )
    if stream:
        return _stream(ask, speech)
    status = "incomplete" if speech.cut else "completed"
    whole = _response(ask, speech, status, _items(ask, speech))
    return Answer(body=write(whole, escape=ask.behaviour.escape), bill=speech.bill())


def _response(ask: Ask, speech: Speech, status: str, output: list[dict[str, object]]) -> dict[str, object]:
    body = ask.body
    done = status not in ("in_progress", "queued")
    value: dict[str, object] = {
        "id": f"resp_fake{ask.number:08d}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": body.get("service_tier") or "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": _usage(speech) if done and ask.behaviour.usage != "none" else None,
        "user": None,
        "metadata": body.get("metadata") or {},
    }
    return value


def _usage(speech: Speech) -> dict[str, object]:
    done = speech.output_tokens + speech.reasoning
    return {
        "input_tokens": speech.input_tokens,
        "input_tokens_details": {"cached_tokens": speech.cached, "cache_write_tokens": speech.cache_write_5m},
        "output_tokens": done,
        "output_tokens_details": {"reasoning_tokens": speech.reasoning},
        "total_tokens": speech.input_tokens + done,
    }


def _text_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _message_item(ask: Ask, text: str | None, status: str) -> dict[str, object]:
    content = [] if text is None else [_text_part(text)]
    name = f"msg_fake{ask.number:08d}"
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def _call_item(ask: Ask, call: Call, position: int, status: str) -> dict[str, object]:
    return {
        "id": f"fc_fake{ask.number:08d}x{position}",
        "type": "function_call",
        "status": status,
        "call_id": f"call_fake{ask.number:08d}x{position}",
        "name": call.name,
        "arguments": call.written if status == "completed" else "",
    }


def _reasoning_item(ask: Ask, speech: Speech) -> dict[str, object]:
    summary = [{"type": "summary_text", "text": "".join(speech.thought)}]
    return {"id": f"rs_fake{ask.number:08d}", "type": "reasoning", "summary": summary}


def _items(ask: Ask, speech: Speech) -> list[dict[str, object]]:
    """The whole output of a finished answer."""
    items = [_reasoning_item(ask, speech)] if speech.thought else []
    if speech.calls:
        items += [_call_item(ask, call, position, "completed") for position, call in enumerate(speech.calls)]
    else:
        items.append(_message_item(ask, speech.text, "incomplete" if speech.cut else "completed"))
    return items


class _Events(Stream):
    """Typed events, numbered as they are added."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask.behaviour, named=True)
        self.sequence = 0

    def say(self, kind: str, value: Mapping[str, object], *, billed: int = 0, last: bool = False) -> None:
        self.add({"type": kind, "sequence_number": self.sequence, **value}, billed=billed, last=last)
        self.sequence += 1


def _stream(ask: Ask, speech: Speech) -> Answer:
    how = ask.behaviour
    stream = _Events(ask)
    stream.say("response.created", {"response": _response(ask, speech, "in_progress", [])})
    stream.say("response.in_progress", {"response": _response(ask, speech, "in_progress", [])})
    index = 0
    if speech.thought:
        item = _reasoning_item(ask, speech)
        part = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        empty = {"type": "summary_text", "text": ""}
        stream.say("response.output_item.added", {"output_index": index, "item": item | {"summary": []}})
        stream.say("response.reasoning_summary_part.added", {**part, "part": empty})
        for piece in speech.thought:
            stream.say("response.reasoning_summary_text.delta", {**part, "delta": piece})
        stream.say("response.reasoning_summary_text.done", {**part, "text": "".join(speech.thought)})
        whole = {"type": "summary_text", "text": "".join(speech.thought)}
        stream.say("response.reasoning_summary_part.done", {**part, "part": whole})
        stream.say("response.output_item.done", {"output_index": index, "item": item})
        index += 1
    for position, call in enumerate(speech.calls):
        _call_events(stream, ask, call, position, index)
        index += 1
    if not speech.calls:
        _text_events(stream, ask, speech, index)
    stream.billed = speech.output_tokens
    status = "incomplete" if speech.cut else "completed"
    if not how.no_done:
        end = _response(ask, speech, status, _items(ask, speech))
        if how.no_finish:
            end["status"] = "in_progress"
        stream.say(f"response.{status}", {"response": end}, last=True)
    if how.after_done:
        stream.say("response.output_text.delta", {"item_id": "msg_late", "output_index": 9, "delta": "late"})
    return Answer(events=tuple(stream.events), bill=speech.bill())


def _text_events(stream: _Events, ask: Ask, speech: Speech, index: int) -> None:
    item = _message_item(ask, None, "in_progress")
    place: dict[str, object] = {"item_id": item["id"], "output_index": index, "content_index": 0}
    stream.say("response.output_item.added", {"output_index": index, "item": item})
    stream.say("response.content_part.added", {**place, "part": _text_part("")})
    pieces = speech.pieces
    if ask.behaviour.huge_event:
        pieces = ("x" * ask.behaviour.huge_event, *pieces)
    for number, piece in enumerate(pieces):
        if ask.behaviour.unknown_event and number == 1:
            stream.say("response.future_thing.delta", {"future": {"kept": True}})
        extra = {"logprobs": [], "obfuscation": "Zx3k9"[: 1 + number % 5]}
        stream.say("response.output_text.delta", {**place, "delta": piece, **extra}, billed=tokens(piece))
    text = "".join(pieces)
    stream.say("response.output_text.done", {**place, "text": text, "logprobs": []})
    stream.say("response.content_part.done", {**place, "part": _text_part(text)})
    done = _message_item(ask, text, "incomplete" if speech.cut else "completed")
    stream.say("response.output_item.done", {"output_index": index, "item": done})


def _call_events(stream: _Events, ask: Ask, call: Call, position: int, index: int) -> None:
    begun = _call_item(ask, call, position, "in_progress")
    place: dict[str, object] = {"item_id": begun["id"], "output_index": index}
    stream.say("response.output_item.added", {"output_index": index, "item": begun}, billed=tokens(call.name))
    for piece in call.arguments:
        stream.say("response.function_call_arguments.delta", {**place, "delta": piece}, billed=tokens(piece))
    stream.say("response.function_call_arguments.done", {**place, "name": call.name, "arguments": call.written})
    done = _call_item(ask, call, position, "completed")
    stream.say("response.output_item.done", {"output_index": index, "item": done})


def error_event(ask: Ask, sequence: int) -> tuple[str | None, dict[str, object]]:
    """What the provider sends when a stream breaks in the middle."""
    message = ask.behaviour.message or "The server had an error while processing your request. Sorry about that!"
    code = ask.behaviour.code or "server_error"
    return "error", {"type": "error", "sequence_number": sequence, "code": code, "message": message, "param": None}


def _check_input(given: object) -> None:
    if given is None or isinstance(given, str):
        return
    if not isinstance(given, list):
        raise Refused(400, "Invalid type for 'input'.", param="input", code="invalid_type")
    for at, item in enumerate(given):
        if not isinstance(item, dict):
            raise Refused(400, f"Invalid type for 'input[{at}]'.", param=f"input[{at}]", code="invalid_type")
        kind = item.get("type", "message")
        if kind == "message" and (item.get("role") not in _ROLES or "content" not in item):
            raise Refused(400, f"Invalid value for 'input[{at}]'.", param=f"input[{at}]", code="invalid_value")
        if kind == "function_call_output" and not isinstance(item.get("call_id"), str):
            raise Refused(400, f"Missing required parameter: 'input[{at}].call_id'.", param=f"input[{at}].call_id")
        if kind == "function_call" and not isinstance(item.get("arguments"), str):
            raise Refused(400, f"Missing required parameter: 'input[{at}].arguments'.", param=f"input[{at}].arguments")


def _offered(body: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The functions this answer calls: the first, or the first two when parallel calls are allowed."""
    tools: list[tuple[str, object]] = []
    for at, tool in enumerate(check(body, "tools", list) or ()):
        if not isinstance(tool, dict) or "type" not in tool:
            raise Refused(400, f"Missing required parameter: 'tools[{at}].type'.", param=f"tools[{at}].type")
        if tool["type"] == "function":
            if not isinstance(tool.get("name"), str):
                raise Refused(400, f"Missing required parameter: 'tools[{at}].name'.", param=f"tools[{at}].name")
            tools.append((tool["name"], tool.get("parameters")))
    given = body.get("input")
    answered = isinstance(given, list) and given and given[-1].get("type") == "function_call_output"
    if body.get("tool_choice") == "none" or answered:
        return []
    return tools[:2] if body.get("parallel_tool_calls", True) else tools[:1]


def _schema(body: Mapping[str, Any]) -> object:
    form = (check(body, "text", dict) or {}).get("format")
    return form.get("schema") if isinstance(form, dict) and form.get("type") == "json_schema" else None
