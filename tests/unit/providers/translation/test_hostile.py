"""Whatever a client or an upstream sends, the answer is a refusal or a failure, never a crash."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.providers.goldens import REPLIES, STREAMS, stream_bytes, surface_of
from tests.unit.providers.translation.clients import events, occasion
from tests.unit.providers.translation.conversations import chat_asks, json_values, messages_asks
from tests.unit.providers.translation.ollama import chat_body, generate_body, ollama_asks

from securellm.core.errors import Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.providers.translation import (
    DIRECTIONS,
    Direction,
    StreamTranslation,
    translate_answer,
    translate_ask,
)
from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.messages import MESSAGES

JSON = dict[str, Any]
ALL = list(DIRECTIONS.values())
of_each = pytest.mark.parametrize(
    "direction", ALL, ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}"
)
BODIES: dict[Surface, st.SearchStrategy[JSON]] = {
    Surface.CHAT: chat_asks().map(lambda ask: CHAT.write_ask(ask)[0]),
    Surface.MESSAGES: messages_asks().map(lambda ask: MESSAGES.write_ask(ask)[0]),
    Surface.OLLAMA_CHAT: ollama_asks().map(chat_body),
    Surface.OLLAMA_GENERATE: ollama_asks(prompt=True).map(generate_body),
}
of_each_asked = pytest.mark.parametrize(
    "direction",
    [direction for direction in ALL if direction.source.surface in BODIES],
    ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}",
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and under which name or index."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield value, name
        yield from places(child)


def spoilt(data: st.DataObject, document: Any) -> Any:
    """The document with something else in one or two of its places, or with one of them gone."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 2))):
        found = list(places(document))
        if not found:
            break
        holder, name = data.draw(st.sampled_from(found))
        if isinstance(holder, dict) and data.draw(st.booleans()):
            del holder[name]
        else:
            holder[name] = data.draw(json_values)
    return document


@pytest.mark.requirement("GW-7", "GW-12")
@of_each_asked
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_spoilt_request_is_translated_or_refused(direction: Direction, data: st.DataObject) -> None:
    body = data.draw(BODIES[direction.source.surface])
    try:
        translated = translate_ask(
            direction, spoilt(data, body), model="m", stream=data.draw(st.booleans()), default_max_output=9
        )
    except Refusal:
        return
    json.loads(translated.body)


@pytest.mark.requirement("GW-7", "GW-12")
@of_each
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_spoilt_reply_is_translated_or_fails(direction: Direction, data: st.DataObject) -> None:
    names = [name for name in REPLIES if surface_of(name) is direction.target.surface]
    reply = json.loads(REPLIES[data.draw(st.sampled_from(names))].read_bytes())
    try:
        json.loads(translate_answer(direction, spoilt(data, reply), occasion()))
    except UpstreamFailure:
        return


@pytest.mark.requirement("GW-7", "GW-8", "GW-12")
@of_each
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_spoilt_stream_is_translated_or_fails(direction: Direction, data: st.DataObject) -> None:
    names = [name for name in STREAMS if surface_of(name) is direction.target.surface]
    stream = events(stream_bytes(data.draw(st.sampled_from(names))))
    order = data.draw(st.lists(st.sampled_from(range(len(stream))), max_size=3))
    for index in order:
        match data.draw(st.sampled_from(["spoil", "drop", "twice"])):
            case "spoil":
                stream[index] = spoilt(data, stream[index])
            case "drop":
                stream[index] = {}
            case _:
                stream.insert(index, stream[index])
    translation = StreamTranslation(direction, occasion())
    try:
        for event in stream:
            events(translation.feed(event))
        events(translation.end())
    except UpstreamFailure:
        return
