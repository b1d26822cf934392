"""Thousands of made-up conversations, said to a strict upstream of each other dialect and back: no argument is lost."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from tests.flows.translated import CLIENTS, JSON, PROVIDERS, Client, Heard, Said, events_in, of_each
from tests.upstream import Behaviour, chat, gemini, messages, responses
from tests.upstream.answer import Answer, Ask
from tests.upstream.speech import texts

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.providers import DIRECTIONS, Direction, Occasion, StreamTranslation, translate_answer, translate_ask
from securellm.providers.sse import SseParser

CONVERSATIONS = (500, pytest.param(2_000, marks=pytest.mark.slow))
"""For each of the twelve directions; those of the shorter run are the first of the longer one."""
_UPSTREAMS: Mapping[Surface, Callable[[Ask], Answer]] = {
    Surface.CHAT: chat.answer,
    Surface.RESPONSES: responses.answer,
    Surface.MESSAGES: messages.answer,
    Surface.GENERATE_CONTENT: gemini.answer,
}
_WORDS = (
    "olá",
    "naïve",
    "日本語",
    "🎉🎉",
    "tab\there",
    'quo"te',
    "back\\slash",
    "a/b",
    "\x7f",
    "\u2028",
    "line\nend",
    "plain",
)
_NUMBERS = (0, -1, 42, 3, 1.5, -0.25, 1e-7, 2.5e10, 12345678901234567890, 10**30)


def anything(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.randrange(7 if depth else 4)
    if kind == 0:
        return rng.choice(_NUMBERS)
    if kind == 1:
        return rng.choice((True, False, None, ""))
    if kind in (2, 3):
        return " ".join(rng.choices(_WORDS, k=rng.randrange(1, 4)))
    if kind == 4:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    return an_object(rng, depth - 1)


def an_object(rng: random.Random, depth: int = 2) -> JSON:
    return {f"{rng.choice(_WORDS)} {index}": anything(rng, depth) for index in range(rng.randrange(4))}


def written(rng: random.Random, value: JSON) -> str:
    """An object as a model may write it."""
    return json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, None, 1)))


def cut(rng: random.Random, text: str | bytes, size: int) -> Iterator[Any]:
    """The text in pieces, none of them empty."""
    at = 0
    while at < len(text):
        step = rng.randrange(1, size)
        yield text[at : at + step]
        at += step


def history(rng: random.Random, client: Client) -> tuple[list[Any], list[tuple[str, str, JSON]], list[tuple[str, str]]]:
    """Some turns with tool calls and their results: as the client sends them, the calls, and the results."""
    turns: list[Any] = []
    called: list[tuple[str, str, JSON]] = []
    returned: list[tuple[str, str]] = []
    for number in range(rng.randrange(3)):
        calls = [(f"call_{number}_{at}", f"tool_{at}", an_object(rng)) for at in range(rng.randrange(1, 4))]
        results = ["; ".join(rng.choices(_WORDS, k=2)) for _ in calls]
        said = tuple((name, tool, written(rng, value)) for name, tool, value in calls)
        turn = client.turn(rng.choice(("", "I look.")), said)
        heard = Heard(text="", calls=said, finish="", usage=None, model="", turn=turn)
        turns += client.results(heard, results)
        called += calls
        returned += [(name, result) for (name, _, _), result in zip(calls, results, strict=True)]
    return turns, called, returned


def upstream(target: Surface, body: JSON, stream: bool, behaviour: Behaviour) -> Answer:
    """What a strict upstream answers. Raises `Refused` for a request that it would not take."""
    ask = Ask(
        face=PROVIDERS[target],
        surface=target,
        headers=(("anthropic-version", "2023-06-01"),),
        body=body,
        behaviour=behaviour,
        number=7,
        model="m",
        place={"verb": "streamGenerateContent" if stream else "generateContent"},
        query={"alt": "sse"} if stream else {},
    )
    return _UPSTREAMS[target](ask)


def told(direction: Direction, answer: Answer, occasion: Occasion, rng: random.Random) -> bytes:
    """The answer in the client's dialect, its stream cut anywhere."""
    if answer.events is None:
        return translate_answer(direction, Document(answer.body).members(), occasion)
    translation, parser = StreamTranslation(direction, occasion), SseParser()
    raw = b"".join(event.frame for event in answer.events)
    events = [event for piece in cut(rng, raw, 400) for event in parser.feed(piece)] + parser.end()
    data = [event.data for event in events if event.data and event.data != b"[DONE]"]
    return b"".join(translation.feed(Document(one).members()) for one in data) + translation.end()


@pytest.mark.requirement("GW-7")
@of_each
@pytest.mark.parametrize("conversations", CONVERSATIONS)
def test_no_tool_argument_is_lost_or_altered_in_thousands_of_conversations(
    source: Surface, target: Surface, conversations: int
) -> None:
    client, direction = CLIENTS[source], DIRECTIONS[source, target]
    arguments = 0
    for seed in range(conversations):
        rng = random.Random(f"{source}{target}{seed}")
        before, called, returned = history(rng, client)
        first, second = an_object(rng), an_object(rng)
        schema = {"type": "object", "properties": {name: {"const": value} for name, value in second.items()}}
        stream = seed % 2 == 1
        said = Said(
            model="m",
            text=f"{rng.choice(_WORDS)}?",
            system=rng.choice((None, *_WORDS)),
            stream=stream,
            tools=(("tool_0", {"type": "object", "properties": {}}), ("tool_1", schema)),
            before=(*before, *client.turn("I see.", ()), *client.body(Said(model="m", text="and now?"))[client.turns]),
        )
        asked = translate_ask(direction, client.body(said), model="m", stream=stream, default_max_output=99)
        assert set(asked.dropped) <= {"tools.*.strict"}
        body = json.loads(asked.body)
        reached = CLIENTS[target].asked(body)
        assert list(reached.calls) == called, seed
        assert list(reached.results) == returned, seed
        assert {said.text, *([said.system] if said.system else ())} <= set(texts(body)), seed
        text, reply = written(rng, first), " ".join(rng.choices(_WORDS, k=5))
        talks = seed % 5 == 0
        behaviour = Behaviour(
            tool_arguments=tuple(cut(rng, text, 12)),
            no_tools=talks,
            reply=tuple(cut(rng, reply, 6)),
            interleave=rng.random() < 0.5,
            thinking=target is Surface.MESSAGES and rng.random() < 0.2,
        )
        occasion = Occasion(request_id="req_1", model="m", created=1, ask=asked.ask, asked=client.body(said))
        answer = told(direction, upstream(target, body, stream, behaviour), occasion, rng)
        heard = client.streamed(events_in(answer)) if stream else client.whole(json.loads(answer))
        if talks:
            assert (heard.text, heard.calls) == (reply, ()), seed
            continue
        assert [name for _, name, _ in heard.calls] == ["tool_0", "tool_1"], seed
        assert heard.arguments == [first, second], seed
        if {source, target} == {Surface.CHAT, Surface.RESPONSES}:
            assert heard.calls[0][2] == text, seed
        arguments += len(called) + 2
    assert arguments > 3 * conversations
