"""OpenAI's responses: items in, items out, typed events with rising sequence numbers."""

import time
from collections.abc import Mapping
from typing import Any

from tests.upstream.answer import Answer, Ask, Stream, check, count, need, turns
from tests.upstream.faces import Refused
from tests.upstream.memory import Stored
from tests.upstream.responses_check import check_request, conversation_of, history
from tests.upstream.responses_items import Item, call, citation, finished, message, reasoning, search, text_part
from tests.upstream.speech import Speech, speak, texts, tokens, write


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then answer whole, later, or as a stream of typed events."""
    body = ask.body
    need(body, "model", str)
    check_request(ask)
    stream = bool(check(body, "stream", bool))
    earlier = history(ask)
    speech = _speech(ask, earlier)
    status = _status(ask, speech)
    whole = _response(ask, speech, status, finished(ask, speech))
    if body.get("background"):
        return _later(ask, speech, earlier, whole)
    _remember(ask, speech, earlier, whole)
    if stream:
        return _stream(ask, speech, status)
    return Answer(body=write(whole, escape=ask.behaviour.escape), bill=speech.bill())


def count_tokens(ask: Ask) -> Answer:
    """How long a prompt would be."""
    check_request(ask)
    speech = _speech(ask, history(ask))
    return Answer(body=write({"object": "response.input_tokens", "input_tokens": speech.input_tokens}))


def _speech(ask: Ask, earlier: list[Any]) -> Speech:
    body = ask.body
    given = body.get("input")
    said = [given] if isinstance(given, str) else [text for item in given or () for text in texts(item.get("content"))]
    return speak(
        ask.behaviour,
        [earlier, given, body.get("instructions"), body.get("tools")],
        cap=count(body, "max_output_tokens", least=16),
        tools=_offered(body),
        schema=_schema(body),
        said=said,
    )


def _status(ask: Ask, speech: Speech) -> str:
    stop = ask.behaviour.stop
    if stop in ("failed", "cancelled", "completed"):
        return stop
    return "incomplete" if speech.cut or stop is not None else "completed"


def _response(ask: Ask, speech: Speech, status: str, output: list[Item]) -> dict[str, Any]:
    body, how = ask.body, ask.behaviour
    done = status not in ("in_progress", "queued")
    error = {"code": how.code or "server_error", "message": how.message or "An error occurred."}
    conversation = conversation_of(body)
    value: dict[str, Any] = {
        "id": f"resp_fake{ask.number:08d}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": int(time.time()) if status == "completed" else None,
        "status": status,
        "background": bool(body.get("background")),
        "error": error if status == "failed" else None,
        "incomplete_details": {"reason": how.stop or "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "frequency_penalty": 0.0,
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "safety_identifier": body.get("safety_identifier"),
        "top_logprobs": body.get("top_logprobs", 0),
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None} | (body.get("reasoning") or {}),
        "service_tier": body.get("service_tier") or "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": _usage(speech) if done and how.usage != "none" else None,
        "user": None,
        "metadata": body.get("metadata") or {},
    }
    return value if conversation is None else {**value, "conversation": {"id": conversation}}


def _usage(speech: Speech) -> dict[str, object]:
    done = speech.output_tokens + speech.reasoning
    return {
        "input_tokens": speech.input_tokens,
        "input_tokens_details": {"cached_tokens": speech.cached, "cache_write_tokens": speech.cache_write_5m},
        "output_tokens": done,
        "output_tokens_details": {"reasoning_tokens": speech.reasoning},
        "total_tokens": speech.input_tokens + done,
    }


# What is remembered


def _items(ask: Ask) -> list[Item]:
    """The request's own items, named as OpenAI lists them."""
    given = ask.body.get("input")
    if given is None:
        return []
    rows = [{"role": "user", "content": given}] if isinstance(given, str) else given
    named: list[Item] = []
    for at, row in enumerate(rows):
        item = {"type": "message", "id": f"in_fake{ask.number:08d}x{at}", **row}
        if item["type"] == "message" and isinstance(item["content"], str):
            kind = "output_text" if item["role"] == "assistant" else "input_text"
            item = {"status": "completed", **item, "content": [{"type": kind, "text": item["content"]}]}
        named.append(item)
    return named


