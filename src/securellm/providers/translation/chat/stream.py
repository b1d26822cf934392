"""Streams of chat completions, read from upstreams and written for clients."""

from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.dialects.machine import named
from securellm.providers.failures import told
from securellm.providers.translation import writing
from securellm.providers.translation.chat.answer import (
    made_id,
    own_signature,
    read_finish,
    read_usage,
    refuse_unsaid,
    signature_of,
    text_in,
    written_finish,
    written_tier,
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
    Finished,
    Members,
    Occasion,
    Step,
)

_Said = Literal["text", "reasoning", "refusal"]


class _Call(msgspec.Struct):
    """A tool call that is being streamed."""

    block: int
    id: str | None = None
    name: str | None = None
    begun: bool = False
    waiting: str = ""
    """Arguments that came before the name."""


class _Spoken(msgspec.Struct):
    """What is known of one choice."""

    blocks: int = 0
    open: tuple[_Said, int] | None = None
    """The text that is being said, and its block."""
    calls: dict[int, _Call] = msgspec.field(default_factory=dict)
    finished: bool = False


class ReadSteps:
    """Reads an upstream's stream.

    A text ends where something else is said. A tool call ends with its choice: until then it may go on, whatever
    came in between.
    """

    def __init__(self) -> None:
        self._begun = False
        self._choices: dict[int, _Spoken] = {}
        self._usage: Usage | None = None

    def read(self, members: Members) -> tuple[Step, ...]:
        """What one event says."""
        if members.get("error"):
            raise told(members["error"])
        steps: list[Step] = []
        if not self._begun and (members.get("id") or members.get("choices")):
            self._begun = True
            steps.append(Began(id=named(members.get("id")), model=named(members.get("model"))))
        choices = members.get("choices")
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                raise broken("a choice is no object")
            self._choice(choice, place, steps)
        usage = read_usage(members)
        if usage is not None:
            self._usage = figures.larger(self._usage, usage) or usage
            steps.append(Counted(usage=self._usage, service_tier=named(members.get("service_tier"))))
        return tuple(steps)

    def end(self) -> tuple[Step, ...]:
        """The end adds nothing: every choice has its reason."""
        if not self._choices or not all(choice.finished for choice in self._choices.values()):
            raise broken("the stream ended before every choice was finished")
        return ()

    def _choice(self, choice: Members, place: int, steps: list[Step]) -> None:
        index = choice.get("index")
        at = index if type(index) is int else place
        spoken = self._choices.setdefault(at, _Spoken())
        delta = choice.get("delta")
        if isinstance(delta, dict):
            said = self._delta(delta, at, spoken)
            if said and spoken.finished:
                raise broken("a choice went on after its end")
            steps += said
        reason = choice.get("finish_reason")
        if reason is not None and not spoken.finished:
            spoken.finished = True
            steps += _ended(at, spoken)
            steps.append(Finished(finish=read_finish(reason, calls=len(spoken.calls)), choice=at))

    def _delta(self, delta: Members, at: int, spoken: _Spoken) -> list[Step]:
        refuse_unsaid(delta)
        steps: list[Step] = []
        thought = named(delta.get("reasoning_content")) or named(delta.get("reasoning"))
        texts: tuple[tuple[_Said, str], ...] = (
            ("reasoning", thought or ""),
            ("text", text_in(delta.get("content"))),
            ("refusal", named(delta.get("refusal")) or ""),
        )
        for kind, text in texts:
            if text:
                steps += _say(at, spoken, kind, text)
        calls = delta.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if not isinstance(call, dict):
                raise broken("a tool call is no object")
            steps += _call(at, spoken, call, place)
        return steps


def _say(at: int, spoken: _Spoken, kind: _Said, text: str) -> list[Step]:
    steps: list[Step] = []
    if spoken.open is None or spoken.open[0] != kind:
        steps += _silent(at, spoken)
        spoken.open = (kind, spoken.blocks)
        spoken.blocks += 1
        steps.append(BlockBegan(block=spoken.open[1], kind=kind, choice=at))
    steps.append(BlockGrew(block=spoken.open[1], text=text, choice=at))
    return steps


def _silent(at: int, spoken: _Spoken) -> list[Step]:
    if spoken.open is None:
        return []
    block, spoken.open = spoken.open[1], None
    return [BlockEnded(block=block, choice=at)]


def _call(at: int, spoken: _Spoken, said: Members, place: int) -> list[Step]:
    index = said.get("index")
    number = index if type(index) is int else place
    function = said.get("function")
    function = function if isinstance(function, dict) else {}
    given, name = named(said.get("id")), named(function.get("name"))
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        raise broken("the arguments of a tool call are no text")
    if said.get("type") not in (None, "", "function"):
        raise broken("a tool call is of a type that cannot be translated")
    steps: list[Step] = []
    call = spoken.calls.get(number)
    if call is None:
        steps += _silent(at, spoken)
        call = spoken.calls[number] = _Call(block=spoken.blocks)
        spoken.blocks += 1
    if (given and call.id and given != call.id) or (name and call.name and name != call.name):
        raise broken("two tool calls share an index")
    if given and call.begun and call.id is None:
        raise broken("a tool call was given its id after it had begun")
    call.id, call.name = call.id or given, call.name or name
    signature = signature_of(said)
    call.waiting += arguments or ""
    if call.name is None:
        return steps
    if not call.begun:
        call.begun = True
        steps.append(BlockBegan(block=call.block, kind="tool", choice=at, id=call.id, name=call.name))
    if signature is not None:
        steps.append(BlockSigned(block=call.block, signature=signature, choice=at))
    if call.waiting:
        steps.append(BlockGrew(block=call.block, text=call.waiting, choice=at))
        call.waiting = ""
    return steps


