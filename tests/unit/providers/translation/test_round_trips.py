"""What a dialect can hold comes back as it was, and an answer says the same to every client, streamed or whole."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.providers.translation.clients import (
    HEAR,
    HEAR_STREAM,
    Heard,
    occasion,
    translated_stream,
    upstream_stream,
)
from tests.unit.providers.translation.conversations import answers, chat_asks, messages_asks, streamed

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.providers.translation import DIRECTIONS, Direction, translate_answer
from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.model import Answer, Ask, Reasoning, Text, ToolCall
from securellm.providers.translation.signatures import marked

MINE = [direction for direction in DIRECTIONS.values() if direction.source.surface in HEAR]
of_each = pytest.mark.parametrize(
    "direction", MINE, ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}"
)


def read_back(body: dict[str, Any]) -> Any:
    """The body as it arrives."""
    return Document(json.dumps(body).encode()).members()


def as_read_by_chat(ask: Ask) -> Ask:
    """A tool call's proof has one place in chat completions, which is Gemini's."""
    turns = [
        msgspec.structs.replace(
            turn,
            parts=tuple(
                msgspec.structs.replace(part, signature=marked(Surface.GENERATE_CONTENT, part.signature))
                if isinstance(part, ToolCall) and part.signature is not None
                else part
                for part in turn.parts
            ),
        )
        for turn in ask.turns
    ]
    return msgspec.structs.replace(ask, turns=tuple(turns))


@pytest.mark.requirement("GW-7")
@settings(deadline=None)
@given(chat_asks())
def test_what_chat_completions_can_hold_comes_back(ask: Ask) -> None:
    body, hints = CHAT.write_ask(ask)
    assert hints == ()
    assert CHAT.read_ask(read_back(body)) == as_read_by_chat(ask)


@pytest.mark.requirement("GW-7")
@settings(deadline=None)
@given(messages_asks())
def test_what_messages_can_hold_comes_back(ask: Ask) -> None:
    body, hints = MESSAGES.write_ask(ask)
    assert hints == ()
    assert MESSAGES.read_ask(read_back(body)) == ask


def said(answer: Answer) -> Heard:
    """What a client should hear of an answer, in Ask's own words."""
    choice = answer.choices[0]
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    return Heard(
        text="".join(part.text for part in choice.parts if isinstance(part, Text)),
        thought="".join(part.text for part in choice.parts if isinstance(part, Reasoning)),
        calls=tuple((call.id, call.name, json.loads(call.arguments or "{}")) for call in calls),
        finish=FINISHES[choice.finish],
        usage=answer.usage,
    )


FINISHES = {"stop": "stop", "length": "length", "tools": "tools"}
WORDS = {
    Surface.CHAT: {"stop": "stop", "length": "length", "tool_calls": "tools"},
    Surface.MESSAGES: {"end_turn": "stop", "max_tokens": "length", "tool_use": "tools"},
}


def in_no_dialect(heard: Heard, surface: Surface) -> Heard:
    return msgspec.structs.replace(heard, finish=WORDS[surface][heard.finish], arguments=())


@pytest.mark.requirement("GW-7", "GW-8", "PR-3")
@of_each
@settings(deadline=None)
@given(data=st.data())
def test_a_stream_says_to_the_sdk_what_the_provider_said(direction: Direction, data: st.DataObject) -> None:
    source, target = direction.source.surface, direction.target.surface
    answer = data.draw(answers(of=target))
    steps = data.draw(streamed(answer, interleaved=target is Surface.CHAT))
    heard = HEAR_STREAM[source](translated_stream(direction, upstream_stream(direction, steps)))
    assert in_no_dialect(heard, source) == said(answer)
    if heard.arguments and target is not Surface.GENERATE_CONTENT:
        texts = [part.arguments for part in answer.choices[0].parts if isinstance(part, ToolCall)]
        # In a message's stream nothing but the empty object can be said without a word.
        assert heard.arguments == tuple(text or "{}" if target is Surface.MESSAGES else text for text in texts)


@pytest.mark.requirement("GW-7", "PR-3")
@of_each
@settings(deadline=None)
@given(data=st.data())
def test_a_whole_reply_says_what_its_stream_says(direction: Direction, data: st.DataObject) -> None:
    source, target = direction.source.surface, direction.target.surface
    answer = data.draw(answers(of=target))
    whole = read_back(direction.target.write_answer(answer, occasion()))
    heard = HEAR[source](json.loads(translate_answer(direction, whole, occasion())))
    assert in_no_dialect(heard, source) == said(answer)
