"""Streams in disorder: events twice, out of turn, mixed up, mis-encoded or huge are told as what they are."""

import json
from itertools import pairwise
from typing import Any

import pytest
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

from securellm.core.errors import Code
from securellm.core.surfaces import Surface
from securellm.providers import DIALECTS, EventView, StreamEvent, StreamReader
from securellm.providers.dialects.machine import MOST_CHOICES, MOST_OPEN

NUMBERED = [name for name in STREAMS if surface_of(name) is Surface.RESPONSES]
MESSAGES = [name for name in STREAMS if surface_of(name) is Surface.MESSAGES]


def failure_in(views: list[EventView]) -> Code | None:
    """The first failure; whatever comes after one fails too, and nothing is terminal any more."""
    for at, view in enumerate(views):
        if view.failure is not None:
            assert all(later.failure is not None and not later.terminal for later in views[at:])
            return view.failure.code
    return None


def chunk(**choice: Any) -> StreamEvent:
    return StreamEvent(raw=b"", data=json.dumps({"choices": [{"index": 0, **choice}]}).encode())


def tool(index: int | None, arguments: str, **call: Any) -> StreamEvent:
    name = call.pop("name", None)
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    place = {} if index is None else {"index": index}
    return chunk(delta={"tool_calls": [{**place, **call, "function": function}]})


def machine(surface: Surface) -> StreamReader:
    open_stream = DIALECTS[surface].open_stream
    assert open_stream is not None
    return open_stream()


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", NUMBERED)
def test_an_event_that_comes_twice_is_told_by_its_number(name: str) -> None:
    events = events_of(name)
    for at in range(len(events)):
        twice = [*events[: at + 1], *events[at:]]
        assert failure_in(read_all(name, twice)[1]) is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", NUMBERED)
def test_events_out_of_turn_are_told_by_their_numbers(name: str) -> None:
    events = events_of(name)
    for at in range(len(events) - 1):
        swapped = [*events[:at], events[at + 1], events[at], *events[at + 2 :]]
        assert failure_in(read_all(name, swapped)[1]) is Code.BAD_REPLY


def test_events_without_numbers_and_numbers_with_gaps_are_taken() -> None:
    name = "openai.responses.families"
    for step in (0, 7):
        renumbered = []
        for number, event in enumerate(events_of(name)):
            body = json.loads(event.data)
            del body["sequence_number"]
            if step:
                body["sequence_number"] = number * step
            renumbered.append(StreamEvent(raw=b"", data=json.dumps(body).encode(), event=event.event))
        reader, views = read_all(name, renumbered)
        assert failure_in(views) is None
        assert reader.usage == expected_of(name).usage


def test_two_output_items_cannot_share_an_index() -> None:
    reader = machine(Surface.RESPONSES)
    for item, expected in (("fc_1", None), ("fc_2", Code.BAD_REPLY)):
        body = {"type": "response.output_item.added", "output_index": 0, "item": {"id": item, "type": "function_call"}}
        assert failure_in([reader.read(StreamEvent(raw=b"", data=json.dumps(body).encode()))]) is expected


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", MESSAGES)
def test_a_part_of_a_messages_frame_that_comes_twice_is_told(name: str) -> None:
    events = events_of(name)
    frame = {"message_start", "content_block_start", "content_block_stop", "message_stop"}
    for at, event in enumerate(events):
        if event.event in frame:
            assert failure_in(read_all(name, [*events[: at + 1], *events[at:]])[1]) is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("name", MESSAGES)
def test_a_part_of_a_messages_frame_that_comes_out_of_turn_is_told(name: str) -> None:
    events = events_of(name)
    for at, (first, second) in enumerate(pairwise(events)):
        if first.event == second.event or "ping" in (first.event, second.event):
            continue  # Pieces of one text have nothing by which their order could be told.
        if (first.event, second.event) == ("content_block_stop", "content_block_start"):
            continue  # Two blocks that overlap are told apart by their index.
        reader, views = read_all(name, [*events[:at], second, first, *events[at + 2 :]])
        assert failure_in(views) in {Code.BAD_REPLY, Code.TRUNCATED}, (first.event, second.event)
        assert reader.eof() is not None


