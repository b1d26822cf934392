"""Answers of responses, read from upstreams and written for clients."""

from collections.abc import Iterator, Mapping

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation.members import broken
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
from securellm.providers.translation.responses.tools import Known, known_tools, unwrapped

_TIERS = {"standard": "default"}
"""Service tiers by the names others give them."""
_OWN_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})
_ECHOED: tuple[tuple[str, Value], ...] = (
    ("frequency_penalty", 0),
    ("instructions", None),
    ("max_output_tokens", None),
    ("max_tool_calls", None),
    ("metadata", {}),
    ("parallel_tool_calls", True),
    ("presence_penalty", 0),
    ("prompt_cache_key", None),
    ("safety_identifier", None),
    ("temperature", 1),
    ("text", {"format": {"type": "text"}}),
    ("tool_choice", "auto"),
    ("tools", []),
    ("top_p", 1),
    ("truncation", "disabled"),
    ("user", None),
)
"""Members of the request that the answer repeats, and what it says of those that were left out.

Those of OpenAI's answers that the Open Responses specification (2026-04-24) requires are all there, and never null
where it says that they are not.
"""


def read_usage(members: Members) -> Usage | None:
    """Everything consumed, when it is told."""
    usage = members.get("usage")
    if not isinstance(usage, dict):
        return None
    return figures.inclusive(usage, prompt="input_tokens", completion="output_tokens")


def written_usage(usage: Usage) -> dict[str, Value]:
    """The figures as this dialect gives them: cached tokens within the input's, reasoning within the output's."""
    into: dict[str, Value] = {
        "cached_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
    }
    if usage.cache_write_1h:
        into["cache_write_tokens_details"] = {
            "ttl_30m_tokens": usage.cache_write_5m,
            "ttl_12h_tokens": usage.cache_write_1h,
        }
    if usage.audio_input:
        into["audio_tokens"] = usage.audio_input
    if usage.image_input:
        into["image_tokens"] = usage.image_input
    out: dict[str, Value] = {"reasoning_tokens": usage.reasoning}
    if usage.audio_output:
        out["audio_tokens"] = usage.audio_output
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": into,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": out,
        "total_tokens": usage.total_tokens,
    }


def read_finish(response: Members, *, calls: int, refused: bool) -> Finish:
    """Why a response ended. Raises UpstreamFailure for one that has not, or that failed."""
    match response.get("status"):
        case "completed":
            return "tools" if calls else "refusal" if refused else "stop"
        case "incomplete":
            details = response.get("incomplete_details")
            match details.get("reason") if isinstance(details, dict) else None:
                case "max_output_tokens":
                    return "length"
                case "content_filter":
                    return "filter"
                case _:
                    return "other"
        case "failed":
            raise told(response.get("error"))
        case _:
            raise broken("the response has not ended")


def written_status(finish: Finish, *, refused: bool) -> tuple[str, Value]:
    """The status, and the details of an incomplete one. Raises UpstreamFailure for what no status says."""
    match finish:
        case "stop" | "tools" | "sequence":
            return "completed", None
        case "refusal" if refused:
            return "completed", None
        case "length":
            return "incomplete", {"reason": "max_output_tokens"}
        case "filter" | "refusal":
            return "incomplete", {"reason": "content_filter"}
        case "other":
            return "incomplete", None
        case "pause" | "malformed":
            raise broken(f"the provider ended its answer with a reason that responses have no word for: {finish}")


def read_answer(members: Members) -> Answer:
    """An upstream's whole reply."""
    if members.get("error"):
        raise told(members["error"])
    items = members.get("output")
    if not isinstance(items, list):
        raise broken("the reply holds no output")
    parts = tuple(part for item in items for part in read_item(item))
    finish = read_finish(
        members,
        calls=sum(isinstance(part, ToolCall) for part in parts),
        refused=any(isinstance(part, Refused) for part in parts),
    )
    return Answer(
        id=named(members.get("id")),
        model=named(members.get("model")),
        choices=(Choice(parts=parts, finish=finish),),
        usage=read_usage(members),
        service_tier=named(members.get("service_tier")),
    )


def read_item(item: Value) -> Iterator[Part]:
    """What an item of the output says. Raises UpstreamFailure for one that no other dialect has."""
    if not isinstance(item, dict):
        raise broken("an item of the output is no object")
    match item.get("type"):
        case "message":
            content = item.get("content")
            for part in content if isinstance(content, list) else ():
                yield _read_content(part)
        case "reasoning":
            thought = Reasoning(text=thought_in(item), signature=named(item.get("encrypted_content")))
            if thought.text or thought.signature:
                yield Reasoning(
                    text=thought.text,
                    signature=thought.signature,
                    redacted=not thought.text,
                    id=named(item.get("id")),
                )
        case "function_call" | "custom_tool_call" as kind:
            custom = kind == "custom_tool_call"
            name, said = item.get("name"), item.get("input" if custom else "arguments")
            if not isinstance(name, str) or not name or not isinstance(said, str):
                raise broken("a tool call lacks its name or its arguments")
            yield ToolCall(id=named(item.get("call_id")) or "", name=name, arguments=said, custom=custom)
        case _:
            raise broken("the output holds an item that cannot be translated")


def _read_content(part: Value) -> Text | Refused:
    match part:
        case {"type": "output_text", "text": str(text)}:
            return Text(text=text)
        case {"type": "refusal", "refusal": str(text)}:
            return Refused(text=text)
        case _:
            raise broken("a message holds content that cannot be translated")


