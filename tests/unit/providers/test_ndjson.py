"""JSON lines: not a byte lost, the same lines however the stream is split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.errors import Code, UpstreamFailure
from securellm.providers import StreamEvent
from securellm.providers.ndjson import LINES, LineParser

STREAMS = st.lists(
    st.sampled_from(
        [b"{}\n", b'{"a":"\xc3\xa7"}\r\n', b"\n", b" \n", b"\r\n", b"{", b'"', b"}\n", b"[1]", b"\xf0\x9f"]
    ),
    max_size=20,
).map(b"".join)


def parse(data: bytes, *cuts: int) -> tuple[list[StreamEvent], bytes]:
    parser = LineParser()
    events: list[StreamEvent] = []
    for start, end in pairwise([0, *sorted(cuts), len(data)]):
        events += parser.feed(data[start:end])
    events += parser.end()
    return events, parser.pending


@pytest.mark.requirement("GW-7")
@given(data=STREAMS | st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_the_raw_bytes_of_all_lines_are_the_stream(data: bytes, cuts: list[int]) -> None:
    events, pending = parse(data, *(min(cut, len(data)) for cut in cuts))
    assert b"".join(event.raw for event in events) + pending == data


@given(data=STREAMS, cuts=st.lists(st.integers(0, 300), max_size=8))
def test_lines_do_not_depend_on_how_the_stream_is_split(data: bytes, cuts: list[int]) -> None:
    assert parse(data, *(min(cut, len(data)) for cut in cuts)) == parse(data)


@given(data=STREAMS)
def test_rewriting_a_line_with_its_own_data_changes_nothing(data: bytes) -> None:
    for event in parse(data)[0]:
        if event.data:
            assert LINES.rewrite(event, event.data) == event.raw
        assert LINES.without_notes(event) == event.raw


def test_a_line_keeps_its_ending_when_it_is_rewritten() -> None:
    [event], _ = parse(b'{"a":1}\r\n')
    assert (event.data, LINES.rewrite(event, b"{}")) == (b'{"a":1}', b"{}\r\n")
    with pytest.raises(ValueError, match="line feed"):
        LINES.rewrite(event, b"{\n}")


def test_a_blank_line_says_nothing() -> None:
    events, pending = parse(b"\n \r\n{}\n")
    assert ([event.data for event in events], pending) == ([b"", b"", b"{}"], b"")


@pytest.mark.parametrize(("last", "data"), [(b'{"done":true}', [b'{"done":true}']), (b'{"done":tr', []), (b"", [])])
def test_a_whole_object_without_a_line_feed_counts_when_the_stream_ends(last: bytes, data: list[bytes]) -> None:
    events, pending = parse(b"{}\n" + last)
    assert [event.data for event in events] == [b"{}", *data]
    assert pending == (b"" if data else last)


def test_a_line_beyond_the_limit_is_refused_after_those_before_it() -> None:
    parser = LineParser(max_line=32)
    assert [event.data for event in parser.feed(b"{}\n" + b'{"a":"' + b"y" * 40)] == [b"{}"]
    with pytest.raises(UpstreamFailure) as caught:
        parser.feed(b"y")
    assert caught.value.code is Code.REPLY_TOO_LARGE
    with pytest.raises(UpstreamFailure):
        LineParser(max_line=32).feed(b"y" * 40)
