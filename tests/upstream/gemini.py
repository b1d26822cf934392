"""Gemini's native API: generate (whole, as events or as one JSON array), count tokens, embed."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from tests.upstream.answer import GOOGLE_SSE, Answer, Ask, Event, Framing, Stream, turns
from tests.upstream.embeddings import vector
from tests.upstream.envelopes import google
from tests.upstream.faces import Refused
from tests.upstream.gemini_history import SIGNATURE, check_contents
from tests.upstream.gemini_shape import read
from tests.upstream.speech import Call, Speech, media, speak, tokens, write

_MUTE = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "OTHER"}
"""Finish reasons whose candidate has no content."""
_TIERS = {"SERVICE_TIER_FLEX": "flex", "SERVICE_TIER_STANDARD": "standard", "SERVICE_TIER_PRIORITY": "priority"}


def answer(ask: Ask) -> Answer:
    """Validate as Google does, then answer whole or as a stream."""
    body = read(ask.body, "GenerateContentRequest")
    how = ask.behaviour
    config: Mapping[str, Any] = body.get("generationConfig", {})
    thinks, shown = _thinking(ask, config)
    check_contents(body, thinks=thinks)
    stream = ask.place.get("verb") == "streamGenerateContent"
    if not stream and ask.query.get("alt", "json") != "json":
        raise Refused(400, f"Invalid value for query parameter alt: {ask.query['alt']}")
    candidates = _count(config, "candidateCount", 1, 8)
    cap = config.get("maxOutputTokens")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise Refused(400, "* GenerateContentRequest.generation_config.max_output_tokens: must be positive.")
    speech = speak(
        msgspec.structs.replace(how, thinking=thinks),
        [body["contents"], body.get("systemInstruction"), body.get("tools")],
        cap=cap,
        tools=_offered(body),
        schema=_schema(config),
        said=list(_said(body)),
        choices=candidates,
        stops=config.get("stopSequences", ()),
    )
    if not shown:
        speech = msgspec.structs.replace(speech, thought=())
    tier = str(body.get("serviceTier") or "standard").upper()
    headers = (("x-gemini-service-tier", _TIERS.get(tier, tier.lower())),)
    if how.blocked is not None:
        return _blocked(ask, speech, stream=stream, headers=headers)
    finish = how.stop or ("MAX_TOKENS" if speech.cut else "STOP")
    if stream and how.huge_event:
        speech = msgspec.structs.replace(speech, pieces=("x" * how.huge_event, *speech.pieces))
    parts = _parts(ask, speech, config, signed=thinks)
    if stream:
        return _stream(ask, speech, parts, finish, candidates, headers)
    one: dict[str, object] = {"content": {"parts": _joined(parts), "role": "model"}, "finishReason": finish}
    if finish in _MUTE:
        one = {"finishReason": finish, "finishMessage": "The answer was withheld."}
    whole = _response(ask, [{**one, "index": index} for index in range(candidates)])
    if how.usage != "none":
        whole["usageMetadata"] = _usage(speech, speech.output_tokens)
    return Answer(body=write(whole, escape=how.escape), headers=headers, bill=speech.bill())


def count_tokens(ask: Ask) -> Answer:
    """How long a prompt would be."""
    body = read(ask.body, "CountTokensRequest")
    body = body.get("generateContentRequest", body)
    check_contents(body, thinks=False)
    prompt = [body["contents"], body.get("systemInstruction"), body.get("tools")]
    speech = speak(ask.behaviour, prompt, cap=None)
    whole = {"totalTokens": speech.input_tokens, "promptTokensDetails": _modalities(speech)}
    if speech.cached:
        whole["cachedContentTokenCount"] = speech.cached
    return Answer(body=write(whole))


def embed(ask: Ask) -> Answer:
    """The vector of one content."""
    values, used = _embedded(ask, read(ask.body, "EmbedContentRequest"))
    return _vectors(ask, {"embedding": {"values": values}}, used)


def batch_embed(ask: Ask) -> Answer:
    """A vector for each of the requests."""
    requests = read(ask.body, "BatchEmbedContentsRequest").get("requests") or []
    if not requests:
        raise Refused(400, "* BatchEmbedContentsRequest.requests: at least one request is required")
    for at, request in enumerate(requests):
        if request.get("model") != f"models/{ask.model}":
            raise Refused(400, f"* BatchEmbedContentsRequest.requests[{at}].model: unexpected model name format")
    made = [_embedded(ask, request) for request in requests]
    return _vectors(ask, {"embeddings": [{"values": values} for values, _ in made]}, sum(used for _, used in made))


def _embedded(ask: Ask, request: Mapping[str, Any]) -> tuple[list[float], int]:
    said = [part.get("text") for part in request.get("content", {}).get("parts", ())]
    if not said or not all(isinstance(text, str) and text for text in said):
        raise Refused(400, "* EmbedContentRequest.content: contains no parts.")
    size = _count(request, "outputDimensionality", 16, 3072)
    return vector("\n".join(said), size), sum(map(tokens, said))


def _vectors(ask: Ask, whole: dict[str, object], used: int) -> Answer:
    used = ask.behaviour.input_tokens or used
    if ask.behaviour.usage != "none":
        details = [{"modality": "TEXT", "tokenCount": used}]
        whole["usageMetadata"] = {"promptTokenCount": used, "promptTokensDetails": details}
    return Answer(body=write(whole), bill={"input": used})


# What the answer is made of


def _thinking(ask: Ask, config: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the model thinks, and whether it shows what."""
    wanted: Mapping[str, Any] = config.get("thinkingConfig", {})
    shown = bool(wanted.get("includeThoughts"))
    return (ask.behaviour.thinking or shown) and wanted.get("thinkingBudget") != 0, shown


