"""OpenAI's chat completions, as OpenAI, xAI, DeepSeek, Ollama and compatible servers speak them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.upstream.answer import Answer, Ask, Stream, check, count, need, turns
from tests.upstream.faces import Refused
from tests.upstream.speech import Call, Speech, speak, texts, tokens, write

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_PARTS = {"text", "image_url", "input_audio", "file", "refusal"}


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then answer whole or as a stream."""
    body = ask.body
    model = str(need(body, "model", str))
    messages = need(body, "messages", list)
    _check_messages(messages)
    stream = bool(check(body, "stream", bool))
    options = check(body, "stream_options", dict)
    if options is not None and not stream:
        raise Refused(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise Refused(400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    temperature = check(body, "temperature", (int, float))
    if temperature is not None and not 0 <= temperature <= 2:
        raise Refused(400, "Invalid 'temperature': decimal out of range.", param="temperature")
    choices = count(body, "n", most=128) or 1
    cap = count(body, "max_completion_tokens") or count(body, "max_tokens")
    stops = check(body, "stop", (str, list)) or ()
    speech = speak(
        ask.behaviour,
        [messages, body.get("tools")],
        cap=cap,
        tools=_offered(body, messages),
        schema=_schema(body),
        said=[text for message in messages for text in texts(message.get("content"))],
        choices=choices,
        stops=[stops] if isinstance(stops, str) else stops,
    )
    finish = ask.behaviour.stop or ("tool_calls" if speech.calls else "length" if speech.cut else "stop")
    head = {
        "id": f"chatcmpl-fake{ask.number:08d}",
        "object": "chat.completion.chunk" if stream else "chat.completion",
        "created": int(time.time()),
        "model": model,
    }
    if ask.face == "openai":
        head |= {"service_tier": body.get("service_tier") or "default"}
    head |= {"system_fingerprint": "fp_ollama" if ask.face == "ollama" else "fp_fake"}
    if stream:
        return _stream(ask, speech, head, finish, choices, wanted=bool((options or {}).get("include_usage")))
    whole: dict[str, object] = dict(head)
    whole["choices"] = [
        {
            "index": index,
            "message": _message(ask, speech, index),
            "logprobs": _logprobs(speech.pieces) if body.get("logprobs") else None,
            "finish_reason": finish,
        }
        for index in range(choices)
    ]
    if ask.behaviour.usage != "none":
        whole["usage"] = _usage(ask.face, speech)
    return Answer(body=write(whole, escape=ask.behaviour.escape), bill=speech.bill())


def _stream(ask: Ask, speech: Speech, head: Mapping[str, object], finish: str, choices: int, *, wanted: bool) -> Answer:
    how = ask.behaviour
    stream = Stream(how, named=False)
    usage = _usage(ask.face, speech)
    in_choices = how.usage == "with_choices" or (how.usage == "documented" and ask.face == "deepseek")
    mention = wanted and how.usage == "documented" and ask.face != "ollama"

    def chunk(
        delta: dict[str, object], *, index: int = 0, end: str | None = None, logprobs: object = None
    ) -> dict[str, object]:
        choice: dict[str, object] = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end}
        value = {**head, "choices": [choice]}
        if how.usage == "every_chunk" or (end is not None and in_choices):
            value["usage"] = usage
        elif mention:
            value["usage"] = None
        if ask.face == "openai":
            value["obfuscation"] = "Zx3k9"[: 1 + ask.number % 5]
        return value

    for index in range(choices):
        start: dict[str, object] = {"role": "assistant", "content": None if speech.calls else ""}
        stream.add(chunk(start | ({"refusal": None} if ask.face == "openai" else {}), index=index))
    if how.huge_event:
        stream.add(chunk({"content": "x" * how.huge_event}), billed=tokens("x" * how.huge_event))
    if ask.face == "deepseek":
        stream.comment("keep-alive")
    for piece in speech.thought:
        if ask.face in ("deepseek", "xai", "ollama"):
            stream.add(chunk({"reasoning" if ask.face == "ollama" else "reasoning_content": piece}))
    for number, piece in enumerate(speech.pieces):
        if how.unknown_event and number == 1:
            stream.raw(write({**head, "object": "chat.completion.future", "choices": [], "future": {"kept": True}}))
        for index in range(choices):
            odds = _logprobs((piece,)) if ask.body.get("logprobs") else None
            said: dict[str, object] = {"refusal" if how.refusal else "content": piece}
            stream.add(chunk(said, index=index, logprobs=odds), billed=tokens(piece))
    rows = [[_begun(call), *map(_argued, call.arguments)] for call in speech.calls]
    for position, (function, billed) in turns(rows, interleave=how.interleave):
        for index in range(choices):
            part = {"index": 0 if how.shared_index else position, **function}
            if "id" in part:
                part["id"] = _call_id(ask, position, index)
            stream.add(chunk({"tool_calls": [part]}, index=index), billed=billed)
    if not how.no_finish:
        for index in range(choices):
            stream.add(chunk({}, index=index, end=finish))
    stream.billed = speech.output_tokens
    if wanted and how.usage == "documented" and ask.face != "deepseek":
        stream.add({**head, "choices": [], "usage": usage})
    if not how.no_done:
        stream.raw(b"[DONE]", last=True)
    if how.after_done:
        stream.add(chunk({"content": " after the end"}))
    message = how.message or "The server had an error while processing your request. Sorry about that!"
    error = {"message": message, "type": "server_error", "param": None, "code": how.code}
    return stream.answer(speech.bill(), error={"error": error})


def _begun(call: Call) -> tuple[dict[str, object], int]:
    function = {"name": call.name, "arguments": ""}
    return {"id": "", "type": "function", "function": function}, tokens(call.name)


def _argued(piece: str) -> tuple[dict[str, object], int]:
    return {"function": {"arguments": piece}}, tokens(piece)


def _check_messages(messages: Sequence[Any]) -> None:
    if not messages:
        raise Refused(400, "Invalid 'messages': empty array.", param="messages", code="empty_array")
    waiting: set[str] = set()
    for at, message in enumerate(messages):
        place = f"messages[{at}]"
        if not isinstance(message, dict):
            raise Refused(400, f"Invalid type for '{place}': expected an object.", param=place, code="invalid_type")
        role = message.get("role")
        if role not in _ROLES:
            raise Refused(400, f"Invalid value for '{place}.role'.", param=f"{place}.role", code="invalid_value")
        content = message.get("content")
        if isinstance(content, list):
            for part in content:
                if not isinstance(part, dict) or part.get("type") not in _PARTS:
                    raise Refused(400, f"Invalid content part in '{place}'.", param=f"{place}.content")
        elif content is not None and not isinstance(content, str):
            raise Refused(400, f"Invalid type for '{place}.content'.", param=f"{place}.content", code="invalid_type")
        calls = message.get("tool_calls")
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                raise Refused(400, "A 'tool' message must answer a preceding 'tool_calls'.", param=place)
            waiting.discard(message["tool_call_id"])
        elif waiting:
            raise Refused(400, "An assistant message with 'tool_calls' must be followed by tool messages.", param=place)
        if calls:
            if role != "assistant" or not all(_is_call(call) for call in calls):
                raise Refused(400, f"Invalid '{place}.tool_calls'.", param=f"{place}.tool_calls")
            waiting = {str(call["id"]) for call in calls}
        elif content is None and role != "assistant":
            raise Refused(400, f"Missing required parameter: '{place}.content'.", param=f"{place}.content")
    if waiting:
        raise Refused(400, "An assistant message with 'tool_calls' must be followed by tool messages.")


def _is_call(call: object) -> bool:
    if not isinstance(call, dict) or not isinstance(call.get("id"), str):
        return False
    function = call.get("function")
    return isinstance(function, dict) and isinstance(function.get("arguments"), str)


def _offered(body: Mapping[str, Any], messages: Sequence[Any]) -> list[tuple[str, object]]:
    """The tools this answer calls: the first, or the first two when parallel calls are allowed."""
    tools: list[tuple[str, object]] = []
    for at, tool in enumerate(check(body, "tools", list) or ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused(400, f"Missing required parameter: 'tools[{at}].function.name'.", param=f"tools[{at}]")
        tools.append((function["name"], function.get("parameters")))
    choice = body.get("tool_choice")
    if choice is not None and not tools:
        raise Refused(400, "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if choice == "none" or messages[-1]["role"] == "tool":
        return []
    if isinstance(choice, dict):
        wanted = choice.get("function", {}).get("name")
        return [tool for tool in tools if tool[0] == wanted]
    return tools[:2] if body.get("parallel_tool_calls", True) else tools[:1]


def _schema(body: Mapping[str, Any]) -> object:
    wanted = check(body, "response_format", dict) or {}
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    if wanted.get("type") != "json_schema":
        return None
    described = wanted.get("json_schema")
    if not isinstance(described, dict) or "name" not in described:
        raise Refused(400, "Missing required parameter: 'response_format.json_schema.name'.")
    return described.get("schema")


def _message(ask: Ask, speech: Speech, choice: int) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": None if speech.calls else speech.text}
    if speech.thought and ask.face in ("deepseek", "xai"):
        message["reasoning_content"] = "".join(speech.thought)
    if ask.face == "openai":
        message |= {"refusal": None, "annotations": []}
    if ask.behaviour.refusal:
        message |= {"content": None, "refusal": speech.text}
    if speech.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(ask, position, choice),
                "type": "function",
                "function": {"name": call.name, "arguments": call.written},
            }
            for position, call in enumerate(speech.calls)
        ]
    return message


def _call_id(ask: Ask, position: int, choice: int) -> str:
    return f"call_fake{ask.number:08d}x{position}x{choice}"


def _logprobs(pieces: Sequence[str]) -> dict[str, object]:
    return {
        "content": [
            {"token": piece, "logprob": -0.25, "bytes": list(piece.encode()), "top_logprobs": []} for piece in pieces
        ],
        "refusal": None,
    }


def _usage(face: str, speech: Speech) -> dict[str, object]:
    """Each provider's own way of counting."""
    prompt, visible, reasoning = speech.input_tokens, speech.output_tokens, speech.reasoning
    if face == "ollama":
        done = visible + reasoning
        return {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}
    if face == "deepseek":
        done = visible + reasoning
        return {
            "prompt_tokens": prompt,
            "completion_tokens": done,
            "total_tokens": prompt + done,
            "prompt_tokens_details": {"cached_tokens": speech.cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
            "prompt_cache_hit_tokens": speech.cached,
            "prompt_cache_miss_tokens": prompt - speech.cached,
        }
    if face == "xai":
        return {
            "prompt_tokens": prompt,
            "completion_tokens": visible,
            "total_tokens": prompt + visible + reasoning,
            "prompt_tokens_details": {
                "text_tokens": prompt,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": speech.cached,
            },
            "completion_tokens_details": {
                "reasoning_tokens": reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "num_sources_used": 0,
        }
    done = visible + reasoning + speech.audio_output
    details = {"cached_tokens": speech.cached, "audio_tokens": speech.audio_input}
    if speech.image_input:
        details["image_tokens"] = speech.image_input
    if speech.cache_write_5m:
        details["cache_write_tokens"] = speech.cache_write_5m
    return {
        "prompt_tokens": prompt,
        "completion_tokens": done,
        "total_tokens": prompt + done,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": speech.audio_output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
