"""Paths of a person's own: what they prefer, what they agreed to have remembered, and texts that are processed so."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from securellm.core.clock import Clock
from securellm.core.document import Document, Value
from securellm.core.errors import Code, Fault, Refusal
from securellm.core.surfaces import Manner, Surface
from securellm.gateway.capabilities import Gates
from securellm.gateway.model import Headers, Received, Reply, Request
from securellm.gateway.personal import PREFERENCES, Visitor, conversation, known_of, screened, told
from securellm.ingress import chat
from securellm.ingress.query import Query
from securellm.preferences import (
    Memory,
    Preferences,
    Stated,
    instruction,
    read_memory,
    read_preferences,
    read_process,
    suggestions,
)

HEADER = "x-securellm-preferences"
"""By which a chat completion asks that its person's preferences be applied."""
APPLY = "apply"
PROCESS = "/process"

_MEMORY = re.compile(r"mem_[0-9a-hjkmnp-tv-z]{26}", re.ASCII)
_ETAG = re.compile(r'"([0-9]{1,19})"', re.ASCII)
_JSON = (b"content-type", b"application/json")
_DEPTH = 16


class Answer(NamedTuple):
    status: int
    body: object
    """Written as JSON."""
    etag: int | None = None


class Asked(NamedTuple):
    """A request for what is kept of a person."""

    visitor: Visitor
    gates: Gates
    members: Mapping[str, Value]
    """Of the body."""
    headers: Mapping[str, str]
    name: str
    """What the path names."""


Act = Callable[[Asked], Awaitable[Answer]]


