"""Responses: typed events, each text first in pieces, then whole, then once more in `response.completed`."""

from securellm.core.document import Document, Value
from securellm.core.errors import UpstreamFailure
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, kept, replies, requests
from securellm.providers.dialects.machine import DONE, Machine, named
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, ReplyFacts, StreamEvent
from securellm.providers.sse import EVENTS

_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
_MEDIA = frozenset({"response.audio.delta", "response.output_audio.delta"})
_INDEXES = ("output_index", "content_index", "summary_index", "command_index")

_ANNOTATION = Members(
    {
        "type": Mark.OPAQUE,
        "file_id": Mark.OPAQUE,
        "container_id": Mark.OPAQUE,
        "filename": Mark.TEXT,
        "title": Mark.TEXT,
        "url": Mark.TEXT,
        "index": Mark.NUMERIC,
        "start_index": Mark.NUMERIC,
        "end_index": Mark.NUMERIC,
    }
)
_PART = Members(
    {
        "type": Mark.OPAQUE,
        "text": Mark.TEXT,
        "refusal": Mark.TEXT,
        "transcript": Mark.TEXT,
        "data": Mark.ENCODED,
        "image_url": Mark.ENCODED,
        "detail": Mark.OPAQUE,
        "file_id": Mark.OPAQUE,
        "file_data": Mark.ENCODED,
        "input_audio": Members({"data": Mark.ENCODED, "format": Mark.OPAQUE}),
        "annotations": Each(_ANNOTATION),
        "logprobs": Mark.MIRROR,
    }
)
ITEM = Members(
    {
        "type": Mark.OPAQUE,
        "id": Mark.OPAQUE,
        "call_id": Mark.OPAQUE,
        "status": Mark.OPAQUE,
        "role": Mark.OPAQUE,
        "phase": Mark.OPAQUE,
        "container_id": Mark.OPAQUE,
        "approval_request_id": Mark.OPAQUE,
        "execution": Mark.OPAQUE,
        "created_by": Mark.OPAQUE,
        "fingerprint": Mark.ENCODED,
        "background": Mark.OPAQUE,
        "output_format": Mark.OPAQUE,
        "quality": Mark.OPAQUE,
        "size": Mark.OPAQUE,
        "max_output_length": Mark.NUMERIC,
        "caller": Members({"type": Mark.OPAQUE, "caller_id": Mark.OPAQUE}),
        "name": Mark.TEXT,
        "namespace": Mark.TEXT,
        "server_label": Mark.TEXT,
        "revised_prompt": Mark.TEXT,
        "operation": Mark.TEXT,
        "environment": Mark.TEXT,
        "outputs": Mark.TEXT,
        "tools": Mark.TEXT,
        "error": Mark.TEXT,
        "reason": Mark.TEXT,
        "arguments": Mark.ARGUMENTS,
        "input": Mark.TEXT,
        "output": Mark.TEXT,
        "code": Mark.TEXT,
        "action": Mark.TEXT,
        "queries": Mark.TEXT,
        "results": Mark.TEXT,
        "result": Mark.ENCODED,
        "encrypted_content": Mark.ENCODED,
        "content": Each(_PART),
        "summary": Each(_PART),
    }
)
_RESPONSE: dict[str, Shape] = {
    "id": Mark.OPAQUE,
    "object": Mark.OPAQUE,
    "created_at": Mark.NUMERIC,
    "completed_at": Mark.NUMERIC,
    "status": Mark.OPAQUE,
    "background": Mark.TEXT,
    "conversation": Members({"id": Mark.OPAQUE}),
    "error": Mark.TEXT,
    "frequency_penalty": Mark.NUMERIC,
    "incomplete_details": Members({"reason": Mark.OPAQUE}),
    "instructions": Mark.TEXT,
    "max_output_tokens": Mark.NUMERIC,
    "max_tool_calls": Mark.NUMERIC,
    "metadata": Mark.TEXT,
    "model": Mark.OPAQUE,
    "output": Each(ITEM),
    "parallel_tool_calls": Mark.TEXT,
    "presence_penalty": Mark.NUMERIC,
    "previous_response_id": Mark.OPAQUE,
    "prompt_cache_key": Mark.TEXT,
    "prompt_cache_retention": Mark.OPAQUE,
    "reasoning": Members(
        {"effort": Mark.OPAQUE, "summary": Mark.OPAQUE, "generate_summary": Mark.OPAQUE, "context": Mark.OPAQUE}
    ),
    "safety_identifier": Mark.TEXT,
    "service_tier": Mark.OPAQUE,
    "store": Mark.TEXT,
    "temperature": Mark.NUMERIC,
    "text": Members({"format": Members({"type": Mark.OPAQUE}), "verbosity": Mark.OPAQUE}),
    "tool_choice": Mark.OPAQUE,
    "tool_usage": Mark.NUMERIC,
    "tools": Mark.TEXT,
    "top_logprobs": Mark.NUMERIC,
    "top_p": Mark.NUMERIC,
    "truncation": Mark.OPAQUE,
    "usage": Mark.NUMERIC,
    "user": Mark.TEXT,
}
REPLY = Finder(Members(_RESPONSE))


