"""Streams of generated content, written for clients."""

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.usage import Usage
from securellm.providers.sse import MAX_EVENT
from securellm.providers.translation import writing
from securellm.providers.translation.generate_content.answer import (
    call_part,
    content,
    made_id,
    thought_part,
    written_finish,
    written_usage,
)
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
from securellm.providers.translation.signatures import NOBODYS


class _Block(msgspec.Struct):
    """A part that is being told."""

    kind: str
    name: str = ""
    call_id: str = ""
    waiting: list[str] = msgspec.field(default_factory=list)
    """Of a tool call: its arguments so far."""
    size: int = 0
    signature: str | None = None
    redacted: bool = False


class WriteSteps:
    """Writes a client's stream: chunks of candidates. A tool call is told whole; the last chunk says why it ended."""

    sequence = -1

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._blocks: dict[tuple[int, int], _Block] = {}
        """Those that are not complete, by choice and block."""
        self._calls: dict[int, int] = {}
        self._finishes: dict[int, Finish] = {}
        self._usage: Usage | None = None

    def write(self, step: Step) -> bytes:
        """The chunks that say `step`."""
        match step:
            case Began() | Counted():
                self._usage = step.usage or self._usage
            case BlockBegan():
                self._blocks[step.choice, step.block] = self._began(step)
            case BlockGrew():
                return self._grew(self._blocks[step.choice, step.block], step)
            case BlockSigned():
                block = self._blocks[step.choice, step.block]
                block.signature, block.redacted = step.signature, step.redacted
            case BlockEnded():
                return self._ended(self._blocks.pop((step.choice, step.block)), step.choice)
            case Finished():
                self._finishes[step.choice] = step.finish
        return b""

    def end(self) -> bytes:
        """What is still open, and the chunk that says why each candidate ended and what was consumed."""
        if not self._finishes:
            raise broken("the stream ended without a reason")
        rest = b"".join(self._ended(self._blocks.pop(key), key[0]) for key in list(self._blocks))
        candidates: list[Value] = [
            {"index": index, "content": content([]), "finishReason": written_finish(finish)}
            for index, finish in sorted(self._finishes.items())
        ]
        return rest + self._chunk(candidates, usage=self._usage)

    def _began(self, step: BlockBegan) -> _Block:
        block = _Block(kind=step.kind, name=step.name or "")
        if step.kind == "tool":
            if step.custom:
                raise broken("the answer holds what this dialect cannot say")
            place = self._calls.get(step.choice, 0)
            self._calls[step.choice] = place + 1
            block.call_id = made_id(step.id, self._occasion, step.choice, place)
            # Clients must send back a proof of the first call of a step.
            block.signature = None if place else NOBODYS
        return block

    def _grew(self, block: _Block, step: BlockGrew) -> bytes:
        if block.kind == "tool":
            block.size += len(step.text)
            if block.size > MAX_EVENT:
                raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"a tool call is longer than {MAX_EVENT} characters")
            block.waiting.append(step.text)
            return b""
        part: dict[str, Value] = {"text": step.text}
        if block.kind == "reasoning":
            part["thought"] = True
        return self._part(step.choice, part)

    def _ended(self, block: _Block, choice: int) -> bytes:
        if block.kind == "tool":
            return self._part(choice, call_part(block.name, block.call_id, "".join(block.waiting), block.signature))
        if block.kind != "reasoning" or block.signature is None:
            return b""
        return self._part(choice, thought_part("", block.signature, redacted=block.redacted))

    def _part(self, choice: int, part: dict[str, Value]) -> bytes:
        return self._chunk([{"index": choice, "content": content([part])}])

    def _chunk(self, candidates: list[Value], *, usage: Usage | None = None) -> bytes:
        chunk: dict[str, Value] = {"candidates": candidates}
        if usage is not None:
            chunk["usageMetadata"] = written_usage(usage)
        return writing.data(chunk | {"modelVersion": self._occasion.model, "responseId": self._occasion.request_id})