def thought_in(item: Members) -> str:
    """The text of a thought: itself if it is shown, else its summary."""
    for name in ("content", "summary"):
        parts = item.get(name)
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        if texts:
            return "\n\n".join(text for text in texts if isinstance(text, str))
    return ""


class Wording:
    """How the items and the frame of one answer are worded for a client."""

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._known = known_tools(occasion.asked)
        self._calls = 0

    def known(self, name: str) -> Known:
        """What the client calls the tool that the model calls `name`."""
        return self._known.get(name) or Known(name=name)

    def item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self._occasion.request_id}_{index}"

    def call_id(self, given: str | None) -> str:
        """A tool call's id: the provider's, or one made from the request's."""
        self._calls += 1
        return given or f"call_{self._occasion.request_id}_{self._calls - 1}"

    def takes_text(self, name: str, *, custom: bool) -> bool:
        """Whether the client's tool takes free text."""
        return custom or self.known(name).custom

    def said(self, name: str, arguments: str, *, custom: bool) -> str:
        """What is said to the client's tool. Raises UpstreamFailure when it cannot take `arguments`."""
        return unwrapped(arguments) if self.known(name).custom and not custom else arguments

    def message(self, index: int, content: list[Value], *, status: str) -> dict[str, Value]:
        return {
            "type": "message",
            "id": self.item_id("msg", index),
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def thought(self, index: int, text: str | None, signature: str | None) -> dict[str, Value]:
        """An item of reasoning; no text: nothing but ciphertext."""
        item: dict[str, Value] = {"type": "reasoning", "id": self.item_id("rs", index), "summary": summary_of(text)}
        if signature:
            item["encrypted_content"] = signature
        return item

    def proof(self, index: int, signature: str) -> dict[str, Value]:
        """The proof of the tool call that follows."""
        return self.thought(index, None, str(proof_block(signature)["signature"]))

    def call(self, index: int, name: str, call_id: str, said: str, *, custom: bool, status: str) -> dict[str, Value]:
        """A tool call: `said` is what the tool takes."""
        known = self.known(name)
        item: dict[str, Value]
        if custom or known.custom:
            item = {"type": "custom_tool_call", "id": self.item_id("ctc", index), "input": said}
        else:
            item = {"type": "function_call", "id": self.item_id("fc", index), "status": status, "arguments": said}
        if known.namespace is not None:
            item["namespace"] = known.namespace
        return item | {"call_id": call_id, "name": known.name}

    def response(
        self,
        status: str,
        output: list[Value],
        *,
        details: Value = None,
        usage: Usage | None = None,
        tier: str | None = None,
    ) -> dict[str, Value]:
        """The response object. What the request said is repeated; nothing is stored, whatever it said."""
        asked = self._occasion.asked
        members: dict[str, Value] = {
            "id": f"resp_{self._occasion.request_id}",
            "object": "response",
            "created_at": self._occasion.created,
            "completed_at": self._occasion.created if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": details,
            "model": self._occasion.model,
            "output": output,
            "previous_response_id": None,
            "reasoning": _reasoning(asked.get("reasoning")),
            "service_tier": written_tier(tier) or "default",
            "store": False,
            "top_logprobs": 0,
            "usage": None if usage is None else written_usage(usage),
        }
        for name, default in _ECHOED:
            value = asked.get(name)
            members[name] = default if value is None else value
        return members


def summary_of(text: str | None) -> list[Value]:
    return [] if text is None else [{"type": "summary_text", "text": text}]


def text_part(text: str) -> dict[str, Value]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Value]:
    return {"type": "refusal", "refusal": text}


def written_tier(tier: str | None) -> str | None:
    """The service tier by this dialect's name for it; None for one that it does not have."""
    name = _TIERS.get(tier or "", tier)
    return name if name in _OWN_TIERS else None


def _reasoning(asked: Value) -> Value:
    said: Mapping[str, Value] = asked if isinstance(asked, dict) else {}
    return {"effort": said.get("effort"), "summary": said.get("summary") or said.get("generate_summary")}


def write_answer(answer: Answer, occasion: Occasion) -> dict[str, Value]:
    """The whole reply for a client."""
    if len(answer.choices) != 1:
        raise broken("the answer is not one choice")
    choice = answer.choices[0]
    refused = any(isinstance(part, Refused) for part in choice.parts)
    status, details = written_status(choice.finish, refused=refused)
    wording = Wording(occasion)
    output: list[Value] = []
    for part in choice.parts:
        _write_part(part, output, wording)
    if status == "incomplete" and output and isinstance(output[-1], dict) and "status" in output[-1]:
        output[-1]["status"] = "incomplete"
    return wording.response(status, output, details=details, usage=answer.usage, tier=answer.service_tier)


def _write_part(part: Part, output: list[Value], wording: Wording) -> None:
    match part:
        case Text():
            output.append(wording.message(len(output), [text_part(part.text)], status="completed"))
        case Refused():
            output.append(wording.message(len(output), [refusal_part(part.text)], status="completed"))
        case Reasoning():
            text = None if part.redacted else part.text
            output.append(wording.thought(len(output), text, part.signature))
        case ToolCall():
            if part.signature is not None:
                output.append(wording.proof(len(output), part.signature))
            said = wording.said(part.name, part.arguments, custom=part.custom)
            call_id = wording.call_id(part.id)
            output.append(wording.call(len(output), part.name, call_id, said, custom=part.custom, status="completed"))
        case _:
            raise broken("the answer holds what responses cannot say")
