"""Images, audio and moderations: what is told of them, whole or in events, and what is no answer at all."""

import base64
import json
import typing
from typing import Any

import openai.types
import openai.types.audio
import openai.types.image_edit_stream_event
import openai.types.image_gen_stream_event
import pydantic
import pytest
from openai.types.audio.transcription_stream_event import TranscriptionStreamEvent
from tests.unit.providers.goldens import REPLIES, STREAMS, events_of, expected_of, surface_of

from securellm.core.document import Document, Patch
from securellm.core.errors import Code
from securellm.core.messages import Path, Replacement
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.finops import PICTURE
from securellm.gateway.lossless import mended, redact
from securellm.providers import DIALECTS, EventView, ReplyFacts, StreamEvent, StreamReader
from securellm.providers.dialects import images

MEDIA = {
    Surface.MODERATIONS,
    Surface.IMAGES,
    Surface.IMAGE_EDITS,
    Surface.SPEECH,
    Surface.TRANSCRIPTIONS,
    Surface.AUDIO_TRANSLATIONS,
}
SPOKEN = base64.b64encode(bytes(range(48))).decode()
CPF = "529.982.247-25"

WHOLE: dict[str, type[pydantic.BaseModel]] = {
    "openai.images.whole": openai.types.ImagesResponse,
    "openai.images.linked": openai.types.ImagesResponse,
    "openai.images.svg": openai.types.ImagesResponse,
    "openai.transcriptions.whole": openai.types.audio.Transcription,
    "openai.transcriptions.verbose": openai.types.audio.TranscriptionVerbose,
    "openai.transcriptions.diarized_whole": openai.types.audio.TranscriptionDiarized,
    "openai.audio_translations.whole": openai.types.audio.Translation,
}
EVENTS: dict[Surface, Any] = {
    Surface.IMAGES: openai.types.image_gen_stream_event.ImageGenStreamEvent,
    Surface.IMAGE_EDITS: openai.types.image_edit_stream_event.ImageEditStreamEvent,
    Surface.TRANSCRIPTIONS: TranscriptionStreamEvent,
}


def reply(surface: Surface, body: object) -> ReplyFacts:
    return DIALECTS[surface].read_reply(Document(json.dumps(body).encode()))


def golden(name: str) -> ReplyFacts:
    return DIALECTS[surface_of(name)].read_reply(Document(REPLIES[name].read_bytes()))


def media(surface: Surface, body: bytes, content_type: str, **asked: object) -> ReplyFacts:
    """What a reply says that is not JSON."""
    read = DIALECTS[surface].read_media
    assert read is not None
    return read(Document(json.dumps(asked).encode()), body, content_type)


def failed(facts: ReplyFacts | EventView) -> Code:
    assert facts.failure is not None
    return facts.failure.code


def reader(surface: Surface, *, choices: int = 1) -> StreamReader:
    open_stream = DIALECTS[surface].open_stream
    assert open_stream is not None
    return open_stream(choices=choices)


def event(name: str | None = None, **members: object) -> StreamEvent:
    return StreamEvent(raw=b"", data=json.dumps(members).encode(), event=name)


def drawn(kind: str = "image_generation.completed", **members: object) -> StreamEvent:
    return event(kind, type=kind, b64_json=SPOKEN, **members)


@pytest.mark.parametrize("name", WHOLE)
def test_the_golden_replies_are_what_the_official_sdk_reads(name: str) -> None:
    WHOLE[name].model_validate(json.loads(REPLIES[name].read_bytes()))


@pytest.mark.parametrize("name", [name for name in STREAMS if surface_of(name) in EVENTS])
def test_the_golden_streams_are_what_the_official_sdk_reads(name: str) -> None:
    union = typing.get_args(typing.get_args(EVENTS[surface_of(name)])[0])
    known = {typing.get_args(each.model_fields["type"].annotation)[0]: each for each in union}
    for each in events_of(name):
        body = json.loads(each.data)
        known[body["type"]].model_validate(body)


