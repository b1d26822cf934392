"""Streams of responses, read from upstreams."""

from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation.members import broken
from securellm.providers.translation.model import (
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Counted,
    Finished,
    Members,
    Reasoning,
    Refused,
    Step,
    Text,
    ToolCall,
)
from securellm.providers.translation.responses.answer import read_finish, read_item, read_usage

_Kind = Literal["text", "reasoning", "refusal", "tool"]
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
_DELTAS: dict[str, _Kind] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool",
    "response.custom_tool_call_input.delta": "tool",
}
_DONE: dict[str, str] = {
    "response.function_call_arguments.done": "arguments",
    "response.custom_tool_call_input.done": "input",
}
"""Events that tell the arguments once more, whole, and under which name."""
_AGAIN = frozenset(
    {
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.done",
        "response.refusal.done",
    }
)
"""What says nothing that the other events do not say."""
_SAID = frozenset({"annotation", "arguments", "code", "delta", "input", "item", "output", "part", "refusal", "text"})
"""Members in which an event says something."""


class _Block(msgspec.Struct):
    """A part that is being streamed."""

    number: int
    kind: _Kind
    place: tuple[str, int] | None = None
    """Of a thought: which of its texts is being told."""
    told: list[str] = msgspec.field(default_factory=list)
    """Of a tool call: the arguments so far."""
    ended: bool = False


