"""Generate content: whole chunks of candidates, usage on any of them, and no mark at the end."""

from securellm.core.document import Document, Patch, Value
from securellm.core.errors import Refusal, UpstreamFailure
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.providers.dialects import figures, replies, requests
from securellm.providers.dialects.machine import MOST_CHOICES, Machine, named, truncated
from securellm.providers.dialects.shape import Each, Finder, Mark, Members, Shape
from securellm.providers.failures import told
from securellm.providers.model import Dialect, EventView, ReplyFacts, StreamEvent
from securellm.providers.sse import EVENTS

_NO_REASON = frozenset({"FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED"})
_BLOB = Members({"mimeType": Mark.OPAQUE, "data": Mark.ENCODED, "displayName": Mark.TEXT})
_RATINGS = Each(
    Members(
        {
            "category": Mark.OPAQUE,
            "probability": Mark.OPAQUE,
            "severity": Mark.OPAQUE,
            "overwrittenThreshold": Mark.OPAQUE,
        }
    )
)
_MODAL = Each(Members({"modality": Mark.OPAQUE, "tokenCount": Mark.NUMERIC}))
_USAGE = Members(
    {
        "trafficType": Mark.OPAQUE,
        "serviceTier": Mark.OPAQUE,
        "promptTokensDetails": _MODAL,
        "cacheTokensDetails": _MODAL,
        "candidatesTokensDetails": _MODAL,
        "toolUsePromptTokensDetails": _MODAL,
    },
    other=Mark.NUMERIC,
)
_PLACE = {"uri": Mark.TEXT, "title": Mark.TEXT, "text": Mark.TEXT}
_GROUNDING = Members(
    {
        "webSearchQueries": Mark.TEXT,
        "imageSearchQueries": Mark.TEXT,
        "retrievalQueries": Mark.TEXT,
        "searchEntryPoint": Members({"renderedContent": Mark.TEXT, "sdkBlob": Mark.ENCODED}),
        "googleMapsWidgetContextToken": Mark.ENCODED,
        "groundingChunks": Each(
            Members(
                {
                    "web": Members({**_PLACE, "domain": Mark.TEXT}),
                    "image": Members(
                        {"sourceUri": Mark.TEXT, "imageUri": Mark.TEXT, "title": Mark.TEXT, "domain": Mark.TEXT}
                    ),
                    "maps": Members({**_PLACE, "placeId": Mark.OPAQUE, "placeAnswerSources": Mark.TEXT}),
                    "retrievedContext": Members(
                        {**_PLACE, "documentName": Mark.OPAQUE, "fileSearchStore": Mark.OPAQUE}
                    ),
                }
            )
        ),
        "groundingSupports": Each(
            Members(
                {
                    "segment": Members(
                        {
                            "text": Mark.TEXT,
                            "startIndex": Mark.NUMERIC,
                            "endIndex": Mark.NUMERIC,
                            "partIndex": Mark.NUMERIC,
                        }
                    ),
                    "groundingChunkIndices": Mark.NUMERIC,
                    "confidenceScores": Mark.NUMERIC,
                    "renderedParts": Mark.NUMERIC,
                }
            )
        ),
        "retrievalMetadata": Mark.NUMERIC,
    }
)
_CITATION = Each(
    Members(
        {
            "startIndex": Mark.NUMERIC,
            "endIndex": Mark.NUMERIC,
            "uri": Mark.TEXT,
            "title": Mark.TEXT,
            "license": Mark.TEXT,
            "publicationDate": Mark.NUMERIC,
        }
    )
)


def _part(text: Mark) -> Shape:
    return Members(
        {
            "text": text,
            "thought": Mark.OPAQUE,
            "thoughtSignature": Mark.ENCODED,
            "inlineData": _BLOB,
            "fileData": Members({"mimeType": Mark.OPAQUE, "fileUri": Mark.TEXT, "displayName": Mark.TEXT}),
            "functionCall": Members(
                {
                    "id": Mark.OPAQUE,
                    "name": Mark.TEXT,
                    "args": Members({}),
                    "partialArgs": Each(
                        Members({"jsonPath": Mark.TEXT, "stringValue": text, "nullValue": Mark.OPAQUE})
                    ),
                    "willContinue": Mark.OPAQUE,
                }
            ),
            "toolCall": Members({"id": Mark.OPAQUE, "toolType": Mark.OPAQUE, "args": Members({})}),
            "toolResponse": Members({"id": Mark.OPAQUE, "toolType": Mark.OPAQUE, "response": Members({})}),
            "executableCode": Members({"id": Mark.OPAQUE, "language": Mark.OPAQUE, "code": Mark.TEXT}),
            "codeExecutionResult": Members({"id": Mark.OPAQUE, "outcome": Mark.OPAQUE, "output": Mark.TEXT}),
            "videoMetadata": Mark.OPAQUE,
            "mediaResolution": Mark.OPAQUE,
        },
        other=text,
    )