def test_every_surface_of_media_has_a_golden() -> None:
    assert {surface_of(name) for name in (*STREAMS, *REPLIES)} >= MEDIA
    assert {surface_of(name) for name in STREAMS} >= {surface for surface in MEDIA if DIALECTS[surface].open_stream}


def test_pictures_are_counted_under_the_name_that_prices_know() -> None:
    assert images.PICTURE == PICTURE


@pytest.mark.requirement("PR-3")
def test_a_picture_that_another_model_helped_to_draw_has_no_usage() -> None:
    assert expected_of("openai.images.svg").usage is None
    machine = reader(Surface.IMAGES)
    machine.read(drawn(usage={"input_tokens": 1, "output_tokens": 2}, svg_usage={"model": "another"}))
    assert (machine.terminal, machine.usage) == (True, None)


@pytest.mark.requirement("GD-6")
def test_what_is_no_base64_is_text() -> None:
    body = {"data": [{"b64_json": f"{CPF} {'A' * 40}"}, {"b64_json": "QUJD"}, {"b64_json": {"x": CPF}}]}
    found = [leaf.text for leaf in reply(Surface.IMAGES, body).leaves]
    assert found == [f"{CPF} {'A' * 40}", "QUJD", "x", CPF]
    [fragment] = reader(Surface.SPEECH).read(event(type="speech.audio.delta", audio=f"{CPF} {'A' * 40}")).fragments
    assert fragment.text.startswith(CPF)
    assert reader(Surface.SPEECH).read(event(type="speech.audio.delta", audio=SPOKEN)).fragments == ()


@pytest.mark.requirement("GW-8")
def test_a_stream_of_pictures_ends_with_the_last_one() -> None:
    machine = reader(Surface.IMAGES, choices=3)
    usage = {"input_tokens": 10, "output_tokens": 100, "input_tokens_details": {"text_tokens": 4, "image_tokens": 6}}
    views = [machine.read(drawn(usage=usage)) for _ in range(3)]
    assert [(view.terminal, view.finish) for view in views] == [(False, None), (False, None), (True, "completed")]
    assert machine.usage == Usage(input=12, image_input=18, output=300)
    assert machine.server_tool_uses == ((PICTURE, 3),)
    assert failed(machine.read(drawn())) is Code.BAD_REPLY
    short = reader(Surface.IMAGES, choices=3)
    short.read(drawn())
    end = short.eof()
    assert end is not None
    assert end.code is Code.TRUNCATED


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("surface", [Surface.IMAGES, Surface.IMAGE_EDITS, Surface.SPEECH, Surface.TRANSCRIPTIONS])
def test_an_error_ends_a_stream_and_done_alone_does_not(surface: Surface) -> None:
    error = {"type": "server_error", "code": "moderation_blocked", "message": "x"}
    for said in (event("error", type="error", error=error), event(error=error), event("error", **error)):
        assert failed(reader(surface).read(said)) is Code.CONTENT_FILTERED
    assert failed(reader(surface).read(StreamEvent(raw=b"", data=b"[DONE]"))) is Code.TRUNCATED
    assert failed(reader(surface).read(StreamEvent(raw=b"", data=b"{not json"))) is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
def test_a_stream_is_ended_by_its_own_last_event_only() -> None:
    for surface, kind in (
        (Surface.SPEECH, "transcript.text.done"),
        (Surface.TRANSCRIPTIONS, "speech.audio.done"),
        (Surface.IMAGES, "image_generation.partial_image"),
    ):
        machine = reader(surface)
        view = machine.read(event(type=kind))
        assert (view.failure, view.terminal, machine.eof() is None) == (None, False, False)


@pytest.mark.requirement("PR-3")
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}, Usage(input=3, audio_output=9)),
        (
            {"input_tokens": 3, "output_tokens": 9, "output_tokens_details": {"audio_tokens": 8}},
            Usage(input=3, audio_output=9),
        ),
        ({"input_tokens": 3}, None),
        ({"type": "duration", "seconds": 9}, None),
        (None, None),
    ],
)
def test_what_speech_brings_forth_is_sound(usage: object, expected: Usage | None) -> None:
    machine = reader(Surface.SPEECH)
    machine.read(event(type="speech.audio.done", usage=usage))
    assert machine.terminal
    assert machine.usage == expected


