"""Server-sent events: not a byte lost, the same events however the stream is split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.errors import Code, UpstreamFailure
from securellm.providers import SseParser, StreamEvent, rewrite, without_notes
from securellm.providers.sse import MAX_LINES

LINES = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data",
        b"data:  two",
        b"event: e",
        b": note",
        b"",
        b"",
        b"",
        b"id: 1",
        "data: ç🚀".encode(),
    ]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=30).map(
    lambda lines: b"".join(line + ending for line, ending in lines)
)


def parse(data: bytes, *cuts: int) -> tuple[list[StreamEvent], bytes]:
    parser = SseParser()
    events: list[StreamEvent] = []
    places = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(places):
        events += parser.feed(data[start:end])
    events += parser.end()
    return events, parser.pending


@given(data=STREAMS | st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_the_raw_bytes_of_all_events_are_the_stream(data: bytes, cuts: list[int]) -> None:
    events, pending = parse(data, *(min(cut, len(data)) for cut in cuts))
    assert b"".join(event.raw for event in events) + pending == data


@given(data=STREAMS, cuts=st.lists(st.integers(0, 300), max_size=8), mark=st.booleans())
def test_events_do_not_depend_on_how_the_stream_is_split(data: bytes, cuts: list[int], mark: bool) -> None:
    data = b"\xef\xbb\xbf" * mark + data
    events, pending = parse(data, *(min(cut, len(data)) for cut in cuts))
    whole, left = parse(data)
    assert (told(events), pending) == (told(whole), left)


def told(events: list[StreamEvent]) -> list[StreamEvent]:
    """The events that say something: how many of the others a run of blank lines makes, its split may decide."""
    return [event for event in events if event.raw.strip(b"\r\n")]


@pytest.mark.parametrize("blank", [b"\n", b"\r", b"\r\n"])
def test_blank_lines_cost_next_to_nothing_however_many(blank: bytes) -> None:
    flood = blank * 100_000
    events, pending = parse(b"data: x\n\n" + flood + b"data: y\n\n")
    assert [event.data for event in events] == [b"x", b"", b"y"]
    assert b"".join(event.raw for event in events) + pending == b"data: x\n\n" + flood + b"data: y\n\n"


def test_an_event_of_countless_lines_is_refused_after_those_before_it() -> None:
    parser = SseParser()
    lines = b": x\n" * (MAX_LINES + 1)
    assert [event.data for event in parser.feed(b"data: x\n\n" + lines)] == [b"x"]
    for data in (b"", b"\n"):
        with pytest.raises(UpstreamFailure) as caught:
            parser.feed(data)
        assert caught.value.code is Code.REPLY_TOO_LARGE


@given(data=STREAMS)
def test_rewriting_an_event_with_its_own_data_changes_no_event(data: bytes) -> None:
    for event in parse(data)[0]:
        [again] = parse(rewrite(event, event.data))[0]
        assert (again.data, again.event, again.notes) == (event.data, event.event, event.notes)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_fields_are_read_as_the_standard_says(ending: bytes) -> None:
    lines = [
        b": a note",
        b"event: greeting",
        b"data: one",
        b"data:two",
        b"data:  three",
        b"retry: 5",
        b"",
        b"data: next",
        b"",
    ]
    events, pending = parse(ending.join([*lines, b""]))
    assert [(event.event, event.data) for event in events] == [("greeting", b"one\ntwo\n three"), (None, b"next")]
    assert events[0].notes == ": a note\nretry: 5"
    assert pending == b""


def test_a_byte_order_mark_stands_alone_and_hides_nothing() -> None:
    events, _ = parse(b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\n")
    assert [event.data for event in events] == [b"", b"x", b""]
    assert events[2].notes == "\ufeffdata: y"


def test_an_event_without_its_blank_line_is_pending() -> None:
    events, pending = parse(b"data: x\n\ndata: [DONE]\n")
    assert [event.data for event in events] == [b"x"]
    assert pending == b"data: [DONE]\n"


def test_an_event_beyond_the_limit_is_refused_after_those_before_it() -> None:
    parser = SseParser(max_event=32)
    assert [event.data for event in parser.feed(b"data: x\n\n" + b"data: " + b"y" * 40)] == [b"x"]
    with pytest.raises(UpstreamFailure) as caught:
        parser.feed(b"y")
    assert caught.value.code is Code.REPLY_TOO_LARGE
    with pytest.raises(UpstreamFailure):
        SseParser(max_event=32).feed(b"data: " + b"y" * 40)


def test_rewriting_keeps_every_other_line_and_the_style_of_the_data_line() -> None:
    [event], _ = parse(b": note\r\nevent: e\r\ndata:{\r\ndata:}\r\nid: 7\r\n\r\n")
    assert rewrite(event, b"[]") == b": note\r\nevent: e\r\ndata:[]\r\nid: 7\r\n\r\n"
    assert rewrite(event, b"{\n}") == b": note\r\nevent: e\r\ndata:{\r\ndata:}\r\nid: 7\r\n\r\n"
    with pytest.raises(ValueError, match="carriage return"):
        rewrite(event, b"\r")


def test_notes_can_be_taken_out() -> None:
    [event], _ = parse(b": secret\nevent: e\ndata: x\nid: secret\n\n")
    assert without_notes(event) == b"event: e\ndata: x\n\n"