@pytest.mark.requirement("GW-8")
def test_two_tool_calls_that_share_an_index_are_refused() -> None:
    for second in (
        tool(0, "{}", id="call_2", name="get_time"),
        tool(0, "{}", id="call_2"),
        tool(0, "{}", name="get_time"),
    ):
        reader = machine(Surface.CHAT)
        first = reader.read(tool(0, '{"city":', id="call_1", name="get_weather"))
        assert failure_in([first, reader.read(second)]) is Code.BAD_REPLY


def test_one_tool_call_may_say_again_what_it_is_called() -> None:
    reader = machine(Surface.CHAT)
    call = {"id": "call_1", "name": "get_weather"}
    assert failure_in([reader.read(tool(0, piece, **call)) for piece in ('{"a"', ":1", "}")]) is None
    assert failure_in([reader.read(tool(0, " ", id="", name=""))]) is None
    whole = machine(Surface.CHAT)
    assert failure_in([whole.read(tool(None, "{}", id=f"call_{n}", name="f")) for n in (1, 2)]) is None


def test_tool_calls_in_turns_are_told_apart_by_their_index() -> None:
    reader = machine(Surface.CHAT)
    texts: dict[str, str] = {}
    for event in (
        tool(0, "", id="call_1", name="a"),
        tool(1, "", id="call_2", name="b"),
        *(tool(index, piece) for piece in ('{"n":', "1", "}") for index in (0, 1)),
    ):
        for fragment in reader.read(event).fragments:
            if fragment.channel:
                texts[fragment.channel] = texts.get(fragment.channel, "") + fragment.text
    assert set(texts.values()) == {'{"n":1}'}
    assert len(texts) == 2


@pytest.mark.requirement("GW-8")
def test_a_choice_cannot_go_on_after_its_finish() -> None:
    reader = machine(Surface.CHAT)
    finished = [reader.read(chunk(delta={"content": "a"})), reader.read(chunk(delta={}, finish_reason="stop"))]
    assert failure_in(finished) is None
    assert failure_in([reader.read(chunk(delta={"content": ""}, content_filter_results={}))]) is None
    assert failure_in([reader.read(chunk(delta={"content": "b"}))]) is Code.BAD_REPLY


@pytest.mark.parametrize("name", ["openai.chat.text", "gemini.generate_content.text", "ollama.ollama_chat.text"])
def test_bytes_that_are_no_utf_8_are_refused_however_they_are_split(name: str) -> None:
    data = stream_bytes(name)
    at = data.index("ç".encode() if "ç".encode() in data else b"Ol")
    broken = data[:at] + b"\xc3" + data[at + 2 :]
    for cut in range(at - 2, at + 4):
        parser = framing_of(name).parser()
        events = parser.feed(broken[:cut]) + parser.feed(broken[cut:]) + parser.end()
        assert failure_in(read_all(name, events)[1]) is Code.BAD_REPLY


@pytest.mark.parametrize("name", ["openai.chat.text", "gemini.generate_content.text", "ollama.ollama_chat.text"])
def test_a_line_of_ten_megabytes_is_one_event(name: str) -> None:
    text = "ç" * 5_000_000
    first = next(event for event in events_of(name) if "Olá".encode() in event.data)
    huge = first.raw.replace("Olá, ".encode(), text.encode())
    parser = framing_of(name).parser()
    events = [each for at in range(0, len(huge), 65_536) for each in parser.feed(huge[at : at + 65_536])]
    assert [each.raw for each in events] == [huge]
    view = opened(name).read(events[0])
    assert view.failure is None
    assert any(fragment.text.startswith(text) for fragment in view.fragments if fragment.channel)


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize(
    ("surface", "body", "code", "provider_code"),
    [
        (
            Surface.GENERATE_CONTENT,
            {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}},
            Code.PROVIDER_OVERLOADED,
            "UNAVAILABLE",
        ),
        (
            Surface.GENERATE_CONTENT,
            {"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}},
            Code.PROVIDER_RATE_LIMITED,
            "RESOURCE_EXHAUSTED",
        ),
        (Surface.OLLAMA_CHAT, {"error": "an error was encountered while running the model"}, Code.PROVIDER_ERROR, None),
        (Surface.OLLAMA_GENERATE, {"error": "input exceeds the context length"}, Code.CONTEXT_TOO_LONG, None),
        (Surface.OLLAMA_CHAT, {"message": {"content": "x"}}, Code.BAD_REPLY, None),
    ],
)
def test_an_error_among_the_pieces_is_a_failure(
    surface: Surface, body: dict[str, Any], code: Code, provider_code: str | None
) -> None:
    reader = machine(surface)
    view = reader.read(StreamEvent(raw=b"", data=json.dumps(body).encode()))
    assert view.failure is not None
    assert (view.failure.code, view.failure.provider_code) == (code, provider_code)
    assert not view.terminal
    end = reader.eof()
    assert end is not None
    assert end.code is Code.TRUNCATED


