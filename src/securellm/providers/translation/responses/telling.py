"""Streams of responses, written for clients."""

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.usage import Usage
from securellm.providers.sse import MAX_EVENT
from securellm.providers.translation import writing
from securellm.providers.translation.members import broken
from securellm.providers.translation.model import (
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Counted,
    Finish,
    Finished,
    Occasion,
    Step,
)
from securellm.providers.translation.responses.answer import (
    Wording,
    refusal_part,
    summary_of,
    text_part,
    written_status,
)


class _Item(msgspec.Struct):
    """An item of the output that is being told."""

    kind: str
    index: int = -1
    """-1: its first event is not yet written."""
    name: str = ""
    call_id: str = ""
    custom: bool = False
    """The upstream's tool takes free text."""
    told: list[str] = msgspec.field(default_factory=list)
    proof: str | None = None
    redacted: bool = False

    @property
    def text(self) -> str:
        return "".join(self.told)


class WriteSteps:
    """Writes a client's stream: typed events, each text in pieces, then whole, then once more in the last event.

    What the client's tool takes as free text, and its provider does not, is told when it is complete.
    """

    def __init__(self, occasion: Occasion) -> None:
        self._wording = Wording(occasion)
        self._sequence = -1
        self._items: dict[int, _Item] = {}
        """Those that are not complete, by their block."""
        self._ended: _Item | None = None
        """The last one that was ended: whether it is complete is known when more is said, or why no more is."""
        self._output: list[Value] = []
        self._finish: Finish | None = None
        self._refused = False
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._size = 0

    @property
    def sequence(self) -> int:
        """The last sequence number written; -1 before the first."""
        return self._sequence

    def write(self, step: Step) -> bytes:
        """The events that say `step`."""
        match step:
            case Began():
                self._usage = step.usage or self._usage
                return self._begin()
            case Counted():
                self._usage, self._tier = step.usage, step.service_tier or self._tier
                return b""
            case _ if step.choice:
                raise broken("the answer is not one choice")
            case BlockBegan():
                return self._begin() + self._done() + self._named() + self._began(step)
            case BlockGrew():
                return self._done() + self._named(step.block) + self._grew(self._items[step.block], step.text)
            case BlockSigned():
                item = self._items[step.block]
                item.proof, item.redacted = step.signature, step.redacted
                return b""
            case BlockEnded():
                written = self._done() + self._named(step.block)
                self._ended = self._items.pop(step.block)
                return written
            case Finished():
                self._finish = step.finish
                return b""

    def end(self) -> bytes:
        """What is still open, and the last event with the whole response."""
        if self._finish is None:
            raise broken("the stream ended without a reason")
        status, details = written_status(self._finish, refused=self._refused)
        open_items = [self._items.pop(block) for block in list(self._items)]
        rest = self._begin() + self._done(status="completed" if open_items else status)
        rest += b"".join(self._close(item, status=status) for item in open_items)
        response = self._wording.response(status, self._output, details=details, usage=self._usage, tier=self._tier)
        return rest + self._event(f"response.{status}", {"response": response})

    def _begin(self) -> bytes:
        if self._sequence >= 0:
            return b""
        response = self._wording.response("in_progress", [])
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def _began(self, step: BlockBegan) -> bytes:
        item = _Item(kind=step.kind, name=step.name or "", custom=step.custom)
        self._items[step.block] = item
        match step.kind:
            case "tool":
                # Its proof stands before it, and comes next if at all.
                item.call_id = self._wording.call_id(step.id)
                return b""
            case "reasoning":
                # Until it has words it may turn out to be ciphertext.
                return b""
            case "refusal":
                self._refused = True
        return self._added(item)

    def _named(self, besides: int | None = None) -> bytes:
        """The first events of tool calls that wait for their proof: what comes next is of another item."""
        waiting = (item for block, item in self._items.items() if item.kind == "tool" and block != besides)
        return b"".join(map(self._added, waiting))

    def _added(self, item: _Item) -> bytes:
        """The first events of an item, once."""
        if item.index >= 0:
            return b""
        written = b""
        if item.kind == "tool" and item.proof is not None:
            index = len(self._output)
            written = self._whole_item(index, self._wording.proof(index, item.proof))
            item.proof = None
        item.index = len(self._output)
        self._output.append(None)
        written += self._event(
            "response.output_item.added", {"output_index": item.index, "item": self._item(item, status="in_progress")}
        )
        match item.kind:
            case "text" | "refusal":
                written += self._piece(item, "content_part.added", {"part": self._part(item, "")})
            case "reasoning" if not item.redacted:
                written += self._piece(item, "reasoning_summary_part.added", {"part": summary_of("")[0]})
        return written

    def _whole_item(self, index: int, item: dict[str, Value]) -> bytes:
        self._output.append(item)
        return self._event("response.output_item.added", {"output_index": index, "item": item}) + self._event(
            "response.output_item.done", {"output_index": index, "item": item}
        )

    def _grew(self, item: _Item, text: str) -> bytes:
        self._size += len(text)
        if self._size > MAX_EVENT:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"the answer is longer than {MAX_EVENT} characters")
        item.told.append(text)
        if item.kind == "tool" and self._held(item):
            return b""
        return self._added(item) + self._told(item, text)

    def _held(self, item: _Item) -> bool:
        return not item.custom and self._wording.takes_text(item.name, custom=False)

    def _told(self, item: _Item, text: str) -> bytes:
        match item.kind:
            case "text":
                return self._piece(item, "output_text.delta", {"delta": text, "logprobs": []})
            case "refusal":
                return self._piece(item, "refusal.delta", {"delta": text})
            case "reasoning":
                return self._piece(item, "reasoning_summary_text.delta", {"delta": text})
            case _:
                kind = "custom_tool_call_input" if self._takes_text(item) else "function_call_arguments"
                return self._piece(item, f"{kind}.delta", {"delta": text})

    def _done(self, *, status: str = "completed") -> bytes:
        """The last events of the item that was ended last."""
        item, self._ended = self._ended, None
        return b"" if item is None else self._close(item, status=status)

    def _close(self, item: _Item, *, status: str) -> bytes:
        written = b""
        if item.kind == "tool" and self._held(item):
            said = self._wording.said(item.name, item.text, custom=False)
            written = self._added(item) + self._told(item, said)
            item.told = [said]
        written += self._added(item)
        text = item.text
        match item.kind:
            case "text":
                written += self._piece(item, "output_text.done", {"text": text, "logprobs": []})
                written += self._piece(item, "content_part.done", {"part": self._part(item, text)})
            case "refusal":
                written += self._piece(item, "refusal.done", {"refusal": text})
                written += self._piece(item, "content_part.done", {"part": self._part(item, text)})
            case "reasoning" if not item.redacted:
                written += self._piece(item, "reasoning_summary_text.done", {"text": text})
                written += self._piece(item, "reasoning_summary_part.done", {"part": summary_of(text)[0]})
            case "tool" if self._takes_text(item):
                written += self._piece(item, "custom_tool_call_input.done", {"input": text})
            case "tool":
                name = self._wording.known(item.name).name
                written += self._piece(item, "function_call_arguments.done", {"arguments": text, "name": name})
        done = self._item(item, status=status)
        self._output[item.index] = done
        return written + self._event("response.output_item.done", {"output_index": item.index, "item": done})

    def _takes_text(self, item: _Item) -> bool:
        return self._wording.takes_text(item.name, custom=item.custom)

    def _item(self, item: _Item, *, status: str) -> dict[str, Value]:
        complete = status != "in_progress"
        text = item.text if complete else ""
        match item.kind:
            case "text" | "refusal":
                return self._wording.message(item.index, [self._part(item, text)] if complete else [], status=status)
            case "reasoning":
                said = text if complete and not item.redacted else None
                return self._wording.thought(item.index, said, item.proof if complete else None)
            case _:
                return self._wording.call(item.index, item.name, item.call_id, text, custom=item.custom, status=status)

    def _part(self, item: _Item, text: str) -> dict[str, Value]:
        return text_part(text) if item.kind == "text" else refusal_part(text)

    def _piece(self, item: _Item, kind: str, members: dict[str, Value]) -> bytes:
        """An event about one part of an item."""
        place: dict[str, Value] = {"item_id": self._item_id(item), "output_index": item.index}
        if item.kind == "reasoning":
            place["summary_index"] = 0
        elif item.kind != "tool":
            place["content_index"] = 0
        return self._event(f"response.{kind}", place | members)

    def _item_id(self, item: _Item) -> str:
        prefixes = {"text": "msg", "refusal": "msg", "reasoning": "rs"}
        prefix = prefixes.get(item.kind) or ("ctc" if self._takes_text(item) else "fc")
        return self._wording.item_id(prefix, item.index)

    def _event(self, kind: str, members: dict[str, Value]) -> bytes:
        self._sequence += 1
        return writing.event({"type": kind, "sequence_number": self._sequence, **members})
