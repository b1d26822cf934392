"""Forms: read as the document they would make, written again as they were, refused where two readers could differ."""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from email.parser import BytesFeedParser

import multipart
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, Refusal
from securellm.core.messages import Attachment
from securellm.ingress.forms import MOST_PARTS, read_form
from securellm.providers.dialects.forms import encode

BOUNDARY = "a-boundary"
KIND = f"multipart/form-data; boundary={BOUNDARY}"

Part = tuple[str, str | None, bytes]
"""A field's name, its file's name if it is one, and what it holds."""


def part(name: str, data: bytes, *headers: str, filename: str | None = None, kind: str | None = None) -> bytes:
    """One part as it stands on the wire, its names as they are given."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    disposition += "" if filename is None else f'; filename="{filename}"'
    lines = [disposition, *([] if kind is None else [f"Content-Type: {kind}"]), *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + each + b"\r\n" for each in parts) + mark + b"--\r\n"


SOUND = part("file", b"RIFF\x00\xff", filename="a.wav", kind="audio/wav")


def refused(body: bytes, content_type: str = KIND) -> Code:
    with pytest.raises(Refusal) as caught:
        read_form(body, content_type)
    assert len(caught.value.reason) < 120
    return caught.value.code


def parsed_by_email(body: bytes, content_type: str) -> list[Part]:
    parser = BytesFeedParser()
    parser.feed(b"Content-Type: " + content_type.encode("ascii") + b"\r\n\r\n")
    parser.feed(body)
    message = parser.close()
    assert message.defects == []
    found: list[Part] = []
    for each in message.walk():
        if each is not message:
            raw = dict(each.raw_items())["Content-Disposition"].encode("ascii", "surrogateescape").decode("utf-8")
            described = re.fullmatch('form-data; name="([^"]*)"(?:; filename="([^"]*)")?', raw)
            assert described is not None, raw
            name, filename = (None if given is None else given.replace("%22", '"') for given in described.groups())
            data = each.get_payload(decode=True)
            assert isinstance(data, bytes)
            assert name is not None
            found.append((name, filename, data))
    return found


def parsed_by_multipart(body: bytes, content_type: str) -> list[Part]:
    boundary = content_type.rpartition("=")[2]
    parser = multipart.MultipartParser(io.BytesIO(body), boundary, strict=True, part_limit=MOST_PARTS)
    return [(each.name, each.filename, each.raw) for each in parser.parts()]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\\%\x7f"), min_size=1, max_size=20
)
FILENAMES = NAMES.map(lambda name: name.replace("/", "_"))
BYTES = st.binary(max_size=60) | st.sampled_from([b"\r\n", b"--", b"\r\n--" + BOUNDARY[:-1].encode(), b"\r\n\r\n--"])
TEXTS = st.text(max_size=20) | st.sampled_from(["\r\n", "--", '"', "\\", "=?utf-8?q?a?=", '{"sha256": "x"}'])


@st.composite
def forms(draw: st.DrawFn) -> list[Part]:
    """The parts of a form; the names of lists come several times, anywhere."""
    plain = NAMES.filter(lambda name: not name.endswith("[]"))
    single = draw(st.lists(plain, unique=True, min_size=1, max_size=4))
    listed = [f"{name}[]" for name in draw(st.lists(NAMES, unique=True, max_size=2))]
    names = draw(st.permutations(single + listed + listed))
    parts: list[Part] = []
    for name in names:
        if draw(st.booleans()):
            parts.append((name, draw(FILENAMES), draw(BYTES)))
        else:
            parts.append((name, None, draw(TEXTS).encode("utf-8")))
    return parts


def written(parts: Sequence[Part]) -> bytes:
    """As a browser writes it."""
    quoted = str.maketrans({'"': "%22"})
    return form(
        *(
            part(
                name.translate(quoted),
                data,
                filename=None if filename is None else filename.translate(quoted),
                kind=None if filename is None else "audio/wav",
            )
            for name, filename, data in parts
        )
    )


def by_name(parts: Sequence[Part]) -> dict[str, list[tuple[str | None, bytes]]]:
    found: dict[str, list[tuple[str | None, bytes]]] = {}
    for name, filename, data in parts:
        found.setdefault(name, []).append((filename, data))
    return found


@pytest.mark.requirement("GW-6", "GW-7")
@given(parts=forms())
def test_any_form_leaves_with_the_fields_and_files_it_came_with(parts: list[Part]) -> None:
    document, attachments = read_form(written(parts), KIND)
    body, content_type = encode(document.text.encode("utf-8"), attachments)
    assert by_name(parsed_by_email(body, content_type)) == by_name(parts)
    assert by_name(parsed_by_multipart(body, content_type)) == by_name(parts)
    assert encode(document.text.encode("utf-8"), attachments) == (body, content_type), "the same twice"


@pytest.mark.requirement("GW-12")
@given(body=st.binary(max_size=200), edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=4))
def test_damaged_bytes_are_refused_or_read_and_nothing_else(body: bytes, edits: list[tuple[int, bytes]]) -> None:
    damaged = form(part("model", b"chat"), SOUND, part("prompt", body))
    for at, data in edits:
        damaged = damaged[:at] + data + damaged[at + 1 :]
    try:
        document, attachments = read_form(damaged, KIND)
    except Refusal:
        assert refused(damaged) in {Code.MALFORMED_FORM, Code.INVALID_UTF8, Code.DUPLICATE_KEY}
        return
    again, content_type = encode(document.text.encode("utf-8"), attachments)
    assert read_form(again, content_type)[0].root == document.root


def test_a_form_is_read_as_the_document_its_fields_would_make() -> None:
    body = form(
        part("model", b"chat"), SOUND, part("include[]", b"a"), part("n", b"1"), part("include[]", "ç".encode())
    )
    document, attachments = read_form(body, KIND)
    digest = hashlib.sha256(b"RIFF\x00\xff").hexdigest()
    file = {"filename": "a.wav", "content_type": "audio/wav", "bytes": 6, "sha256": digest}
    found = document.members()
    assert found == {"model": "chat", "file": file, "include[]": ["a", "ç"], "n": "1"}
    assert list(found) == ["model", "file", "include[]", "n"]
    assert attachments == (Attachment(field="file", filename="a.wav", content_type="audio/wav", data=b"RIFF\x00\xff"),)


def test_two_forms_that_differ_in_a_file_alone_are_two_documents() -> None:
    texts = {
        read_form(form(part("file", data, filename="a.wav", kind="audio/wav")), KIND)[0].text
        for data in (b"one", b"two", b"")
    }
    assert len(texts) == 3


def test_files_go_where_they_belong_although_their_fields_take_turns() -> None:
    body = form(
        part("image[]", b"one", filename="1.png", kind="image/png"),
        part("mask", b"mask", filename="m.png", kind="image/png"),
        part("image[]", b"two", filename="2.png", kind="image/webp"),
    )
    document, attachments = read_form(body, KIND)
    again, content_type = encode(document.text.encode("utf-8"), attachments)
    assert parsed_by_email(again, content_type) == [
        ("image[]", "1.png", b"one"),
        ("image[]", "2.png", b"two"),
        ("mask", "m.png", b"mask"),
    ]
    assert again.count(b"Content-Type: image/png") == 2
    assert again.count(b"Content-Type: image/webp") == 1


@pytest.mark.requirement("GW-7")
def test_a_replacement_changes_its_own_characters_alone() -> None:
    sound = bytes(range(256)) * 4
    body = form(
        part("model", b"chat"),
        part("prompt", "Olá, 529.982.247-25!".encode()),
        part("file", sound, filename="529.982.247-25.wav", kind="audio/wav; by=52998224725"),
    )
    document, attachments = read_form(body, KIND)
    patch = Patch(document)
    patch.replace_in_string(("prompt",), 5, 19, "[CPF]")
    patch.replace_in_string(("file", "filename"), 0, 14, "[CPF]")
    patch.replace_in_string(("file", "content_type"), 14, 25, "[CPF]")
    patch.set(("model",), "other")
    patch.set(("added",), 4096)
    again, content_type = encode(patch.apply(), attachments)
    assert parsed_by_email(again, content_type) == [
        ("model", None, b"other"),
        ("prompt", None, "Olá, [CPF]!".encode()),
        ("file", "[CPF].wav", sound),
        ("added", None, b"4096"),
    ]
    assert b"Content-Type: audio/wav; by=[CPF]\r\n" in again
    assert b"52998224725" not in again


def test_a_boundary_is_never_part_of_what_it_bounds() -> None:
    document, attachments = read_form(form(part("prompt", b"x")), KIND)
    _, content_type = encode(document.text.encode("utf-8"), attachments)
    guessed = content_type.rpartition("=")[2].encode()
    file = Attachment(field="file", filename="a", content_type="audio/wav", data=b"\r\n--" + guessed + b"--\r\n")
    fields = b'{"prompt":"x","file":{"filename":"a","content_type":"audio/wav","bytes":%d,"sha256":""}}' % len(
        file.data
    )
    body, content_type = encode(fields, (file,))
    assert parsed_by_email(body, content_type)[1][2] == file.data


def test_files_that_are_not_those_of_the_fields_are_a_defect() -> None:
    file = Attachment(field="file", filename="a", content_type="audio/wav", data=b"x")
    fields = b'{"file":{"filename":"a","content_type":"audio/wav","bytes":2,"sha256":""}}'
    for attachments in ((), (file,)):
        with pytest.raises(Fault):
            encode(fields, attachments)
    with pytest.raises(Fault):
        encode(b"{}", (file,))


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=a-boundary",
        f"multipart/form-data; boundary={'a' * 71}",
        'multipart/form-data; boundary="a;b"',
        'multipart/form-data; boundary="a\\"b"',
        "multipart/form-data; boundary=other; boundary=a-boundary",
        "multipart/form-data; boundary=é",
    ],
)
def test_a_body_that_is_no_form_is_refused(content_type: str) -> None:
    assert refused(form(part("model", b"chat")), content_type) is Code.MALFORMED_FORM


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    "body",
    {
        "nothing": b"",
        "no boundary": b"hello",
        "half a boundary": b"--a-bound",
        "half a head": b'--a-boundary\r\nContent-Disposition: form-data; name="a"',
        "half a part": b'--a-boundary\r\nContent-Disposition: form-data; name="a"\r\n\r\nx',
        "no last boundary": form(part("a", b"x"))[: -len(b"--\r\n")],
        "half a last boundary": form(part("a", b"x"))[: -len(b"-\r\n")],
        "text before": b"preamble\r\n" + form(part("a", b"x")),
        "text after": form(part("a", b"x")) + b"epilogue",
        "a form after": form(part("a", b"x")) + form(part("a", b"y")),
        "bytes behind a boundary": form(part("a", b"x")).replace(b"--a-boundary--", b"--a-boundaryx\r\n--a-boundary--"),
        "bare line feeds": form(part("a", b"x")).replace(b"\r\n", b"\n"),
        "no disposition": b"--a-boundary\r\nX: y\r\n\r\nx\r\n--a-boundary--",
        "another disposition": form(b'Content-Disposition: attachment; name="a"\r\n\r\nx'),
        "two dispositions": form(part("a", b"x", 'Content-Disposition: form-data; name="b"')),
        "two types": form(part("a", b"x", "Content-Type: text/plain", "Content-Type: text/html")),
        "no name": form(b"Content-Disposition: form-data\r\n\r\nx"),
        "an empty name": form(part("", b"x")),
        "a folded head": form(b'Content-Disposition: form-data;\r\n name="a"\r\n\r\nx'),
        "no head": form(b"\r\n\r\nx"),
        "a wrong length": form(part("a", b"x", "Content-Length: 7")),
        "a length too small": form(part("a", b"xyz", "Content-Length: 1")),
        "a long head": form(part("a", b"x", f"X-Long: {'y' * 5_000}")),
        "many heads": form(part("a", b"x", *(f"X-{at}: y" for at in range(20)))),
        "a head that is not UTF-8": form(b'Content-Disposition: form-data; name="\xff"\r\n\r\nx'),
        "base64": form(part("a", b"eA==", "Content-Transfer-Encoding: base64")),
        "quoted-printable": form(part("a", b"=41", "Content-Transfer-Encoding: quoted-printable")),
        "a form inside": form(part("a", b"--b--", kind="multipart/mixed; boundary=b")),
        "a form in a file": form(part("file", b"--b--", filename="a", kind="Multipart/Form-Data; boundary=b")),
        "a message in a file": form(part("file", b"x", filename="a", kind="message/rfc822")),
        "filename* alone": form(b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''a.wav\r\n\r\nx"),
    }.items(),
    ids=lambda case: case[0],
)
def test_a_damaged_form_is_refused(body: tuple[str, bytes]) -> None:
    assert refused(body[1]) is Code.MALFORMED_FORM


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    "filename",
    ["", "../../etc/passwd", "/etc/passwd", "a/b.wav", "..\\..\\a.wav", "a\\", "a%0D%0AX: y", "a\nb", "a\x00b", "a\x7f",
     "x" * 256],
)  # fmt: skip
def test_a_file_name_that_is_a_path_or_no_name_is_refused(filename: str) -> None:
    assert refused(form(part("file", b"x", filename=filename, kind="audio/wav"))) is Code.MALFORMED_FORM


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize("name", ["a\\", "a%0D%0Ab", "a\x00", "a\tb", "x" * 256])
def test_a_field_name_that_readers_read_differently_is_refused(name: str) -> None:
    assert refused(form(part(name, b"x"))) is Code.MALFORMED_FORM


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    "kind",
    ["audio", "/wav", "audio/", "audio/wav/x", "audio/w av", 'audio/wav\nContent-Disposition: form-data; name="prompt"',
     "audio/wav; x=\x01", "audio/wav; x=é", "audio/wäv"],
)  # fmt: skip
def test_a_file_type_that_is_none_is_refused(kind: str) -> None:
    assert refused(form(part("file", b"x", filename="a", kind=kind))) is Code.MALFORMED_FORM


@pytest.mark.parametrize("name", ['a"b', "a%22b"])
def test_a_quote_in_a_name_ends_nothing(name: str) -> None:
    spelled = name.replace('"', '\\"')
    body = form(part("model", b"x"), part("file", b"x", filename=spelled, kind="audio/wav"))
    document, attachments = read_form(body, KIND)
    assert attachments[0].filename == 'a"b'
    again, content_type = encode(document.text.encode("utf-8"), attachments)
    assert b'; filename="a%22b"\r\n' in again
    assert read_form(again, content_type)[0].root == document.root


@pytest.mark.requirement("GW-12")
def test_text_is_utf8_or_refused() -> None:
    assert refused(form(part("a", b"\xff"))) is Code.INVALID_UTF8
    assert refused(form(part("a", b"\xed\xa0\x80"))) is Code.INVALID_UTF8, "a lone surrogate"
    assert refused(form(part("a", b"x", kind="text/plain; charset=utf-16"))) is Code.INVALID_UTF8
    assert refused(form(part("a", b"x", kind="text/plain; charset=iso-8859-1"))) is Code.INVALID_UTF8
    assert refused(form(part("_charset_", b"utf-7"), part("a", b"x"))) is Code.INVALID_UTF8
    document, _ = read_form(form(part("_charset_", b"UTF-8"), part("a", b"x", kind="text/plain; charset=UTF-8")), KIND)
    assert document.root == {"_charset_": "UTF-8", "a": "x"}


@pytest.mark.requirement("GW-12")
def test_a_field_that_comes_twice_is_refused_unless_it_is_a_list() -> None:
    assert refused(form(part("model", b"a"), part("model", b"b"))) is Code.DUPLICATE_KEY
    assert refused(form(SOUND, SOUND)) is Code.DUPLICATE_KEY
    assert refused(form(part("file", b"x"), SOUND)) is Code.DUPLICATE_KEY


@pytest.mark.requirement("GW-12")
def test_a_form_has_so_many_parts_and_no_more() -> None:
    many = [part(f"f{at}", b"x") for at in range(MOST_PARTS)]
    assert len(read_form(form(*many), KIND)[0].members()) == MOST_PARTS
    assert refused(form(*many, part("one", b"more"))) is Code.MALFORMED_FORM
    assert refused(form(*many * 4)) is Code.MALFORMED_FORM


def test_what_clients_write_beside_the_necessary_is_read() -> None:
    body = b"\r\n" + form(
        part(
            "file", b"x", "Content-Length: 1", "Content-Transfer-Encoding: binary", filename="a.wav", kind="Audio/WAV"
        ),
        b"content-disposition:form-data;name=model\r\n\r\nchat",
        b'Content-Disposition: form-data; filename="b"; name="image"; filename*=utf-8\'\'b\r\n\r\ny',
    )
    document, attachments = read_form(body, 'Multipart/Form-Data; charset=utf-8; boundary="a-boundary"')
    assert document.members()["model"] == "chat"
    assert [(file.field, file.filename, file.content_type) for file in attachments] == [
        ("file", "a.wav", "Audio/WAV"),
        ("image", "b", "application/octet-stream"),
    ]


def test_a_text_that_looks_like_a_file_in_the_document_is_a_text() -> None:
    said = json.dumps({"filename": "a", "content_type": "b", "bytes": 0, "sha256": ""})
    document, attachments = read_form(form(part("prompt", said.encode())), KIND)
    assert document.root == {"prompt": said}
    body, content_type = encode(document.text.encode("utf-8"), attachments)
    assert parsed_by_email(body, content_type) == [("prompt", None, said.encode())]


def test_a_form_of_nothing_is_an_empty_document() -> None:
    document, attachments = read_form(b"--a-boundary--", KIND)
    assert (document.root, attachments) == ({}, ())
    assert Document(document.text.encode("utf-8")).root == {}