def test_an_error_that_stands_bare_in_the_stream_is_a_failure() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    name = "gemini.generate_content.text"
    written = json.dumps(error, indent=2).encode() + b"\n\n"
    [event] = events_of(name, written)
    view = opened(name).read(event)
    assert view.failure is not None
    assert view.failure.code is Code.PROVIDER_OVERLOADED
    for harmless in (b"{\n\n", b'{"a": 1}\n\n', b"[1]\n\n"):
        [event] = events_of(name, harmless)
        assert opened(name).read(event).failure is None


def test_a_bare_error_after_the_finish_is_no_good_end() -> None:
    name = "gemini.generate_content.text"
    reader, _ = read_all(name, [*events_of(name), *events_of(name, b'{"error": {"status": "INTERNAL"}}\n\n')])
    assert reader.finish == "STOP"
    assert reader.eof() is not None


def test_candidates_that_never_came_do_not_hold_up_the_end() -> None:
    open_stream = DIALECTS[Surface.GENERATE_CONTENT].open_stream
    assert open_stream is not None
    reader = open_stream(choices=3)
    assert not any(reader.read(event).finish for event in events_of("gemini.generate_content.text"))
    assert reader.eof() is None
    assert reader.finish == "STOP"


def test_a_stream_without_a_single_candidate_is_truncated() -> None:
    reader = machine(Surface.GENERATE_CONTENT)
    assert failure_in([reader.read(StreamEvent(raw=b"", data=b'{"modelVersion":"m"}'))]) is None
    assert reader.eof() is not None


def test_arguments_that_come_in_parts_are_one_text_by_their_place() -> None:
    reader = machine(Surface.GENERATE_CONTENT)
    texts = []
    for piece in ("111.444.", "777-35"):
        part = {"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.cpf", "stringValue": piece}]}}
        body = {"candidates": [{"content": {"parts": [part]}}]}
        view = reader.read(StreamEvent(raw=b"", data=json.dumps(body).encode()))
        texts += [each.text for each in view.fragments if each.channel == "0/functionCall/$.cpf"]
    assert texts == ["111.444.", "777-35"]


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("surface", [Surface.CHAT, Surface.GENERATE_CONTENT])
def test_more_answers_than_anybody_can_ask_for_are_refused(surface: Surface) -> None:
    reader = machine(surface)
    for index in range(MOST_CHOICES):
        assert failure_in([reader.read(_answer(surface, index))]) is None
    assert failure_in([reader.read(_answer(surface, MOST_CHOICES))]) is Code.BAD_REPLY


def _answer(surface: Surface, index: int) -> StreamEvent:
    if surface is Surface.CHAT:
        return chunk(delta={"content": "a"}, index=index)
    candidates = [{"index": index, "content": {"parts": [{"text": "a"}]}}]
    return StreamEvent(raw=b"", data=json.dumps({"candidates": candidates}).encode())


@pytest.mark.requirement("GW-8")
def test_more_texts_at_once_than_anybody_reads_are_refused() -> None:
    many = chunk(delta={f"x{number}": "a" for number in range(MOST_OPEN + 1)})
    assert failure_in([machine(Surface.CHAT).read(many)]) is Code.BAD_REPLY
