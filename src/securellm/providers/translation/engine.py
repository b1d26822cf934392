"""Translation from one dialect into another: what is said is kept, what is not is named or refused."""

from collections.abc import Callable, Mapping
from typing import TypeVar, assert_never

import msgspec

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.providers.translation.members import broken
from securellm.providers.translation.model import (
    Answer,
    Ask,
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Counted,
    Direction,
    Finished,
    Members,
    Occasion,
    Part,
    Reasoning,
    Step,
    ToolCall,
    Turn,
)
from securellm.providers.translation.signatures import marked, origin
from securellm.providers.translation.writing import UnwritableError, text_of

_Said = TypeVar("_Said")


class Translated(msgspec.Struct, frozen=True, kw_only=True):
    """A client's request in an upstream's dialect."""

    ask: Ask
    """What the client asks for."""
    body: bytes
    dropped: tuple[str, ...]
    """Members of the client's request (dotted paths, `*` for any index) that only hint, and have no place there."""


def translate_ask(
    direction: Direction, members: Members, *, model: str, stream: bool, default_max_output: int
) -> Translated:
    """Say a client's request in the dialect of `direction.target`.

    `model` and `stream` are what the client asks for, wherever its dialect says so. `default_max_output` is said
    where the upstream must be told a bound and the client gave none.

    Raises Refusal: INVALID_REQUEST for what its own dialect does not allow, NOT_REPRESENTABLE, naming the member,
    for what cannot be said.
    """
    source, target = direction.source, direction.target
    try:
        ask = msgspec.structs.replace(source.read_ask(members), model=model, stream=stream)
        dropped, carried = _sorted_out(direction, ask.rest)
        said, hints = _own(ask, target.surface, spoken=source.surface)
        if said.max_output is None and target.bounded:
            said = msgspec.structs.replace(said, max_output=default_max_output)
        try:
            written, left = target.write_ask(said if direction.adapt is None else direction.adapt(said))
        except Refusal as refusal:
            raise _in_clients_words(refusal, source.holds, members) from None
        for path, value in carried:
            _put(written, path, value)
        body = text_of(written).encode()
    except UnwritableError as error:
        raise Refusal(Code.INVALID_REQUEST, str(error)) from None
    names = [*dropped, *(_path_of(hint, source.holds, members) for hint in (*hints, *left))]
    return Translated(ask=ask, body=body, dropped=tuple(dict.fromkeys(names)))


def translate_answer(direction: Direction, members: Members, occasion: Occasion) -> bytes:
    """Say an upstream's whole reply in the client's dialect. Raises UpstreamFailure(BAD_REPLY) for what cannot be."""

    def say() -> bytes:
        answer = _marked(direction.target.read_answer(members), direction.target.surface)
        for choice in answer.choices:
            calls = [part.id for part in choice.parts if isinstance(part, ToolCall) and part.id]
            if len(set(calls)) < len(calls):
                raise _one_id()
        return text_of(direction.source.write_answer(answer, occasion)).encode()

    return _told(say)


class StreamTranslation:
    """Says an upstream's stream in the client's dialect, event by event.

    Everything raises UpstreamFailure(BAD_REPLY) for what cannot be said.
    """

    def __init__(self, direction: Direction, occasion: Occasion) -> None:
        self._surface = direction.target.surface
        self._reader = direction.target.read_steps()
        self._writer = direction.source.write_steps(occasion)
        self._unsigned: set[tuple[int, int]] = set()
        """Thoughts, by choice and block, that have not been signed."""
        self._calls: set[tuple[int, str]] = set()
        """Tool calls, by choice and id."""

    @property
    def sequence(self) -> int:
        """The number of the last event, in dialects that count them; -1 before any, and in all others."""
        return self._writer.sequence

    def feed(self, members: Members) -> bytes:
        """The client's events for one of the upstream's; empty while nothing can be said."""
        return _told(lambda: self._write(self._reader.read(members)))

    def end(self) -> bytes:
        """The client's last events: the upstream's terminal event has been fed."""
        return _told(lambda: self._write(self._reader.end()) + self._writer.end())

    def _write(self, steps: tuple[Step, ...]) -> bytes:
        return b"".join(self._writer.write(signed) for step in steps for signed in self._signed(step))

    def _signed(self, step: Step) -> tuple[Step, ...]:
        """The step with every signature marked with its origin; and a mark for each thought that was not signed."""
        match step:
            case BlockBegan():
                if step.kind == "reasoning":
                    self._unsigned.add((step.choice, step.block))
                if step.kind == "tool" and step.id:
                    if (step.choice, step.id) in self._calls:
                        raise _one_id()
                    self._calls.add((step.choice, step.id))
                return (step,)
            case BlockSigned():
                self._unsigned.discard((step.choice, step.block))
                return (msgspec.structs.replace(step, signature=marked(self._surface, step.signature)),)
            case BlockEnded():
                key = (step.choice, step.block)
                if key not in self._unsigned:
                    return (step,)
                self._unsigned.discard(key)
                return (BlockSigned(block=step.block, signature=marked(self._surface, None), choice=step.choice), step)
            case Began() | BlockGrew() | Finished() | Counted():
                return (step,)
            case _:
                assert_never(step)


_SIGNED = frozenset({"reasoning", "tool_call.signature"})
"""What no provider is told that another one made."""


