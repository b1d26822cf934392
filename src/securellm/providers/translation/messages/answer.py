"""Answers of messages, read from upstreams and written for clients."""

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation.members import arguments_in, broken
from securellm.providers.translation.messages.proof import proof_block
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
from securellm.providers.translation.signatures import is_empty
from securellm.providers.translation.writing import text_of

_FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "stop_sequence": "sequence",
    "tool_use": "tools",
    "pause_turn": "pause",
    "refusal": "refusal",
}
_WRITTEN: dict[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "sequence": "stop_sequence",
    "tools": "tool_use",
    "pause": "pause_turn",
    "refusal": "refusal",
    "filter": "refusal",
}
"""`malformed` and `other` have no word here."""

_TIERS = {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}
"""Service tiers by the names others give them. The rest have none here."""


def read_finish(reason: Value, *, calls: int) -> Finish:
    """Why the answer ended. Raises UpstreamFailure for a reason that the answer belies."""
    if not isinstance(reason, str):
        raise broken("the answer ended without a reason")
    finish = _FINISHES.get(reason, "other")
    if finish == "stop" and calls:
        return "tools"
    if finish == "tools" and not calls:
        raise broken("the answer ended with tool calls and holds none")
    return finish


def written_finish(finish: Finish, *, refused: bool) -> str:
    """The reason in this dialect's words. Raises UpstreamFailure for one it has no word for.

    `refused`: the model declined in words of its own, which other dialects do not call a reason to stop.
    """
    if finish not in _WRITTEN:
        raise broken(f"the provider ended its answer with a reason that messages have no word for: {finish}")
    return "refusal" if refused and finish == "stop" else _WRITTEN[finish]


def written_usage(usage: Usage | None, tier: str | None) -> dict[str, Value]:
    """The figures as this dialect gives them: what the cache gave and took stands beside the input.

    This dialect cannot leave them out: of what is not known, 0 is said.
    """
    usage = usage if usage is not None else Usage()
    written: dict[str, Value] = {
        "input_tokens": usage.input + usage.audio_input + usage.image_input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
    named_tier = _TIERS.get(tier or "")
    if named_tier is not None:
        written["service_tier"] = named_tier
    return written


def read_answer(members: Members) -> Answer:
    """An upstream's whole reply."""
    if members.get("type") == "error" or members.get("error"):
        raise told(members.get("error"))
    blocks = members.get("content")
    if not isinstance(blocks, list):
        raise broken("the reply holds no content")
    parts = tuple(part for block in blocks if (part := _part(block)) is not None)
    calls = sum(1 for part in parts if isinstance(part, ToolCall))
    usage = members.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    choice = Choice(
        parts=parts,
        finish=read_finish(members.get("stop_reason"), calls=calls),
        stop_sequence=named(members.get("stop_sequence")),
    )
    return Answer(
        id=named(members.get("id")),
        model=named(members.get("model")),
        choices=(choice,),
        usage=figures.exclusive(usage),
        service_tier=named(usage.get("service_tier")),
    )


def _part(block: Value) -> Part | None:
    if not isinstance(block, dict):
        raise broken("a content block is no object")
    match block.get("type"):
        case "text":
            text = _text(block, "text")
            return Text(text=text) if text else None
        case "thinking":
            return Reasoning(text=_text(block, "thinking"), signature=named(block.get("signature")))
        case "redacted_thinking":
            return Reasoning(signature=_text(block, "data"), redacted=True)
        case "tool_use":
            arguments, name = block.get("input"), named(block.get("name"))
            if not isinstance(arguments, dict) or name is None:
                raise broken("a tool call lacks its name or input")
            return ToolCall(id=named(block.get("id")) or "", name=name, arguments=text_of(arguments))
        case _:
            raise unsaid_block()


def unsaid_block() -> Exception:
    """The failure for a block of a kind that was not asked for and would be lost."""
    return broken("the answer holds a content block that cannot be translated")


def _text(block: Members, name: str) -> str:
    text = block.get(name)
    if not isinstance(text, str):
        raise broken(f"a content block lacks its {name}")
    return text


def write_answer(answer: Answer, occasion: Occasion) -> dict[str, Value]:
    """The whole reply for a client."""
    if len(answer.choices) != 1:
        raise broken("the answer holds another number of choices than one")
    choice = answer.choices[0]
    content: list[Value] = []
    calls = 0
    for part in _told(choice.parts):
        if isinstance(part, ToolCall):
            content += _written_call(part, made_id(part.id, occasion, calls))
            calls += 1
        elif (block := _written_block(part)) is not None:
            content.append(block)
    refused = any(isinstance(part, Refused) for part in choice.parts)
    return {
        "id": answer.id or f"msg_{occasion.request_id}",
        "type": "message",
        "role": "assistant",
        "model": occasion.model,
        "content": content,
        "stop_reason": written_finish(choice.finish, refused=refused),
        "stop_sequence": choice.stop_sequence,
        "usage": written_usage(answer.usage, answer.service_tier),
    }


def _told(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts without a wordless thought at the end: clients take the last block for the answer."""
    last = parts[-1] if len(parts) > 1 else None
    return parts[:-1] if isinstance(last, Reasoning) and last.redacted else parts


def _written_block(part: Part) -> Value:
    match part:
        case Text() | Refused():
            return {"type": "text", "text": part.text} if part.text else None
        case Reasoning():
            if part.redacted:
                return {"type": "redacted_thinking", "data": part.signature}
            if not part.text and is_empty(part.signature):
                return None
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        case _:
            raise broken("the answer holds what messages cannot say")


def _written_call(call: ToolCall, call_id: str) -> list[Value]:
    arguments = arguments_in(call.arguments)
    if call.custom or arguments is None:
        raise broken("the arguments of a tool call are no complete JSON object")
    block: Value = {"type": "tool_use", "id": call_id, "name": call.name, "input": arguments}
    return [block] if is_empty(call.signature) else [proof_block(call.signature or ""), block]


def made_id(given: str | None, occasion: Occasion, place: int) -> str:
    """A tool call's id: the provider's, or one made from the request's."""
    return given or f"toolu_{occasion.request_id}_{place}"
