"""Golden streams of every dialect, read whole, split at every byte and cut at every event."""

import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.goldens import (
    STREAMS,
    events_of,
    expected_of,
    framing_of,
    opened,
    read_all,
    stream_bytes,
    surface_of,
)

from securellm.core.document import Document, Patch
from securellm.core.errors import Code
from securellm.core.messages import Kind
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers import DIALECTS, EventView, StreamEvent, StreamReader, rewrite

NAMES = ["choices", "message", "delta", "content", "tool_calls", "logprobs", "token", "id", "text", "index", "usage"]
NAMES += ["candidates", "parts", "functionCall", "args", "groundingMetadata", "response", "thinking", "function"]
STREAMING = [surface for surface, dialect in DIALECTS.items() if dialect.open_stream is not None]
TEXT = "openai.chat.text"
TOOLS = "openai.chat.tools"
TWO = "openai.chat.two_choices"
MESSAGE = "anthropic-2023-06-01.messages.text"
WEB = "anthropic-2023-06-01.messages.web_search"
MESSAGE_TOOLS = "anthropic-2026-10-21.messages.tools"
RESPONSE = "openai.responses.text"
UNMARKED = [name for name in STREAMS if surface_of(name) is Surface.GENERATE_CONTENT]
"""Streams whose end has no mark: they are whole once every candidate is finished."""


def reader(surface: Surface, *, injected_usage: bool = False) -> StreamReader:
    open_stream = DIALECTS[surface].open_stream
    assert open_stream is not None
    return open_stream(injected_usage=injected_usage)


@pytest.mark.requirement("GW-8", "PR-3")
@pytest.mark.parametrize("name", STREAMS)
def test_a_golden_stream_says_what_its_provider_meant(name: str) -> None:
    expected = expected_of(name)
    machine, views = read_all(name, events_of(name))

    assert [view.failure for view in views if view.failure] == []
    assert machine.finish == expected.finish
    assert (machine.model, machine.id) == (expected.model, expected.id)
    assert machine.usage == expected.usage
    assert dict(machine.server_tool_uses) == expected.tools
    assert machine.service_tier == expected.service_tier
    assert [view.finish for view in views if view.finish][:1] == [expected.finish]
    if name in UNMARKED:
        assert not machine.terminal
    else:
        assert [view.terminal for view in views].count(True) == 1
        assert views[-1].terminal
    assert machine.eof() is None

    assert channels_of(views) == expected.channels
    assert expected.whole <= {fragment.text for view in views for fragment in view.fragments if fragment.whole}


def channels_of(views: list[EventView]) -> dict[str, str]:
    channels: dict[str, str] = defaultdict(str)
    for view in views:
        for fragment in view.fragments:
            if not fragment.whole:
                channels[fragment.channel] += fragment.text
    return channels


@pytest.mark.requirement("GW-7", "GW-8")
@pytest.mark.parametrize("name", STREAMS)
def test_a_golden_stream_means_the_same_however_it_is_split(name: str) -> None:
    data = stream_bytes(name)
    expected = events_of(name)
    assert b"".join(event.raw for event in expected) == data
    parser = framing_of(name).parser
    for at in range(len(data) + 1):
        halves = parser()
        assert halves.feed(data[:at]) + halves.feed(data[at:]) + halves.end() == expected
    bytewise = parser()
    assert [event for at in range(len(data)) for event in bytewise.feed(data[at : at + 1])] == expected


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_at_any_event_is_truncated_and_gets_no_finish(name: str) -> None:
    events = events_of(name)
    for cut in range(len(events)):
        machine, views = read_all(name, events[:cut])
        assert not any(view.failure or view.terminal for view in views)
        end = machine.eof()
        if name in UNMARKED and machine.finish is not None:
            assert end is None
            continue
        assert end is not None
        assert end.code is Code.TRUNCATED
        said_finish = any(b'_reason":"' in event.data for event in events[:cut])
        assert machine.finish is None or said_finish


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", [name for name in STREAMS if surface_of(name) is Surface.CHAT])
def test_a_chat_stream_that_is_done_before_it_has_a_reason_is_truncated(name: str) -> None:
    events = events_of(name)
    reasons = [at for at, event in enumerate(events) if b'"finish_reason":"' in event.data]
    for at in range(reasons[-1]):
        _, views = read_all(name, [*events[:at], events[-1]])
        failure = views[-1].failure
        assert failure is not None
        assert failure.code is Code.TRUNCATED


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("missing", [b"message_start", b"content_block_stop", b"message_delta"])
def test_a_message_that_stops_before_it_is_complete_is_a_failure(missing: bytes) -> None:
    events = [event for event in events_of(MESSAGE_TOOLS) if b'"type":"' + missing not in event.data]
    _, views = read_all(MESSAGE_TOOLS, events)
    failures = [view.failure for view in views if view.failure]
    assert failures
    assert failures[0].code in {Code.TRUNCATED, Code.BAD_REPLY}
    assert not any(view.terminal for view in views)


