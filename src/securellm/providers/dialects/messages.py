"""Messages: content blocks opened, written to and closed one by one, `message_stop` at the end."""

from securellm.core.document import Document, Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.providers.dialects import figures, kept, replies, requests
from securellm.providers.dialects.machine import Machine, named, truncated
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, ReplyFacts, StreamEvent
from securellm.providers.sse import EVENTS

_CITATION = Members(
    {
        "type": Mark.OPAQUE,
        "cited_text": Mark.TEXT,
        "title": Mark.TEXT,
        "document_title": Mark.TEXT,
        "source": Mark.TEXT,
        "url": Mark.TEXT,
        "encrypted_index": Mark.ENCODED,
        "file_id": Mark.OPAQUE,
        "document_index": Mark.NUMERIC,
        "start_char_index": Mark.NUMERIC,
        "end_char_index": Mark.NUMERIC,
        "start_page_number": Mark.NUMERIC,
        "end_page_number": Mark.NUMERIC,
        "start_block_index": Mark.NUMERIC,
        "end_block_index": Mark.NUMERIC,
        "search_result_index": Mark.NUMERIC,
    }
)
_RESULT = Members(
    {
        "type": Mark.OPAQUE,
        "url": Mark.TEXT,
        "title": Mark.TEXT,
        "page_age": Mark.TEXT,
        "encrypted_content": Mark.ENCODED,
        "encrypted_stdout": Mark.ENCODED,
        "error_code": Mark.OPAQUE,
        "file_id": Mark.OPAQUE,
        "text": Mark.TEXT,
        "citations": Each(_CITATION),
    }
)
_CONTAINER = Members({"id": Mark.OPAQUE, "expires_at": Mark.OPAQUE, "skills": Mark.OPAQUE})

_USAGE = Members({"service_tier": Mark.OPAQUE, "inference_geo": Mark.OPAQUE, "speed": Mark.OPAQUE}, other=Mark.NUMERIC)


def _block(text: Mark) -> Shape:
    return Members(
        {
            "type": Mark.OPAQUE,
            "id": Mark.OPAQUE,
            "tool_use_id": Mark.OPAQUE,
            "text": text,
            "thinking": text,
            "signature": Mark.ENCODED,
            "data": Mark.ENCODED,
            "encrypted_content": Mark.ENCODED,
            "file_id": Mark.OPAQUE,
            "name": Mark.TEXT,
            "toolset_name": Mark.TEXT,
            "server_name": Mark.TEXT,
            "is_error": Mark.TEXT,
            "input": Members({}),
            "caller": Members({"type": Mark.OPAQUE, "tool_id": Mark.OPAQUE}),
            "citations": Each(_CITATION),
            "content": Each(_RESULT),
        }
    )


def _message(text: Mark) -> dict[str, Shape]:
    return {
        "id": Mark.OPAQUE,
        "type": Mark.OPAQUE,
        "role": Mark.OPAQUE,
        "model": Mark.OPAQUE,
        "content": Each(_block(text)),
        "stop_reason": Mark.OPAQUE,
        "stop_sequence": Mark.TEXT,
        "usage": _USAGE,
        "container": _CONTAINER,
        "stop_details": Mark.TEXT,
        "context_management": Mark.NUMERIC,
        "diagnostics": Mark.TEXT,
    }


_REPLY = Finder(Members(_message(Mark.TEXT)))


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    blocks = members.get("content")
    if not isinstance(blocks, list):
        return None
    usage = members.get("usage")
    texts = (block["text"] for block in blocks if isinstance(block, dict) and block.get("type") == "text")
    return replies.Said(
        text="".join(text for text in texts if isinstance(text, str)),
        finish=named(members.get("stop_reason")),
        usage=figures.exclusive(usage) if isinstance(usage, dict) else None,
        server_tool_uses=figures.server_tools(replies.at(usage, ("server_tool_use",))),
        kept=tuple(kept.of_message(members)),
    )


