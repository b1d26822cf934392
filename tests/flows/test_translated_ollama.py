"""Clients of Ollama's own API before every upstream: what they ask arrives, and what is answered is told or fails."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import Call, Sluice, World, world
from tests.flows.test_guarded import CPF, DIGITS, spelled
from tests.flows.test_idempotency import SECRET
from tests.flows.translated import (
    CONTENT,
    JSON,
    PICTURE,
    PRICE_OF_ALL,
    PROVIDERS,
    SCHEMA,
    TOOLS,
    asked_of,
    every_dialect,
    figures,
    model_of,
    route,
)
from tests.harness import Site
from tests.unit.providers.translation.clients import Heard
from tests.unit.providers.translation.ollama import hear, hear_stream, lines_of
from tests.upstream.speech import SENTENCE, THOUGHT

from securellm.core.surfaces import Surface
from securellm.core.usage import Usage

CHAT, GENERATE = "/api/chat", "/api/generate"
of_each = pytest.mark.parametrize("target", list(PROVIDERS))
WRITTEN = '{"city": "S\\u00e3o \\"Paulo\\" 🌧", "days": 3, "big": 12345678901234567890, "deep": [null, {"": true}]}'
"""Arguments as a model may write them."""
PIECES = tuple(WRITTEN[at : at + 5] for at in range(0, len(WRITTEN), 5))
OFFERED = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in TOOLS]
ANSWERS: tuple[JSON, ...] = ({}, {"tools": OFFERED})
"""What is asked of an upstream: words, or two tool calls."""
OVER = (b'"done":true', b"done_reason")
"""What says that an answer is finished, wherever it stands."""


def begin(
    opened: World, target: Surface, *, stream: bool = True, headers: Mapping[str, str] = {}, **members: Any
) -> Call:
    """A chat; or, with a `prompt`, a completion. Streaming is what a client gets that does not say."""
    path = GENERATE if "prompt" in members else CHAT
    what: JSON = {} if "prompt" in members else {"messages": [{"role": "user", "content": "hello"}]}
    body = {"model": model_of(target), **what, **members}
    return opened.call(path, body if stream else {**body, "stream": False}, headers=headers)


async def ask(opened: World, target: Surface, **how: Any) -> Call:
    return await begin(opened, target, **how).done()


def is_stream(call: Call) -> bool:
    return call.headers["content-type"] == "application/x-ndjson"


def heard_of(call: Call) -> Heard:
    """The answer, which must be one."""
    assert call.status == 200, call.body
    assert is_stream(call) or call.headers["content-type"] == "application/json"
    return hear_stream(call.body) if is_stream(call) else hear(call.json())


async def answered(
    opened: World, target: Surface, *, knobs: JSON | None = None, **how: Any
) -> tuple[Call, Heard, JSON]:
    """The answer of an upstream that behaves so, as it was heard and as it was recorded."""
    if knobs:
        opened.behave(**knobs)
    call = await ask(opened, target, **how)
    heard = heard_of(call)
    outcome = opened.record_of(call)
    assert outcome["status"] == "ok"
    await opened.upstream.quiet()
    return call, heard, outcome


def broken(call: Call, code: str | None = None) -> str:
    """The error that ends the answer, told as the official clients read it: a text. Its code."""
    assert call.finished
    assert not any(end in call.body for end in OVER), call.body
    if is_stream(call):
        *lines, last = lines_of(call.body)
        assert all("error" not in line for line in lines)
    else:
        assert call.status >= 400, call.body
        last = call.json()
    assert isinstance(last["error"], str)
    assert code in (None, last["code"]), last
    assert last["code"] != "internal"
    return str(last["code"])


def repeated(heard: Heard) -> JSON:
    """The turn that the official Python client repeats: it keeps no ids."""
    calls = [{"function": {"name": name, "arguments": given}} for _, name, given in heard.calls]
    return {"role": "assistant", "content": heard.text, "thinking": heard.thought, "tool_calls": calls}


def results(heard: Heard, texts: Sequence[str]) -> list[JSON]:
    pairs = zip(heard.calls, texts, strict=True)
    return [{"role": "tool", "tool_name": name, "content": text} for (_, name, _), text in pairs]


def both(**members: Any) -> Iterator[JSON]:
    for stream in (True, False):
        yield {"stream": stream, **members}


@pytest.mark.requirement("GW-5", "GW-7", "PR-3")
@of_each
def test_words_come_back_whole_and_line_by_line_with_the_tokens_that_were_billed(
    tmp_path: Path, target: Surface
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Olá, ação ✓ 🎉"}]
            for members in both(messages=messages, options={"num_predict": 900}):
                call, heard, outcome = await answered(opened, target, **members)
                assert (heard.text, heard.finish, heard.calls) == ("".join(SENTENCE), "stop", ())
                sent = json.dumps(opened.last().json(), ensure_ascii=False)
                assert "Be brief." in sent
                assert "Olá, ação ✓ 🎉" in sent
                assert asked_of(opened, target).cap == 900
                bill = opened.upstream.journal.entries("answer")[-1].usage
                assert bill is not None
                went_in, _, came_out, _ = figures(Usage(**bill))
                assert heard.usage == Usage(input=went_in, output=came_out)
                assert outcome["usage"]["output"] == bill["output"]
                lines = lines_of(call.body) if is_stream(call) else [call.json()]
                assert {line["model"] for line in lines} == {model_of(target)}
                assert all(line["created_at"].endswith("Z") for line in lines)
                assert b"duration" not in call.body
                assert b"fake-small" not in call.body
                assert call.headers["x-securellm-translated"] == target
                assert call.headers["x-securellm-provider"] == PROVIDERS[target]
                assert "x-securellm-dropped" not in call.headers
                assert opened.record_of(call, "INTENT")["surface"] == Surface.OLLAMA_CHAT

    asyncio.run(scenario())


@pytest.mark.requirement("GW-5", "GW-7")
@of_each
def test_a_prompt_is_completed_in_the_words_of_its_own_path(tmp_path: Path, target: Surface) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            call = await ask(opened, target, prompt="hello", system="Be brief.")
            *lines, last = lines_of(call.body)
            assert "".join(line["response"] for line in lines) == "".join(SENTENCE)
            assert (last["done"], last["done_reason"], last["response"]) == (True, "stop", "")
            whole = (await ask(opened, target, prompt="hello", system="Be brief.", stream=False)).json()
            assert whole["response"] == "".join(SENTENCE)
            assert whole["prompt_eval_count"] == last["prompt_eval_count"] > 0
            assert "context" not in whole
            assert "Be brief." in opened.last().text
            for members in ({"raw": True}, {"template": "{{ .Prompt }}"}, {"suffix": "."}):
                refused = await ask(opened, target, prompt="hello", **members)
                assert broken(refused, "not_representable")
                assert next(iter(members)) in refused.json()["error"]
            assert broken(await ask(opened, target, prompt=""), "not_representable"), "no model is loaded"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_tool_calls_keep_every_argument_and_results_find_the_way_back_without_ids(
    tmp_path: Path, target: Surface
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for members in both(tools=OFFERED):
                _, heard, _ = await answered(opened, target, knobs={"tool_arguments": PIECES}, **members)
                assert asked_of(opened, target).tools == TOOLS
                assert [name for _, name, _ in heard.calls] == ["look_up", "note"]
                given = [json.loads(WRITTEN), {"city": "São Paulo", "days": 3}]
                assert [arguments for _, _, arguments in heard.calls] == given
                assert heard.finish == "stop"
                texts = ("22 °C, sol ☀", '{"ok": [true]}')
                for told in (results(heard, texts), results(heard, texts)[::-1]):
                    history = [{"role": "user", "content": "hello"}, repeated(heard), *told]
                    await answered(opened, target, **{**members, "messages": history})
                    asked = asked_of(opened, target)
                    assert [(name, arguments) for _, name, arguments in asked.calls] == [
                        ("look_up", given[0]),
                        ("note", given[1]),
                    ]
                    by_id = dict(asked.results)
                    assert [by_id[call] for call, _, _ in asked.calls] == list(texts)
            for arguments in ("", "{}"):
                knobs = {"empty_arguments": arguments, "no_call_ids": True}
                for members in both(tools=OFFERED):
                    _, heard, _ = await answered(opened, target, knobs=knobs, **members)
                    assert [given for _, _, given in heard.calls] == [{}, {}]
                    assert len({call for call, _, _ in heard.calls} - {""}) == 2

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_a_thinking_models_thought_is_told_and_a_repeated_one_is_dropped_by_name(
    tmp_path: Path, target: Surface
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for members in both(tools=OFFERED, think="high"):
                _, heard, _ = await answered(opened, target, knobs={"thinking": True}, **members)
                # OpenAI does not show what its models think in chat completions.
                assert heard.thought == ("" if target is Surface.CHAT else "".join(THOUGHT))
                thought = {"thinking": "".join(THOUGHT)}
                history = [{"role": "user", "content": "hello"}, repeated(heard) | thought]
                again = {**members, "messages": [*history, *results(heard, ("one", "two"))]}
                call, told, _ = await answered(opened, target, knobs={"thinking": True}, **again)
                assert told.text == "".join(SENTENCE)
                assert "".join(THOUGHT) not in opened.last().text
                assert call.headers["x-securellm-dropped"] == "messages.*.thinking"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_a_schema_and_a_picture_arrive_and_an_answer_cut_by_its_cap_says_so(tmp_path: Path, target: Surface) -> None:
    seen = [{"role": "user", "content": "look", "images": [PICTURE]}]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for members in both(format=SCHEMA):
                _, heard, _ = await answered(opened, target, **members)
                assert asked_of(opened, target).schema == SCHEMA
                assert json.loads(heard.text) == {"city": "São Paulo", "days": 3}
            await answered(opened, target, messages=seen)
            assert asked_of(opened, target).pictures == (PICTURE,)
            for members in both(options={"num_predict": 16}):
                _, heard, outcome = await answered(opened, target, knobs={"words": 50}, **members)
                assert heard.finish == "length"
                assert heard.usage is not None
                assert heard.usage.output == outcome["usage"]["output"] == 16

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7", "GW-9")
@of_each
def test_what_only_hints_is_dropped_by_name_and_what_cannot_be_said_is_refused_by_name(
    tmp_path: Path, target: Surface
) -> None:
    hints: JSON = {"keep_alive": "5m", "options": {"num_ctx": 4096, "mirostat": 2}}
    unsayable: tuple[tuple[JSON, str], ...] = (
        ({"logprobs": True}, "logprobs"),
        ({"x_future": 1}, "x_future"),
        ({"options": {"x_future": 1}}, "options.x_future"),
        ({"messages": [{"role": "user", "content": "hi", "x_note": 1}]}, "messages.*.x_note"),
        ({"messages": []}, "messages"),
    )

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for members, name in unsayable:
                for said in both(**members):
                    call = await ask(opened, target, **said)
                    assert call.status == 400
                    assert broken(call) == "not_representable"
                    assert name in call.json()["error"]
                    denial = opened.record_of(call, "DENY")
                    assert (denial["code"], denial["surface"]) == ("not_representable", Surface.OLLAMA_CHAT)
            assert opened.upstream.received == 0
            assert opened.open_holds == 0
            for said in both(**hints):
                call, _, outcome = await answered(opened, target, **said)
                names = ["keep_alive", "options.mirostat", "options.num_ctx"]
                assert sorted(call.headers["x-securellm-dropped"].split(",")) == names
                assert sorted(change for change in outcome["changes"] if change.startswith("drop:")) == [
                    f"drop:{name}" for name in names
                ]

    asyncio.run(scenario())


@pytest.mark.requirement("GW-8", "GW-9")
@of_each
def test_a_stream_cut_at_any_event_or_broken_by_an_error_there_never_looks_finished(
    tmp_path: Path, target: Surface
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for members in ANSWERS:
                pieces: JSON = {"tool_arguments": (*PIECES[:4], "".join(PIECES[4:]))}
                await answered(opened, target, knobs=pieces, **members)
                count = opened.upstream.journal.entries("answer")[-1].events
                breaks: list[tuple[JSON, str | None]] = []
                for index in range(count):
                    breaks.append(({"cut_event": index}, None))
                    breaks.append(({"cut_event": index, "clean_cut": True}, "truncated"))
                    breaks.append(({"error_event": index}, None))
                breaks += [({"no_finish": True}, None), ({"garbage": True}, "bad_reply")]
                if target is not CONTENT:  # It has no mark at its end.
                    breaks.append(({"no_done": True}, "truncated"))
                for knobs, code in breaks:
                    opened.behave(**pieces, **knobs)
                    call = await ask(opened, target, **members)
                    assert call.status == 200
                    broken(call, code)
                    assert opened.record_of(call)["status"] in ("truncated", "failed")
            assert opened.open_holds == 0

    asyncio.run(scenario())


FILTERED: dict[Surface, JSON] = {
    Surface.CHAT: {"stop": "content_filter"},
    Surface.MESSAGES: {"stop": "refusal"},
    Surface.GENERATE_CONTENT: {"stop": "SAFETY"},
}


@pytest.mark.requirement("GW-8", "PR-3")
@pytest.mark.parametrize("target", list(FILTERED))
def test_an_answer_that_was_filtered_is_an_error_and_is_paid_for(tmp_path: Path, target: Surface) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for members in both():
                opened.behave(**FILTERED[target])
                call = await ask(opened, target, **members)
                broken(call, "bad_reply")
                assert any(word in call.body for word in (b"filter", b"refusal"))
                outcome = opened.record_of(call)
                assert outcome["settled"] + outcome["presumed"] > 0

    asyncio.run(scenario())


@pytest.mark.requirement("GW-5", "GW-8", "GW-10")
@of_each
def test_no_last_line_leaves_before_the_outcome_is_durable_while_spaces_keep_the_line_open(
    tmp_path: Path, target: Surface
) -> None:
    def beating(site: Site) -> None:
        every_dialect(site)
        site.server["heartbeat"] = "100ms"

    async def scenario() -> None:
        async with world(tmp_path, beating) as opened:

            async def held(members: JSON) -> None:
                with Sluice(opened, "outcome") as sluice:
                    call = begin(opened, target, **members)
                    await sluice.waiting.wait()
                    await call.until(lambda: call.writes.count(b" ") >= 2)
                    assert not any(end in call.body for end in OVER)
                    assert members or b"provider" in call.body, "what was said is out"
                    sluice.let_through()
                    assert heard_of(await call.done()).finish == "stop"

            for members in ANSWERS:
                await held(members)
            opened.behave(first_byte=0.25, status=400)
            call = await ask(opened, target)
            assert call.body.startswith(b" ")
            broken(call, "bad_request")

    asyncio.run(scenario())


@pytest.mark.requirement("GD-5", "GD-6")
@of_each
def test_a_cpf_never_reaches_the_client_in_words_or_in_arguments_however_it_is_split(
    tmp_path: Path, target: Surface
) -> None:
    words = f"It is {CPF}, yes."
    arguments = json.dumps({"city": f"it is {CPF}", "days": 1})

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:

            async def redacted(**how: Any) -> Heard:
                call, heard, outcome = await answered(opened, target, **how)
                assert not any(spelled(line) for line in call.body.split(b"\n") if line.strip())
                assert "reply_redaction" in outcome["changes"]
                return heard

            for at in (0, *range(1, len(words), 3)):
                heard = await redacted(knobs={"reply": (words[:at], words[at:])}, stream=at > 0)
                assert DIGITS not in "".join(filter(str.isdigit, heard.text))
                assert heard.text.startswith("It is ")
                assert heard.text.endswith(", yes.")
            for at in range(0, len(arguments), 6):
                knobs = {"tool_arguments": (arguments[:at], arguments[at:])}
                heard = await redacted(knobs=knobs, stream=at > 0, tools=OFFERED)
                assert [given["days"] for _, _, given in heard.calls] == [1, 3]

    asyncio.run(scenario())


@pytest.mark.requirement("GD-5", "GW-8")
@of_each
def test_an_answer_that_must_not_go_on_ends_at_once_in_a_line_that_says_so(tmp_path: Path, target: Surface) -> None:
    def prepare(site: Site) -> None:
        every_dialect(site)
        site.tenant("acme", guard="strict")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for members in both():
                opened.behave(reply=("here it is: ", SECRET[:30], SECRET[30:], " and more", " words"))
                call = await ask(opened, target, **members)
                broken(call, "reply_blocked")
                assert b"sk-ant" not in call.body

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7", "RS-1")
@of_each
def test_where_a_server_of_its_own_dialect_fails_another_provider_answers_in_translation(
    tmp_path: Path, target: Surface
) -> None:
    def prepare(site: Site) -> None:
        every_dialect(site)
        native = {"provider": "ollama", "model": "fake-small", "surfaces": ["ollama_chat", "ollama_generate"]}
        site.model("both", retries=1, route=[native, route(target)], price=PRICE_OF_ALL)

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for members in both(model="both", options={"num_ctx": 4096}):
                opened.behave(status=503)
                call, heard, outcome = await answered(opened, target, **members)
                assert heard.text == "".join(SENTENCE)
                assert call.headers["x-securellm-translated"] == target
                assert call.headers["x-securellm-dropped"] == "options.num_ctx"
                assert (outcome["provider"], outcome["attempts"]) == (PROVIDERS[target], 2)
                native = await ask(opened, target, **members)
                assert "x-securellm-translated" not in native.headers
                assert "x-securellm-dropped" not in native.headers
                sent: JSON = dict(opened.last().json())
                assert sent["options"]["num_ctx"] == 4096

    asyncio.run(scenario())


@pytest.mark.requirement("GW-11")
@of_each
def test_a_translated_answer_is_given_again_byte_for_byte_from_its_key_and_from_the_cache(
    tmp_path: Path, target: Surface
) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for number, members in enumerate(both(tools=OFFERED)):
                key = {"idempotency-key": f"order {number}"}
                first, again = [await ask(opened, target, headers=key, **members) for _ in range(2)]
                assert first.body == again.body
                assert heard_of(again).calls
                assert first.headers["content-type"] == again.headers["content-type"]
                assert again.headers["x-securellm-idempotent-replay"] == "true"
                assert len(opened.reached()) == number + 1
            cold: JSON = {"options": {"temperature": 0}, "stream": False}
            first, again = [await ask(opened, target, **cold) for _ in range(2)]
            assert (first.headers["x-securellm-cache"], again.headers["x-securellm-cache"]) == ("miss", "hit")
            assert first.body == again.body

    asyncio.run(scenario())


@pytest.mark.requirement("GW-4", "GW-5")
def test_every_model_that_can_be_chatted_with_is_listed_and_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            tags = (await opened.ask("/api/tags", b"", method="GET")).json()
            assert {model_of(target) for target in PROVIDERS} <= {row["model"] for row in tags["models"]}
            for target in PROVIDERS:
                shown = await opened.ask("/api/show", {"model": model_of(target)})
                assert "completion" in shown.json()["capabilities"]
            assert opened.reached() == []

    asyncio.run(scenario())
