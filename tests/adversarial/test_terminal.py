"""What others wrote on an operator's terminal: shown, never obeyed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.cli.plain import plain
from securellm.cli.tables import cell

HOSTILE = (
    "\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x",
    "\u200b",
    "\x08\x08",
    "\r",
    "\x85",
    "\u2028",
    "\U000e0041",
)


@pytest.mark.requirement("CL-1")
@pytest.mark.parametrize("text", HOSTILE)
def test_what_would_move_a_terminal_is_spelled_out(text: str) -> None:
    for shown in (plain(text), cell(text), cell([text]), cell({"name": text})):
        assert "\\u" in shown
        assert shown.isprintable(), ascii(shown)


@pytest.mark.requirement("CL-1")
@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_stays_the_json_that_it_was(value: object) -> None:
    for indent in (None, 2):
        shown = plain(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(shown) == value
        assert all(line.isprintable() or "\xa0" in line or not line.isascii() for line in shown.split("\n"))


def test_people_and_places_are_written_as_they_are() -> None:
    for text in ("São Paulo", "Ação nº 5", "日本", "Zoë — ok", "a\nb"):
        assert plain(text) == text
