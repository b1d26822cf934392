"""The lossless lane against the upstream's own bytes: what differs is on the closed list, and named in the audit."""

import asyncio
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import (
    CHAT,
    EMBEDDINGS,
    MESSAGES,
    PATHS,
    RESPONSES,
    STREAMED,
    UPSTREAM_MODELS,
    Call,
    World,
    asking,
    world,
)
from tests.harness import Site
from tests.upstream import Behaviour, chat, embeddings, messages, responses
from tests.upstream.answer import Ask

_ANSWER = {CHAT: chat.answer, RESPONSES: responses.answer, MESSAGES: messages.answer, EMBEDDINGS: embeddings.answer}
_FACE = {CHAT: "openai", RESPONSES: "openai", MESSAGES: "anthropic", EMBEDDINGS: "openai"}
_NUMBERS = ("0", "-0", "1.0", "1E2", "1e-7", "0.1000", "123456789012345678901234567890", "-1.5e+300", "42")
_WORDS = (
    "olá",
    "naïve",
    "日本語",
    "🎉🎉",
    "tab\there",
    'quo"te',
    "back\\slash",
    "a/b",
    "\u007f",
    "\u2028",
    "",
    "plain words",
)


_ODDITIES: tuple[dict[str, Any], ...] = (
    {},
    {"write_size": 3},
    {"split_utf8": True},
    {"line_ending": "crlf"},
    {"line_ending": "cr"},
    {"unknown_event": True, "thinking": True},
    {"escape": True},
    {"reply": ("one ", "two ", "three ", "123", "45", " words"), "write_size": 1},
    {"huge_event": 300_000},
    {"framing": "close"},
)
"""Ways to say the same thing, all of which must arrive as they left."""


class Raw(str):
    """A number as it is to be written."""

    __slots__ = ()


