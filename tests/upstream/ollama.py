"""Ollama's native API: chat and generate as NDJSON lines or whole, embed, show, and what is installed."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from tests.upstream.answer import NDJSON, Answer, Ask, Stream
from tests.upstream.embeddings import vector
from tests.upstream.faces import Refused
from tests.upstream.models import NAMES
from tests.upstream.speech import Speech, speak, tokens, write

VERSION = "0.40.12"
_ROLES = ("system", "user", "assistant", "tool")
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "fake",
    "families": ["fake"],
    "parameter_size": "4.0B",
    "quantization_level": "Q4_K_M",
}


def chat(ask: Ask) -> Answer:
    """A conversation's next message."""
    body = ask.body
    _check_model(body)
    messages = _typed(body, "messages", list, "ChatRequest.messages", "[]api.Message") or []
    for message in messages:
        _check_message(message)
    if not messages:
        return _loaded(ask, {"message": {"role": "assistant", "content": ""}})
    speech = _speech(
        ask,
        [messages, body.get("tools")],
        tools=_offered(body, messages),
        said=[message.get("content", "") for message in messages],
    )
    calls = [_call(ask, speech, position) for position in range(len(speech.calls))]
    whole: dict[str, object] = {"role": "assistant", "content": speech.text}
    if speech.thought:
        whole["thinking"] = "".join(speech.thought)
    if calls:
        whole["tool_calls"] = calls
    if not _streams(body):
        return _whole(ask, speech, {"message": whole})

    def line(**members: object) -> dict[str, object]:
        return {"message": {"role": "assistant", "content": "", **members}}

    lines = [(line(thinking=piece), 0) for piece in speech.thought]
    lines += [(line(content=piece), tokens(piece)) for piece in _pieces(ask, speech)]
    for call, said in zip(calls, speech.calls, strict=True):
        lines.append((line(tool_calls=[call]), tokens(said.name) + tokens(said.written)))
    return _stream(ask, speech, lines, line())


def generate(ask: Ask) -> Answer:
    """What follows a prompt."""
    body = ask.body
    _check_model(body)
    prompt = _typed(body, "prompt", str, "GenerateRequest.prompt", "string") or ""
    for name in ("suffix", "system", "template"):
        _typed(body, name, str, f"GenerateRequest.{name}", "string")
    _check_images(body)
    if not prompt and not body.get("suffix"):
        return _loaded(ask, {"response": ""})
    speech = _speech(ask, [prompt, body.get("system"), body.get("suffix")], tools=(), said=[prompt])
    whole: dict[str, object] = {"response": speech.text}
    if speech.thought:
        whole["thinking"] = "".join(speech.thought)
    memory = {} if body.get("raw") else {"context": [1, 2, 3]}
    if not _streams(body):
        return _whole(ask, speech, whole | memory)
    lines: list[tuple[dict[str, object], int]] = [({"response": "", "thinking": piece}, 0) for piece in speech.thought]
    lines += [({"response": piece}, tokens(piece)) for piece in _pieces(ask, speech)]
    return _stream(ask, speech, lines, {"response": "", **memory})


def embed(ask: Ask) -> Answer:
    """A vector for each input."""
    body = ask.body
    _check_model(body)
    given = body.get("input")
    inputs = [given] if isinstance(given, str) and given else given or []
    if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
        raise Refused(400, "invalid input type")
    size = _typed(body, "dimensions", int, "EmbedRequest.dimensions", "int") or 16
    used = ask.behaviour.input_tokens or sum(map(tokens, inputs))
    whole: dict[str, object] = {"model": ask.model, "embeddings": [vector(item, size) for item in inputs]}
    whole |= {"total_duration": 14143917, "load_duration": 1019500}
    if ask.behaviour.usage != "none":
        whole["prompt_eval_count"] = used
    return Answer(body=write(whole), bill={"input": used})


def show(ask: Ask) -> Answer:
    """What is known of one model."""
    _check_model(ask.body)
    whole = {
        "modelfile": f"FROM {ask.model}",
        "parameters": "num_ctx 4096",
        "template": "{{ .Prompt }}",
        "details": _DETAILS,
        "model_info": {"general.architecture": "fake", "fake.context_length": 131072, "fake.embedding_length": 16},
        "capabilities": ["completion", "tools", "vision", "thinking"],
        "modified_at": "2026-01-01T00:00:00Z",
    }
    return Answer(body=write(whole))


def tags(ask: Ask) -> Answer:
    """The installed or running models, or the version."""
    if ask.place["what"] == "version":
        return Answer(body=write({"version": VERSION}))
    rows = [
        {
            "name": f"{name}:latest",
            "model": f"{name}:latest",
            "modified_at": "2026-01-01T00:00:00Z",
            "size": 3338801804,
            "digest": "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a",
            "details": _DETAILS,
        }
        for name in NAMES
    ]
    return Answer(body=write({"models": rows}))


# Reading