class StreamReader(Machine):
    """The state machine of a messages stream."""

    finder = Finder(
        Members(
            {
                "type": Mark.OPAQUE,
                "index": Mark.NUMERIC,
                "message": Members(_message(Mark.PIECE)),
                "content_block": _block(Mark.PIECE),
                "delta": Members(
                    {
                        "type": Mark.OPAQUE,
                        "text": Mark.PIECE,
                        "thinking": Mark.PIECE,
                        "partial_json": Mark.ARGUMENTS_PIECE,
                        "signature": Mark.ENCODED,
                        "encrypted_content": Mark.ENCODED,
                        "estimated_tokens": Mark.NUMERIC,
                        "citation": _CITATION,
                        "stop_reason": Mark.OPAQUE,
                        "stop_sequence": Mark.TEXT,
                        "stop_details": Mark.TEXT,
                        "container": _CONTAINER,
                    },
                    other=Mark.PIECE,
                ),
                "usage": _USAGE,
                "context_management": Mark.NUMERIC,
            }
        )
    )

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:  # noqa: ARG002 - of other dialects
        super().__init__()
        self._figures: dict[str, Value] = {}
        self._begun = False
        self._blocks: set[int] = set()
        """Content blocks that are open."""
        self._blocks_begun = 0

    def _event(self, document: Document, members: dict[str, Value], event: StreamEvent) -> EventView:
        kind = members.get("type", event.event)
        if event.event is not None and kind != event.event:
            return self._bad("an event's name and type disagree")
        if kind == "error":
            return self._fails(told(members.get("error")))
        wrong = self._step(kind, members)
        if wrong is not None:
            return self._bad(wrong)
        if kind == "message_stop":
            return self._stop(document)
        fragments, mirrors = self._texts(document, members)
        message = members.get("message")
        said = members if kind == "message_delta" else message if isinstance(message, dict) else {}
        if isinstance(said.get("usage"), dict):
            self._count(said["usage"])
        model = named(said.get("model"))
        self.model = model or self.model
        self._keep(kept.of_message(message))
        self._keep(kept.of_message(members.get("delta")))
        self._keep(kept.of_block(members.get("content_block")))
        finish: str | None = None
        if kind == "message_delta" and self.finish is None:
            self.finish = finish = named(replies.at(members, ("delta", "stop_reason")))
        return EventView(
            fragments=fragments,
            closes=self._close(f"{members.get('index')}/") if kind == "content_block_stop" else (),
            mirrors=mirrors,
            usage=self.usage if isinstance(said.get("usage"), dict) else None,
            finish=finish,
            model=model,
            model_path=("message", "model") if model is not None else None,
            document=document,
        )

    def _step(self, kind: Value, members: dict[str, Value]) -> str | None:
        """Move on; what is wrong with an event that cannot come now."""
        index = members.get("index")
        if kind == "message_start":
            if self._begun:
                return "a second message began"
            self._begun = True
        elif kind == "message_delta":
            if not self._begun or self._blocks:
                return "a message was summed up before it began, or while a content block was open"
        elif kind in {"content_block_start", "content_block_delta", "content_block_stop"}:
            if not self._begun or type(index) is not int:
                return "a content block came before its message, or without its index"
            if self.finish is not None:
                return "a content block came after the message was finished"
            if kind == "content_block_start":
                if index != self._blocks_begun:
                    return "a content block began twice, or out of turn"
                self._blocks_begun += 1
                self._blocks.add(index)
            elif index not in self._blocks:
                return "a content block was written to that is not open"
            elif kind == "content_block_stop":
                self._blocks.discard(index)
        return None

    def _stop(self, document: Document) -> EventView:
        if not self._begun or self._blocks or self.finish is None:
            return self._fails(truncated("the message stopped before it was complete"))
        fragments, mirrors = self._texts(document, document.members())
        self.terminal = True
        return EventView(fragments=fragments, mirrors=mirrors, terminal=True, closes=self._close(), document=document)

    def _count(self, reported: Value) -> None:
        assert isinstance(reported, dict)
        self._figures = figures.later(self._figures, reported)
        self.usage = figures.exclusive(self._figures)
        self.server_tool_uses = figures.server_tools(self._figures.get("server_tool_use"))
        self.service_tier = named(self._figures.get("service_tier"))

    def _channel(self, path: Path, members: dict[str, Value]) -> str:
        """The content block and what of it: `0/text`, `1/partial_json`."""
        if path[0] == "message":
            return "/".join(map(str, (path[2], *path[3:]) if path[1] == "content" else path))
        return "/".join(map(str, (members.get("index", ""), *path[1:])))


MESSAGES = Dialect(
    surface=Surface.MESSAGES,
    prepare=requests.name_and_cap,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=EVENTS,
)