@pytest.mark.parametrize("name", STREAMS)
def test_every_channel_is_closed_by_the_end_and_not_written_to_after(name: str) -> None:
    _, views = read_all(name, events_of(name))
    closed: list[str] = []
    for view in views:
        assert not {fragment.channel for fragment in view.fragments} & set(closed)
        closed += view.closes
    channels = sorted(expected_of(name).channels)
    assert sorted(closed) == channels or (name in UNMARKED and set(closed) <= set(channels))


@pytest.mark.parametrize("name", STREAMS)
def test_every_fragment_points_at_its_text(name: str) -> None:
    for view in read_all(name, events_of(name))[1]:
        for fragment in view.fragments:
            assert view.document is not None
            if any(fragment.path[: len(mirror.path)] == mirror.path for mirror in view.mirrors):
                continue
            start, end = view.document.span(fragment.path, key=fragment.kind is Kind.KEY)
            assert json.loads(view.document.text[start:end]) == fragment.text


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("usage", [',"usage":null', ', "usage" : null', "first"])
def test_what_was_injected_is_taken_out_again_to_the_byte(usage: str) -> None:
    asked = stream_bytes(TOOLS)
    answered: list[bytes] = []
    for event in events_of(TOOLS):
        if event.data == b"[DONE]":
            figures = b'"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}'
            answered.append(b'data: {"id":"x","object":"chat.completion.chunk","choices":[],' + figures + b"}\n\n")
            answered.append(event.raw)
        elif usage == "first":
            answered.append(event.raw.replace(b'{"id"', b'{"usage":null,"id"', 1))
        else:
            answered.append(event.raw.replace(b"}\n\n", usage.encode() + b"}\n\n"))

    machine = opened(TOOLS, injected_usage=True)
    sent: list[bytes] = []
    for event in events_of(TOOLS, b"".join(answered)):
        view = machine.read(event)
        assert view.failure is None
        if view.drop:
            continue
        raw = event.raw
        if view.removals:
            assert view.document is not None
            patch = Patch(view.document)
            for path in view.removals:
                patch.remove(path)
            raw = rewrite(event, patch.apply())
        sent.append(raw)
    assert b"".join(sent) == asked
    assert machine.usage == Usage(input=5, output=7)


def test_usage_that_the_caller_asked_for_stays() -> None:
    machine = reader(Surface.CHAT)
    assert not any(view.drop or view.removals for view in map(machine.read, events_of(TEXT)))


def test_a_usage_chunk_that_says_more_than_usage_is_not_dropped() -> None:
    machine = reader(Surface.CHAT, injected_usage=True)
    figures = b'"usage":{"prompt_tokens":5,"completion_tokens":7}'
    view = machine.read(event(b'{"choices":[],"moderation":{"flagged":false},' + figures + b"}"))
    assert not view.drop
    assert view.removals == (("usage",),)
    assert view.usage == Usage(input=5, output=7)


