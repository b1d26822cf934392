"""Whatever bytes a provider sends: none is lost, nothing is raised but a failure, no bad end seems good."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.providers.goldens import REPLIES, STREAMS, framing_of, opened, stream_bytes, surface_of

from securellm.core.document import Document, Patch
from securellm.core.errors import Refusal, UpstreamFailure
from securellm.providers import DIALECTS, StreamEvent

DIALECTS_THAT_STREAM = sorted({surface_of(name) for name in STREAMS})
Edit = Callable[[bytes], bytes]


def spliced(place: int, length: int, instead: bytes) -> Edit:
    def edit(data: bytes) -> bytes:
        at = place % (len(data) + 1)
        return data[:at] + instead + data[at + length :]

    return edit


EDITS = st.lists(
    st.builds(
        spliced,
        st.integers(0, 100_000),
        st.integers(0, 40),
        st.binary(max_size=4)
        | st.sampled_from([b"\n\n", b"\r", b"data: ", b"event: error\n", b'"', b"{", b"\xf0\x9f"]),
    ),
    min_size=1,
    max_size=4,
)
CUTS = st.lists(st.integers(0, 100_000), max_size=6)


@pytest.mark.requirement("GW-7", "GW-8")
@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=50)
@given(edits=EDITS, cuts=CUTS)
def test_a_damaged_stream_loses_no_byte_and_raises_nothing(name: str, edits: list[Edit], cuts: list[int]) -> None:
    data = stream_bytes(name)
    for edit in edits:
        data = edit(data)
    parser = framing_of(name).parser()
    events: list[StreamEvent] = []
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        events += parser.feed(data[start:end])
    events += parser.end()
    assert b"".join(event.raw for event in events) + parser.pending == data
    reader = opened(name)
    failed = False
    for event in events:
        view = reader.read(event)
        assert not (failed and (view.terminal or view.failure is None))
        failed = failed or view.failure is not None
    end_of_it = reader.eof()
    assert isinstance(end_of_it, UpstreamFailure | None)
    if end_of_it is None:
        assert reader.terminal or reader.finish is not None


@pytest.mark.parametrize("surface", DIALECTS_THAT_STREAM)
@given(data=st.binary(max_size=60), name=st.none() | st.text(max_size=8), notes=st.text(max_size=20))
def test_no_event_of_any_bytes_raises(surface: str, data: bytes, name: str | None, notes: str) -> None:
    open_stream = DIALECTS[surface_of(f"x.{surface}.y")].open_stream
    assert open_stream is not None
    reader = open_stream(injected_usage=True, choices=2)
    for _ in range(2):
        reader.read(StreamEvent(raw=b"", data=data, event=name, notes=notes))
    reader.eof()


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("name", REPLIES)
@settings(max_examples=50)
@given(edits=EDITS)
def test_a_damaged_reply_is_refused_or_read_and_patched_in_place(name: str, edits: list[Edit]) -> None:
    data = REPLIES[name].read_bytes()
    for edit in edits:
        data = edit(data)
    try:
        document = Document(data)
    except Refusal:
        return
    facts = DIALECTS[surface_of(name)].read_reply(document)
    assert Patch(document).apply() == data
    for leaf in facts.leaves:
        if not any(mirror.holds(leaf.path) for mirror in facts.mirrors):
            start, end = document.span(leaf.path, key=leaf.kind == "key")
            assert document.text[start:end]
