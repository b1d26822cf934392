"""Answers of chat completions, read from upstreams and written for clients."""

from securellm.core.document import Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation.chat.asking import written_call
from securellm.providers.translation.members import broken
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
from securellm.providers.translation.signatures import origin

_FINISHES: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tools",
    "content_filter": "filter",
}
_WRITTEN: dict[Finish, str] = {
    "stop": "stop",
    "sequence": "stop",
    "length": "length",
    "tools": "tool_calls",
    "filter": "content_filter",
    "refusal": "content_filter",
}
"""`pause`, `malformed` and `other` have no word here."""

_TIERS = {"standard": "default"}
"""Service tiers by the names others give them."""


def read_finish(reason: Value, *, calls: int) -> Finish:
    """Why a choice ended. Raises UpstreamFailure for a reason that the choice belies."""
    if not isinstance(reason, str):
        raise broken("a choice ended without a reason")
    finish = _FINISHES.get(reason, "other")
    if finish == "stop" and calls:
        # So it is told when the caller named the function that had to be called.
        return "tools"
    if finish == "tools" and not calls:
        raise broken("a choice ended with tool calls and holds none")
    return finish


def written_finish(finish: Finish) -> str:
    """The reason in this dialect's words. Raises UpstreamFailure for one it has no word for."""
    if finish not in _WRITTEN:
        raise broken(f"the provider ended its answer with a reason that chat completions have no word for: {finish}")
    return _WRITTEN[finish]


def read_usage(members: Members) -> Usage | None:
    """Everything consumed, when it is told."""
    usage = members.get("usage")
    if not isinstance(usage, dict):
        return None
    return figures.inclusive(usage, prompt="prompt_tokens", completion="completion_tokens")


def written_usage(usage: Usage) -> dict[str, Value]:
    """The figures as this dialect gives them: cached tokens within the prompt's, reasoning within the completion's."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
            "audio_tokens": usage.audio_input,
            "image_tokens": usage.image_input,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
        },
    }


def written_tier(tier: str | None) -> str | None:
    """The service tier by this dialect's name for it."""
    return None if tier is None else _TIERS.get(tier, tier)


def refuse_unsaid(message: Members) -> None:
    """Raise UpstreamFailure for what was not asked for and would be lost."""
    for name in ("audio", "function_call", "images"):
        if message.get(name):
            raise broken(f"the answer holds {name}, which cannot be translated")


def signature_of(call: Members) -> str | None:
    """The proof that Gemini's own chat completions give with a tool call."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return named(google.get("thought_signature")) if isinstance(google, dict) else None


def own_signature(signature: str | None) -> str | None:
    """The proof that clients of this dialect are given: Gemini's, and no other."""
    surface, own = origin(signature or "")
    return own if surface is Surface.GENERATE_CONTENT and own else None


def read_answer(members: Members) -> Answer:
    """An upstream's whole reply."""
    if members.get("error"):
        raise told(members["error"])
    choices = members.get("choices")
    if not isinstance(choices, list) or not choices:
        raise broken("the reply holds no choices")
    return Answer(
        id=named(members.get("id")),
        model=named(members.get("model")),
        choices=tuple(_choice(choice) for choice in choices),
        usage=read_usage(members),
        service_tier=named(members.get("service_tier")),
    )


def _choice(choice: Value) -> Choice:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise broken("a choice holds no message")
    refuse_unsaid(message)
    parts: list[Part] = []
    thought = named(message.get("reasoning_content")) or named(message.get("reasoning"))
    if thought:
        parts.append(Reasoning(text=thought))
    text = text_in(message.get("content"))
    if text:
        parts.append(Text(text=text))
    refusal = named(message.get("refusal"))
    if refusal:
        parts.append(Refused(text=refusal))
    calls = message.get("tool_calls")
    found = [_call(call) for call in calls] if isinstance(calls, list) else []
    return Choice(parts=(*parts, *found), finish=read_finish(choice.get("finish_reason"), calls=len(found)))


def text_in(content: Value) -> str:
    """The text of a message: a string, or text parts. Raises UpstreamFailure for anything else."""
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for part in content if isinstance(content, list) else [None]:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise broken("the answer holds content that cannot be translated")
        texts.append(text)
    return "".join(texts)


def _call(call: Value) -> ToolCall:
    if not isinstance(call, dict) or call.get("type", "function") not in ("function", "custom", None):
        raise broken("a tool call is of a type that cannot be translated")
    custom = call.get("type") == "custom"
    said = call.get("custom" if custom else "function")
    if not isinstance(said, dict) or named(said.get("name")) is None:
        raise broken("a tool call names no function")
    arguments = said.get("input" if custom else "arguments")
    if arguments is not None and not isinstance(arguments, str):
        raise broken("the arguments of a tool call are no text")
    return ToolCall(
        id=named(call.get("id")) or "",
        name=str(said["name"]),
        arguments=arguments or "",
        signature=signature_of(call),
        custom=custom,
    )


def write_answer(answer: Answer, occasion: Occasion) -> dict[str, Value]:
    """The whole reply for a client."""
    members: dict[str, Value] = {
        "id": answer.id or f"chatcmpl-{occasion.request_id}",
        "object": "chat.completion",
        "created": occasion.created,
        "model": occasion.model,
        "choices": [_written_choice(index, choice, occasion) for index, choice in enumerate(answer.choices)],
    }
    if answer.usage is not None:
        members["usage"] = written_usage(answer.usage)
    tier = written_tier(answer.service_tier)
    if tier is not None:
        members["service_tier"] = tier
    return members


def _written_choice(index: int, choice: Choice, occasion: Occasion) -> Value:
    texts: list[str] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    calls: list[Value] = []
    for part in choice.parts:
        match part:
            case Text():
                texts.append(part.text)
            case Reasoning():
                thoughts.append(part.text)
            case Refused():
                refusals.append(part.text)
            case ToolCall():
                calls.append(_written_call(part, made_id(part.id, occasion, index, len(calls))))
            case _:
                raise broken("the answer holds what chat completions cannot say")
    message: dict[str, Value] = {
        "role": "assistant",
        "content": "".join(texts) or None,
        "refusal": "".join(refusals) or None,
    }
    if "".join(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": written_finish(choice.finish),
    }


def _written_call(call: ToolCall, call_id: str) -> Value:
    own = own_signature(call.signature)
    return written_call(
        ToolCall(id=call_id, name=call.name, arguments=call.arguments, signature=own, custom=call.custom)
    )


def made_id(given: str | None, occasion: Occasion, choice: int, place: int) -> str:
    """A tool call's id: the provider's, or one made from the request's."""
    return given or f"call_{occasion.request_id}_{choice}_{place}"