def _event_shape(delta: Mark) -> Finder:
    return Finder(
        Members(
            {
                "type": Mark.OPAQUE,
                "sequence_number": Mark.NUMERIC,
                "item_id": Mark.OPAQUE,
                "output_index": Mark.NUMERIC,
                "content_index": Mark.NUMERIC,
                "summary_index": Mark.NUMERIC,
                "command_index": Mark.NUMERIC,
                "annotation_index": Mark.NUMERIC,
                "partial_image_index": Mark.NUMERIC,
                "partial_image_b64": Mark.ENCODED,
                "background": Mark.OPAQUE,
                "output_format": Mark.OPAQUE,
                "quality": Mark.OPAQUE,
                "size": Mark.OPAQUE,
                "status": Mark.OPAQUE,
                "obfuscation": Mark.OPAQUE,
                "delta": delta,
                "text": Mark.TEXT,
                "refusal": Mark.TEXT,
                "code": Mark.TEXT,
                "input": Mark.TEXT,
                "output": Mark.TEXT,
                "command": Mark.TEXT,
                "name": Mark.TEXT,
                "arguments": Mark.ARGUMENTS,
                "logprobs": Mark.MIRROR,
                "annotation": _ANNOTATION,
                "part": _PART,
                "item": ITEM,
                "response": Members(_RESPONSE),
            }
        )
    )


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    items = members.get("output")
    if not isinstance(items, list):
        return None
    texts: list[str] = []
    for item in items:
        parts = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
        for part in parts if isinstance(parts, list) else ():
            text = part.get("text") if isinstance(part, dict) else None
            texts.append(text if isinstance(text, str) else "")
    return replies.Said(
        text="".join(texts),
        finish=_finish(members),
        usage=_usage(members),
        server_tool_uses=figures.server_tools(members.get("tool_usage")),
        kept=tuple(kept.of_response(members)),
        failure=_failure(members),
    )


def _finish(response: dict[str, Value]) -> str | None:
    """Why the answer ended: the reason of an incomplete one, else its final status."""
    status = named(response.get("status"))
    if status in {"queued", "in_progress"}:
        return None
    return named(replies.at(response, ("incomplete_details", "reason"))) or status


def _usage(response: dict[str, Value]) -> Usage | None:
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    return figures.inclusive(usage, prompt="input_tokens", completion="output_tokens")


def _failure(response: dict[str, Value]) -> UpstreamFailure | None:
    return told(response.get("error")) if response.get("status") == "failed" else None


