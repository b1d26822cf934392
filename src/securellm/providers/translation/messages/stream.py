"""Streams of messages, read from upstreams and written for clients."""

from collections import deque
from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation import writing
from securellm.providers.translation.members import arguments_in, broken
from securellm.providers.translation.messages.answer import (
    made_id,
    read_finish,
    unsaid_block,
    written_finish,
    written_usage,
)
from securellm.providers.translation.messages.proof import proof_block
from securellm.providers.translation.model import (
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Counted,
    Finished,
    Members,
    Occasion,
    Step,
)
from securellm.providers.translation.signatures import is_empty

MAX_WAITING = 16 * 1024 * 1024
"""Characters of later blocks that may wait for an earlier one to end."""


class _Read(msgspec.Struct):
    """A content block that is being read."""

    block: int
    kind: Literal["text", "reasoning", "tool"]
    given: dict[str, Value] | None = None
    """A tool call's input as its beginning gave it."""
    grown: bool = False


class ReadSteps:
    """Reads an upstream's stream."""

    def __init__(self) -> None:
        self._figures: dict[str, Value] = {}
        self._open: dict[int, _Read] = {}
        self._blocks = 0
        self._calls = 0
        self._finished = False

    def read(self, members: Members) -> tuple[Step, ...]:
        """What one event says."""
        match members.get("type"):
            case "message_start":
                message = members.get("message")
                message = message if isinstance(message, dict) else {}
                if message.get("content"):
                    raise broken("a message begins with content")
                return (
                    Began(
                        id=named(message.get("id")),
                        model=named(message.get("model")),
                        usage=self._count(message.get("usage")),
                    ),
                )
            case "content_block_start":
                return self._began(members)
            case "content_block_delta":
                return self._grew(members)
            case "content_block_stop":
                return self._ended(members)
            case "message_delta":
                return self._delta(members)
            case "error":
                raise told(members.get("error"))
            case _:
                return ()

    def end(self) -> tuple[Step, ...]:
        """The end adds nothing: the reason came before."""
        if not self._finished:
            raise broken("the stream ended before the message was finished")
        return ()

    def _count(self, reported: Value) -> Usage | None:
        if isinstance(reported, dict):
            self._figures = figures.later(self._figures, reported)
        return figures.exclusive(self._figures)

    def _began(self, members: Members) -> tuple[Step, ...]:
        index, said = members.get("index"), members.get("content_block")
        if type(index) is not int or index in self._open or not isinstance(said, dict):
            raise broken("a content block began that cannot begin")
        block, self._blocks = self._blocks, self._blocks + 1
        match said.get("type"):
            case "text":
                self._open[index] = _Read(block=block, kind="text")
                return (BlockBegan(block=block, kind="text"), *_grown(block, said.get("text")))
            case "thinking":
                self._open[index] = _Read(block=block, kind="reasoning")
                signature = named(said.get("signature"))
                signed = (BlockSigned(block=block, signature=signature),) if signature is not None else ()
                return (BlockBegan(block=block, kind="reasoning"), *_grown(block, said.get("thinking")), *signed)
            case "redacted_thinking":
                self._open[index] = _Read(block=block, kind="reasoning")
                data = named(said.get("data")) or ""
                return (
                    BlockBegan(block=block, kind="reasoning"),
                    BlockSigned(block=block, signature=data, redacted=True),
                )
            case "tool_use":
                given, name = said.get("input"), named(said.get("name"))
                if name is None or not isinstance(given, dict | None):
                    raise broken("a tool call lacks its name or input")
                self._open[index] = _Read(block=block, kind="tool", given=given)
                self._calls += 1
                return (BlockBegan(block=block, kind="tool", id=named(said.get("id")), name=name),)
            case _:
                raise unsaid_block()

    def _grew(self, members: Members) -> tuple[Step, ...]:
        read, delta = self._block(members), members.get("delta")
        if not isinstance(delta, dict):
            raise broken("a content block grew by nothing")
        kinds = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
        kind = delta.get("type")
        if kind == "signature_delta":
            signature = named(delta.get("signature"))
            return () if signature is None else (BlockSigned(block=read.block, signature=signature),)
        if kind == "citations_delta":
            return ()
        if not isinstance(kind, str) or kind not in kinds:
            raise unsaid_block()
        grown = _grown(read.block, delta.get(kinds[kind]))
        read.grown = read.grown or bool(grown)
        return grown

    def _ended(self, members: Members) -> tuple[Step, ...]:
        read = self._block(members)
        index = members.get("index")
        assert isinstance(index, int)
        del self._open[index]
        ended = BlockEnded(block=read.block)
        if read.kind == "tool" and not read.grown and read.given is not None:
            # What was said at its beginning is all of it: an empty object is one.
            return (BlockGrew(block=read.block, text=writing.text_of(read.given)), ended)
        return (ended,)

    def _block(self, members: Members) -> _Read:
        index = members.get("index")
        read = self._open.get(index) if type(index) is int else None
        if read is None:
            raise broken("a content block was written to that is not open")
        return read

    def _delta(self, members: Members) -> tuple[Step, ...]:
        steps: list[Step] = []
        usage = self._count(members.get("usage"))
        if usage is not None:
            steps.append(Counted(usage=usage, service_tier=named(self._figures.get("service_tier"))))
        delta = members.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if isinstance(delta, dict) and reason is not None and not self._finished:
            self._finished = True
            finish = read_finish(reason, calls=self._calls)
            steps.append(Finished(finish=finish, stop_sequence=named(delta.get("stop_sequence"))))
        return tuple(steps)


