"""Audio: text spoken (bytes out), and speech written down (bytes in)."""

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from securellm.core.document import Document, Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.messages import Kind, Leaf, Path, Role
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.forms import encode
from securellm.providers.dialects.machine import Machine, named
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, Piece, ReplyFacts, Run, StreamEvent
from securellm.providers.sse import EVENTS

_SOUND = ("audio/", "video/")
_STAMP = re.compile(r"(?:[0-9]{2,3}:)?[0-9]{2}:[0-9]{2}[.,][0-9]{3}")
_UNNAMED = "application/octet-stream"
_SUBTITLES = ("application/x-subrip", "application/srt")
_WRITTEN_OUT = ("text", "srt", "vtt")
"""The formats of a transcript that are no JSON."""

_TIMES: dict[str, Shape] = {"start": Mark.NUMERIC, "end": Mark.NUMERIC, "id": Mark.OPAQUE, "type": Mark.OPAQUE}
_SEGMENT = Members(
    {
        **_TIMES,
        "seek": Mark.NUMERIC,
        "text": Mark.TEXT,
        "speaker": Mark.TEXT,
        # The numbers of its tokens, which whoever has the vocabulary can read.
        "tokens": Mark.MIRROR,
        "temperature": Mark.NUMERIC,
        "avg_logprob": Mark.NUMERIC,
        "compression_ratio": Mark.NUMERIC,
        "no_speech_prob": Mark.NUMERIC,
    }
)
_USAGE = Members({"type": Mark.OPAQUE}, other=Mark.NUMERIC)
_WRITTEN: dict[str, Shape] = {
    "task": Mark.OPAQUE,
    "language": Mark.TEXT,
    "languages": Each(Members({"code": Mark.OPAQUE})),
    "duration": Mark.NUMERIC,
    "text": Mark.TEXT,
    "logprobs": Mark.MIRROR,
    "segments": Each(_SEGMENT),
    "words": Each(Members({**_TIMES, "word": Mark.TEXT})),
    "usage": _USAGE,
}
_TRANSCRIPT = Finder(Members(_WRITTEN))


def _usage(members: Mapping[str, Value]) -> Usage | None:
    """None for what is billed by the minute: seconds are no tokens."""
    usage = members.get("usage")
    if not isinstance(usage, dict):
        return None
    details = usage.get("input_token_details", usage.get("input_tokens_details"))
    return figures.inclusive(
        {**usage, "input_tokens_details": details}, prompt="input_tokens", completion="output_tokens"
    )


def read_transcript(document: Document) -> ReplyFacts:
    """What a transcript in JSON says."""
    said = replies.facts(document, _TRANSCRIPT, _read)
    if said.failure is not None:
        return said
    members = document.members()
    # A number that is spoken with a pause stands in two segments, one that is spelled in several words.
    texts = [_spread(("segments",), members.get("segments"), "text"), _spread(("words",), members.get("words"), "word")]
    runs = [run for run, _ in texts if run.pieces]
    alone = {piece.place for run in runs for piece in run.pieces}
    leaves = [leaf for leaf in said.leaves if leaf.path not in alone or leaf.kind is Kind.KEY]
    leaves += [leaf for run, text in texts for leaf in _leaf(run.path, text)]
    return msgspec.structs.replace(said, leaves=tuple(leaves), runs=tuple(runs))