def _shape(text: Mark) -> Shape:
    candidate: dict[str, Shape] = {
        "index": Mark.NUMERIC,
        "content": Members({"role": Mark.OPAQUE, "parts": Each(_part(text))}),
        "finishReason": Mark.OPAQUE,
        "finishMessage": Mark.TEXT,
        "safetyRatings": _RATINGS,
        "citationMetadata": Members({"citationSources": _CITATION, "citations": _CITATION}),
        "groundingMetadata": _GROUNDING,
        "groundingAttributions": Mark.TEXT,
        "urlContextMetadata": Members(
            {"urlMetadata": Each(Members({"retrievedUrl": Mark.TEXT, "urlRetrievalStatus": Mark.OPAQUE}))}
        ),
        "tokenCount": Mark.NUMERIC,
        "avgLogprobs": Mark.NUMERIC,
        "logprobsResult": Mark.MIRROR,
        "continuationToken": Mark.ENCODED,
    }
    return Members(
        {
            "candidates": Each(Members(candidate)),
            "promptFeedback": Members(
                {"blockReason": Mark.OPAQUE, "blockReasonMessage": Mark.TEXT, "safetyRatings": _RATINGS}
            ),
            "usageMetadata": _USAGE,
            "modelVersion": Mark.OPAQUE,
            "responseId": Mark.OPAQUE,
            "createTime": Mark.OPAQUE,
            "modelStatus": Members({"modelStage": Mark.OPAQUE, "retirementTime": Mark.OPAQUE, "message": Mark.TEXT}),
            "error": Mark.TEXT,
        }
    )


_REPLY = Finder(_shape(Mark.TEXT))


def prepare(
    patch: Patch,
    document: Document,
    *,
    upstream_model: str | None,
    output_cap: int | None,
    cap_fields: tuple[str, ...],
    inject_usage: bool,  # noqa: ARG001 - usage always comes
) -> tuple[str, ...]:
    """Make the edits an upstream needs; their names. The path names the model, so the body need not."""
    edits = requests.name_where_named(patch, document, upstream_model, places=[("model",)], prefix="models/")
    return edits + requests.cap_output(patch, document, output_cap, cap_fields)


def read_reply(document: Document) -> ReplyFacts:
    """What a whole reply says."""
    return replies.facts(document, _REPLY, _read, model="modelVersion", identity="responseId")


def _read(members: dict[str, Value]) -> replies.Said | None:
    if members.get("error") or not members.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
        return None
    candidates = _objects(members.get("candidates"))
    reasons = [reason for candidate in candidates if (reason := _reason(candidate.get("finishReason")))]
    usage = members.get("usageMetadata")
    counted = usage if isinstance(usage, dict) else {}
    return replies.Said(
        text="\n".join(map(_said, candidates)),
        finish=reasons[0] if reasons else _blocked(members),
        usage=figures.by_modality(counted),
        server_tool_uses=_server_tools(candidates),
        service_tier=named(counted.get("serviceTier")),
    )


