"""Chat completions: data-only events, usage only when asked for, `[DONE]` at the end."""

from securellm.core.document import Document, Patch, Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, kept, replies, requests
from securellm.providers.dialects.machine import MOST_CHOICES, Machine, named, truncated
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, ReplyFacts, StreamEvent
from securellm.providers.sse import EVENTS

_USAGE_CHUNK = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint", "obfuscation"}
)
"""What a chunk may hold that is there for nothing but usage."""


def _shape(*, message: str, text: Mark, arguments: Mark) -> Shape:
    call = {"name": Mark.TEXT, "arguments": arguments, "input": text}
    tool_call = Members(
        {
            "index": Mark.NUMERIC,
            "id": Mark.OPAQUE,
            "type": Mark.OPAQUE,
            "function": Members(call),
            "custom": Members(call),
        }
    )
    citation = {"start_index": Mark.NUMERIC, "end_index": Mark.NUMERIC, "title": Mark.TEXT, "url": Mark.TEXT}
    said: dict[str, Shape] = {
        "role": Mark.OPAQUE,
        "content": text,
        "refusal": text,
        "reasoning_content": text,
        "reasoning": text,
        "function_call": Members(call),
        "tool_calls": Each(tool_call),
        "audio": Members({"id": Mark.OPAQUE, "data": Mark.ENCODED, "transcript": text, "expires_at": Mark.NUMERIC}),
        "annotations": Each(Members({"type": Mark.OPAQUE, "url_citation": Members(citation)})),
        "images": Each(
            Members({"type": Mark.OPAQUE, "index": Mark.NUMERIC, "image_url": Members({"url": Mark.ENCODED})})
        ),
    }
    choice: dict[str, Shape] = {
        "index": Mark.NUMERIC,
        "finish_reason": Mark.OPAQUE,
        "logprobs": Mark.MIRROR,
        "content_filter_results": Mark.OPAQUE,
        "content_filter_offsets": Mark.NUMERIC,
        message: Members(said, other=text),
    }
    return Members(
        {
            "id": Mark.OPAQUE,
            "object": Mark.OPAQUE,
            "created": Mark.NUMERIC,
            "model": Mark.OPAQUE,
            "service_tier": Mark.OPAQUE,
            "system_fingerprint": Mark.OPAQUE,
            "obfuscation": Mark.OPAQUE,
            "usage": Mark.NUMERIC,
            "error": Mark.TEXT,
            "prompt_filter_results": Mark.OPAQUE,
            "choices": Each(Members(choice)),
        }
    )


_REPLY = Finder(_shape(message="message", text=Mark.TEXT, arguments=Mark.ARGUMENTS))


def prepare(
    patch: Patch,
    document: Document,
    *,
    upstream_model: str | None,
    output_cap: int | None,
    cap_fields: tuple[str, ...],
    inject_usage: bool,
) -> tuple[str, ...]:
    """Make the edits an upstream needs; their names."""
    edits = requests.set_model(patch, document, upstream_model)
    edits += requests.cap_output(patch, document, output_cap, cap_fields)
    if inject_usage:
        options = document.members().get("stream_options")
        if not isinstance(options, dict):
            patch.set(("stream_options",), {"include_usage": True})
            edits += ("include_usage",)
        elif options.get("include_usage") is not True:
            patch.set(("stream_options", "include_usage"), True)
            edits += ("include_usage",)
    return edits


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read)


def _read(members: dict[str, Value]) -> replies.Said | None:
    choices = members.get("choices")
    if not isinstance(choices, list):
        return None
    texts: list[str] = []
    finish: str | None = None
    for choice in choices:
        if isinstance(choice, dict):
            finish = finish or named(choice.get("finish_reason"))
            message = choice.get("message")
            text = message.get("content") if isinstance(message, dict) else None
            texts.append(text if isinstance(text, str) else "")
    return replies.Said(
        text="\n".join(texts), finish=finish, usage=_usage(members), kept=tuple(kept.of_choices(choices, "message"))
    )


def _usage(members: dict[str, Value]) -> Usage | None:
    usage = members.get("usage")
    if not isinstance(usage, dict):
        return None
    return figures.inclusive(usage, prompt="prompt_tokens", completion="completion_tokens")