def spell(rng: random.Random, value: object) -> str:
    """`value` as JSON, in one of the many ways to write it."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(_character(rng, character) for character in value) + '"'
    if isinstance(value, Mapping):
        members = [f"{_space(rng)}{spell(rng, n)}{_space(rng)}:{_space(rng)}{spell(rng, v)}" for n, v in value.items()]
        return "{" + f"{_space(rng)},".join(members) + _space(rng) + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{_space(rng)}{spell(rng, item)}{_space(rng)}" for item in value) + "]"
    return json.dumps(value)


def _space(rng: random.Random) -> str:
    return rng.choice(("", "", "", " ", "\n", "\t", "\r\n  "))


def _character(rng: random.Random, character: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    if rng.random() < 0.1 or (character < " " and character not in short):
        units = character.encode("utf-16-be")
        codes = [units[at] << 8 | units[at + 1] for at in range(0, len(units), 2)]
        return "".join(
            f"\\u{code:{rng.choice('xX')}}".replace("\\u", f"\\u{'0' * (4 - len(f'{code:x}'))}") for code in codes
        )
    if character == "/" and rng.random() < 0.5:
        return "\\/"
    return short.get(character, character)


def anything(rng: random.Random, depth: int = 3) -> object:
    kind = rng.randrange(7 if depth else 4)
    if kind == 0:
        return Raw(rng.choice(_NUMBERS))
    if kind == 1:
        return rng.choice((True, False, None))
    if kind in (2, 3):
        return rng.choice(_WORDS)
    if kind == 4:
        return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {f"{rng.choice('abcdef')}_{index} é": anything(rng, depth - 1) for index in range(rng.randrange(4))}


def odd_body(rng: random.Random, path: str, model: str, **more: object) -> bytes:
    """A good request, oddly written, with fields nobody knows."""
    said = " ".join(rng.choice(_WORDS) for _ in range(4)) + "."
    body: dict[str, object] = {"model": model, **more}
    if path in (CHAT, MESSAGES):
        body["messages"] = [
            {"role": "user", "content": said, "x_note": anything(rng)},
            {"content": [{"text": said, "type": "text", "x_part": anything(rng)}], "role": "user"},
        ]
    else:
        body["input"] = (
            [said, "more"] if path == EMBEDDINGS else [{"role": "user", "content": said, "x": anything(rng)}]
        )
    if path == MESSAGES:
        body["max_tokens"] = 50
    elif path != EMBEDDINGS:
        body["temperature"] = Raw(rng.choice(("0.70", "1", "0.5e0")))
    for index in range(3):
        body[f"x_unknown_{index}"] = anything(rng)
    shuffled = dict(sorted(body.items(), key=lambda _: rng.random()))
    return (_space(rng) + spell(rng, shuffled) + _space(rng)).encode()


def own_bytes(path: str, original: bytes, number: int, **knobs: Any) -> list[bytes]:
    """What the upstream would have answered to the original: its events, or its body."""
    body = {**json.loads(original), "model": UPSTREAM_MODELS[path]}
    ask = Ask(face=_FACE[path], surface="", headers=(("anthropic-version", "2023-06-01"),), body=body,
              behaviour=Behaviour(**knobs), number=number)  # fmt: skip
    answer = _ANSWER[path](ask)
    return [answer.body] if answer.events is None else [event.frame for event in answer.events]


def timeless(data: bytes) -> bytes:
    return re.sub(rb'"(created|created_at|completed_at)":\d+', rb'"\1":0', data)


def same_names(site: Site) -> None:
    """The clients' names are the upstream's: nothing needs to be renamed."""
    site.model("fake-small", "openai", "anthropic")
    site.model("fake-embed", "openai", upstream="fake-embed")


async def exchanged(opened: World, path: str, original: bytes) -> tuple[Call, bytes, int]:
    """The answer, the bytes the upstream received, and their number in its log."""
    call = await opened.ask(path, original)
    assert call.status == 200, call.body
    entry = opened.last()
    return call, entry.body, entry.order


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("path", PATHS)
def test_with_nothing_to_change_not_a_byte_changes_either_way(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, same_names) as opened:
            for seed in range(40):
                rng = random.Random(f"{path}{seed}")
                original = odd_body(rng, path, UPSTREAM_MODELS[path])
                call, received, number = await exchanged(opened, path, original)
                assert received == original
                assert timeless(call.body) == timeless(own_bytes(path, original, number)[0])
                assert opened.record_of(call)["changes"] == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("path", STREAMED)
def test_the_events_of_a_stream_leave_whole_and_byte_for_byte(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, same_names) as opened:
            for seed, knobs in enumerate(_ODDITIES):
                rng = random.Random(f"{path}{seed}")
                wanted = {"stream_options": {"include_usage": True}} if path == CHAT else {}
                original = odd_body(rng, path, "fake-small", stream=True, **wanted)
                opened.behave(**knobs)
                call, received, number = await exchanged(opened, path, original)
                assert received == original
                frames = own_bytes(path, original, number, **knobs)
                assert timeless(call.body) == timeless(b"".join(frames))
                assert opened.record_of(call)["changes"] == []
                assert_events_whole(call, frames)

    asyncio.run(scenario())


def assert_events_whole(call: Call, frames: list[bytes]) -> None:
    """Every write ends where an event of the upstream's ends."""
    ends: set[int] = set()
    at = 0
    for frame in frames:
        at += len(frame)
        ends.add(at)
    at = 0
    for piece in call.writes:
        at += len(piece)
        assert at in ends


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("streamed", [False, True])
def test_an_alias_and_usage_we_asked_for_leave_no_trace(tmp_path: Path, streamed: bool) -> None:
    """The bytes of the un-injected request, with the alias in place of the upstream's name."""

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for path in PATHS if not streamed else STREAMED:
                alias = asking(path)["model"].encode()
                name = UPSTREAM_MODELS[path].encode()
                for seed in range(10):
                    rng = random.Random(f"{path}{seed}{streamed}")
                    more: dict[str, object] = {"stream": True} if streamed else {}
                    injected = streamed and path == CHAT
                    if injected and seed % 3 == 1:
                        more["stream_options"] = {"include_usage": False, "x": 1}
                    elif injected and seed % 3 == 2:
                        more["stream_options"] = None
                    original = odd_body(rng, path, alias.decode(), **more)
                    call, received, number = await exchanged(opened, path, original)
                    changes = ["model_alias", *(["include_usage"] if injected else [])]
                    assert opened.record_of(call)["changes"] == changes
                    expected = {**json.loads(original), "model": name.decode()}
                    if injected:
                        expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
                    assert json.loads(received) == expected
                    if not injected or seed % 3 == 0:
                        restored = received.replace(b',"stream_options":{"include_usage":true}', b"")
                        assert without_model(restored) == without_model(original)
                    frames = b"".join(own_bytes(path, original, number))
                    renamed = frames.replace(b'"model":"' + name + b'"', b'"model":"' + alias + b'"')
                    assert timeless(call.body) == timeless(renamed)

    asyncio.run(scenario())