def _ended(at: int, spoken: _Spoken) -> list[Step]:
    steps = _silent(at, spoken)
    for call in spoken.calls.values():
        if not call.begun:
            raise broken("a tool call names no function")
        steps.append(BlockEnded(block=call.block, choice=at))
    return steps


class WriteSteps:
    """Writes a client's stream: data-only chunks, one for each step that says something."""

    sequence = -1
    """This dialect does not number its events."""

    def __init__(self, occasion: Occasion) -> None:
        self._occasion = occasion
        self._id = f"chatcmpl-{occasion.request_id}"
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._begun: set[int] = set()
        """Choices whose role was told."""
        self._kinds: dict[tuple[int, int], str] = {}
        self._calls: dict[tuple[int, int], int] = {}
        """Of each tool call its place among those of its choice."""
        self._waiting: dict[tuple[int, int], dict[str, Value]] = {}
        """Tool calls that begin with the next step: a proof must stand in their first chunk."""

    def write(self, step: Step) -> bytes:
        """The chunks that say `step`."""
        match step:
            case Began():
                self._id = step.id or self._id
                self._count(step.usage)
                return self._role(0)
            case BlockBegan():
                return self._began(step)
            case BlockGrew():
                return self._grew(step)
            case BlockSigned():
                return self._signed(step)
            case BlockEnded():
                return self._flush((step.choice, step.block))
            case Finished():
                waiting = [self._flush(key) for key in list(self._waiting) if key[0] == step.choice]
                return (
                    self._role(step.choice)
                    + b"".join(waiting)
                    + self._chunk(step.choice, {}, finish=written_finish(step.finish))
                )
            case Counted():
                self._count(step.usage)
                self._tier = step.service_tier or self._tier
                return b""

    def end(self) -> bytes:
        """The usage, if the client wants it and it is known, and the end."""
        last = b""
        if self._occasion.ask.include_usage and self._usage is not None:
            last = writing.data({**self._head(), "choices": [], "usage": written_usage(self._usage)})
        return last + b"data: [DONE]\n\n"

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            self._usage = usage

    def _role(self, choice: int) -> bytes:
        if choice in self._begun:
            return b""
        self._begun.add(choice)
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def _began(self, step: BlockBegan) -> bytes:
        key = (step.choice, step.block)
        self._kinds[key] = step.kind
        if step.kind == "tool":
            if step.custom:
                raise broken("a call of a tool that takes free text cannot be streamed here")
            place = sum(1 for choice, _ in self._calls if choice == step.choice)
            self._calls[key] = place
            self._waiting[key] = {
                "index": place,
                "id": made_id(step.id, self._occasion, step.choice, place),
                "type": "function",
                "function": {"name": step.name, "arguments": ""},
            }
        return self._role(step.choice)

    def _grew(self, step: BlockGrew) -> bytes:
        key = (step.choice, step.block)
        match self._kinds[key]:
            case "text":
                return self._chunk(step.choice, {"content": step.text})
            case "reasoning":
                return self._chunk(step.choice, {"reasoning_content": step.text})
            case "refusal":
                return self._chunk(step.choice, {"refusal": step.text})
        piece: dict[str, Value] = {"index": self._calls[key], "function": {"arguments": step.text}}
        return self._flush(key) + self._chunk(step.choice, {"tool_calls": [piece]})

    def _signed(self, step: BlockSigned) -> bytes:
        key = (step.choice, step.block)
        own = own_signature(step.signature)
        if own is None or key not in self._calls:
            return b""
        proof: Value = {"google": {"thought_signature": own}}
        if key in self._waiting:
            self._waiting[key]["extra_content"] = proof
            return self._flush(key)
        return self._chunk(step.choice, {"tool_calls": [{"index": self._calls[key], "extra_content": proof}]})

    def _flush(self, key: tuple[int, int]) -> bytes:
        """Begin the tool call at `key`, if it waits, after those that came before it."""
        if key not in self._waiting:
            return b""
        due = [one for one in self._waiting if one[0] == key[0] and one[1] <= key[1]]
        return b"".join(self._chunk(key[0], {"tool_calls": [self._waiting.pop(one)]}) for one in due)

    def _head(self) -> dict[str, Value]:
        head: dict[str, Value] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._occasion.created,
            "model": self._occasion.model,
        }
        tier = written_tier(self._tier)
        if tier is not None:
            head["service_tier"] = tier
        return head

    def _chunk(self, choice: int, delta: dict[str, Value], *, finish: str | None = None) -> bytes:
        chunk = self._head()
        chunk["choices"] = [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}]
        if self._occasion.ask.include_usage:
            chunk["usage"] = None
        return writing.data(chunk)
