"""What four clients have in common: a request, an answer, and how each dialect is spoken and understood."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from tests.flows.front import Call, World

from securellm.core.surfaces import Surface
from securellm.core.usage import Usage

JSON = dict[str, Any]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A request, in no dialect."""

    model: str
    text: str = "hello"
    system: str | None = None
    stream: bool = False
    tools: tuple[tuple[str, JSON], ...] = ()
    schema: JSON | None = None
    picture: str | None = None
    """A PNG in Base64."""
    cap: int = 1000
    temperature: float | None = None
    before: tuple[Any, ...] = ()
    """What was said so far, in the client's own words."""
    more: Mapping[str, Any] = {}
    """Members that only this dialect has."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, as a client has it."""

    text: str
    calls: tuple[tuple[str, str, Any], ...]
    """Of each tool call its id, its name, and its arguments: the text where the dialect gives a text."""
    finish: str
    usage: tuple[int, int, int, int] | None
    """Tokens in, of these from a cache, tokens out, of these thought: what every dialect has a place for."""
    model: str
    turn: Any
    """What the client repeats when it goes on: a message, items, a content."""
    thought: str = ""

    @property
    def arguments(self) -> list[Any]:
        """The arguments as values."""
        return [json.loads(given) if isinstance(given, str) else given for _, _, given in self.calls]


def figures(usage: Usage) -> tuple[int, int, int, int]:
    """Of a usage, what every dialect has a place for."""
    return usage.prompt_tokens, usage.cache_read, usage.completion_tokens, usage.reasoning


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as an upstream was sent it."""

    calls: tuple[tuple[str, str, Any], ...]
    """Of each tool call in its history the id, the name, the arguments as a value."""
    results: tuple[tuple[str, str], ...]
    """Of each result the id of its call, and the text."""
    pictures: tuple[str, ...]
    """Base64."""
    schema: JSON | None
    tools: tuple[tuple[str, JSON], ...]
    cap: int | None


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """How one dialect is spoken and understood by those who know nothing of any other."""

    surface: Surface
    path: Callable[[Said], tuple[str, str]]
    """Where a request goes: path and query."""
    body: Callable[[Said], JSON]
    whole: Callable[[JSON], Heard]
    streamed: Callable[[Sequence[JSON]], Heard]
    """What is heard of a whole stream, whose grammar is checked on the way."""
    pieces: Callable[[Sequence[JSON]], tuple[str, list[str]]]
    """The words of a stream, and the arguments of each tool call, however its events are ordered."""
    turn: Callable[[str, Sequence[tuple[str, str, str]]], list[Any]]
    """What a client remembers of an answer with these words and tool calls."""
    turns: str
    """The member in which a conversation stands."""
    results: Callable[[Heard, Sequence[str]], list[Any]]
    """What follows an answer in the next request: its turn, and what its tools returned."""
    error: Callable[[JSON, bool], tuple[str, str | None]]
    """Of an error, in a stream or not, our code and the parameter."""
    names_errors: bool = False
    """In a stream the event of an error is named."""
    asked: Callable[[JSON], Asked]
    """What an upstream of the dialect was asked."""
    finishes: Mapping[str, str]
    """The dialect's words for `stop`, `tools` and `length`."""
    ends: tuple[bytes, ...]
    """What says that an answer is finished, wherever it stands in a stream."""
    heartbeat: bytes = b": heartbeat\n\n"

    def call(self, opened: World, said: Said, **how: Any) -> Call:
        """Begin a request."""
        path, query = self.path(said)
        return opened.call(path, self.body(said) | dict(said.more), query=query, **how)

    async def ask(self, opened: World, said: Said, **how: Any) -> Call:
        """A request and its whole answer."""
        return await self.call(opened, said, **how).done()

    def hear(self, call: Call) -> Heard:
        """The answer, which must be one."""
        assert call.status == 200, call.body
        return self.streamed(data_of(call)) if _is_stream(call) else self.whole(call.json())

    def is_over(self, data: bytes) -> bool:
        """Whether anything in these bytes tells a client that its answer is finished."""
        return any(end in data for end in self.ends)

    def broken(self, call: Call) -> tuple[str, str | None]:
        """The code and the parameter of the error that ends the answer, told as the dialect's SDKs read it."""
        if not _is_stream(call):
            assert call.status >= 400, call.body
            return self.error(call.json(), False)
        frame = call.body.rstrip().rpartition(b"\n\n")[2].lstrip()
        assert frame.startswith(b"event: error\n" if self.names_errors else b"data: "), frame
        return self.error(data_of(call)[-1], True)


def _is_stream(call: Call) -> bool:
    return call.headers["content-type"].startswith("text/event-stream")


def data_of(call: Call) -> list[JSON]:
    """The JSON of each event of a streamed answer, in order."""
    return events_in(call.body)


def events_in(data: bytes) -> list[JSON]:
    """The JSON of each event, in order."""
    lines = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def joined(content: Any) -> str:
    """A text, or the texts of parts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
