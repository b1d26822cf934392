"""Streams in Ollama's dialects, written for clients: one object a line."""

from collections.abc import Callable

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.usage import Usage
from securellm.providers.ndjson import MAX_LINE
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
    ToolCall,
)
from securellm.providers.translation.ollama_chat.answer import Said, ending, head, message, written_call


class _Block(msgspec.Struct):
    """A part that is being told."""

    kind: str
    place: int = 0
    """Of a tool call: how many there are before it."""
    id: str = ""
    name: str = ""
    waiting: list[str] = msgspec.field(default_factory=list)
    """Its arguments so far."""
    size: int = 0


class WriteSteps:
    """Writes a client's stream. A tool call is told whole; the last line says why it ended, and nothing follows it."""

    sequence = -1
    """This dialect does not number its lines."""

    def __init__(self, occasion: Occasion, worded: Callable[[Said], dict[str, Value]] = message) -> None:
        self._occasion = occasion
        self._worded = worded
        self._blocks: dict[int, _Block] = {}
        """Those that are not complete."""
        self._calls = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None

    def write(self, step: Step) -> bytes:
        """The lines that say `step`."""
        match step:
            case Began() | Counted():
                self._usage = step.usage or self._usage
            case BlockBegan():
                self._blocks[step.block] = self._began(step)
            case BlockGrew():
                return self._grew(self._blocks[step.block], step.text)
            case BlockSigned():
                pass  # There is no place for it.
            case BlockEnded():
                return self._ended(self._blocks.pop(step.block))
            case Finished():
                _refuse_second(step.choice)
                self._finish = step.finish
        return b""

    def end(self) -> bytes:
        """What is still open, and the line that says why the answer ended and what was consumed."""
        if self._finish is None:
            raise broken("the stream ended without a reason")
        rest = b"".join(self._ended(self._blocks.pop(key)) for key in list(self._blocks))
        return rest + self._line(Said(), ending(self._finish, self._usage))

    def _began(self, step: BlockBegan) -> _Block:
        _refuse_second(step.choice)
        if step.kind != "tool":
            return _Block(kind=step.kind)
        if step.custom:
            raise broken("a tool call takes free text, which this dialect cannot say")
        self._calls += 1
        return _Block(kind=step.kind, place=self._calls - 1, id=step.id or "", name=step.name or "")

    def _grew(self, block: _Block, text: str) -> bytes:
        match block.kind:
            case "tool":
                block.size += len(text)
                if block.size > MAX_LINE:
                    raise UpstreamFailure(Code.REPLY_TOO_LARGE, f"a tool call is longer than {MAX_LINE} characters")
                block.waiting.append(text)
                return b""
            case "reasoning":
                return self._line(Said(thought=text)) if text else b""
            case _:
                return self._line(Said(text=text)) if text else b""

    def _ended(self, block: _Block) -> bytes:
        if block.kind != "tool":
            return b""
        call = ToolCall(id=block.id, name=block.name, arguments="".join(block.waiting))
        return self._line(Said(calls=(written_call(call, block.place, self._occasion),)))

    def _line(self, said: Said, end: dict[str, Value] | None = None) -> bytes:
        members = {**head(self._occasion), **self._worded(said), **({"done": False} if end is None else end)}
        return f"{writing.text_of(members)}\n".encode()


def _refuse_second(choice: int) -> None:
    if choice:
        raise broken("the answer holds several choices, and this dialect has one")