def _objects(value: Value) -> list[dict[str, Value]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _said(candidate: dict[str, Value]) -> str:
    parts = _objects(replies.at(candidate, ("content", "parts")))
    texts = (part.get("text") for part in parts if part.get("thought") is not True)
    return "".join(text for text in texts if isinstance(text, str))


def _reason(value: Value) -> str | None:
    reason = named(value)
    return None if reason in _NO_REASON else reason


def _blocked(members: dict[str, Value]) -> str | None:
    """Why the prompt was blocked: then there is no candidate."""
    return _reason(replies.at(members, ("promptFeedback", "blockReason")))


def _server_tools(candidates: list[dict[str, Value]]) -> tuple[tuple[str, int], ...]:
    """How often the provider searched for the answer, as far as its sources tell; each search is billed."""
    searches = maps = 0
    for candidate in candidates:
        grounding = candidate.get("groundingMetadata")
        if not isinstance(grounding, dict):
            continue
        queries = [grounding.get(name) for name in ("webSearchQueries", "imageSearchQueries")]
        found = sum(len(each) for each in queries if isinstance(each, list))
        sources = _objects(grounding.get("groundingChunks"))
        searched = "searchEntryPoint" in grounding or any("web" in source or "image" in source for source in sources)
        searches += max(found, int(searched))
        maps += any("maps" in source for source in sources)
    return tuple((name, times) for name, times in (("google_search", searches), ("google_maps", maps)) if times)


class StreamReader(Machine):
    """The state machine of a stream of chunks.

    The answer is finished when `choices` candidates (and all that were seen) have a finish reason, or when the
    prompt is blocked. Chunks may follow; where the stream ends after the finish, it is whole.
    """

    finder = Finder(_shape(Mark.PIECE))

    def __init__(self, *, injected_usage: bool = False, choices: int = 1) -> None:  # noqa: ARG002 - of other dialects
        super().__init__()
        self._expected = choices
        self._figures: dict[str, Value] = {}
        self._unfinished: dict[str, bool] = {}
        """Of each candidate seen, whether it lacks a finish reason."""
        self._reason: str | None = None
        self._uses: dict[str, int] = {}

    def read(self, event: StreamEvent) -> EventView:
        """As every machine; an error that stands in the stream without the form of an event is one too."""
        error = _bare_error(event)
        return super().read(event) if error is None else self._fails(told(error))

    def eof(self) -> UpstreamFailure | None:
        """Nothing where every candidate that was seen is finished, TRUNCATED otherwise."""
        if self._broken:
            return truncated("the stream ended after a failure")
        if self.finish is None:
            self._finish(expected=1)
        return None if self.finish is not None else truncated("the stream ended before every candidate was finished")

    def _event(
        self,
        document: Document,
        members: dict[str, Value],
        event: StreamEvent,  # noqa: ARG002 - the signature of every machine
    ) -> EventView:
        if members.get("error"):
            return self._fails(told(members["error"]))
        fragments, mirrors = self._texts(document, members)
        written = frozenset(fragment.channel for fragment in fragments if fragment.channel)
        closes: tuple[str, ...] = ()
        candidates = members.get("candidates")
        for at, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
            if not isinstance(candidate, dict):
                continue
            index = _index(candidate, at)
            reason = _reason(candidate.get("finishReason"))
            self._reason = reason or self._reason
            self._unfinished[index] = self._unfinished.get(index, True) and reason is None
            if len(self._unfinished) > MOST_CHOICES:
                return self._bad("more candidates came than anybody can ask for")
            # A finish closes nothing: some models give one with every piece.
            if any(channel.startswith(f"{index}/") for channel in written):
                closes += self._close(f"{index}/", keep=written)
        usage = self._count(members.get("usageMetadata"))
        for name, times in _server_tools(_objects(candidates)):
            self._uses[name] = max(times, self._uses.get(name, 0))
        self.server_tool_uses = tuple(self._uses.items())
        model = named(members.get("modelVersion"))
        self.model = model or self.model
        return EventView(
            fragments=fragments,
            closes=closes,
            mirrors=mirrors,
            usage=self.usage if usage else None,
            finish=self._finish(expected=self._expected, blocked=_blocked(members)),
            model=model,
            model_path=("modelVersion",) if model is not None else None,
            document=document,
        )

    def _finish(self, *, expected: int, blocked: str | None = None) -> str | None:
        """The finish reason, once: when `expected` candidates and all that were seen have one."""
        if self.finish is not None:
            return None
        if blocked is not None:
            self.finish = blocked
        elif len(self._unfinished) >= expected and not any(self._unfinished.values()):
            self.finish = self._reason
        return self.finish

    def _count(self, reported: Value) -> bool:
        if not isinstance(reported, dict):
            return False
        self._figures = figures.later(self._figures, reported)
        self.usage = figures.by_modality(self._figures)
        self.service_tier = named(self._figures.get("serviceTier"))
        return True

    def _channel(self, path: Path, members: dict[str, Value]) -> str:
        """The candidate, and which of its texts: `0/text`, `0/thought/text`, `0/functionCall/$.city`."""
        candidate = replies.at(members, path[:2])
        inner = path[2:]
        if inner[:2] == ("content", "parts") and len(inner) > 3:
            part = inner[:3]
            thought = ("thought",) if replies.at(candidate, (*part, "thought")) is True else ()
            inner = (*thought, *inner[3:])
            if inner[:2] == ("functionCall", "partialArgs"):
                inner = ("functionCall", str(replies.at(candidate, (*part, *inner[:3], "jsonPath"))))
        return "/".join(map(str, (_index(candidate, path[1]), *inner)))


def _index(candidate: Value, position: str | int) -> str:
    """What a candidate calls itself, or its position."""
    index = candidate.get("index") if isinstance(candidate, dict) else None
    return str(index if type(index) is int else position)


def _bare_error(event: StreamEvent) -> Value:
    """The error of a JSON object that stands in the stream over several lines, none of them a field of an event."""
    if event.data or not event.notes.lstrip().startswith("{"):
        return None
    try:
        root = Document(event.notes.encode("utf-8", "replace")).root
    except Refusal:
        return None
    return root.get("error") if isinstance(root, dict) else None


GENERATE_CONTENT = Dialect(
    surface=Surface.GENERATE_CONTENT,
    prepare=prepare,
    read_reply=read_reply,
    open_stream=StreamReader,
    framing=EVENTS,
)