def _typed(body: Mapping[str, Any], name: str, kind: type, place: str, wanted: str) -> Any:
    """A member of the type that Go wants, or None. Raises `Refused` 400 with Go's words."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        given = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
        raise Refused(400, f"json: cannot unmarshal {given[type(value)]} into Go struct field {place} of type {wanted}")
    return value


def _check_model(body: Mapping[str, Any]) -> None:
    if not _typed(body, "model", str, "ChatRequest.model", "string"):
        raise Refused(400, "model is required")


def _check_message(message: Any) -> None:
    if not isinstance(message, dict):
        raise Refused(400, "json: cannot unmarshal into Go struct field ChatRequest.messages of type api.Message")
    role = message.get("role")
    if role not in _ROLES:
        raise Refused(400, f"invalid role: {role}, must be one of [system, user, assistant, tool]")
    _typed(message, "content", str, "ChatRequest.messages.content", "string")
    _typed(message, "thinking", str, "ChatRequest.messages.thinking", "string")
    _check_images(message)
    for call in _typed(message, "tool_calls", list, "ChatRequest.messages.tool_calls", "[]api.ToolCall") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not function.get("name"):
            raise Refused(400, "tool call without a function name")
        place = "ChatRequest.messages.tool_calls.function.arguments"
        _typed(function, "arguments", dict, place, "api.ToolCallFunctionArguments")


def _check_images(value: Mapping[str, Any]) -> None:
    for image in _typed(value, "images", list, "ChatRequest.messages.images", "[]api.ImageData") or ():
        try:
            base64.b64decode(image, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Refused(400, "illegal base64 data at input byte 0") from None


def _offered(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, object]]:
    offered: list[tuple[str, object]] = []
    for tool in _typed(body, "tools", list, "ChatRequest.tools", "api.Tools") or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not function.get("name"):
            raise Refused(400, "tool without a function name")
        offered.append((function["name"], function.get("parameters")))
    return [] if messages[-1]["role"] == "tool" else offered[:2]


def _streams(body: Mapping[str, Any]) -> bool:
    """It streams unless told not to."""
    return _typed(body, "stream", bool, "ChatRequest.stream", "bool") is not False


def _speech(ask: Ask, prompt: Sequence[object], *, tools: Sequence[tuple[str, object]], said: Sequence[str]) -> Speech:
    body, how = ask.body, ask.behaviour
    options = _typed(body, "options", dict, "ChatRequest.options", "map[string]interface {}") or {}
    cap = _typed(options, "num_predict", int, "num_predict", "integer")
    stops = options.get("stop") or ()
    think = body.get("think")
    if think is not None and not isinstance(think, bool) and think not in ("high", "medium", "low", "max"):
        raise Refused(400, f'invalid think value: {think!r} (must be "high", "medium", "low", "max", true, or false)')
    thinking = bool(think) or (how.thinking and think is not False)
    return speak(
        msgspec.structs.replace(how, thinking=thinking),
        prompt,
        # -1 means no end, -2 the context's.
        cap=cap if cap is not None and cap >= 0 else None,
        tools=tools,
        schema=_schema(body),
        said=said,
        stops=[stops] if isinstance(stops, str) else stops,
    )


def _schema(body: Mapping[str, Any]) -> object:
    form = body.get("format")
    if form is None or form == "":
        return None
    if form == "json":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if not isinstance(form, dict):
        raise Refused(400, f'invalid format: {json.dumps(form)}; expected "json" or a valid JSON Schema object')
    return form


# Answering


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _call(ask: Ask, speech: Speech, position: int) -> dict[str, object]:
    call = speech.calls[position]
    function: dict[str, object] = {"name": call.name}
    if call.written:
        function["arguments"] = json.loads(call.written)
    if ask.behaviour.no_call_ids:
        return {"function": function}
    index = 0 if ask.behaviour.shared_index else position
    return {"id": f"call_fake{ask.number:08d}x{position}", "function": {"index": index, **function}}


def _pieces(ask: Ask, speech: Speech) -> tuple[str, ...]:
    huge = ask.behaviour.huge_event
    return ("x" * huge, *speech.pieces) if huge else speech.pieces


def _end(ask: Ask, speech: Speech) -> dict[str, object]:
    """The figures of the last line; Go leaves out a zero."""
    how = ask.behaviour
    end: dict[str, object] = {} if how.no_finish else {"done_reason": how.stop or ("length" if speech.cut else "stop")}
    end |= {"total_duration": 174560334, "load_duration": 101397084}
    if how.usage != "none":
        counts = {
            "prompt_eval_count": speech.input_tokens,
            "prompt_eval_duration": 13074791,
            "eval_count": speech.output_tokens + speech.reasoning,
            "eval_duration": 52479709,
        }
        end |= {name: count for name, count in counts.items() if count}
    return end


def _loaded(ask: Ask, said: Mapping[str, object]) -> Answer:
    """A request that only loads or unloads the model; one line, whether streamed or not."""
    reason = "unload" if ask.body.get("keep_alive") == 0 else "load"
    value = {"model": ask.model, "created_at": _now(), **said, "done": True, "done_reason": reason}
    return Answer(body=write(value))


def _whole(ask: Ask, speech: Speech, said: Mapping[str, object]) -> Answer:
    value = {"model": ask.model, "created_at": _now(), **said, "done": True, **_end(ask, speech)}
    return Answer(body=write(value, escape=ask.behaviour.escape), bill=speech.bill())


def _stream(
    ask: Ask, speech: Speech, lines: Sequence[tuple[Mapping[str, object], int]], last: Mapping[str, object]
) -> Answer:
    how = ask.behaviour
    stream = Stream(how, framing=NDJSON)
    head = {"model": ask.model, "created_at": _now()}
    for number, (line, billed) in enumerate(lines):
        if how.unknown_event and number == 1:
            stream.add({**head, "future": {"kept": True}, "done": False})
        counts = _end(ask, speech) if how.usage == "every_chunk" else {}
        counts.pop("done_reason", None)
        stream.add({**head, **line, "done": False, **counts}, billed=billed)
    stream.billed = speech.output_tokens
    if not how.no_done:
        stream.add({**head, **last, "done": True, **_end(ask, speech)}, last=True)
    if how.after_done:
        stream.add({**head, **last, "done": False})
    message = how.message or "an error was encountered while running the model: unexpected EOF"
    return stream.answer(speech.bill(), error={"error": message})