class ReadSteps:
    """Reads an upstream's stream. An item of the output is complete with its own event, or with the response."""

    def __init__(self) -> None:
        self._begun = False
        self._blocks: dict[tuple[int, int], _Block] = {}
        """By item and, in a message, content; a thought is one block."""
        self._complete: set[int] = set()
        self._calls = 0
        self._refused = False
        self._usage: Usage | None = None
        self._ended = False

    def read(self, members: Members) -> tuple[Step, ...]:
        """What one event says."""
        kind = members.get("type")
        if not isinstance(kind, str):
            raise broken("an event names no type")
        if self._ended:
            raise broken("an event came after the last one")
        if kind == "error":
            error = members.get("error")
            raise told(error if isinstance(error, dict) else dict(members))
        steps: list[Step] = []
        if kind in _DELTAS:
            self._delta(members, _DELTAS[kind], kind, steps)
        elif kind in _DONE:
            self._arguments(self._block(members, "tool", steps), members.get(_DONE[kind]), steps)
        elif kind == "response.output_item.added":
            self._added(members, steps)
        elif kind == "response.output_item.done":
            self._done(_index(members), members.get("item"), steps)
        elif kind in _LAST or kind in {"response.created", "response.in_progress"}:
            self._response(members, kind, steps)
        elif kind not in _AGAIN and not _SAID.isdisjoint(members):
            raise broken("the stream holds an event that cannot be translated")
        return tuple(steps)

    def end(self) -> tuple[Step, ...]:
        """The end adds nothing to the last event."""
        if not self._ended:
            raise broken("the stream ended before its last event")
        return ()

    def _response(self, members: Members, kind: str, steps: list[Step]) -> None:
        response = members.get("response")
        if not isinstance(response, dict):
            raise broken("an event lacks the response")
        if not self._begun:
            self._begun = True
            steps.append(Began(id=named(response.get("id")), model=named(response.get("model"))))
        if kind not in _LAST:
            return
        if kind == "response.failed":
            raise told(response.get("error"))
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            self._done(index, item, steps)
        for block in self._blocks.values():
            self._end_block(block, steps)
        usage = read_usage(response)
        if usage is not None:
            self._usage = figures.larger(self._usage, usage) or usage
            steps.append(Counted(usage=self._usage, service_tier=named(response.get("service_tier"))))
        status = {"status": kind.removeprefix("response."), **response}
        steps.append(Finished(finish=read_finish(status, calls=self._calls, refused=self._refused)))
        self._ended = True

    def _added(self, members: Members, steps: list[Step]) -> None:
        """An item has begun. A tool call is told by name at once, all else when it says something."""
        match item := members.get("item"):
            case {"type": "function_call" | "custom_tool_call"} if isinstance(item, dict):
                self._began_call((_index(members), 0), item, steps)
            case {"type": "message" | "reasoning"}:
                pass
            case _:
                raise broken("the output holds an item that cannot be translated")

    def _began_call(self, key: tuple[int, int], item: Members, steps: list[Step]) -> None:
        name = named(item.get("name"))
        if name is None:
            raise broken("a tool call lacks its name")
        if key in self._blocks:
            raise broken("two items share an index")
        block = _Block(number=len(self._blocks), kind="tool")
        self._blocks[key] = block
        self._calls += 1
        custom = item.get("type") == "custom_tool_call"
        steps.append(
            BlockBegan(block=block.number, kind="tool", id=named(item.get("call_id")), name=name, custom=custom)
        )

    def _block(self, members: Members, kind: _Kind, steps: list[Step]) -> _Block:
        """The block that an event speaks of; begun when it is a text."""
        content = members.get("content_index")
        inner = content if type(content) is int and kind in {"text", "refusal"} else 0
        key = (_index(members), inner)
        block = self._blocks.get(key)
        if block is None:
            if kind == "tool":
                raise broken("arguments came before their tool call")
            block = self._begin(key, kind, steps)
        if block.kind != kind or block.ended:
            raise broken("an event continues what it cannot")
        return block

    def _begin(self, key: tuple[int, int], kind: _Kind, steps: list[Step]) -> _Block:
        block = _Block(number=len(self._blocks), kind=kind)
        self._blocks[key] = block
        self._refused = self._refused or kind == "refusal"
        steps.append(BlockBegan(block=block.number, kind=kind))
        return block

    def _delta(self, members: Members, kind: _Kind, event: str, steps: list[Step]) -> None:
        delta = members.get("delta")
        if not isinstance(delta, str):
            raise broken("a piece of the stream is no text")
        block = self._block(members, kind, steps)
        if kind == "reasoning":
            place = _place(members, event)
            if block.place is not None and place[0] != block.place[0]:
                return  # the same thought, summed up
            if block.place is not None and place != block.place:
                steps.append(BlockGrew(block=block.number, text="\n\n"))
            block.place = place
        elif kind == "tool":
            block.told.append(delta)
        if delta:
            steps.append(BlockGrew(block=block.number, text=delta))

    def _arguments(self, block: _Block, whole: Value, steps: list[Step]) -> None:
        """The arguments, told once more. What the pieces lacked is said; raises UpstreamFailure when they differ."""
        so_far = "".join(block.told)
        if not isinstance(whole, str) or not whole.startswith(so_far):
            raise broken("the arguments of a tool call were told in two ways")
        if len(whole) > len(so_far):
            block.told.append(whole[len(so_far) :])
            steps.append(BlockGrew(block=block.number, text=whole[len(so_far) :]))

    def _done(self, index: int, item: Value, steps: list[Step]) -> None:
        """An item is complete: what was not streamed of it is said now."""
        if index in self._complete:
            return
        self._complete.add(index)
        for place, part in enumerate(read_item(item)):
            key = (index, place)
            block = self._blocks.get(key)
            match part:
                case ToolCall():
                    if block is None and isinstance(item, dict):
                        self._began_call(key, item, steps)
                        block = self._blocks[key]
                    if block is None or block.kind != "tool":
                        raise broken("an item changed its type")
                    self._arguments(block, part.arguments, steps)
                case Reasoning():
                    if block is None:
                        block = self._begin(key, "reasoning", steps)
                        if part.text:
                            steps.append(BlockGrew(block=block.number, text=part.text))
                    if part.signature:
                        steps.append(
                            BlockSigned(block=block.number, signature=part.signature, redacted=block.place is None)
                        )
                case Text() | Refused() if block is None:
                    block = self._begin(key, "text" if isinstance(part, Text) else "refusal", steps)
                    if part.text:
                        steps.append(BlockGrew(block=block.number, text=part.text))
                case _:
                    pass
        for (owner, _), block in self._blocks.items():
            if owner == index:
                self._end_block(block, steps)

    def _end_block(self, block: _Block, steps: list[Step]) -> None:
        if not block.ended:
            block.ended = True
            steps.append(BlockEnded(block=block.number))


def _index(members: Members) -> int:
    index = members.get("output_index")
    if type(index) is not int:
        raise broken("an event does not say which item it is of")
    return index


def _place(members: Members, event: str) -> tuple[str, int]:
    name = "summary_index" if "summary" in event else "content_index"
    index = members.get(name)
    return name, index if type(index) is int else 0
