"""Answers in Ollama's dialects, written for clients."""

from datetime import UTC, datetime

import msgspec

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.translation.members import arguments_in, broken
from securellm.providers.translation.model import (
    Answer,
    Finish,
    Occasion,
    Reasoning,
    Refused,
    Text,
    ToolCall,
)

_WRITTEN: dict[Finish, str] = {"stop": "stop", "sequence": "stop", "tools": "stop", "length": "length"}
"""Of all others there is no word here: what was filtered or refused did not come to its end."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a line says, or a whole answer."""

    text: str = ""
    thought: str = ""
    calls: tuple[Value, ...] = ()


def message(said: Said) -> dict[str, Value]:
    """It, as a chat says it."""
    members: dict[str, Value] = {"role": "assistant", "content": said.text}
    if said.thought:
        members["thinking"] = said.thought
    if said.calls:
        members["tool_calls"] = list(said.calls)
    return {"message": members}


def head(occasion: Occasion) -> dict[str, Value]:
    """How every line begins."""
    created = datetime.fromtimestamp(occasion.created, UTC)
    return {"model": occasion.model, "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}"}


def ending(finish: Finish, usage: Usage | None) -> dict[str, Value]:
    """How the last line ends: why, and what was consumed. How long it took is nobody's to tell but a server's.

    Raises UpstreamFailure for a reason that this dialect has no word for.
    """
    if finish not in _WRITTEN:
        raise broken(f"the provider ended its answer with a reason that this dialect has no word for: {finish}")
    members: dict[str, Value] = {"done": True, "done_reason": _WRITTEN[finish]}
    if usage is not None:
        members |= {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
    return members


def written_call(call: ToolCall, place: int, occasion: Occasion) -> Value:
    """A tool call, with an id made from the request's where it has none. Raises UpstreamFailure."""
    found = arguments_in(call.arguments)
    if call.custom or found is None:
        raise broken("the arguments of a tool call are no JSON object")
    call_id = call.id or f"call_{occasion.request_id}_0_{place}"
    return {"id": call_id, "function": {"index": place, "name": call.name, "arguments": found}}


def said_in(answer: Answer, occasion: Occasion) -> tuple[Said, Finish]:
    """What the one answer says, and why it ended. Raises UpstreamFailure for what cannot be said."""
    if len(answer.choices) != 1:
        raise broken("the answer holds several choices, and this dialect has one")
    [choice] = answer.choices
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Value] = []
    for part in choice.parts:
        match part:
            case Text() | Refused():
                texts.append(part.text)
            case Reasoning():
                thoughts.append(part.text)
            case ToolCall():
                calls.append(written_call(part, len(calls), occasion))
            case _:
                raise broken("the answer holds what this dialect cannot say")
    return Said(text="".join(texts), thought="".join(thoughts), calls=tuple(calls)), choice.finish


def write_answer(answer: Answer, occasion: Occasion) -> dict[str, Value]:
    """The whole reply for a client."""
    said, finish = said_in(answer, occasion)
    return {**head(occasion), **message(said), **ending(finish, answer.usage)}