@pytest.mark.requirement("PR-3", "FN-1")
def test_seconds_are_no_tokens_and_never_nothing() -> None:
    for usage in ({"type": "duration", "seconds": 9}, None, {"input_tokens": True, "output_tokens": 1}):
        assert reply(Surface.TRANSCRIPTIONS, {"text": "x", "usage": usage}).usage is None


def places(facts: ReplyFacts, path: Path) -> list[tuple[Path, str]]:
    """The strings that the text at `path` is spread over, as its own pieces have them."""
    [text] = [leaf.text for leaf in facts.leaves if leaf.path == path]
    [run] = [run for run in facts.runs if run.path == path]
    return [(piece.place, text[piece.start : piece.end]) for piece in run.pieces]


@pytest.mark.requirement("GD-6")
def test_segments_and_words_are_screened_as_the_text_that_is_heard() -> None:
    verbose = golden("openai.transcriptions.verbose")
    assert places(verbose, ("segments",)) == [
        (("segments", 0, "text"), " O CPF é 111.444."),
        (("segments", 1, "text"), "777-35."),
    ]
    assert [text for _, text in places(verbose, ("words",))] == ["O", "CPF", "é", "111", "444", "777", "35"]
    assert [mirror.path for mirror in verbose.mirrors] == [("segments", 0, "tokens"), ("segments", 1, "tokens")]
    empty = [{"word": "", "text": ""}]
    nested = [{"word": [CPF]}, {"text": {}}]
    for name in ("words", "segments"):
        for rows in (None, [], "x", {"word": CPF}, [CPF], 7, empty, nested):
            said = reply(Surface.TRANSCRIPTIONS, {"text": "x", name: rows})
            assert said.failure is None
            assert said.runs == ()
            assert (CPF in str(rows)) == any(CPF in leaf.text for leaf in said.leaves)


@pytest.mark.requirement("GD-6")
def test_a_finding_is_replaced_once_in_all_the_places_it_is_spread_over() -> None:
    words = [{"word": word} for word in ("É", "529", "982", "247", "25", "sim")]
    document = Document(json.dumps({"text": "x", "words": words}).encode())
    facts = DIALECTS[Surface.TRANSCRIPTIONS].read_reply(document)
    index = [leaf.path for leaf in facts.leaves].index(("words",))
    patch = Patch(document)
    redact(patch, facts.leaves, [Replacement(index, 2, 16, "[CPF]")], facts.mirrors, facts.runs)
    assert [row["word"] for row in json.loads(patch.apply())["words"]] == ["É", "[CPF]", "", "", "", "sim"]


@pytest.mark.requirement("GD-6")
def test_of_subtitles_the_lines_between_the_times_are_one_text() -> None:
    body = (
        "WEBVTT\r\n\r\n1\r\n00:01.000 --> 00:02.000\r\né 529.982.\r\n\r\n"
        "00:00:02,000 --> 00:00:03,000\n247-25\n7\n\n529 --> 982\n3\n"
    )
    facts = media(Surface.TRANSCRIPTIONS, body.encode(), "text/vtt", response_format="vtt")
    [leaf] = facts.leaves
    assert leaf.text == "WEBVTT é 529.982. 247-25 7 529 --> 982 3"
    start = leaf.text.index("529")
    found = [Replacement(0, start, start + 15, "[CPF]")]
    assert mended(body.encode(), facts.leaves, found, facts.runs).decode() == (
        "WEBVTT\r\n\r\n1\r\n00:01.000 --> 00:02.000\r\né [CPF]\r\n\r\n"
        "00:00:02,000 --> 00:00:03,000\n\n7\n\n529 --> 982\n3\n"
    )


