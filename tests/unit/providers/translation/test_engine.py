"""What every direction has in common: names for what is left out, marks for what is signed, and no lost digit."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.providers.translation.clients import occasion
from tests.unit.providers.translation.conversations import chat_asks, messages_asks, signatures

from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.providers.translation import DIRECTIONS, Direction, strays, translate_answer, translate_ask
from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.model import Ask, Reasoning, Speaker, ToolCall
from securellm.providers.translation.signatures import is_empty, is_marked, marked, origin

JSON = dict[str, Any]
TO_MESSAGES = DIRECTIONS[Surface.CHAT, Surface.MESSAGES]
TO_CHAT = DIRECTIONS[Surface.MESSAGES, Surface.CHAT]
SPOKEN = [Surface.CHAT, Surface.MESSAGES, Surface.RESPONSES, Surface.GENERATE_CONTENT]
HEARD = [Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE]
"""Dialects of clients alone: whatever speaks them as an upstream speaks chat as well."""


def test_there_is_a_way_from_every_dialect_to_every_other() -> None:
    assert set(DIRECTIONS) == {(one, other) for one in SPOKEN + HEARD for other in SPOKEN if one is not other}
    for (source, target), direction in DIRECTIONS.items():
        assert (direction.source.surface, direction.target.surface) == (source, target)


def unsigned(ask: Ask) -> Ask:
    """The request without what only its maker may be told."""
    turns = []
    for turn in ask.turns:
        parts = (part for part in turn.parts if not isinstance(part, Reasoning))
        plain = tuple(
            msgspec.structs.replace(part, signature=None) if isinstance(part, ToolCall) else part for part in parts
        )
        if plain:
            turns.append(msgspec.structs.replace(turn, parts=plain))
    return msgspec.structs.replace(ask, turns=tuple(turns))


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("speaker", [CHAT, MESSAGES], ids=["chat", "messages"])
@settings(deadline=None)
@given(ask=chat_asks() | messages_asks())
def test_a_dialect_declares_all_that_it_drops_and_refuses(speaker: Speaker, ask: Ask) -> None:
    try:
        _, hints = speaker.write_ask(unsigned(ask))
    except Refusal as refusal:
        if refusal.code is Code.NOT_REPRESENTABLE:
            assert refusal.param in speaker.lacks  # noqa: PT017
    else:
        assert set(hints) <= speaker.hints


@pytest.mark.requirement("GW-7")
@settings(deadline=None)
@given(st.sampled_from(SPOKEN), signatures | st.none())
def test_a_mark_tells_the_origin_and_no_provider_can_set_anothers(surface: Surface, signature: str | None) -> None:
    mark = marked(surface, signature)
    assert is_marked(mark)
    assert origin(mark) == (surface, signature or "")
    assert is_empty(mark) == (not signature)
    assert origin(marked(Surface.CHAT, mark)) == (Surface.CHAT, mark)
    assert len(mark) % 4 == len(signature or "") % 4


def test_a_mark_of_nobody_we_know_is_no_mark() -> None:
    assert origin("SLB1WHOMx") == (None, "SLB1WHOMx")
    assert origin("EqQB") == (None, "EqQB")


@pytest.mark.requirement("GW-7")
def test_what_both_dialects_know_is_carried_over_and_what_stands_there_is_kept() -> None:
    body: JSON = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_object"},
        "verbosity": "low",
        "metadata": {"a": "b"},
        "store": True,
    }
    direction = DIRECTIONS[Surface.CHAT, Surface.RESPONSES]
    said = json.loads(translate_ask(direction, body, model="m", stream=False, default_max_output=9).body)
    assert said["text"]["verbosity"] == "low"
    assert said["text"]["format"] == {"type": "json_object"}
    assert (said["metadata"], said["store"]) == ({"a": "b"}, True)


@pytest.mark.requirement("GW-7")
def test_a_value_that_is_so_anyway_is_overlooked_and_any_other_is_not() -> None:
    body: dict[str, Any] = {"model": "m", "messages": [], "service_tier": "default"}
    direction = Direction(source=CHAT, target=MESSAGES, ignored=frozenset({'service_tier="default"'}))
    assert translate_ask(direction, body, model="m", stream=False, default_max_output=9).dropped == ()
    with pytest.raises(Refusal) as refused:
        translate_ask(direction, {**body, "service_tier": "flex"}, model="m", stream=False, default_max_output=9)
    assert refused.value.param == "service_tier"


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("stream", "members", "written"),
    [(True, {}, True), (False, {"stream": True}, None)],
)
def test_whether_to_stream_and_the_model_are_what_the_gateway_says(
    stream: bool, members: dict[str, Any], written: bool | None
) -> None:
    body = {"model": "named-in-body", "messages": [], **members}
    translated = translate_ask(TO_MESSAGES, body, model="m", stream=stream, default_max_output=9)
    said = json.loads(translated.body)
    assert (said["model"], said.get("stream"), said["max_tokens"]) == ("m", written, 9)
    assert (translated.ask.model, translated.ask.stream) == ("m", stream)


@pytest.mark.requirement("GW-7", "GW-12")
def test_a_number_that_cannot_be_written_is_laid_to_whoever_sent_it() -> None:
    tool = b'{"model":"m","max_tokens":9,"messages":[],"tools":[{"name":"f","input_schema":{"maximum":1e999}}]}'
    with pytest.raises(Refusal) as refused:
        translate_ask(TO_CHAT, Document(tool).members(), model="m", stream=False, default_max_output=9)
    assert refused.value.code is Code.INVALID_REQUEST
    block = b'{"type":"tool_use","id":"t","name":"f","input":{"a":1e999}}'
    reply = Document(b'{"content":[' + block + b'],"stop_reason":"tool_use","usage":{}}').members()
    with pytest.raises(UpstreamFailure) as failed:
        translate_answer(TO_MESSAGES, reply, occasion())
    assert failed.value.code is Code.BAD_REPLY


@pytest.mark.requirement("GW-7")
@settings(deadline=None)
@given(st.integers(-(10**40), 10**40))
def test_a_whole_number_in_arguments_keeps_every_digit(number: int) -> None:
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": number}}
    reply: dict[str, Any] = {"content": [block], "stop_reason": "tool_use", "usage": {}}
    said = json.loads(translate_answer(TO_MESSAGES, reply, occasion()))
    assert said["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == f'{{"a":{number}}}'


THOUGHT: JSON = {"type": "thinking", "thinking": "hm", "signature": "EqQBCgIYAhIM"}
STRANGE: JSON = {"type": "thinking", "thinking": "hm", "signature": marked(Surface.CHAT, None)}
HIDDEN = {"type": "redacted_thinking", "data": marked(Surface.GENERATE_CONTENT, "CiQB")}
PROOF = {"type": "thinking", "thinking": "", "signature": "SLB1CALL" + marked(Surface.GENERATE_CONTENT, "CiQB")}
TEXT = {"type": "text", "text": "yes", "signature": "SLB1CHAT is what it says"}


@pytest.mark.requirement("GW-7")
def test_thoughts_of_others_are_found_in_a_history_and_can_be_taken_out() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [STRANGE, THOUGHT, HIDDEN, TEXT, PROOF]},
            {"role": "assistant", "content": [STRANGE]},
            {"role": "user", "content": [TEXT]},
        ],
    }
    document = Document(json.dumps(body).encode())
    found = strays(Surface.MESSAGES, document.members())
    assert found == (
        ("messages", 1, "content", 0),
        ("messages", 1, "content", 2),
        ("messages", 1, "content", 4),
        ("messages", 2),
    )
    patch = Patch(document)
    for path in found:
        patch.remove(path)
    left = json.loads(patch.apply())
    assert left["messages"] == [
        body["messages"][0],
        {"role": "assistant", "content": [THOUGHT, TEXT]},
        body["messages"][3],
    ]


@pytest.mark.requirement("GW-7")
def test_reasoning_of_others_is_found_among_the_items_of_responses() -> None:
    own: JSON = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAAABo"}
    other: JSON = {"type": "reasoning", "summary": [], "encrypted_content": marked(Surface.MESSAGES, "EqQB")}
    assert strays(Surface.RESPONSES, {"input": [own, other]}) == (("input", 1),)
    assert strays(Surface.RESPONSES, {"input": "text"}) == ()
    assert strays(Surface.CHAT, {"messages": [{"content": [STRANGE]}]}) == ()