def _grown(block: int, text: Value) -> tuple[BlockGrew, ...]:
    if text is not None and not isinstance(text, str):
        raise broken("a content block grew by something that is no text")
    return (BlockGrew(block=block, text=text),) if text else ()


class _Block(msgspec.Struct):
    """A content block that is to be written."""

    began: BlockBegan
    place: int
    """Of a tool call, among all."""
    pieces: list[str] = msgspec.field(default_factory=list)
    """What has not been written."""
    arguments: list[str] = msgspec.field(default_factory=list)
    """All of a tool call's arguments."""
    blanks: str | None = ""
    """Of a tool call, what came before its arguments began. None: they have begun."""
    signature: str | None = None
    redacted: bool = False
    started: bool = False
    ended: bool = False


class WriteSteps:
    """Writes a client's stream. Content blocks may not interleave: later ones wait until the earlier have ended."""

    sequence = -1
    """This dialect does not number its events."""

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._begun = False
        self._blocks: dict[int, _Block] = {}
        self._queue: deque[_Block] = deque()
        self._index = 0
        self._calls = 0
        self._waiting = 0
        self._refused = False
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._tier: str | None = None

    def write(self, step: Step) -> bytes:
        """The events that say `step`."""
        match step:
            case Began():
                self._usage = step.usage or self._usage
                return self._start(step.id)
            case BlockBegan():
                self._only(step.choice)
                block = self._blocks[step.block] = _Block(began=step, place=self._calls)
                self._queue.append(block)
                self._calls += step.kind == "tool"
                self._refused = self._refused or step.kind == "refusal"
                if step.custom:
                    raise broken("a call of a tool that takes free text cannot be said in messages")
            case BlockGrew():
                self._grew(self._blocks[step.block], step.text)
            case BlockSigned():
                block = self._blocks[step.block]
                block.signature, block.redacted = step.signature, step.redacted
            case BlockEnded():
                self._blocks[step.block].ended = True
            case Finished():
                self._only(step.choice)
                self._finished = step
                for block in self._queue:
                    block.ended = True
            case Counted():
                self._usage = step.usage
                self._tier = step.service_tier or self._tier
                return b""
        written = self._start(None) + self._pump()
        if self._waiting > MAX_WAITING:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, "more of the answer waits for its turn than may be kept")
        return written

    def end(self) -> bytes:
        """The reason, the usage, and the end."""
        if self._finished is None:
            raise broken("the stream ended before the message was finished")
        delta: dict[str, Value] = {
            "stop_reason": written_finish(self._finished.finish, refused=self._refused),
            "stop_sequence": self._finished.stop_sequence,
        }
        usage = written_usage(self._usage, self._tier)
        last: dict[str, Value] = {"type": "message_delta", "delta": delta, "usage": usage}
        return self._start(None) + writing.event(last) + writing.event({"type": "message_stop"})

    def _grew(self, block: _Block, text: str) -> None:
        self._waiting += len(text)
        if block.began.kind == "tool":
            block.arguments.append(text)
            # Clients parse what they have after each piece: blanks alone are no beginning of JSON.
            if block.blanks is not None:
                block.blanks += text
                if not block.blanks.strip():
                    return
                text, block.blanks = block.blanks, None
        block.pieces.append(text)

    def _only(self, choice: int) -> None:
        if choice:
            raise broken("messages have one choice")

    def _start(self, given: str | None) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message: dict[str, Value] = {
            "id": given or f"msg_{self._occasion.request_id}",
            "type": "message",
            "role": "assistant",
            "model": self._occasion.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": written_usage(self._usage, None),
        }
        return writing.event({"type": "message_start", "message": message})

    def _pump(self) -> bytes:
        """Write what may be written: of the first block all that is there, and of the next when that has ended."""
        written: list[bytes] = []
        while self._queue:
            block = self._queue[0]
            if self._is_afterthought(block):
                if self._finished is None:
                    break
                self._queue.popleft()
                continue
            if not block.started and not self._begin(block, written):
                if not block.ended:
                    break
                self._queue.popleft()
                continue
            written += (self._delta(_growth(block, piece)) for piece in block.pieces)
            self._waiting -= sum(map(len, block.pieces))
            block.pieces.clear()
            if not block.ended:
                break
            self._finish(block, written)
            self._queue.popleft()
        return b"".join(written)

    def _is_afterthought(self, block: _Block) -> bool:
        """Whether it is a wordless thought that nothing follows yet: clients take the last block for the answer."""
        return block.redacted and not block.started and self._index > 0 and len(self._queue) == 1

    def _begin(self, block: _Block, written: list[bytes]) -> bool:
        """Write the block's beginning when all that it must say is known. False: not yet, or never."""
        kind = block.began.kind
        grown = any(block.pieces)
        if kind == "tool":
            if not grown and not block.ended and block.signature is None:
                return False
            if not is_empty(block.signature):
                self._whole(proof_block(block.signature or ""), written)
            began = block.began
            said: dict[str, Value] = {
                "type": "tool_use",
                "id": made_id(began.id, self._occasion, block.place),
                "name": began.name,
                "input": {},
            }
        elif kind == "reasoning":
            if not grown and is_empty(block.signature):
                return False
            said = {"type": "thinking", "thinking": "", "signature": ""}
            if block.redacted:
                said = {"type": "redacted_thinking", "data": block.signature}
        elif grown:
            said = {"type": "text", "text": ""}
        else:
            return False
        block.started = True
        written.append(writing.event({"type": "content_block_start", "index": self._index, "content_block": said}))
        return True

    def _finish(self, block: _Block, written: list[bytes]) -> None:
        if block.began.kind == "tool" and arguments_in("".join(block.arguments)) is None:
            raise broken("the arguments of a tool call are no complete JSON object")
        if block.began.kind == "reasoning" and block.signature and not block.redacted:
            written.append(self._delta({"type": "signature_delta", "signature": block.signature}))
        written.append(writing.event({"type": "content_block_stop", "index": self._index}))
        self._index += 1
        del self._blocks[block.began.block]

    def _whole(self, said: dict[str, Value], written: list[bytes]) -> None:
        """A thought that is complete: begun, signed and ended."""
        begun = {**said, "signature": ""}
        written.append(writing.event({"type": "content_block_start", "index": self._index, "content_block": begun}))
        written.append(self._delta({"type": "signature_delta", "signature": said["signature"]}))
        written.append(writing.event({"type": "content_block_stop", "index": self._index}))
        self._index += 1

    def _delta(self, delta: dict[str, Value]) -> bytes:
        return writing.event({"type": "content_block_delta", "index": self._index, "delta": delta})


def _growth(block: _Block, piece: str) -> dict[str, Value]:
    match block.began.kind:
        case "tool":
            return {"type": "input_json_delta", "partial_json": piece}
        case "reasoning":
            return {"type": "thinking_delta", "thinking": piece}
        case "text" | "refusal":
            return {"type": "text_delta", "text": piece}
