"""What is encoded is read as what it says, and written again without what was cut out of it."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core import encoded

TEXTS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=64, max_size=200)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@given(TEXTS, st.data(), st.sampled_from(["", "data:text/plain;base64,", "data:text/csv;name=é;base64,"]))
def test_a_text_is_read_and_any_part_of_it_can_be_cut_out(text: str, data: st.DataObject, head: str) -> None:
    value = head + b64(text.encode())
    read = encoded.read(value, shortest=64)
    assert (read.head, read.text, read.media) == (head, text, False)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    cut = encoded.cut(value, [(len(head) + start, len(head) + end, "[X]")])
    assert encoded.read(cut, kind="text/plain", shortest=0).text == text[:start] + "[X]" + text[end:]
    assert cut.startswith(head)


def test_a_cut_may_begin_in_the_head_and_end_in_the_text() -> None:
    head = "data:text/plain;name=abc;base64,"
    at = head.index("abc")
    said = encoded.cut(head + b64(b"hello"), [(at, at + 3, "[X]"), (len(head) - 4, len(head) + 2, ",[Y]")])
    assert said == head.replace("abc", "[X]")[:-4] + ",[Y]" + b64(b"llo")


CPF = "529.982.247-25"


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("text", [CPF, f"ação {CPF} ção"])
def test_what_says_that_it_is_a_text_is_read_in_whatever_it_is_written(codec: str, text: str) -> None:
    for payload in (b64(text.encode(codec)), base64.urlsafe_b64encode(text.encode(codec)).decode().rstrip("=")):
        for kind, value in (("text/plain", payload), ("", f"data:application/json;base64,{payload}")):
            said = encoded.read(value, kind=kind, shortest=64).text
            assert said is not None
            assert CPF in said


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + os.urandom(90), b"%PDF-1.7\n" + b"x" * 90, b"RIFF\0\0\0\0" + b"a" * 90, bytes(90)]
)
def test_what_is_no_text_is_media(data: bytes) -> None:
    read = encoded.read(b64(data), shortest=64)
    assert (read.text, read.media) == (None, True)
    assert encoded.read(f"data:image/png;base64,{b64(data)}", shortest=64).plain_head
    assert not encoded.read(f"data:image/png;name={CPF};base64,{b64(data)}", shortest=64).plain_head


def test_what_is_neither_is_what_it_is() -> None:
    for value in ("https://example.com/a.png", "data:nothing", "a word", "hello", "", "data:text/plain;base64,!"):
        read = encoded.read(value, shortest=64)
        assert (read.text, read.media) == (None, False), value
    assert encoded.read("data:,a%20b", shortest=64).text == "a b"


@given(st.text(max_size=120), st.sampled_from(["", "text/plain", "image/png"]))
def test_nothing_upsets_the_reading(value: str, kind: str) -> None:
    for head in ("", "data:", "data:;base64,", "data:text/plain,"):
        encoded.read(head + value, kind=kind, shortest=24)