class StreamReader(Machine):
    """The state machine of a chat stream.

    With `injected_usage`, what is there only because we asked for usage is marked for removal. The answer is
    finished when `choices` choices (and all that were seen) have a finish reason.
    """

    finder = Finder(_shape(message="delta", text=Mark.PIECE, arguments=Mark.ARGUMENTS_PIECE))

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:
        super().__init__()
        self._injected_usage = injected_usage
        self._expected = choices
        self._unfinished: dict[str, bool] = {}
        """Of each choice seen, whether it lacks a finish reason."""
        self._reason: str | None = None
        """The last finish reason given."""
        self._calls: dict[tuple[str, int], dict[str, str]] = {}
        """What each tool call, by its choice and index, has called itself."""

    def _event(
        self,
        document: Document,
        members: dict[str, Value],
        event: StreamEvent,  # noqa: ARG002 - the signature of every machine
    ) -> EventView:
        if members.get("error"):
            return self._fails(told(members["error"]))
        choices = members.get("choices")
        fragments, mirrors = self._texts(document, members)
        closes: tuple[str, ...] = ()
        written = frozenset(fragment.channel for fragment in fragments if fragment.channel)
        for at, choice in enumerate(choices if isinstance(choices, list) else ()):
            if not isinstance(choice, dict):
                continue
            index = _index(choice, at)
            finish = named(choice.get("finish_reason"))
            self._reason = finish or self._reason
            prefix = f"{index}/"
            if not self._unfinished.get(index, True) and any(channel.startswith(prefix) for channel in written):
                return self._bad("a choice was written to after it was finished")
            if self._mixes_calls(choice, index):
                return self._bad("two tool calls share one index")
            self._unfinished[index] = self._unfinished.get(index, True) and finish is None
            if len(self._unfinished) > MOST_CHOICES:
                return self._bad("more choices came than anybody can ask for")
            if finish is not None:
                closes += self._close(prefix)
            elif any(channel.startswith(prefix) for channel in written):
                closes += self._close(prefix, keep=written)
        self._keep(kept.of_choices(choices, "delta"))
        usage = _usage(members)
        if usage is not None:
            self.usage = usage = figures.larger(self.usage, usage)
        self.model = named(members.get("model")) or self.model
        self.service_tier = named(members.get("service_tier")) or self.service_tier
        drop = self._injected_usage and choices == [] and usage is not None and members.keys() <= _USAGE_CHUNK
        unasked = self._injected_usage and not drop and "usage" in members
        return EventView(
            fragments=fragments,
            closes=closes,
            mirrors=mirrors,
            usage=usage,
            finish=self._finished(expected=self._expected),
            model=named(members.get("model")),
            model_path=("model",) if "model" in members else None,
            drop=drop,
            removals=(("usage",),) if unasked and (choices == [] or members["usage"] is None) else (),
            document=document,
        )

    def _mixes_calls(self, choice: dict[str, Value], index: str) -> bool:
        """Whether a tool call calls itself something else than the one that has its index."""
        calls = replies.at(choice, ("delta", "tool_calls"))
        for call in calls if isinstance(calls, list) else ():
            number = call.get("index") if isinstance(call, dict) else None
            if not isinstance(call, dict) or type(number) is not int:
                continue
            known = self._calls.setdefault((index, number), {})
            for name, place in _NAMES_OF_CALLS:
                given = named(replies.at(call, place))
                if given is not None and known.setdefault(name, given) != given:
                    return True
        return False

    def _finished(self, *, expected: int) -> str | None:
        """The finish reason, once: when `expected` choices and all that were seen have one."""
        if self.finish is not None or len(self._unfinished) < expected or any(self._unfinished.values()):
            return None
        self.finish = self._reason
        return self.finish

    def _done(self) -> EventView:
        if not self._unfinished or any(self._unfinished.values()):
            return self._fails(truncated("the stream ended before every choice was finished"))
        self.terminal = True
        return EventView(terminal=True, finish=self._finished(expected=0), closes=self._close())

    def _channel(self, path: Path, members: dict[str, Value]) -> str:
        """The choice, and where in it: `0/delta/content`, `0/delta/tool_calls/1/function/arguments`."""
        choices = members["choices"]
        assert isinstance(choices, list)
        at = path[1]
        choice = choices[at] if isinstance(at, int) else None
        if not isinstance(choice, dict):
            return "/".join(map(str, path))
        inner = path[2:]
        if inner[:2] == ("delta", "tool_calls") and len(inner) > 2:
            call = replies.at(choice, inner[:3])
            inner = (*inner[:2], _index(call, inner[2]), *inner[3:])
        return "/".join(map(str, (_index(choice, at), *inner)))


_NAMES_OF_CALLS: tuple[tuple[str, Path], ...] = (
    ("id", ("id",)),
    ("function", ("function", "name")),
    ("custom", ("custom", "name")),
)


def _index(thing: Value, position: str | int) -> str:
    """What a streamed thing calls itself, or its position."""
    index = thing.get("index") if isinstance(thing, dict) else None
    return str(index if type(index) is int else position)


CHAT = Dialect(surface=Surface.CHAT, prepare=prepare, read_reply=read_reply, open_stream=StreamReader, framing=EVENTS)
