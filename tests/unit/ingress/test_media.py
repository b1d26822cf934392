"""What images, audio and moderations ask, whether as JSON or as a form; and what they may not."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Attachment, Kind
from securellm.core.surfaces import Surface
from securellm.gateway.model import Request
from securellm.ingress import media
from securellm.ingress.forms import read_form
from securellm.ingress.routes import ROUTES

CPF = "529.982.247-25"
BOUNDARY = "a-boundary"
IMAGES = "/v1/images/generations"
EDITS = "/v1/images/edits"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
MODERATIONS = "/v1/moderations"

GOOD: dict[str, dict[str, Any]] = {
    IMAGES: {"prompt": "a cat"},
    SPEECH: {"input": "olá", "voice": "alloy"},
    MODERATIONS: {"input": "olá"},
}
PICTURE = ("image", "cat.png", "image/png", b"\x89PNG")
SOUND = ("file", "a.wav", "audio/wav", b"RIFF")
File = tuple[str, str, str, bytes]


def asked(path: str, members: Mapping[str, Any], **headers: str) -> Request:
    """The facts of a JSON body, as the route at `path` reads them."""
    route = ROUTES[path]
    return route.read(route.parse(json.dumps(members).encode(), headers, max_depth=64), headers, "")


def sent(path: str, fields: Mapping[str, str], *files: File) -> Request:
    """The facts of a form."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [
        f'name="{name}"; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n'.encode() + data
        for name, filename, kind, data in files
    ]
    opening = f"--{BOUNDARY}\r\nContent-Disposition: form-data; ".encode()
    body = b"".join(opening + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    route = ROUTES[path]
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return route.read(route.parse(body, headers, max_depth=64), headers, "")


def texts(request: Request) -> list[str]:
    return [leaf.text for leaf in request.leaves]


def refused(path: str, members: Mapping[str, Any], *files: File) -> tuple[Code, str | None]:
    with pytest.raises(Refusal) as caught:
        _ = sent(path, members, *files) if ROUTES[path].form else asked(path, members)
    return caught.value.code, caught.value.param


@pytest.mark.requirement("GW-12", "GD-6")
@pytest.mark.parametrize("path", GOOD)
def test_every_text_and_every_unknown_member_of_a_body_is_screened(path: str) -> None:
    request = asked(path, {**GOOD[path], "user": "u", "metadata": {CPF: [CPF, {"deep": 52998224725}]}})
    found = texts(request)
    assert found.count(CPF) == 2
    assert {"metadata", "deep", "52998224725", "u"} <= set(found)
    assert [leaf.kind for leaf in request.leaves if leaf.text == "52998224725"] == [Kind.NUMBER]
    assert not {"model", "prompt", "input", "voice", "n"} & set(found)


@pytest.mark.requirement("GD-6")
def test_the_fields_and_the_names_of_files_are_screened_but_not_their_digests() -> None:
    heard = sent(
        TRANSCRIPTIONS,
        {"model": "chat", "prompt": CPF, "language": "pt", "keywords[]": "ana", f"x {CPF}": "y"},
        ("file", f"{CPF}.wav", "audio/wav; x=1", b"RIFF"),
    )
    assert set(texts(heard)) == {"chat", CPF, "pt", "ana", f"x {CPF}", "y", f"{CPF}.wav", "audio/wav; x=1"}
    edited = sent(EDITS, {"prompt": CPF}, ("image[]", "a", "image/png", b"1"), ("mask", "m", "image/png", b"2"))
    assert texts(edited) == [CPF, "a", "image/png", "m", "image/png"]


@pytest.mark.requirement("GD-6")
def test_in_json_no_member_is_taken_for_a_file() -> None:
    found = texts(asked(IMAGES, {"prompt": "x", "image": {"filename": "f", "sha256": "5f2a", "bytes": 52998224725}}))
    assert {"f", "5f2a", "52998224725", "sha256"} <= set(found)


def test_sound_given_to_tell_speakers_apart_is_sound_and_their_names_are_text() -> None:
    data = "data:audio/wav;base64," + "A" * 80
    heard = sent(TRANSCRIPTIONS, {"known_speaker_references[]": data, "known_speaker_names[]": CPF}, SOUND)
    assert CPF in texts(heard)
    assert data not in texts(heard)
    told = sent(TRANSCRIPTIONS, {"known_speaker_references[]": f"data:audio/wav;base64,{CPF} {'A' * 80}"}, SOUND)
    assert any(CPF in text for text in texts(told))


def test_what_a_drawing_can_cost_at_most_grows_with_the_pictures() -> None:
    one, three = asked(IMAGES, {"prompt": "gato"}), asked(IMAGES, {"prompt": "gato", "n": 3, "stream": True})
    assert (one.estimate.choices, one.estimate.pictures, one.stream) == (1, 1, False)
    assert (three.estimate.choices, three.estimate.pictures, three.stream) == (3, 3, True)
    assert three.estimate.input_tokens == 3 * one.estimate.input_tokens
    assert one.estimate.output_cap is None
    assert (one.estimate.output_floor or 0) > 13_000
    edited = sent(EDITS, {"prompt": "gato", "n": "2", "stream": "True"}, PICTURE, ("mask", "m", "image/png", b"x"))
    assert (edited.images, edited.estimate.pictures, edited.estimate.image_input, edited.stream) == (4, 2, True, True)
    assert [file.field for file in edited.attachments] == ["image", "mask"]


@pytest.mark.requirement("FN-1")
@pytest.mark.parametrize("path", [IMAGES, EDITS])
def test_what_no_price_can_bound_is_named(path: str) -> None:
    def features(**members: str) -> tuple[str, ...]:
        fields = {"prompt": "gato", **members}
        return (asked(path, fields) if path == IMAGES else sent(path, fields, PICTURE)).estimate.features

    assert features() == features(quality="high", output_format="webp") == ()
    assert features(output_format="svg") == features(output_format="gif") == ("output_format",)
    assert features(quality="xhigh", output_format="gif") == ("output_format", "quality")


def test_a_member_of_any_type_is_never_a_defect() -> None:
    values: list[Any] = [[], {}, None, 1, True]
    for value in values:
        assert asked(IMAGES, {"prompt": "x", "quality": value, "output_format": value}).estimate.features == ()


def test_a_default_model_is_meant_where_none_is_named() -> None:
    for path, members in GOOD.items():
        assert asked(path, members).model == ""
        assert asked(path, {**members, "model": "chat"}).model == "chat"
    assert sent(TRANSCRIPTIONS, {}, SOUND).model == ""
    assert sent(TRANSCRIPTIONS, {"model": "chat"}, SOUND).model == "chat"


def test_speech_and_transcripts_are_streamed_when_they_say_so() -> None:
    assert asked(SPEECH, {**GOOD[SPEECH], "stream_format": "sse"}).stream
    assert not asked(SPEECH, {**GOOD[SPEECH], "stream_format": "audio"}).stream
    assert not asked(SPEECH, {**GOOD[SPEECH], "stream": True}).stream, "which speech does not know"
    assert sent(TRANSCRIPTIONS, {"stream": "true"}, SOUND).stream
    assert not sent(TRANSCRIPTIONS, {"stream": "False"}, SOUND).stream
    fields = Document(b'{"stream":"true","file":{"sha256":"a","bytes":1}}')
    file = Attachment(field="file", filename="a", content_type="audio/wav", data=b"x")
    assert not media.extract_translation(fields, {}, (file,)).stream, "a translation is never streamed"


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    ("path", "members", "param"),
    [
        (IMAGES, {}, "prompt"),
        (IMAGES, {"prompt": ["x"]}, "prompt"),
        (IMAGES, {"prompt": "x", "n": 0}, "n"),
        (IMAGES, {"prompt": "x", "n": 17}, "n"),
        (IMAGES, {"prompt": "x", "n": "2"}, "n"),
        (IMAGES, {"prompt": "x", "stream": "true"}, "stream"),
        (IMAGES, {"prompt": "x", "model": 1}, "model"),
        (SPEECH, {"voice": "alloy"}, "input"),
        (SPEECH, {"input": 1, "voice": "alloy"}, "input"),
        (SPEECH, {"input": "x", "stream_format": True}, "stream_format"),
        (MODERATIONS, {}, "input"),
        (MODERATIONS, {"input": ""}, "input"),
        (MODERATIONS, {"input": []}, "input"),
        (MODERATIONS, {"input": {"text": "x"}}, "input"),
    ],
)
def test_a_body_that_says_too_little_or_nonsense_is_refused(path: str, members: dict[str, Any], param: str) -> None:
    assert refused(path, members) == (Code.INVALID_REQUEST, param)


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    ("path", "fields", "files", "param"),
    [
        (EDITS, {"prompt": "x"}, (), "image"),
        (EDITS, {"prompt": "x", "image": "data:,"}, (), "image"),
        (EDITS, {"prompt": "x"}, (("mask", "m", "image/png", b"x"),), "image"),
        (EDITS, {}, (PICTURE,), "prompt"),
        *((EDITS, {"prompt": "x", "n": n}, (PICTURE,), "n") for n in ("0", "17", "-1", "1.0", "١", "1e1", "100")),
        *((EDITS, {"prompt": "x", "stream": flag}, (PICTURE,), "stream") for flag in ("1", "yes")),
        (TRANSCRIPTIONS, {"stream": "maybe"}, (SOUND,), "stream"),
        (TRANSCRIPTIONS, {}, (), "file"),
        (TRANSCRIPTIONS, {"file": "RIFF"}, (), "file"),
        (TRANSLATIONS, {"model": "chat"}, (), "file"),
    ],
)
def test_a_form_that_says_too_little_or_nonsense_is_refused(
    path: str, fields: dict[str, str], files: tuple[File, ...], param: str
) -> None:
    assert refused(path, fields, *files) == (Code.INVALID_REQUEST, param)