def table(direction: Direction) -> list[tuple[str, str]]:
    """What becomes of each member of a client's request: by its dotted path, its fate, in a few words."""
    source, target = direction.source, direction.target
    rows: list[tuple[str, str]] = []
    for path, name in source.holds.items():
        fate = "said"
        if name in _SIGNED:
            fate = "said to its own maker; dropped for any other"
        elif name in target.hints:
            fate = "dropped, where it cannot be said"
        elif name in target.lacks:
            fate = "refused, where it cannot be said"
        rows.append((path, fate))
    for path in source.knows:
        fate = "refused"
        if path in direction.carried:
            fate = f"said as {direction.carried[path]}"
        elif path in direction.dropped:
            fate = "dropped"
        elif path in direction.ignored:
            fate = "overlooked: it is so anyway"
        values = [one.removeprefix(f"{path}=") for one in direction.ignored if one.startswith(f"{path}=")]
        if values:
            fate += f"; {' '.join(sorted(values))} is overlooked: it is so anyway"
        rows.append((path, fate))
    return sorted(rows)


def _one_id() -> UpstreamFailure:
    """Two calls of one id would be answered by one result, or by two that nobody can tell apart."""
    return broken("two tool calls share an id")


def _told(say: Callable[[], _Said]) -> _Said:
    try:
        return say()
    except UnwritableError as error:
        raise broken(str(error)) from None


def _sorted_out(direction: Direction, rest: Mapping[str, Value]) -> tuple[list[str], list[tuple[str, Value]]]:
    """The names of what is dropped of what `Ask` does not hold, and what is carried over as it is."""
    dropped: list[str] = []
    carried: list[tuple[str, Value]] = []
    for path, value in rest.items():
        if path in direction.carried:
            carried.append((direction.carried[path], value))
        elif path in direction.dropped:
            dropped.append(path)
        elif not (path in direction.ignored or f"{path}={text_of(value)}" in direction.ignored):
            raise Refusal(
                Code.NOT_REPRESENTABLE,
                f"{path} cannot be said to this model's provider, which speaks another dialect",
                param=path,
            )
    return dropped, carried


def _own(ask: Ask, target: Surface, *, spoken: Surface) -> tuple[Ask, list[str]]:
    """The request with no signature but the target's own, and what was left out for it."""
    hints: list[str] = []
    turns: list[Turn] = []
    for turn in ask.turns:
        parts = tuple(
            part for part in (_own_part(part, target, spoken, hints) for part in turn.parts) if part is not None
        )
        if parts or not turn.parts:
            turns.append(msgspec.structs.replace(turn, parts=parts))
    return msgspec.structs.replace(ask, turns=tuple(turns)), hints


def _own_part(part: Part, target: Surface, spoken: Surface, hints: list[str]) -> Part | None:
    """A part as its maker knows it. None for a thought of another maker: it cannot be read, or must not."""
    if isinstance(part, Reasoning):
        surface, signature = origin(part.signature or "")
        if (surface or spoken) is target:
            return msgspec.structs.replace(part, signature=signature or None)
        hints.append("reasoning")
        return None
    if isinstance(part, ToolCall) and part.signature is not None:
        surface, signature = origin(part.signature)
        if (surface or spoken) is target:
            return msgspec.structs.replace(part, signature=signature or None)
        hints.append("tool_call.signature")
        return msgspec.structs.replace(part, signature=None)
    return part


def _marked(answer: Answer, surface: Surface) -> Answer:
    """The answer with every signature marked with its origin."""
    choices = tuple(
        msgspec.structs.replace(choice, parts=tuple(_marked_part(part, surface) for part in choice.parts))
        for choice in answer.choices
    )
    return msgspec.structs.replace(answer, choices=choices)


def _marked_part(part: Part, surface: Surface) -> Part:
    if isinstance(part, Reasoning) or (isinstance(part, ToolCall) and part.signature is not None):
        return msgspec.structs.replace(part, signature=marked(surface, part.signature))
    return part


def _put(written: dict[str, Value], path: str, value: Value) -> None:
    """Set the member at a dotted path, in objects that are there or not."""
    *above, name = path.split(".")
    members = written
    for step in above:
        below = members.setdefault(step, {})
        if not isinstance(below, dict):
            raise broken(f"{path} has no place in the request")
        members = below
    members[name] = value


def _path_of(hint: str, holds: Mapping[str, str], members: Members) -> str:
    """The client's own name for what `Ask` calls `hint`: the one that it used."""
    paths = [path for path, name in holds.items() if name == hint]
    used = [path for path in paths if _has(members, path.split("."))]
    return (used or paths or [hint])[0]


def _has(value: Value | Members, path: list[str]) -> bool:
    if not path:
        return value is not None
    step, *below = path
    if step == "*":
        return isinstance(value, list) and any(_has(element, below) for element in value)
    return isinstance(value, Mapping) and step in value and _has(value[step], below)


def _in_clients_words(refusal: Refusal, holds: Mapping[str, str], members: Members) -> Refusal:
    """The refusal with the client's own name for what a target refuses by the name that `Ask` gives it."""
    name = refusal.param
    if refusal.code is not Code.NOT_REPRESENTABLE or name is None:
        return refusal
    known = next((one for one in (name, name.partition(".")[0]) if one in holds.values()), None)
    return refusal if known is None else Refusal(refusal.code, refusal.reason, param=_path_of(known, holds, members))