def event(data: bytes, *, name: str | None = None, notes: str = "") -> StreamEvent:
    return StreamEvent(raw=b"", data=data, event=name, notes=notes)


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize(
    ("surface", "name", "data", "code", "provider_code"),
    [
        (
            "chat",
            None,
            b'{"error":{"message":"x","type":"server_error","code":null}}',
            Code.PROVIDER_ERROR,
            "server_error",
        ),
        (
            "chat",
            None,
            b'{"error":{"message":"x","type":"tokens","code":"rate_limit_exceeded"}}',
            Code.PROVIDER_RATE_LIMITED,
            "rate_limit_exceeded",
        ),
        ("chat", None, b'{"error":"out of memory"}', Code.PROVIDER_ERROR, None),
        ("chat", "error", b"no json at all", Code.PROVIDER_ERROR, None),
        ("chat", "error", b"", Code.PROVIDER_ERROR, None),
        (
            "messages",
            "error",
            b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            Code.PROVIDER_OVERLOADED,
            "overloaded_error",
        ),
        ("messages", None, b'{"type":"error","error":{"type":"api_error"}}', Code.PROVIDER_ERROR, "api_error"),
        (
            "responses",
            "error",
            b'{"type":"error","code":"server_error","message":"x","param":null,"sequence_number":3}',
            Code.PROVIDER_ERROR,
            "server_error",
        ),
        (
            "responses",
            "response.failed",
            b'{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"x"}}}',
            Code.PROVIDER_RATE_LIMITED,
            "rate_limit_exceeded",
        ),
    ],
)
def test_an_error_in_a_stream_is_a_failure_with_the_providers_code(
    surface: str, name: str | None, data: bytes, code: Code, provider_code: str | None
) -> None:
    machine = reader(Surface(surface))
    view = machine.read(event(data, name=name))
    assert view.failure is not None
    assert view.failure.code is code
    assert view.failure.provider_code == provider_code
    assert not view.terminal
    after = machine.read(event(b"[DONE]"))
    assert after.failure is not None


def test_a_failed_response_still_says_what_it_consumed() -> None:
    machine = reader(Surface.RESPONSES)
    view = machine.read(
        event(
            b'{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"},'
            b'"usage":{"input_tokens":3,"output_tokens":4}}}'
        )
    )
    assert view.failure is not None
    assert machine.usage == Usage(input=3, output=4)


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", [name for name in STREAMS if name not in UNMARKED])
def test_nothing_is_accepted_after_the_terminal_event(name: str) -> None:
    events = events_of(name)
    machine, _ = read_all(name, events)
    assert machine.read(event(b"")).failure is None
    again = machine.read(events[0] if events[0].data else events[-1])
    assert again.failure is not None
    assert again.failure.code is Code.BAD_REPLY


def test_done_after_the_end_of_a_response_is_dropped() -> None:
    machine, _ = read_all(RESPONSE, events_of(RESPONSE))
    assert machine.read(event(b"[DONE]")).drop


@pytest.mark.parametrize("surface", ["chat", "messages", "responses"])
@pytest.mark.parametrize(
    "data", [b"{", b'{"a":1,"a":2}', b"[]", b"7", b'{"a":"\xff"}', b'{"a":NaN}', b'{"a":"\\ud800"}', b"[DONE] more"]
)
def test_an_event_that_is_no_strict_json_object_is_a_failure(surface: str, data: bytes) -> None:
    view = reader(Surface(surface)).read(event(data))
    assert view.failure is not None
    assert view.failure.code is Code.BAD_REPLY


@pytest.mark.parametrize("surface", ["messages", "responses"])
def test_an_event_whose_name_and_type_disagree_is_a_failure(surface: str) -> None:
    view = reader(Surface(surface)).read(event(b'{"type":"ping"}', name="pong"))
    assert view.failure is not None
    assert view.failure.code is Code.BAD_REPLY


@pytest.mark.parametrize("surface", ["chat", "messages", "responses"])
def test_an_event_name_carries_no_text(surface: str) -> None:
    view = reader(Surface(surface)).read(event(b"{}", name="my CPF is 111.444.777-35"))
    assert view.failure is not None
    assert view.failure.code is Code.BAD_REPLY


def test_comments_that_could_hide_something_are_screened_and_plain_ones_are_not() -> None:
    assert reader(Surface.CHAT).read(event(b"", notes=": keep-alive")).fragments == ()
    [fragment] = reader(Surface.CHAT).read(event(b"", notes=": CPF 111.444.777-35")).fragments
    assert fragment.path == ()
    assert fragment.text == ": CPF 111.444.777-35"
    with_data = reader(Surface.CHAT).read(event(b'{"choices":[]}', notes="id: 12 3"))
    assert [fragment.text for fragment in with_data.fragments] == ["id: 12 3"]


