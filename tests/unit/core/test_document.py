"""A body is parsed strictly, and remembers its own bytes."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.document import Document, Patch, raw_offsets
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Path

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


def written(value: Any, *, ascii_only: bool, indent: int | None) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8")


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at] if at else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += paths(inner, (*at, step))
    return found


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.MALFORMED_JSON),
        (b"{", Code.MALFORMED_JSON),
        (b'{"a":1,}', Code.MALFORMED_JSON),
        (b'{"a":NaN}', Code.MALFORMED_JSON),
        (b'{"a":-Infinity}', Code.MALFORMED_JSON),
        (b'{"a":1} {"b":2}', Code.MALFORMED_JSON),
        (b'{"a":01}', Code.MALFORMED_JSON),
        (b"{'a':1}", Code.MALFORMED_JSON),
        (b'{"a":"\x01"}', Code.MALFORMED_JSON),
        (b'{"a":' + b"9" * 5000 + b"}", Code.MALFORMED_JSON),
        (b'{"a":1,"a":2}', Code.DUPLICATE_KEY),
        (b'{"m":[{"x":1,"\\u0078":2}]}', Code.DUPLICATE_KEY),
        (b'{"a":"\xff"}', Code.INVALID_UTF8),
        (b'{"a":"\\ud800"}', Code.INVALID_UTF8),
        (b'{"\\udc00":1}', Code.INVALID_UTF8),
        (b'\xef\xbb\xbf{"a":1}', Code.MALFORMED_JSON),
        (b"[" * 65 + b"]" * 65, Code.TOO_DEEP),
        (b"[" * 200_000, Code.TOO_DEEP),
    ],
)
@pytest.mark.requirement("GW-12")
def test_a_body_that_two_parsers_could_read_differently_is_refused(body: bytes, code: Code) -> None:
    with pytest.raises(Refusal) as refused:
        Document(body)

    assert refused.value.code is code


def test_the_deepest_allowed_nesting_is_read() -> None:
    assert Document(b"[" * 64 + b"]" * 64).root is not None


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_every_value_is_found_at_its_span(value: Any, ascii_only: bool, indent: int | None) -> None:
    document = Document(written([value], ascii_only=ascii_only, indent=indent))

    for path in paths([value]):
        start, end = document.span(path)
        expected: Any = [value]
        for step in path:
            expected = expected[step]
        assert json.loads(document.text[start:end]) == expected


@given(values, st.booleans(), st.sampled_from([None, 2]), st.data())
def test_setting_one_place_changes_that_place_and_nothing_else(
    value: Any, ascii_only: bool, indent: int | None, data: st.DataObject
) -> None:
    document = Document(written([value], ascii_only=ascii_only, indent=indent))
    path = data.draw(st.sampled_from(paths([value])))
    patch = Patch(document)

    patch.set(path, "changed")

    start, end = document.span(path)
    assert patch.apply().decode("utf-8") == document.text[:start] + '"changed"' + document.text[end:]


@given(st.dictionaries(texts, scalars, max_size=5), st.sampled_from([None, 2]), st.data())
def test_a_removed_member_takes_its_comma_with_it(
    members: dict[str, Any], indent: int | None, data: st.DataObject
) -> None:
    document = Document(written(members, ascii_only=False, indent=indent))
    gone = data.draw(st.sampled_from([*members, None]))
    patch = Patch(document)

    if gone is not None:
        patch.remove((gone,))

    assert json.loads(patch.apply()) == {name: value for name, value in members.items() if name != gone}


@given(st.dictionaries(texts, scalars, max_size=3), st.lists(texts, max_size=3, unique=True))
def test_new_members_are_appended_to_their_object(members: dict[str, Any], names: list[str]) -> None:
    patch = Patch(Document(written(members, ascii_only=False, indent=None)))
    added = [name for name in names if name not in members]

    for name in added:
        patch.set((name,), 1)

    assert json.loads(patch.apply()) == {**members, **dict.fromkeys(added, 1)}


@given(st.text(min_size=1, max_size=30), st.booleans(), st.data())
@pytest.mark.requirement("GW-7")
def test_a_replacement_in_a_string_leaves_the_rest_of_it_as_written(
    text: str, ascii_only: bool, data: st.DataObject
) -> None:
    text = text.encode("utf-8", "replace").decode("utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    document = Document(written({"m": [text]}, ascii_only=ascii_only, indent=None))
    raw = document.text[slice(*document.span(("m", 0)))]
    patch = Patch(document)

    patch.replace_in_string(("m", 0), start, end, "[CPF]")

    result = json.loads(patch.apply())["m"][0]
    raw_start, raw_end = raw_offsets(raw, start, end)
    assert result == text[:start] + "[CPF]" + text[end:]
    assert json.loads(raw[:raw_start] + '"') == text[:start]
    assert json.loads('"' + raw[raw_end:]) == text[end:]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        Document(body)


def test_what_is_not_patched_is_the_original() -> None:
    body = b'{ "a" :\t1.0e5 , "b":"\\u00e9\\/" }'

    assert Patch(Document(body)).apply() == body


@given(st.data())
def test_elements_leave_an_array_and_nothing_else_changes(data: st.DataObject) -> None:
    elements = data.draw(st.lists(st.sampled_from(["1", ' "a,]" ', "[1 , 2]", '{"b" : [3]}', "\tnull"]), max_size=6))
    indexes = {index for index in range(len(elements)) if data.draw(st.booleans())}
    document = Document(f'{{"x": [{" ,".join(elements)}], "y" : 1 }}'.encode())
    patch = Patch(document)
    patch.remove_elements(("x",), indexes)
    left = [json.loads(element) for index, element in enumerate(elements) if index not in indexes]
    written = patch.apply()
    assert Document(written).members() == {"x": left, "y": 1}
    assert written.endswith(b', "y" : 1 }')


def test_thousands_of_places_are_found_and_edited_in_one_reading() -> None:
    """Tens of thousands: what reads on from the beginning for each of them does not end while anybody waits."""
    count = 60_000
    rows = Document(json.dumps({"first": 1, "rows": [{"a": "xyz"}] * count}).encode())
    patch = Patch(rows)
    for index in range(count):
        patch.replace_in_string(("rows", index, "a"), 1, 2, "[Y]")
    assert json.loads(patch.apply())["rows"] == [{"a": "x[Y]z"}] * count
    for between in (" ", "\n", "\U0001f389"):
        text = Document(json.dumps({"text": f"xyz{between}" * count}).encode())
        patch = Patch(text)
        for index in range(count):
            patch.replace_in_string(("text",), 4 * index + 1, 4 * index + 2, "[Y]")
        assert json.loads(patch.apply())["text"] == f"x[Y]z{between}" * count


def test_places_may_be_asked_for_in_any_order() -> None:
    document = Document(b'{"a":[{"b":"\\u0041\\ud83c\\udf89\\n!"},2],"c":3}')
    places: tuple[tuple[Path, str], ...] = (
        (("c",), "3"),
        (("a", 1), "2"),
        (("a", 0, "b"), '"\\u0041\\ud83c\\udf89\\n!"'),
        (("c",), "3"),
    )
    for place, written in places:
        start, end = document.span(place)
        assert document.text[start:end] == written
    nowhere: tuple[Path, ...] = (("a", 2), ("a", "b"), ("d",), ("c", "x"), ("a", 0, 0))
    for path in nowhere:
        with pytest.raises(KeyError):
            document.span(path)
    patch = Patch(document)
    for at in (3, 0, 2, 1):
        patch.replace_in_string(("a", 0, "b"), at, at + 1, f"<{at}>")
    assert json.loads(patch.apply())["a"][0]["b"] == "<0><1><2><3>"