def without_model(body: bytes) -> tuple[str, str]:
    """The text before and after the value of the top-level `model`."""
    text = body.decode()
    decoder = json.JSONDecoder()
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"', text):
        if json.loads(found.group()) != "model":
            continue
        colon = re.compile(r"\s*:\s*").match(text, found.end())
        if colon is not None:
            return text[: colon.end()], text[decoder.raw_decode(text, colon.end())[1] :]
    raise AssertionError("no model")


@pytest.mark.requirement("GW-7")
def test_a_cap_that_was_missing_and_a_redaction_are_the_only_other_changes_and_are_named(tmp_path: Path) -> None:
    def hard(site: Site) -> None:
        same_names(site)
        site.tenant("acme", budget="100.00 USD")

    async def scenario() -> None:
        async with world(tmp_path, hard) as opened:
            name = {CHAT: "max_completion_tokens", RESPONSES: "max_output_tokens"}
            for path, field in name.items():
                original = odd_body(random.Random(path), path, "fake-small")
                call, received, _ = await exchanged(opened, path, original)
                assert received.replace(f',"{field}":1000'.encode(), b"") == original
                assert opened.record_of(call)["changes"] == ["output_cap"]
                assert call.headers["x-securellm-max-output"] == "1000"
                given = odd_body(random.Random(path), path, "fake-small", **{field: 77})
                call, received, _ = await exchanged(opened, path, given)
                assert received == given
                assert opened.record_of(call)["changes"] == []
                assert "x-securellm-max-output" not in call.headers
            for path in PATHS:
                caps = {name[path]: 77} if path in name else {}
                text = 'é "quoted" CPF 529.982.247-25, fim'
                original = json.dumps(asking(path, text, **caps) | {"model": UPSTREAM_MODELS[path]}, indent=1).encode()
                call, received, _ = await exchanged(opened, path, original)
                before, _, after = original.partition(b"529.982.247-25")
                assert received.startswith(before)
                assert received.endswith(after)
                assert b"529" not in received[len(before) : -len(after)]
                assert opened.record_of(call)["changes"] == ["redaction"]

    asyncio.run(scenario())


def test_the_changes_of_a_request_are_recorded_even_when_its_attempt_fails(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            opened.behave(status=400)
            call = await opened.ask(CHAT, asking(CHAT, "CPF 529.982.247-25", stream=True))
            assert call.status == 400
            assert opened.record_of(call)["changes"] == ["redaction", "model_alias", "include_usage"]

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("before", [0, 1, 2])
def test_thoughts_of_another_provider_are_taken_out_before_their_dialects_own_sees_them(
    tmp_path: Path, before: int
) -> None:
    stray = {"type": "thinking", "thinking": "CPF 529.982.247-25 is known", "signature": "SLB1CHATabcd"}
    said = [{"type": "text", "text": f"part {number}"} for number in range(before)]

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            for blocks in (
                [*said, stray, stray, {"type": "text", "text": "so"}],
                [*said, stray],
                [stray, *said, stray],
            ):
                turns: list[dict[str, Any]] = [
                    {"role": "user", "content": "think"},
                    {"role": "assistant", "content": blocks},
                    {"role": "user", "content": "go on"},
                ]
                call = await opened.ask(MESSAGES, asking(MESSAGES, messages=turns))
                assert call.status == 200, call.body
                sent = json.loads(opened.last().text)["messages"]
                left = [block for block in blocks if block is not stray]
                assert sent == [turns[0], *([{"role": "assistant", "content": left}] if left else []), turns[2]]
                assert "foreign_reasoning" in opened.record_of(call)["changes"]

    asyncio.run(scenario())
