"""OpenAI images, audio and moderations, as a client asks."""

from collections.abc import Iterator, Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Attachment
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect

_FILE = frozenset({"filename", "content_type", "bytes", "sha256"})
_PICTURES = frozenset({"image", "image[]", "mask", "markup"})
_DRAWING = frozenset(
    {
        "model", "prompt", "n", "size", "quality", "background", "moderation", "output_format", "stream", "style",
        "output_compression", "partial_images", "response_format", "user", "safety_identifier", "input_fidelity",
        "complexity", "frame_count", "frame_duration_ms", "prompt_rewriter",
    }
)  # fmt: skip
IMAGES = Shape(names=_DRAWING, ids=frozenset(), media=frozenset(), numbers=frozenset(), system=frozenset())
IMAGE_EDITS = Shape(
    names=_DRAWING | _PICTURES | _FILE,
    ids=frozenset(
        {("image", "sha256"), ("image[]", "*", "sha256"), ("mask", "sha256"), ("markup", "sha256")},
    ),
    media=frozenset(),
    numbers=frozenset({"bytes"}),
    system=frozenset(),
)
SPEECH = Shape(
    names=frozenset({"model", "input", "voice", "instructions", "response_format", "speed", "stream_format", "id"}),
    ids=frozenset({("voice", "id")}),
    media=frozenset(),
    numbers=frozenset(),
    system=frozenset({"instructions"}),
)
TRANSCRIPTIONS = Shape(
    names=_FILE
    | {
        "file", "model", "prompt", "language", "response_format", "temperature", "stream", "include[]",
        "timestamp_granularities[]", "chunking_strategy", "keywords[]", "languages[]", "known_speaker_names[]",
        "known_speaker_references[]",
    },
    ids=frozenset({("file", "sha256")}),
    media=frozenset({("known_speaker_references[]", "*")}),
    numbers=frozenset({"bytes"}),
    system=frozenset(),
)  # fmt: skip
MODERATIONS = Shape(
    names=frozenset({"model", "input", "type", "text", "image_url", "url"}),
    ids=frozenset(),
    media=frozenset({("input", "*", "image_url", "url")}),
    numbers=frozenset(),
    system=frozenset(),
)

_PICTURE = 16_384
"""Output tokens of one picture, its drafts included: more than any size costs up to the quality `high`."""
_DEARER = ("xhigh", "max")
"""Qualities for whose tokens no bound is documented."""
_SEVERAL = ("svg", "gif")
"""Formats that are drawn in several pictures, or by another model too."""
_ASIDE = 64
"""Tokens a provider may add around a prompt."""