class StreamReader(Machine):
    """The state machine of a responses stream."""

    finder = _event_shape(Mark.PIECE)
    _arguments = _event_shape(Mark.ARGUMENTS_PIECE)
    _media = _event_shape(Mark.ENCODED)

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:  # noqa: ARG002 - of other dialects
        super().__init__()
        self._stem = ""
        self._stored = True
        self._number: int | None = None
        """The last sequence number, where events have one."""
        self._begun: set[int] = set()
        """The indexes of the output items that have begun."""

    def _event(self, document: Document, members: dict[str, Value], event: StreamEvent) -> EventView:
        kind = members.get("type", event.event)
        if event.event is not None and kind != event.event:
            return self._bad("an event's name and type disagree")
        if kind == "error":
            error = members.get("error")
            return self._fails(told(error if isinstance(error, dict) else members))
        name = kind if isinstance(kind, str) else ""
        wrong = self._step(name, members)
        if wrong is not None:
            return self._bad(wrong)
        response = members.get("response")
        held = response if isinstance(response, dict) else {}
        usage = _usage(held)
        if usage is not None:
            self.usage = usage = figures.larger(self.usage, usage)
        self.server_tool_uses = figures.server_tools(held.get("tool_usage")) or self.server_tool_uses
        self.service_tier = named(held.get("service_tier")) or self.service_tier
        self.model = named(held.get("model")) or self.model
        self.id = named(held.get("id")) or self.id
        self._stored = self._stored and held.get("store") is not False
        self._keep(kept.of_response(held, stored=self._stored))
        self._keep(kept.of_item(members.get("item"), stored=self._stored))
        if name == "response.failed":
            return self._fails(told(held.get("error")))
        if name in _LAST and not held:
            return self._bad("the last event lacks the response")
        self._stem = _stem(name)
        self.finder = self._finder_of(name)
        fragments, mirrors = self._texts(document, members)
        closes: tuple[str, ...] = ()
        if name in _LAST:
            self.terminal = True
            self.finish = _finish(held) or name.removeprefix("response.")
            closes = self._close()
        elif name == "response.output_item.done":
            closes = self._close(f"{_place(members, ('output_index',))}/")
        elif name.endswith(".done"):
            closes = self._close(f"{_place(members, _INDEXES)}/{self._stem}")
        return EventView(
            fragments=fragments,
            closes=closes,
            mirrors=mirrors,
            usage=usage,
            finish=self.finish,
            terminal=self.terminal,
            model=named(held.get("model")),
            model_path=("response", "model") if "model" in held else None,
            document=document,
        )

    def _step(self, name: str, members: dict[str, Value]) -> str | None:
        """Move on; what is wrong with an event that cannot come now."""
        number, index = members.get("sequence_number"), members.get("output_index")
        if type(number) is int:
            if self._number is not None and number <= self._number:
                return "an event came twice, or out of turn"
            self._number = number
        if name == "response.output_item.added" and type(index) is int:
            if index in self._begun:
                return "two output items share one index, or one began twice"
            self._begun.add(index)
        return None

    def _finder_of(self, name: str) -> Finder:
        if name in _MEDIA:
            return self._media
        return self._arguments if "arguments" in name else StreamReader.finder

    def _trailing(self, event: StreamEvent) -> EventView:
        """Some servers end this stream as they end chat's: what they add is not of the dialect."""
        return EventView(drop=True) if event.data.strip() == DONE else super()._trailing(event)

    def _channel(self, path: Path, members: dict[str, Value]) -> str:
        """The place in the output and what of it: `0/0/response.output_text`."""
        if "delta" not in members:
            return ""
        return "/".join((_place(members, _INDEXES), self._stem, *map(str, path[1:] if path[0] == "delta" else path)))


def _stem(name: str) -> str:
    return name.removesuffix(".delta").removesuffix(".done")


def _place(members: dict[str, Value], names: tuple[str, ...]) -> str:
    indexes = [str(members[name]) for name in names if type(members.get(name)) is int]
    return "/".join(indexes) if indexes else str(members.get("item_id", ""))


RESPONSES = Dialect(
    surface=Surface.RESPONSES,
    prepare=requests.name_and_cap,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=EVENTS,
)