def _offered(body: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The functions this answer calls: the first two that are allowed."""
    offered: list[tuple[str, object]] = []
    for at, tool in enumerate(body.get("tools", ())):
        for number, row in enumerate(tool.get("functionDeclarations", ())):
            place = f"* GenerateContentRequest.tools[{at}].function_declarations[{number}]"
            if not row.get("name"):
                raise Refused(400, f"{place}.name: [FIELD_INVALID]")
            if "parameters" in row and "parametersJsonSchema" in row:
                raise Refused(400, f"{place}: parameters and parameters_json_schema are mutually exclusive.")
            offered.append((row["name"], _plain(row.get("parameters", row.get("parametersJsonSchema")))))
    calling: Mapping[str, Any] = body.get("toolConfig", {}).get("functionCallingConfig", {})
    mode = calling.get("mode", "AUTO")
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise Refused(400, "Invalid value at 'tool_config.function_calling_config.mode'")
    allowed = calling.get("allowedFunctionNames")
    if allowed and mode not in ("ANY", "VALIDATED"):
        raise Refused(400, "Allowed function names should only be set when function calling mode is ANY or VALIDATED.")
    answered = any("functionResponse" in part for part in body["contents"][-1]["parts"])
    if mode == "NONE" or answered:
        return []
    return [tool for tool in offered if not allowed or tool[0] in allowed][:2]


def _schema(config: Mapping[str, Any]) -> object:
    """The schema of the wanted answer, in plain JSON Schema."""
    given = [config[name] for name in ("responseSchema", "responseJsonSchema") if name in config]
    kind = config.get("responseMimeType", "text/plain")
    if kind not in ("text/plain", "application/json", "text/x.enum"):
        raise Refused(400, "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are "
                      "`text/plain`, `application/json` and `text/x.enum`.")  # fmt: skip
    if len(given) > 1:
        raise Refused(400, "response_schema and response_json_schema are mutually exclusive.")
    if given and kind == "text/plain":
        raise Refused(400, "* GenerateContentRequest.generation_config.response_schema: only allowed when response "
                      "mime type is `application/json`.")  # fmt: skip
    if given:
        return _plain(given[0])
    return {"type": "object", "properties": {"answer": {"type": "string"}}} if kind == "application/json" else None


def _plain(schema: Any) -> Any:
    """Google's `OBJECT` is JSON Schema's `object`."""
    if isinstance(schema, Mapping):
        return {
            name: value.lower() if name == "type" and isinstance(value, str) else _plain(value)
            for name, value in schema.items()
        }
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def _said(body: Mapping[str, Any]) -> Sequence[str]:
    parts = [part for content in body["contents"] for part in content.get("parts", ())]
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


def _parts(ask: Ask, speech: Speech, config: Mapping[str, Any], *, signed: bool) -> list[tuple[dict[str, object], int]]:
    """The parts of a candidate as a stream cuts them, with the tokens of each."""
    parts: list[tuple[dict[str, object], int]] = [({"text": piece, "thought": True}, 0) for piece in speech.thought]
    parts += [({"text": piece}, tokens(piece)) for piece in speech.pieces]
    for position, call in enumerate(speech.calls):
        parts.append(({"functionCall": _call(ask, call, position)}, tokens(call.name) + tokens(call.written)))
    wanted = config.get("responseModalities") or ()
    if "IMAGE" in wanted:
        parts.append(({"inlineData": _blob("image/png", ask.behaviour.media_bytes)}, 0))
    if "AUDIO" in wanted:
        parts = [({"inlineData": _blob("audio/L16;codec=pcm;rate=24000", ask.behaviour.media_bytes)}, 0)]
    if signed:
        at = next((at for at, (part, _) in enumerate(parts) if "functionCall" in part), None)
        if at is None:
            parts.append(({"text": "", "thoughtSignature": SIGNATURE}, 0))
        else:
            parts[at] = ({**parts[at][0], "thoughtSignature": SIGNATURE}, parts[at][1])
    return parts or [({"text": ""}, 0)]


def _call(ask: Ask, call: Call, position: int) -> dict[str, object]:
    value: dict[str, object] = {"name": call.name}
    if call.written:
        value["args"] = json.loads(call.written)
    if not ask.behaviour.no_call_ids:
        number = 0 if ask.behaviour.shared_index else position
        value["id"] = f"fake{ask.number:08d}x{number}"
    return value


def _count(members: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = members.get(name, default)
    if type(value) is not int or not 1 <= value <= most:
        raise Refused(400, f"* {name}: must be in the range [1, {most}].")
    return value


def _blob(kind: str, size: int) -> dict[str, object]:
    return {"mimeType": kind, "data": base64.b64encode(media(kind, size)).decode()}


def _joined(parts: Sequence[tuple[dict[str, object], int]]) -> list[dict[str, object]]:
    """The parts of a whole answer: texts of one kind in a row are one."""
    joined: list[dict[str, object]] = []
    for part, _ in parts:
        last = joined[-1] if joined else {}
        if "text" in part and "text" in last and part.get("thought") == last.get("thought"):
            joined[-1] = {**last, **part, "text": f"{last['text']}{part['text']}"}
        else:
            joined.append(part)
    return joined


def _response(ask: Ask, candidates: Sequence[Mapping[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {"candidates": list(candidates)} if candidates else {}
    return value | {"modelVersion": ask.model, "responseId": f"fake{ask.number:08d}"}


def _usage(speech: Speech, visible: int) -> dict[str, object]:
    """Counts so far; as in every proto JSON, a zero is left out."""
    reasoning, used = speech.reasoning, speech.tool_use
    produced = visible + (speech.audio_output if visible == speech.output_tokens else 0)
    value: dict[str, object] = {
        "promptTokenCount": speech.input_tokens,
        "candidatesTokenCount": produced,
        "totalTokenCount": speech.input_tokens + produced + reasoning + used,
        "cachedContentTokenCount": speech.cached,
        "promptTokensDetails": _modalities(speech),
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": speech.cached}] if speech.cached else None,
        "toolUsePromptTokenCount": used,
        "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": used}] if used else None,
        "thoughtsTokenCount": reasoning,
    }
    if speech.audio_output and produced > visible:
        spoken = [("TEXT", visible), ("AUDIO", speech.audio_output)]
        value["candidatesTokensDetails"] = [{"modality": kind, "tokenCount": n} for kind, n in spoken if n]
    return {name: count for name, count in value.items() if count}


def _modalities(speech: Speech) -> list[dict[str, object]]:
    text = speech.input_tokens - speech.audio_input - speech.image_input
    counts = [("TEXT", text), ("IMAGE", speech.image_input), ("AUDIO", speech.audio_input)]
    return [{"modality": kind, "tokenCount": count} for kind, count in counts if count]


# How it is sent


def _array_item(data: bytes, name: str | None, eol: bytes) -> bytes:
    return b",\r\n" + data


ARRAY = Framing(media="application/json; charset=UTF-8", event=_array_item, alive=b"\r\n", eol=b"\r\n")
"""What a stream is without `alt=sse`: one JSON array, an element at a time."""


def _stream(
    ask: Ask,
    speech: Speech,
    parts: Sequence[tuple[dict[str, object], int]],
    finish: str,
    candidates: int,
    headers: tuple[tuple[str, str], ...],
) -> Answer:
    how = ask.behaviour
    framing = _framing(ask)
    stream = Stream(how, framing=framing)

    def chunk(candidate: Mapping[str, object], billed: int, *, last: bool = False) -> None:
        value = _response(ask, [candidate])
        if how.usage in ("documented", "every_chunk") or (how.usage == "with_choices" and last):
            visible = speech.output_tokens if last else min(stream.billed + billed, speech.output_tokens)
            value["usageMetadata"] = _usage(speech, visible)
        stream.add(value, billed=billed)

    rows = [list(enumerate(parts)) for _ in range(candidates)]
    for number, (index, (at, (part, billed))) in enumerate(turns(rows, interleave=True)):
        if how.unknown_event and number == 1:
            stream.add(_response(ask, []) | {"futureThing": {"kept": True}})
        candidate: dict[str, object] = {"content": {"parts": [part], "role": "model"}}
        last = at == len(parts) - 1
        if last and finish in _MUTE:
            candidate = {"finishReason": finish, "finishMessage": "The answer was withheld."}
        elif last and not how.no_finish:
            candidate["finishReason"] = finish
        chunk({**candidate, "index": index}, billed, last=last and index == candidates - 1)
    stream.billed = speech.output_tokens
    if how.after_done:
        chunk({"content": {"parts": [{"text": " after the end"}], "role": "model"}, "index": 0}, 0)
    return _sent(ask, stream, speech.bill(), headers)


def _blocked(ask: Ask, speech: Speech, *, stream: bool, headers: tuple[tuple[str, str], ...]) -> Answer:
    """No candidate, and why. The prompt is billed."""
    value = {"promptFeedback": {"blockReason": ask.behaviour.blocked}, **_response(ask, [])}
    bill = {**speech.bill(output=0), "reasoning": 0}
    counts = {"promptTokenCount": speech.input_tokens, "totalTokenCount": speech.input_tokens}
    if ask.behaviour.usage != "none":
        value["usageMetadata"] = {**counts, "promptTokensDetails": _modalities(speech)}
    if not stream:
        return Answer(body=write(value), headers=headers, bill=bill)
    events = Stream(ask.behaviour, framing=_framing(ask))
    events.add(value)
    return _sent(ask, events, bill, headers)


def _framing(ask: Ask) -> Framing:
    alt = ask.query.get("alt", "json")
    if alt not in ("sse", "json"):
        raise Refused(400, f"Invalid value for query parameter alt: {alt}")
    return GOOGLE_SSE if alt == "sse" else ARRAY


def _sent(ask: Ask, stream: Stream, bill: dict[str, int], headers: tuple[tuple[str, str], ...]) -> Answer:
    how = ask.behaviour
    # The event's place in time decides the status: what broke a stream is an outage unless told otherwise.
    status = {"RESOURCE_EXHAUSTED": 429, "INTERNAL": 500}.get(how.code or "", 503)
    error = google(Refused(status, how.message or "The model is overloaded. Please try again later.", code=how.code))
    made = stream.answer(bill, error=error, headers=headers)
    if made.framing is not ARRAY or made.events is None:
        return made
    first, *rest = [event.frame for event in made.events]
    frames = [b"[" + first.removeprefix(b",\r\n"), *rest]
    events = [Event(frame, event.billed) for frame, event in zip(frames, made.events, strict=True)]
    if not how.no_done:
        events.append(Event(b"\r\n]\r\n", made.events[-1].billed, last=True))
    return msgspec.structs.replace(made, events=tuple(events), broken=made.broken + b"\r\n]\r\n")
