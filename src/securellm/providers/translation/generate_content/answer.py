"""Answers of generated content, read from upstreams and written for clients."""

from collections.abc import Iterator

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation.generate_content.spelling import shown
from securellm.providers.translation.members import arguments_in, broken
from securellm.providers.translation.model import (
    Answer,
    Choice,
    Finish,
    Members,
    Occasion,
    Part,
    Reasoning,
    Refused,
    Text,
    ToolCall,
)
from securellm.providers.translation.signatures import NOBODYS
from securellm.providers.translation.writing import text_of

_FINISHES: dict[str, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "filter",
    "RECITATION": "filter",
    "LANGUAGE": "filter",
    "BLOCKLIST": "filter",
    "PROHIBITED_CONTENT": "filter",
    "SPII": "filter",
    "IMAGE_SAFETY": "filter",
    "IMAGE_PROHIBITED_CONTENT": "filter",
    "IMAGE_RECITATION": "filter",
    "ESCALATION": "filter",
    "MODEL_ARMOR": "filter",
    "MALFORMED_FUNCTION_CALL": "malformed",
    "UNEXPECTED_TOOL_CALL": "malformed",
    "MALFORMED_RESPONSE": "malformed",
}
_WRITTEN: dict[Finish, str] = {
    "stop": "STOP",
    "sequence": "STOP",
    "tools": "STOP",
    "length": "MAX_TOKENS",
    "filter": "SAFETY",
    "refusal": "SAFETY",
    "malformed": "MALFORMED_FUNCTION_CALL",
    "other": "OTHER",
}
"""`pause` has no word here."""
_UNSPECIFIED = frozenset({"FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED"})
_MODALITIES = (("AUDIO", "audio_input"), ("IMAGE", "image_input"))


def reason_in(candidate: Members) -> str | None:
    """Why a candidate ended, if it has."""
    reason = named(candidate.get("finishReason"))
    return None if reason in _UNSPECIFIED else reason


def is_blocked(members: Members) -> bool:
    """Whether the prompt was blocked: there are no candidates then."""
    feedback = members.get("promptFeedback")
    reason = named(feedback.get("blockReason")) if isinstance(feedback, dict) else None
    return reason is not None and reason not in _UNSPECIFIED


def read_finish(reason: str, *, calls: int) -> Finish:
    """Why a candidate ended. This dialect has no reason of its own for tool calls."""
    finish = _FINISHES.get(reason, "other")
    return "tools" if finish == "stop" and calls else finish


def written_finish(finish: Finish) -> str:
    """The reason in this dialect's words. Raises UpstreamFailure for one it has no word for."""
    if finish not in _WRITTEN:
        raise broken(f"the provider ended its answer with a reason that this dialect has no word for: {finish}")
    return _WRITTEN[finish]


def read_usage(members: Members) -> tuple[Usage | None, str | None]:
    """Everything consumed so far, and the service tier, as far as they are told."""
    usage = members.get("usageMetadata")
    if not isinstance(usage, dict):
        return None, None
    return figures.by_modality(usage), named(usage.get("serviceTier"))