def _remember(ask: Ask, speech: Speech, earlier: list[Any], value: dict[str, Any]) -> None:
    items = _items(ask)
    name = conversation_of(ask.body)
    if name is not None:
        ask.memory.items[name] += [*items, *value["output"]]
    if ask.body.get("store") is False:
        return
    ask.memory.responses[value["id"]] = Stored(value=value, items=items, history=[*earlier, *items])
    if speech.thought:
        ask.memory.reasoned.add(f"rs_fake{ask.number:08d}")


def _later(ask: Ask, speech: Speech, earlier: list[Any], whole: dict[str, Any]) -> Answer:
    """Queued now; in progress and then whole when it is asked for. Billed when it is whole."""
    queued = _response(ask, speech, "queued", [])
    _remember(ask, speech, earlier, queued)
    stored = ask.memory.responses[queued["id"]]
    stored.later = [_response(ask, speech, "in_progress", []), whole]
    stored.bill = speech.bill()
    if not ask.body.get("stream"):
        return Answer(body=write(queued))
    stored.value, stored.later = whole, []
    return _stream(ask, speech, str(whole["status"]))


# Streaming


class _Events(Stream):
    """Typed events, numbered as they are added."""

    def __init__(self, ask: Ask) -> None:
        super().__init__(ask.behaviour, named=True)
        self.sequence = 0

    def say(self, kind: str, value: Mapping[str, object], *, billed: int = 0, last: bool = False) -> None:
        self.add({"type": kind, "sequence_number": self.sequence, **value}, billed=billed, last=last)
        self.sequence += 1


def _stream(ask: Ask, speech: Speech, status: str) -> Answer:
    how = ask.behaviour
    stream = _Events(ask)
    begun = _response(ask, speech, "in_progress", [])
    if ask.body.get("background"):
        queued = begun | {"status": "queued"}
        stream.say("response.created", {"response": queued})
        stream.say("response.queued", {"response": queued})
    else:
        stream.say("response.created", {"response": begun})
    stream.say("response.in_progress", {"response": begun})
    index = 0
    if speech.thought:
        _reasoning_events(stream, ask, speech)
        index += 1
    if how.server_tool:
        _search_events(stream, ask, index)
        index += 1
    if speech.calls:
        _call_events(stream, ask, speech, index)
    else:
        _text_events(stream, ask, speech, index)
    stream.billed = speech.output_tokens
    if not how.no_done:
        end = _response(ask, speech, status, finished(ask, speech))
        if how.no_finish:
            end["status"] = "in_progress"
        stream.say(f"response.{status}", {"response": end}, last=True)
    if how.after_done:
        stream.say("response.output_text.delta", {"item_id": "msg_late", "output_index": 9, "delta": "late"})
    told = how.message or "The server had an error while processing your request. Sorry about that!"
    error: dict[str, object] = {"type": "error", "sequence_number": how.error_event or 0}
    error |= {"code": how.code or "server_error", "message": told, "param": None}
    return stream.answer(speech.bill(), error=error, name="error")


def _reasoning_events(stream: _Events, ask: Ask, speech: Speech) -> None:
    item = reasoning(ask, speech)
    stream.say("response.output_item.added", {"output_index": 0, "item": item | {"summary": []}})
    part: dict[str, object] = {"item_id": item["id"], "output_index": 0, "summary_index": 0}
    if item["summary"]:
        empty = {"type": "summary_text", "text": ""}
        stream.say("response.reasoning_summary_part.added", {**part, "part": empty})
        for piece in speech.thought:
            stream.say("response.reasoning_summary_text.delta", {**part, "delta": piece})
        stream.say("response.reasoning_summary_text.done", {**part, "text": "".join(speech.thought)})
        stream.say("response.reasoning_summary_part.done", {**part, "part": item["summary"][0]})
    stream.say("response.output_item.done", {"output_index": 0, "item": item})