class Personal(NamedTuple):
    """Where the path of one request leads."""

    template: str
    acts: Mapping[str, Act]
    """By method; empty for the path that processes a text."""
    name: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.acts) or ("POST",)

    @property
    def surface(self) -> Surface:
        return Surface.CHAT

    @property
    def manner(self) -> Manner:
        return Manner.PLAIN

    def model(self, query: Query) -> str:  # noqa: ARG002 - as every other destination is asked
        """The path names no model."""
        return ""

    async def answer(
        self, method: str, visitor: Visitor, gates: Gates, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Raises Refusal for a body that is not what the path takes."""
        members: Mapping[str, Value] = {}
        if method in ("PUT", "PATCH", "POST"):
            members = Document(body, max_depth=_DEPTH).members()
        elif body.strip():
            raise Refusal(Code.INVALID_REQUEST, f"{method} takes no body here")
        return await self.acts[method](Asked(visitor, gates, members, headers, self.name))


def written(answer: Answer) -> tuple[int, Headers, bytes]:
    """The answer as it leaves."""
    headers: Headers = ((b"cache-control", b"no-store"),)
    if answer.etag is not None:
        headers += ((b"etag", f'"{answer.etag}"'.encode("ascii")),)
    return answer.status, (_JSON, *headers), json.dumps(answer.body, ensure_ascii=False).encode("utf-8")


# Preferences


async def _get(asked: Asked) -> Answer:
    stated = await asked.gates.ask("preferences", asked.gates.preferences.stated(asked.visitor.person))
    return _shown(stated)


async def _put(asked: Asked) -> Answer:
    return await _state(asked, over=False)


async def _patch(asked: Asked) -> Answer:
    return await _state(asked, over=True)


async def _state(asked: Asked, *, over: bool) -> Answer:
    members = await _clean(asked, read_preferences(asked.members))

    def change(before: Preferences) -> Preferences:
        return read_preferences(members, over=before if over else None)

    book, visitor = asked.gates.preferences, asked.visitor
    stating = book.state(visitor.person, change, etag=_etag(asked.headers), origin=visitor.origin)
    return _shown(await asked.gates.ask("preferences", stating))


async def _clean(asked: Asked, stated: Preferences) -> Mapping[str, Value]:
    """The body's members, each as the guard lets it pass."""
    names = [name for name in asked.members if getattr(stated, name) is not None]
    kept = await screened([getattr(stated, name) for name in names], asked.visitor, asked.gates)
    return {**asked.members, **dict(zip(names, kept, strict=True))}


async def _delete(asked: Asked) -> Answer:
    book, visitor = asked.gates.preferences, asked.visitor
    withdrawing = book.withdraw(visitor.person, etag=_etag(asked.headers), origin=visitor.origin)
    await asked.gates.ask("preferences", withdrawing)
    return Answer(200, {"deleted": True})


def _shown(stated: Stated) -> Answer:
    body = {
        **{name: getattr(stated.preferences, name) for name in Preferences.__struct_fields__},
        "updated_at": _moment(stated.etag) if stated.etag else None,
    }
    return Answer(200, body, etag=stated.etag)


def _etag(headers: Mapping[str, str]) -> int | None:
    given = headers.get("if-match")
    if given is None:
        return None
    match = _ETAG.fullmatch(given)
    if match is None:
        raise Refusal(Code.INVALID_HEADER, "if-match must be the ETag of a former answer", param="if-match")
    return int(match[1])


# Memories


async def _list(asked: Asked) -> Answer:
    memories = await asked.gates.ask("preferences", asked.gates.preferences.memories(asked.visitor.person))
    return Answer(200, {"data": [_memory(memory) for memory in memories]})


async def _remember(asked: Asked) -> Answer:
    text, offered_in = read_memory(asked.members)
    (kept,) = await screened((text,), asked.visitor, asked.gates)
    visitor = asked.visitor
    remembering = asked.gates.preferences.remember(visitor.person, kept, offered_in=offered_in, origin=visitor.origin)
    memory = await asked.gates.ask("preferences", remembering)
    return Answer(201 if memory.consented_in == visitor.origin.request_id else 200, _memory(memory))


async def _forget(asked: Asked) -> Answer:
    if _MEMORY.fullmatch(asked.name) is None:
        raise Refusal(Code.NOT_FOUND, "no memory of yours has this id")
    return await _forgotten(asked, asked.name)


async def _forget_all(asked: Asked) -> Answer:
    return await _forgotten(asked, None)


async def _forgotten(asked: Asked, memory_id: str | None) -> Answer:
    visitor = asked.visitor
    forgetting = asked.gates.preferences.forget(visitor.person, memory_id, origin=visitor.origin)
    await asked.gates.ask("preferences", forgetting)
    return Answer(200, {"deleted": True})


def _memory(memory: Memory) -> dict[str, object]:
    return {
        "id": memory.id,
        "text": memory.text,
        "consented_at": _moment(memory.created_us),
        "consented_in": memory.consented_in,
        "offered_in": memory.offered_in,
    }


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Requests that are answered as their person prefers


def wants_preferences(headers: Mapping[str, str], surface: Surface) -> bool:
    """Whether a request asks for it. Raises Refusal(INVALID_HEADER) where that cannot be done."""
    given = headers.get(HEADER)
    if given is None:
        return False
    if given != APPLY:
        raise Refusal(Code.INVALID_HEADER, f"{HEADER} must be {APPLY}", param=HEADER)
    if surface is not Surface.CHAT:
        raise Refusal(Code.INVALID_HEADER, "preferences are applied to chat completions only", param=HEADER)
    return True


async def with_preferences(document: Document, received: Received, gates: Gates) -> tuple[Document, tuple[str, ...]]:
    """A chat completion's body as its person prefers to be answered, and the edits that made it."""
    text = instruction(*await known_of(received, gates))
    return (told(document, text), (PREFERENCES,)) if text else (document, ())


async def process(body: bytes, received: Received, gates: Gates, reply: "Processed") -> Request:
    """The conversation that a body with a text asks for."""
    text, model = read_process(Document(body, max_depth=_DEPTH).members())
    preferences, memories = await known_of(received, gates)
    remembered = {memory.text for memory in memories}
    reply.offered = tuple(offer for offer in suggestions(text) if offer not in remembered)
    said = instruction(preferences, memories)
    request = chat.extract(conversation(text, model=model, instruction=said), received.headers)
    return msgspec.structs.replace(request, edits=(PREFERENCES,) if said else ())


class Processed:
    """Turns the answer of a chat completion into that of a processed text, on its way to the client."""

    def __init__(self, reply: Reply, *, request_id: str, started: float, clock: Clock) -> None:
        """`started`: monotonic seconds at the request line."""
        self._reply = reply
        self._request_id = request_id
        self._started = started
        self._clock = clock
        self.offered: tuple[str, ...] = ()
        """What the person asked to have remembered: kept nowhere until they say yes."""
        self.sequence = -1

    @property
    def rates(self) -> Callable[[], Headers] | None:
        return self._reply.rates

    @rates.setter
    def rates(self, rates: Callable[[], Headers] | None) -> None:
        self._reply.rates = rates

    @property
    def started(self) -> bool:
        return self._reply.started

    async def send(self, status: int, headers: Headers, body: bytes) -> None:
        said = _said(body)
        said["latency_ms"] = round((self._clock.monotonic() - self._started) * 1000)
        said["request_id"] = self._request_id
        if self.offered:
            said["suggestions"] = [{"text": offer} for offer in self.offered]
        await self._reply.send(status, headers, json.dumps(said, ensure_ascii=False).encode("utf-8"))

    async def expect_stream(self, headers: Headers) -> None:  # noqa: ARG002 - nobody asked for one
        raise _no_stream()

    async def begin(self, headers: Headers) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()

    async def write(self, data: bytes) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()

    async def end(self, data: bytes) -> None:  # noqa: ARG002 - every one is called alike
        raise _no_stream()


def _said(body: bytes) -> dict[str, object]:
    """Text, usage and model of a chat completion; what it does not say is null."""
    completion = msgspec.json.decode(body)
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = first.get("message")
    said = message if isinstance(message, dict) else {}
    texts = (said.get("content"), said.get("refusal"))
    usage = completion.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return {
        "text": next((text for text in texts if isinstance(text, str)), ""),
        "usage": {name: counts.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
        "model": completion.get("model"),
    }


def _no_stream() -> Fault:
    return Fault(Code.INTERNAL, "a processed text is answered whole")


# Paths

_FIXED = {
    place.template: place
    for place in (
        Personal("/preferences", {"GET": _get, "PUT": _put, "PATCH": _patch, "DELETE": _delete}),
        Personal("/memories", {"GET": _list, "POST": _remember, "DELETE": _forget_all}),
        Personal(PROCESS, {}),
    )
}
_ONE = Personal("/memories/{memory_id}", {"DELETE": _forget})
PATHS: Mapping[str, Personal] = {**_FIXED, _ONE.template: _ONE}
"""Every path of a person's own."""


def find(path: str) -> Personal | None:
    """The place of a path as it was sent: nothing is decoded."""
    before, _, name = path.rpartition("/")
    if before == "/memories" and name:
        return _ONE._replace(name=name)
    return _FIXED.get(path)