@pytest.mark.requirement("GD-6", "GW-12")
@pytest.mark.parametrize(
    ("path", "file", "field"),
    [
        (EDITS, PICTURE, "user"),
        (EDITS, PICTURE, "image[0]"),
        (EDITS, PICTURE, "file"),
        (TRANSCRIPTIONS, SOUND, "language"),
        (TRANSCRIPTIONS, SOUND, "file[]"),
        (TRANSCRIPTIONS, SOUND, "image"),
        (TRANSLATIONS, SOUND, "prompt"),
    ],
)
def test_no_file_stands_where_a_text_would_be_screened(path: str, file: File, field: str) -> None:
    fields = {"prompt": "x"} if path == EDITS else {}
    hidden = (field, "a.txt", "text/plain", CPF.encode())
    assert refused(path, fields, file, hidden) == (Code.UNSUPPORTED_FIELD, field)


@pytest.mark.parametrize("fields", [{"svg[model]": "another"}, {"svg": "another"}, {"svg[reasoning][effort]": "max"}])
def test_no_drawing_names_a_second_model(fields: dict[str, str]) -> None:
    assert refused(EDITS, {"prompt": "x", **fields}, PICTURE) == (Code.UNSUPPORTED_FIELD, "svg")
    assert refused(IMAGES, {"prompt": "x", "svg": {"model": "another"}}) == (Code.UNSUPPORTED_FIELD, "svg")


