"""Canonical views: what they show, and that their maps lead back."""

from hypothesis import given
from hypothesis import strategies as st

from securellm.guard.views import MAX_INVISIBLE, fold, readings, unescape, views_of

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from('\\u0031n"/½ﬁ⑩\u200b５é')), max_size=40)


def test_other_scripts_digits_letters_dashes_and_spaces_become_ascii() -> None:
    assert fold("５２９．982–247\u00a025").data == b"529.982-247 25"
    assert fold("𝟓²①٣").data == b"5213"
    assert fold("іgnоrе não “x”").data == b'ignore nao "x"'


def test_invisible_characters_vanish_and_the_map_leads_back() -> None:
    view = fold("a5\u200b2\u00ad\U000e00419\ufe0f")
    assert view.data == b"a529"
    assert view.span(1, 4) == (1, 7)


def test_a_long_run_of_invisible_characters_parts_what_it_stands_between() -> None:
    assert fold("1" + "\u200b" * MAX_INVISIBLE + "2").data == b"12"
    assert fold("1" + "\u200b" * (MAX_INVISIBLE + 1) + "2").data != b"12"


def test_escapes_are_decoded_as_json_has_them() -> None:
    assert unescape('a\\u0031\\n\\/\\"\\\\\\ud835\\udfcf\\q')[0] == 'a1\n/"\\𝟏\\q'


@given(TEXTS)
def test_every_map_is_monotone_and_within_the_text(text: str) -> None:
    for view in views_of(text).views:
        if view.starts is None or view.ends is None:
            assert len(view.data) == len(text)
        else:
            assert len(view.starts) == len(view.ends) == len(view.data)
            assert list(view.starts) == sorted(view.starts)
            assert list(view.ends) == sorted(view.ends)
            assert all(0 <= a < b <= len(text) for a, b in zip(view.starts, view.ends, strict=True))


@given(TEXTS)
def test_readings_are_the_views_without_their_maps(text: str) -> None:
    assert readings(text) == [view.data for view in views_of(text).views]


@given(TEXTS, st.integers(0, 40))
def test_an_unfinished_text_decodes_to_a_beginning_of_the_finished_one(text: str, at: int) -> None:
    begun, starts, _, consumed = unescape(text[:at], final=False)
    whole, whole_starts, _, _ = unescape(text)
    assert whole.startswith(begun)
    assert whole_starts[: len(starts)] == starts
    assert len(text[:at]) - consumed < 12