def _spread(path: Path, rows: Value, name: str) -> tuple[Run, str]:
    """The strings called `name` in each of the rows at `path`, as the one text that is heard."""
    found = [
        ((*path, index, name), text)
        for index, row in enumerate(rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(text := row.get(name), str) and text
    ]
    return _joined(path, [(place, 0, text) for place, text in found])


def _joined(path: Path, found: Sequence[tuple[Path, int, str]]) -> tuple[Run, str]:
    """The texts (place, offset, text) with a space between each two, which no piece of the run is."""
    pieces: list[Piece] = []
    length = 0
    for place, at, text in found:
        pieces.append(Piece(place, length, length + len(text), at))
        length += len(text) + 1
    return Run(path, tuple(pieces)), " ".join(text for _, _, text in found)


def _leaf(path: Path, text: str) -> tuple[Leaf, ...]:
    return (Leaf(path, text, Role.ASSISTANT),) if text else ()


def _read(members: dict[str, Value]) -> replies.Said | None:
    text = members.get("text")
    if not isinstance(text, str):
        return None
    return replies.Said(text=text, finish="completed", usage=_usage(members))


def read_written(request: Document, body: bytes, content_type: str) -> ReplyFacts:
    """What a transcript says that is plain text, or subtitles: the lines between their times are one text to screen."""
    form = request.members().get("response_format")
    if form not in _WRITTEN_OUT or not content_type.startswith(("text/", _UNNAMED, *_SUBTITLES)):
        return ReplyFacts(
            failure=UpstreamFailure(Code.BAD_REPLY, "the provider answered with something else than a transcript")
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return ReplyFacts(failure=UpstreamFailure(Code.BAD_REPLY, "the transcript is not UTF-8"))
    run, spoken = _joined(
        (), [((), at, line) for at, line in (_lines(text) if form != "text" else [(0, text)]) if line]
    )
    return ReplyFacts(text=text, finish="completed", leaves=_leaf((), spoken), runs=(run,))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of subtitles that are read or heard, and where they begin: all but the times, and their numbers."""
    lines = text.splitlines(keepends=True)
    times = [_are_times(line) for line in lines]
    at = 0
    for index, line in enumerate(lines):
        number = line.strip().isdecimal() and len(line) < 9 and index + 1 < len(lines) and times[index + 1]
        if not times[index] and not number:
            yield at, line.rstrip("\r\n")
        at += len(line)


def _are_times(line: str) -> bool:
    stamps = line.strip().split(" --> ")
    return len(stamps) == 2 and all(map(_STAMP.fullmatch, stamps))


def read_spoken(request: Document, body: bytes, content_type: str) -> ReplyFacts:  # noqa: ARG001 - of other dialects
    """Sound: it tells no figures of what it cost."""
    if not content_type.startswith((*_SOUND, _UNNAMED)):
        return ReplyFacts(
            failure=UpstreamFailure(Code.BAD_REPLY, "the provider answered with something else than sound")
        )
    if not body:
        return ReplyFacts(failure=UpstreamFailure(Code.BAD_REPLY, "the provider answered with no sound"))
    return ReplyFacts(finish="completed")


def _no_object(document: Document) -> ReplyFacts:
    root = document.root
    said = told(root["error"]) if isinstance(root, dict) and root.get("error") else None
    return ReplyFacts(failure=said or UpstreamFailure(Code.BAD_REPLY, "the provider answered with JSON, not sound"))


class _Reader(Machine):
    """The state machine of a stream that its `last` event ends."""

    last: str

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:  # noqa: ARG002 - of other dialects
        super().__init__()

    def _event(self, document: Document, members: dict[str, Value], event: StreamEvent) -> EventView:
        kind = named(members.get("type")) or event.event or ""
        if kind == "error" or members.get("error"):
            return self._fails(told(members.get("error") or members))
        fragments, mirrors = self._texts(document, members)
        usage = self._consumed(members)
        if usage is not None:
            self.usage = usage
        closes: tuple[str, ...] = ()
        if kind == self.last:
            self.finish, self.terminal = "completed", True
            closes = self._close()
        return EventView(
            fragments=fragments,
            closes=closes,
            mirrors=mirrors,
            usage=usage,
            finish=self.finish,
            terminal=self.terminal,
            document=document,
        )

    def _consumed(self, members: dict[str, Value]) -> Usage | None:
        return _usage(members)

    def _channel(self, path: Path, members: dict[str, Value]) -> str:  # noqa: ARG002 - one text, whatever comes between
        return "/".join(map(str, path))


class SpeechReader(_Reader):
    """The state machine of `speech.audio.*` events."""

    finder = Finder(Members({"type": Mark.OPAQUE, "audio": Mark.ENCODED, "usage": _USAGE}))
    last = "speech.audio.done"

    def _consumed(self, members: dict[str, Value]) -> Usage | None:
        """All that comes out is sound, whether or not the provider says so again."""
        usage = _usage(members)
        if usage is None:
            return None
        return msgspec.structs.replace(usage, output=0, audio_output=usage.output + usage.audio_output)


class TranscriptReader(_Reader):
    """The state machine of `transcript.text.*` events."""

    finder = Finder(
        Members({**_WRITTEN, **_TIMES, "delta": Mark.PIECE, "speaker": Mark.TEXT, "segment_id": Mark.OPAQUE})
    )
    last = "transcript.text.done"


SPEECH = Dialect(
    surface=Surface.SPEECH,
    prepare=requests.name_and_cap,
    read_reply=_no_object,
    open_stream=SpeechReader,
    framing=EVENTS,
    read_media=read_spoken,
)
TRANSCRIPTIONS = Dialect(
    surface=Surface.TRANSCRIPTIONS,
    prepare=requests.name_and_cap,
    read_reply=read_transcript,
    open_stream=TranscriptReader,
    framing=EVENTS,
    encode=encode,
    read_media=read_written,
)
AUDIO_TRANSLATIONS = Dialect(
    surface=Surface.AUDIO_TRANSLATIONS,
    prepare=requests.name_and_cap,
    read_reply=read_transcript,
    open_stream=None,
    encode=encode,
    read_media=read_written,
)