def test_moderations_take_texts_and_pictures_and_hold_nothing() -> None:
    parts = [{"type": "text", "text": CPF}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    mixed = asked(MODERATIONS, {"input": parts})
    assert (mixed.images, mixed.message_count, mixed.deterministic, mixed.stream) == (1, 2, True, False)
    assert texts(mixed) == [CPF, "https://example.com/a.png"]
    inline = asked(
        MODERATIONS, {"input": [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 80}}]}
    )
    assert texts(inline) == []
    assert asked(MODERATIONS, {"input": ["a", "b"]}).message_count == 2


@pytest.mark.parametrize("path", [EDITS, TRANSCRIPTIONS, TRANSLATIONS])
def test_what_is_drawn_or_heard_is_never_the_same_twice(path: str) -> None:
    fields, file = ({"prompt": "x"}, PICTURE) if path == EDITS else ({"temperature": "0"}, SOUND)
    assert not sent(path, fields, file).deterministic


def test_every_path_of_media_is_of_its_surface() -> None:
    assert {
        path: ROUTES[path].surface for path in (IMAGES, EDITS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS, MODERATIONS)
    } == {
        IMAGES: Surface.IMAGES,
        EDITS: Surface.IMAGE_EDITS,
        SPEECH: Surface.SPEECH,
        TRANSCRIPTIONS: Surface.TRANSCRIPTIONS,
        TRANSLATIONS: Surface.AUDIO_TRANSLATIONS,
        MODERATIONS: Surface.MODERATIONS,
    }
    assert [path for path, route in ROUTES.items() if route.form] == [EDITS, TRANSCRIPTIONS, TRANSLATIONS]


def test_a_form_is_refused_where_json_is_due_and_json_where_a_form_is() -> None:
    with pytest.raises(Refusal) as caught:
        ROUTES[SPEECH].parse(b"--a--", {"content-type": "multipart/form-data; boundary=a"}, max_depth=64)
    assert caught.value.code is Code.MALFORMED_JSON
    with pytest.raises(Refusal) as caught:
        read_form(b"{}", "application/json")
    assert caught.value.code is Code.MALFORMED_FORM