def written_usage(usage: Usage) -> dict[str, Value]:
    """The figures as this dialect gives them: cached tokens within the prompt's, thoughts beside the candidates'.

    It has no figure for what was written to a cache: that stands within the prompt's.
    """
    written: dict[str, Value] = {
        "promptTokenCount": usage.prompt_tokens,
        "candidatesTokenCount": usage.output + usage.audio_output,
        "totalTokenCount": usage.total_tokens,
    }
    if usage.cache_read:
        written["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        written["thoughtsTokenCount"] = usage.reasoning
    special = {modality: getattr(usage, bucket) for modality, bucket in _MODALITIES}
    if any(special.values()):
        written["promptTokensDetails"] = _details(usage.prompt_tokens - sum(special.values()), special)
    if usage.audio_output:
        written["candidatesTokensDetails"] = _details(usage.output, {"AUDIO": usage.audio_output})
    return written


def _details(text: int, special: dict[str, int]) -> list[Value]:
    counts = {"TEXT": text, **special}
    return [{"modality": modality, "tokenCount": count} for modality, count in counts.items() if count]


def read_part(part: Value) -> Iterator[Part]:
    """What a part says. Raises UpstreamFailure for one that no other dialect has.

    Its signature goes with a thought or a tool call; the proof of plain words is a thought without any, after them.
    """
    if not isinstance(part, dict):
        raise broken("a part is no object")
    signature = named(part.get("thoughtSignature"))
    if signature == shown(NOBODYS):
        signature = None
    text, call = part.get("text"), part.get("functionCall")
    said = {name for name, value in part.items() if value is not None} - {"thoughtSignature", "thought", "partMetadata"}
    if said - {"text", "functionCall"} or len(said) > 1:
        raise broken("the answer holds a part that cannot be translated")
    if isinstance(call, dict):
        yield _read_call(call, signature)
    elif part.get("thought") is True:
        if text or signature:
            yield Reasoning(text=str(text or ""), signature=signature, redacted=not text)
    else:
        if isinstance(text, str) and text:
            yield Text(text=text)
        if signature is not None:
            yield Reasoning(signature=signature, redacted=True)


def _read_call(call: Members, signature: str | None) -> ToolCall:
    name, args = named(call.get("name")), call.get("args")
    if name is None or not isinstance(args, dict | None) or call.get("partialArgs") or call.get("willContinue"):
        raise broken("a tool call lacks its name, or its arguments are no whole object")
    # An object that is not there has no members.
    return ToolCall(id=named(call.get("id")) or "", name=name, arguments=text_of(args or {}), signature=signature)


def read_answer(members: Members) -> Answer:
    """An upstream's whole reply."""
    if members.get("error"):
        raise told(members["error"])
    candidates = members.get("candidates")
    choices = tuple(_choice(candidate) for candidate in candidates) if isinstance(candidates, list) else ()
    if not choices:
        if not is_blocked(members):
            raise broken("the reply holds no candidates")
        choices = (Choice(parts=(), finish="filter"),)
    usage, tier = read_usage(members)
    return Answer(
        id=named(members.get("responseId")),
        model=named(members.get("modelVersion")),
        choices=choices,
        usage=usage,
        service_tier=tier,
    )


def _choice(candidate: Value) -> Choice:
    reason = reason_in(candidate) if isinstance(candidate, dict) else None
    if not isinstance(candidate, dict) or reason is None:
        raise broken("a candidate ended without a reason")
    found: list[Part] = []
    for part in parts_of(candidate):
        for said in read_part(part):
            last = found[-1] if found else None
            if isinstance(said, Text) and isinstance(last, Text):
                found[-1] = Text(text=last.text + said.text)
            else:
                found.append(said)
    calls = sum(isinstance(part, ToolCall) for part in found)
    return Choice(parts=tuple(found), finish=read_finish(reason, calls=calls))


def parts_of(candidate: Members) -> list[Value]:
    """The parts of a candidate; none when it has no content."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return parts if isinstance(parts, list) else []


def content(parts: list[Value]) -> dict[str, Value]:
    """A model's content. Google's chats forget the whole exchange over one without parts, as Google writes none."""
    return {"role": "model", "parts": parts or [{"text": ""}]}


def thought_part(text: str, signature: str | None, *, redacted: bool) -> dict[str, Value]:
    """A thought. Ciphertext has no text at all, so that it is told from one whose text is empty."""
    part: dict[str, Value] = {"thought": True}
    if not redacted:
        part["text"] = text
    if signature:
        part["thoughtSignature"] = shown(signature)
    return part


def call_part(name: str, call_id: str, arguments: str, signature: str | None) -> dict[str, Value]:
    """A tool call. Raises UpstreamFailure for arguments that are no JSON object."""
    found = arguments_in(arguments)
    if found is None:
        raise broken("the arguments of a tool call are no JSON object")
    part: dict[str, Value] = {"functionCall": {"id": call_id, "name": name, "args": found}}
    if signature:
        part["thoughtSignature"] = shown(signature)
    return part


def made_id(given: str | None, occasion: Occasion, choice: int, place: int) -> str:
    """A tool call's id: the provider's, or one made from the request's."""
    return given or f"call_{occasion.request_id}_{choice}_{place}"


def write_answer(answer: Answer, occasion: Occasion) -> dict[str, Value]:
    """The whole reply for a client."""
    members: dict[str, Value] = {
        "candidates": [_candidate(index, choice, occasion) for index, choice in enumerate(answer.choices)],
        "modelVersion": occasion.model,
        "responseId": occasion.request_id,
    }
    if answer.usage is not None:
        members["usageMetadata"] = written_usage(answer.usage)
    return members


def _candidate(index: int, choice: Choice, occasion: Occasion) -> Value:
    parts: list[Value] = []
    calls = 0
    for part in choice.parts:
        match part:
            case Text() | Refused():
                parts.append({"text": part.text})
            case Reasoning():
                parts.append(thought_part(part.text, part.signature, redacted=part.redacted))
            case ToolCall() if not part.custom:
                call_id = made_id(part.id, occasion, index, calls)
                proof = part.signature or (None if calls else NOBODYS)
                parts.append(call_part(part.name, call_id, part.arguments, proof))
                calls += 1
            case _:
                raise broken("the answer holds what this dialect cannot say")
    return {
        "index": index,
        "content": content(parts),
        "finishReason": written_finish(choice.finish),
    }