def _search_events(stream: _Events, ask: Ask, index: int) -> None:
    item = search(ask, "in_progress")
    place: dict[str, object] = {"output_index": index, "item_id": item["id"]}
    stream.say("response.output_item.added", {"output_index": index, "item": item})
    for step in ("in_progress", "searching", "completed"):
        stream.say(f"response.web_search_call.{step}", place)
    stream.say("response.output_item.done", {"output_index": index, "item": search(ask, "completed")})


def _text_events(stream: _Events, ask: Ask, speech: Speech, index: int) -> None:
    how = ask.behaviour
    item = message(ask, None, "in_progress")
    place: dict[str, object] = {"item_id": item["id"], "output_index": index, "content_index": 0}
    stream.say("response.output_item.added", {"output_index": index, "item": item})
    stream.say("response.content_part.added", {**place, "part": text_part(ask, "")})
    pieces = ("x" * how.huge_event, *speech.pieces) if how.huge_event else speech.pieces
    kind = "refusal" if how.refusal else "output_text"
    for number, piece in enumerate(pieces):
        if how.unknown_event and number == 1:
            stream.say("response.future_thing.delta", {"future": {"kept": True}})
        extra = {} if how.refusal else {"logprobs": [], "obfuscation": "Zx3k9"[: 1 + number % 5]}
        stream.say(f"response.{kind}.delta", {**place, "delta": piece, **extra}, billed=tokens(piece))
    text = "".join(pieces)
    if how.server_tool:
        note = {"annotation_index": 0, "annotation": citation()}
        stream.say("response.output_text.annotation.added", {**place, **note})
    whole = {"refusal": text} if how.refusal else {"text": text, "logprobs": []}
    stream.say(f"response.{kind}.done", {**place, **whole})
    stream.say("response.content_part.done", {**place, "part": text_part(ask, text)})
    done = message(ask, text, "incomplete" if speech.cut else "completed")
    stream.say("response.output_item.done", {"output_index": index, "item": done})


def _call_events(stream: _Events, ask: Ask, speech: Speech, first: int) -> None:
    """The calls one after the other, or side by side."""
    groups = [range(len(speech.calls))] if ask.behaviour.interleave else [[at] for at in range(len(speech.calls))]
    for group in groups:
        places: dict[int, dict[str, object]] = {}
        for at in group:
            begun = call(ask, speech.calls[at], at, "in_progress")
            index = first if ask.behaviour.shared_index else first + at
            places[at] = {"item_id": begun["id"], "output_index": index}
            billed = tokens(speech.calls[at].name)
            stream.say("response.output_item.added", {"output_index": index, "item": begun}, billed=billed)
        for number, piece in turns([speech.calls[at].arguments for at in group], interleave=True):
            told = {**places[group[number]], "delta": piece}
            stream.say("response.function_call_arguments.delta", told, billed=tokens(piece))
        for at in group:
            made = speech.calls[at]
            told = {**places[at], "name": made.name, "arguments": made.written}
            stream.say("response.function_call_arguments.done", told)
            done = {"output_index": places[at]["output_index"], "item": call(ask, made, at, "completed")}
            stream.say("response.output_item.done", done)


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
    choice = body.get("tool_choice")
    if choice == "none" or answered:
        return []
    if isinstance(choice, dict) and choice.get("type") == "function":
        return [tool for tool in tools if tool[0] == choice.get("name")]
    return tools[:2] if body.get("parallel_tool_calls", True) else tools[:1]


def _schema(body: Mapping[str, Any]) -> object:
    form = (check(body, "text", dict) or {}).get("format")
    return form.get("schema") if isinstance(form, dict) and form.get("type") == "json_schema" else None