def test_text_streamed_in_a_member_nobody_declared_is_still_one_text() -> None:
    machine = reader(Surface.CHAT)
    texts = [
        fragment.text
        for piece in ("111.444.", "777-35")
        for fragment in machine.read(
            event(json.dumps({"choices": [{"index": 0, "delta": {"musing": piece}}]}).encode())
        ).fragments
        if fragment.channel == "0/delta/musing"
    ]
    assert texts == ["111.444.", "777-35"]


def test_an_id_that_is_not_one_is_screened() -> None:
    [fragment] = reader(Surface.CHAT).read(event(b'{"id":"my name is Ana","choices":[]}')).fragments
    assert fragment.text == "my name is Ana"


def test_a_choice_is_followed_by_its_index_not_by_its_position() -> None:
    machine = reader(Surface.CHAT)
    for index in (1, 0, 1):
        body = {"choices": [{"index": index, "delta": {"content": "x"}}]}
        [fragment] = machine.read(event(json.dumps(body).encode())).fragments
        assert fragment.channel == f"{index}/delta/content"


def test_a_text_is_closed_when_its_choice_goes_on_to_another() -> None:
    machine = reader(Surface.CHAT)
    machine.read(event(b'{"choices":[{"index":0,"delta":{"reasoning":"a"}}]}'))
    machine.read(event(b'{"choices":[{"index":1,"delta":{"reasoning":"b"}}]}'))
    view = machine.read(event(b'{"choices":[{"index":0,"delta":{"content":"c"}}]}'))
    assert view.closes == ("0/delta/reasoning",)


def test_odd_chunks_are_kept_and_screened() -> None:
    machine = reader(Surface.CHAT)
    for odd in (
        {"choices": {"0": "text in a strange place"}},
        {"choices": ["text in a strange place"]},
        {"choices": [{"index": "one", "delta": ["text in a strange place"]}]},
        {"choices": [{"delta": {"tool_calls": "text in a strange place"}}]},
        {"choices": [{"delta": {"content": [{"type": "text", "text": "text in a strange place"}]}}]},
        {"choices": [{"logprobs": "text in a strange place"}]},
        {"object": "chat.completion.chunk", "remark": "text in a strange place"},
    ):
        view = machine.read(event(json.dumps(odd).encode()))
        assert view.failure is None
        assert "text in a strange place" in [fragment.text for fragment in view.fragments]


def test_log_probabilities_are_mirrors_of_the_text() -> None:
    views = read_all(TWO, events_of(TWO))[1]
    [mirror] = views[0].mirrors
    document = views[0].document
    assert document is not None
    patch = Patch(document)
    patch.set(mirror.path, mirror.blank)
    assert json.loads(patch.apply())["choices"][0]["logprobs"] is None


def test_cumulative_usage_never_falls() -> None:
    machine = reader(Surface.CHAT)
    for prompt, completion in ((10, 1), (10, 5), (0, 0)):
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        machine.read(event(json.dumps({"choices": [], "usage": usage}).encode()))
    assert machine.usage == Usage(input=10, output=5)


def test_a_server_tool_is_counted() -> None:
    machine, _ = read_all(WEB, events_of(WEB))
    assert machine.server_tool_uses == (("web_search", 1),)


def test_fewer_choices_than_asked_for_finish_with_the_stream() -> None:
    open_stream = DIALECTS[Surface.CHAT].open_stream
    assert open_stream is not None
    machine = open_stream(choices=3)
    views = [machine.read(one) for one in events_of(TEXT)]
    assert [view.finish for view in views if view.finish] == ["stop"]
    assert views[-1].finish == machine.finish == "stop"


@pytest.mark.parametrize("surface", ["chat", "messages", "responses"])
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers(0, 2) | st.just("a b"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
        max_leaves=20,
    )
)
def test_no_text_of_an_event_hides_in_any_shape(surface: str, body: object) -> None:
    written = json.dumps({"choices": [body], "delta": body, "response": body, "item": body, "content_block": body})
    view = reader(Surface(surface)).read(event(written.encode()))
    assert view.failure is None
    assert sum(fragment.text.count("a b") for fragment in view.fragments) == written.count('"a b"')


def test_a_document_is_given_for_every_event_with_data() -> None:
    for view in read_all(MESSAGE, events_of(MESSAGE))[1]:
        assert isinstance(view.document, Document)