def extract_images(
    document: Document, headers: Mapping[str, str], attachments: tuple[Attachment, ...] | None = None
) -> Request:
    """The facts of a drawing (POST /v1/images/generations; as a form …/edits).

    Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD).
    """
    members = document.members()
    facts.text(members, "prompt")
    form = attachments is not None
    files = attachments or ()
    _refuse_files(files, _PICTURES)
    if form and not any(file.field.startswith("image") for file in files):
        raise Refusal(Code.INVALID_REQUEST, "image must be a file", param="image")
    if any(name == "svg" or name.startswith("svg[") for name in members):
        raise Refusal(Code.UNSUPPORTED_FIELD, "svg names another model, which no policy has allowed", param="svg")
    count = (_number(members, "n") if form else facts.count(members, "n", largest=16)) or 1
    unbounded = {"output_format": _SEVERAL, "quality": _DEARER}
    texts = collect(members, IMAGE_EDITS if form else IMAGES)
    return Request(
        document=document,
        attachments=files,
        model=facts.text(members, "model", default=""),
        stream=_flag(members, "stream") if form else facts.flag(members, "stream"),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=1,
        # Several pictures are billed as if each were asked for alone.
        images=count * len(files),
        histories=tuple(dict.fromkeys(_kept(members))),
        estimate=Estimate(
            input_tokens=count * (texts.bytes + _ASIDE),
            output_floor=_PICTURE,
            choices=count,
            pictures=count,
            features=tuple(name for name, values in unbounded.items() if members.get(name) in values),
            image_input=form,
            cache_writes=False,
        ),
        deterministic=False,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def _kept(members: facts.Members) -> Iterator[str]:
    """The names of files that the provider keeps. A form may spell a place inside: `images[0][file_id]`."""
    for name, value in members.items():
        if "file_id" in name:
            yield from facts.listed_names(value if isinstance(value, list) else [value])
        for part in facts.parts(value if isinstance(value, list) else [value]):
            yield from facts.names(part, "file_id")


def extract_speech(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a reading aloud (POST /v1/audio/speech). Raises Refusal(INVALID_REQUEST)."""
    members = document.members()
    facts.text(members, "input")
    texts = collect(members, SPEECH)
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.text(members, "stream_format", default="audio") == "sse",
        wants_usage=True,
        leaves=texts.leaves,
        message_count=1,
        images=0,
        estimate=Estimate(input_tokens=texts.bytes + _ASIDE, output_floor=0, audio_output=True, cache_writes=False),
        deterministic=False,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def extract_transcription(
    document: Document, headers: Mapping[str, str], attachments: tuple[Attachment, ...]
) -> Request:
    """The facts of a writing down (POST /v1/audio/transcriptions).

    Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD).
    """
    return _heard(document, headers, attachments, stream=_flag(document.members(), "stream"))


def extract_translation(document: Document, headers: Mapping[str, str], attachments: tuple[Attachment, ...]) -> Request:
    """The facts of a writing down in English (POST /v1/audio/translations), which is never streamed.

    Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD).
    """
    return _heard(document, headers, attachments, stream=False)


def _heard(
    document: Document, headers: Mapping[str, str], attachments: tuple[Attachment, ...], *, stream: bool
) -> Request:
    members = document.members()
    _refuse_files(attachments, frozenset({"file"}))
    if not attachments:
        raise Refusal(Code.INVALID_REQUEST, "file must be a file", param="file")
    texts = collect(members, TRANSCRIPTIONS)
    return Request(
        document=document,
        attachments=attachments,
        model=facts.text(members, "model", default=""),
        stream=stream,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=1,
        images=0,
        estimate=Estimate(
            input_tokens=texts.bytes + _ASIDE,
            output_floor=0,
            whole_context=True,
            audio_input=True,
            cache_writes=False,
        ),
        deterministic=False,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def extract_moderation(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a moderation (POST /v1/moderations). Raises Refusal(INVALID_REQUEST)."""
    members = document.members()
    given = members.get("input")
    if not isinstance(given, str | list) or not given:
        raise Refusal(Code.INVALID_REQUEST, "input must be a string or a non-empty list", param="input")
    texts = collect(members, MODERATIONS)
    parts = [part for part in given if isinstance(part, dict)] if isinstance(given, list) else []
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=False,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(given) if isinstance(given, list) else 1,
        images=sum(part.get("type") == "image_url" for part in parts),
        estimate=Estimate(input_tokens=texts.bytes, output_cap=0, cache_writes=False),
        deterministic=True,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def _refuse_files(attachments: tuple[Attachment, ...], fields: frozenset[str]) -> None:
    """A file may stand where it is looked at or listened to. Elsewhere it would be a text that nobody has screened."""
    for file in attachments:
        if file.field not in fields:
            raise Refusal(Code.UNSUPPORTED_FIELD, "this field takes no file", param=file.field[:64])


def _number(members: facts.Members, name: str) -> int | None:
    """A whole number that a form's field spells."""
    spelled = facts.text(members, name, default="")
    if not spelled:
        return None
    if not (spelled.isascii() and spelled.isdigit() and 1 <= len(spelled) <= 2 and 1 <= int(spelled) <= 16):
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be a whole number from 1 to 16", param=name)
    return int(spelled)


def _flag(members: facts.Members, name: str) -> bool:
    """A truth value that a form's field spells."""
    spelled = facts.text(members, name, default="false").lower()
    if spelled not in ("true", "false"):
        raise Refusal(Code.INVALID_REQUEST, f"{name} must be true or false", param=name)
    return spelled == "true"