@pytest.mark.requirement("GD-6")
def test_a_transcript_that_is_no_json_is_one_text() -> None:
    for form, kind in (("text", "text/plain"), ("srt", "application/x-subrip"), ("vtt", "text/vtt")):
        facts = media(Surface.TRANSCRIPTIONS, f"é {CPF}\n".encode(), kind, response_format=form)
        assert (facts.failure, facts.finish, facts.usage) == (None, "completed", None)
        assert [leaf.text.strip() for leaf in facts.leaves] == [f"é {CPF}"]
    silent = media(Surface.AUDIO_TRANSLATIONS, b"", "text/plain", response_format="srt")
    assert (silent.failure, silent.leaves) == (None, ())


@pytest.mark.parametrize(
    ("body", "kind", "asked"),
    [
        (b"\xff\xfe", "text/plain", {"response_format": "text"}),
        (b"RIFF", "audio/wav", {"response_format": "text"}),
        (b"<e/>", "application/xml", {"response_format": "srt"}),
        (b"text", "text/plain", {"response_format": "json"}),
        (b"text", "text/plain", {}),
    ],
)
def test_a_transcript_of_another_kind_is_a_bad_one(body: bytes, kind: str, asked: dict[str, object]) -> None:
    for surface in (Surface.TRANSCRIPTIONS, Surface.AUDIO_TRANSLATIONS):
        assert failed(media(surface, body, kind, **asked)) is Code.BAD_REPLY


def test_sound_is_sound_by_its_type() -> None:
    for kind in ("audio/mpeg", "audio/pcm", "video/webm", "application/octet-stream"):
        facts = media(Surface.SPEECH, b"\xff\xf3", kind)
        assert (facts.failure, facts.leaves, facts.usage, facts.finish) == (None, (), None, "completed")
    for body, kind in ((b"", "audio/mpeg"), (b"x", "text/plain"), (b"{}", "application/problem+json"), (b"x", "")):
        assert failed(media(Surface.SPEECH, body, kind)) is Code.BAD_REPLY


@pytest.mark.requirement("PR-4")
def test_json_where_sound_was_due_is_its_error_or_a_bad_reply() -> None:
    assert failed(reply(Surface.SPEECH, {"error": {"code": "rate_limit_exceeded"}})) is Code.PROVIDER_RATE_LIMITED
    assert failed(reply(Surface.SPEECH, {"audio": SPOKEN})) is Code.BAD_REPLY
    assert failed(reply(Surface.SPEECH, [])) is Code.BAD_REPLY


@pytest.mark.parametrize("surface", [Surface.IMAGES, Surface.IMAGE_EDITS, Surface.TRANSCRIPTIONS, Surface.MODERATIONS])
@pytest.mark.parametrize("body", [[], 7, {}, {"data": {}, "text": 1, "results": "x"}])
def test_what_is_no_reply_is_a_bad_one(surface: Surface, body: object) -> None:
    assert failed(reply(surface, body)) is Code.BAD_REPLY


@pytest.mark.requirement("PR-3")
def test_a_moderation_costs_what_its_provider_says_and_nothing_if_it_says_nothing() -> None:
    said = {"results": [{"flagged": False}]}
    assert reply(Surface.MODERATIONS, said).usage == Usage()
    assert reply(Surface.MODERATIONS, {**said, "usage": {"prompt_tokens": 7, "total_tokens": 7}}).usage == Usage(
        input=7
    )
    assert reply(Surface.MODERATIONS, {**said, "usage": {"seconds": 7}}).usage is None
    assert reply(Surface.MODERATIONS, {**said, "usage": "x"}).usage is None


@pytest.mark.requirement("GD-6")
def test_a_moderations_unknown_members_are_screened() -> None:
    said = {"results": [{"flagged": True, "why": CPF, "categories": {f"a {CPF}": True}, "category_scores": {"a b": 1}}]}
    assert {leaf.text for leaf in reply(Surface.MODERATIONS, said).leaves} == {"why", CPF, f"a {CPF}", "a b"}
