"""From each dialect to each other: what is asked arrives, what is answered is told, or it is refused by name."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flows.front import Call, World, world
from tests.flows.translated import (
    CHAT,
    CLIENTS,
    CONTENT,
    JSON,
    MESSAGES,
    PAIRS,
    PICTURE,
    PRICE_OF_ALL,
    PROVIDERS,
    RESPONSES,
    SCHEMA,
    TOOLS,
    Client,
    Heard,
    Said,
    asked_of,
    every_dialect,
    figures,
    model_of,
    of_each,
    route,
)
from tests.harness import Site
from tests.upstream import messages_check, responses_items
from tests.upstream.gemini_history import SIGNATURE
from tests.upstream.speech import SENTENCE, THOUGHT

from securellm.core.surfaces import Surface
from securellm.core.usage import Usage

TEXT_ARGUMENTS = (CHAT, RESPONSES)
"""Dialects in which a tool call's arguments are a text: between them not a byte of it changes."""
WRITTEN = (
    '{"city": "S\\u00e3o \\"Paulo\\" 🌧", "days": 1.50, "big": 12345678901234567890, '
    '"deep": [null, {"": true}], "e": "\\/"}'
)
"""Arguments as a model may write them."""


async def answered(opened: World, client: Client, said: Said, **knobs: Any) -> tuple[Call, Heard, dict[str, Any]]:
    """The answer to `said` by an upstream that behaves so, as it was heard and as it was recorded."""
    if knobs:
        opened.behave(**knobs)
    call = await client.ask(opened, said)
    heard = client.hear(call)
    outcome = opened.record_of(call)
    assert outcome["status"] == "ok"
    await opened.upstream.quiet()
    return call, heard, outcome


def billed(opened: World) -> dict[str, int]:
    """What the upstream billed for its last answer."""
    usage = opened.upstream.journal.entries("answer")[-1].usage
    assert usage is not None
    return usage


def both(**said: Any) -> Iterator[Said]:
    for stream in (False, True):
        yield Said(stream=stream, **said)


@pytest.mark.requirement("GW-7", "PR-3")
@of_each
def test_words_come_back_with_the_finish_the_usage_and_the_name_of_the_clients_dialect(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for said in both(model=model_of(target), system="Be brief.", text="Olá, ação ✓ 🎉"):
                call, heard, outcome = await answered(opened, client, said)
                assert heard.text == "".join(SENTENCE)
                assert heard.finish == client.finishes["stop"]
                assert heard.model == model_of(target)
                assert b"fake-small" not in call.body
                assert heard.calls == ()
                assert asked_of(opened, target).cap == 1000
                sent = opened.last()
                assert all(text in json.dumps(sent.json(), ensure_ascii=False) for text in (said.text, "Be brief."))
                assert sent.header("anthropic-version") == ("2023-06-01" if target is MESSAGES else None)
                assert call.headers["x-securellm-translated"] == target
                assert call.headers["x-securellm-provider"] == PROVIDERS[target]
                assert "x-securellm-dropped" not in call.headers
                renamed = ["model_alias"] if target is not CONTENT else []
                assert outcome["changes"] == [f"translate:{target}", *renamed]
                assert opened.record_of(call, "INTENT")["surface"] == source

    asyncio.run(scenario())


CONSUMED: Mapping[Surface, JSON] = {
    CHAT: {"cached": 300, "cache_write_5m": 50, "reasoning": 77, "audio_input": 20, "image_input": 30},
    RESPONSES: {"cached": 300, "cache_write_5m": 50, "reasoning": 77},
    MESSAGES: {"cached": 300, "cache_write_5m": 50, "cache_write_1h": 60, "reasoning": 77},
    CONTENT: {"cached": 300, "reasoning": 77, "tool_use": 40, "audio_input": 20, "image_input": 30},
}
"""Every kind of token that an upstream of the dialect can bill."""


@pytest.mark.requirement("PR-3", "FN-2")
@of_each
def test_every_token_the_provider_bills_is_recorded_paid_and_told(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for said in both(model=model_of(target), cap=5000):
                before, _ = opened.money()
                call, heard, outcome = await answered(
                    opened, client, said, input_tokens=1000, output_tokens=123, **CONSUMED[target]
                )
                bill = Usage(**billed(opened))
                assert outcome["usage"] == {name: getattr(bill, name) for name in Usage.__struct_fields__}
                assert heard.usage == figures(bill)
                assert outcome["cost_known"]
                assert outcome["presumed"] == 0
                assert opened.money()[0] - before == outcome["settled"] > 0
                if not said.stream:
                    assert call.headers["x-securellm-cost-nanos"] == str(outcome["settled"])

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_parallel_tool_calls_keep_every_argument_and_their_results_find_the_way_back(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]
    results = ("22 °C, sol ☀", '{"ok": [true]}')

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for said in both(model=model_of(target), tools=TOOLS):
                pieces = tuple(WRITTEN[at : at + 5] for at in range(0, len(WRITTEN), 5))
                _, heard, outcome = await answered(opened, client, said, tool_arguments=pieces)
                assert asked_of(opened, target).tools == TOOLS
                assert [name for _, name, _ in heard.calls] == ["look_up", "note"]
                assert heard.arguments == [json.loads(WRITTEN), {"city": "São Paulo", "days": 3}]
                if source in TEXT_ARGUMENTS and target in TEXT_ARGUMENTS:
                    assert heard.calls[0][2] == WRITTEN, "not a byte differs"
                assert heard.finish == client.finishes["tools"]
                assert outcome["usage"]["output"] == billed(opened)["output"]
                again = Said(
                    model=said.model, stream=said.stream, tools=TOOLS, before=tuple(client.results(heard, results))
                )
                _, heard_again, _ = await answered(opened, client, again)
                assert heard_again.text == "".join(SENTENCE)
                asked = asked_of(opened, target)
                ids = [call for call, _, _ in heard.calls]
                assert asked.calls == tuple(
                    zip(ids, ["look_up", "note"], [json.loads(WRITTEN), {"city": "São Paulo", "days": 3}], strict=True)
                )
                assert asked.results == tuple(zip(ids, results, strict=True))

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_a_call_without_arguments_is_never_given_some_and_ids_are_made_where_none_came(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for said in both(model=model_of(target), tools=TOOLS):
                for arguments in ("", "{}"):
                    _, heard, _ = await answered(opened, client, said, empty_arguments=arguments, no_call_ids=True)
                    told = {given if isinstance(given, str) else "an object" for _, _, given in heard.calls}
                    if source in TEXT_ARGUMENTS and target in TEXT_ARGUMENTS:
                        assert told == {arguments}, "an empty text stays one"
                    else:
                        assert heard.arguments == [{}, {}]
                    ids = [call for call, _, _ in heard.calls]
                    assert all(ids)
                    assert len(set(ids)) == 2

    asyncio.run(scenario())


THINKING: Mapping[Surface, JSON] = {
    CHAT: {"reasoning_effort": "high"},
    RESPONSES: {"reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"]},
    MESSAGES: {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
    CONTENT: {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}}},
}
"""How each client asks for thought."""


RETURNS = (RESPONSES, MESSAGES, CONTENT)
"""Dialects in which a conversation that was translated so far goes on losslessly: what others signed is taken out."""


def proof_of(target: Surface, *, redacted: bool) -> str:
    """What an upstream of `target` wants back with its thought; the empty text where it wants nothing."""
    match target:
        case Surface.RESPONSES:
            return responses_items.SEALED
        case Surface.MESSAGES:
            return messages_check.SEALED if redacted else messages_check.sign("".join(THOUGHT))
        case Surface.GENERATE_CONTENT:
            return SIGNATURE
        case _:
            return ""


@pytest.mark.requirement("GW-7")
@of_each
def test_a_thinking_model_gets_its_own_proof_back_and_no_other_model_does(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    """The fake refuses a thought, a signature or ciphertext that is not its own, and Gemini's calls without theirs."""
    client = CLIENTS[source]
    # Clients of chat completions have a place for Gemini's proofs alone.
    kept = source is not CHAT or target is CONTENT

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for redacted in (False, True):
                proof = proof_of(target, redacted=redacted)
                for said in both(model=model_of(target), tools=TOOLS, more=THINKING[source]):
                    _, heard, _ = await answered(opened, client, said, thinking=True, redacted=redacted)
                    turn = tuple(client.results(heard, ("one", "two")))
                    follow = msgspec.structs.replace(said, before=turn)
                    _, heard_again, _ = await answered(opened, client, follow, thinking=True, redacted=redacted)
                    assert heard_again.text == "".join(SENTENCE)
                    assert len(asked_of(opened, target).results) == 2
                    assert (proof in opened.last().text) is kept or not proof
                    for elsewhere in PROVIDERS:
                        if elsewhere is not target and (elsewhere is not source or source in RETURNS):
                            moved = msgspec.structs.replace(follow, model=model_of(elsewhere))
                            await answered(opened, client, moved, thinking=True)
                            assert "SLB1" not in opened.last().text
                            assert not proof or proof not in opened.last().text

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_a_schema_and_a_picture_arrive_and_an_answer_cut_by_its_cap_says_so(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for stream in (False, True):
                model = model_of(target)
                _, heard, _ = await answered(opened, client, Said(model=model, stream=stream, schema=SCHEMA))
                assert asked_of(opened, target).schema == SCHEMA
                assert json.loads(heard.text) == {"city": "São Paulo", "days": 3}
                await answered(opened, client, Said(model=model, stream=stream, picture=PICTURE))
                assert asked_of(opened, target).pictures == (PICTURE,)
                short = Said(model=model, stream=stream, cap=16)
                _, heard, outcome = await answered(opened, client, short, words=50)
                assert heard.finish == client.finishes["length"]
                assert 0 < len(heard.text) < len("".join(f"word{index} " for index in range(50)))
                assert outcome["usage"]["output"] == billed(opened)["output"] == 16

    asyncio.run(scenario())


HINTS: Mapping[Surface, tuple[JSON, tuple[str, ...]]] = {
    CHAT: (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "prompt_cache_breakpoint": {}}]}]},
        ("messages.*.content.*.prompt_cache_breakpoint",),
    ),
    RESPONSES: ({"truncation": "auto", "client_metadata": {"a": "b"}}, ("client_metadata", "truncation")),
    MESSAGES: (
        {"system": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}], "diagnostics": {"a": 1}},
        ("diagnostics", "system.*.cache_control"),
    ),
    CONTENT: (
        {"labels": {"a": "b"}, "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]},
        ("labels", "safetySettings.off"),
    ),
}
"""Members that only hint, wherever they are sent, and the names under which that is told."""
UNSAYABLE: Mapping[Surface, tuple[tuple[JSON, str], ...]] = {
    CHAT: (
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "user", "content": "hi", "x_note": 1}]}, "messages.*.x_note"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"x_future": None, "x_more": {"a": 1}}, "x_more"),
    ),
    RESPONSES: (
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools.0.type"),
        ({"x_future": [1]}, "x_future"),
    ),
    MESSAGES: (
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"x_future": {"a": 1}}, "x_future"),
    ),
    CONTENT: (
        ({"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_LOW_AND_ABOVE"}]},
         "safetySettings"),
        ({"tools": [{"googleSearch": {}}]}, "tools.*.googleSearch"),
        ({"xFuture": True}, "xFuture"),
    ),
}  # fmt: skip
"""Members that no other dialect has, and how the refusal names each."""


@pytest.mark.requirement("GW-7")
@of_each
def test_a_hint_without_a_place_is_dropped_and_named_to_the_caller_and_in_the_record(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]
    more, names = HINTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for said in both(model=model_of(target), more=more):
                call, heard, outcome = await answered(opened, client, said)
                assert heard.text == "".join(SENTENCE)
                assert sorted(call.headers["x-securellm-dropped"].split(",")) == list(names)
                dropped = [change for change in outcome["changes"] if change.startswith("drop:")]
                assert sorted(dropped) == [f"drop:{name}" for name in names]
                call = await client.ask(opened, Said(model=model_of(target), more=more), headers={"x-provider": "no"})
                assert "x-securellm-dropped" not in call.headers, "nothing was sent"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7", "GW-9")
@of_each
def test_what_cannot_be_said_is_refused_by_name_before_it_costs_or_sends_anything(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for more, name in UNSAYABLE[source]:
                for said in both(model=model_of(target), more=more):
                    call = await client.ask(opened, said)
                    assert call.status == 400, call.body
                    assert client.broken(call) == ("not_representable", name if source is not MESSAGES else None)
                    assert name in call.body.decode()
                    denial = opened.record_of(call, "DENY")
                    assert (denial["code"], denial["surface"]) == ("not_representable", source)
                    assert call.headers["x-should-retry"] == "false"
            assert opened.upstream.received == 0
            assert opened.open_holds == 0
            assert opened.records("INTENT") == []

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
def test_of_several_dialects_the_first_that_can_say_the_request_is_spoken(tmp_path: Path) -> None:
    """OpenAI speaks two: chat is preferred, responses can say what chat cannot: a picture that a tool returned."""
    client = CLIENTS[MESSAGES]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}
    seen: list[JSON] = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [image]}]},
    ]

    def prepare(site: Site) -> None:
        every_dialect(site)
        site.model("either", "openai", price=PRICE_OF_ALL)
        site.model("only-chat", route=[route(CHAT)], price=PRICE_OF_ALL)

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            call, _, _ = await answered(opened, client, Said(model="either", tools=TOOLS))
            assert call.headers["x-securellm-translated"] == CHAT
            with_picture = Said(model="either", tools=TOOLS, more={"messages": seen})
            call, _, _ = await answered(opened, client, with_picture)
            assert call.headers["x-securellm-translated"] == RESPONSES
            call = await client.ask(opened, msgspec.structs.replace(with_picture, model="only-chat"))
            assert client.broken(call)[0] == "not_representable"
            assert "messages.*.content.*.content.*.source" in call.body.decode()

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7", "FN-2")
def test_output_is_bound_once_by_the_member_that_the_upstream_obeys(tmp_path: Path) -> None:
    older = ("compatible", "deepseek", "ollama")

    def prepare(site: Site) -> None:
        every_dialect(site)
        for provider in older:
            site.model(provider, retries=0, route=[route(CHAT, provider)], price=PRICE_OF_ALL)

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for source in (RESPONSES, MESSAGES, CONTENT):
                for provider in older:
                    _, _, outcome = await answered(opened, CLIENTS[source], Said(model=provider, cap=50))
                    bounds = {name: value for name, value in opened.last().json().items() if name.startswith("max_")}
                    assert bounds == {"max_tokens": 50}
                    assert outcome["changes"] == ["translate:chat", "model_alias", "output_cap"]
            # Messages must be bound; where the caller said nothing, it is told by what.
            unbound: JSON = {"max_completion_tokens": None}
            call, _, _ = await answered(opened, CLIENTS[CHAT], Said(model="up-messages", more=unbound))
            assert asked_of(opened, MESSAGES).cap == 1000
            assert call.headers["x-securellm-max-output"] == "1000"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("target", [target for source, target in PAIRS if source is CHAT])
def test_usage_is_told_in_a_stream_only_to_those_who_ask_but_always_recorded(tmp_path: Path, target: Surface) -> None:
    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for options in (None, {"include_usage": False}):
                said = Said(model=model_of(target), stream=True, more={"stream_options": options})
                call, heard, outcome = await answered(opened, CLIENTS[CHAT], said)
                assert heard.usage is None
                assert b'"usage"' not in call.body
                assert outcome["usage"]["output"] == billed(opened)["output"] > 0

    asyncio.run(scenario())


# Routes, money and answers given again


@pytest.mark.requirement("RS-1", "GW-7")
@of_each
def test_where_the_callers_own_dialect_fails_another_place_answers_in_translation(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]
    second = PROVIDERS[target] if PROVIDERS[target] != PROVIDERS[source] else "compatible"

    def prepare(site: Site) -> None:
        every_dialect(site)
        site.model("both", retries=1, route=[route(source), route(target, second)], price=PRICE_OF_ALL)

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            more, names = HINTS[source]
            for said in both(model="both", more=more):
                opened.behave(status=503)
                call, heard, outcome = await answered(opened, client, said)
                assert heard.text == "".join(SENTENCE)
                assert heard.model == "both"
                assert call.headers["x-securellm-translated"] == target
                assert sorted(call.headers["x-securellm-dropped"].split(",")) == list(names)
                attempt = opened.record_of(call, "ATTEMPT")
                assert (attempt["provider"], outcome["provider"], outcome["attempts"]) == (second, second, 2)
                assert f"translate:{target}" in outcome["changes"]
                call, _, outcome = await answered(opened, client, said)
                assert "x-securellm-translated" not in call.headers
                assert "x-securellm-dropped" not in call.headers
                assert not any(change.startswith(("translate:", "drop:")) for change in outcome["changes"])
                call = await client.ask(opened, said, headers={"x-provider": second})
                assert call.headers["x-securellm-translated"] == target, "pinned"
                assert client.hear(call).text == "".join(SENTENCE)
            # What the second place cannot be told is no reason to refuse, only no way out.
            unsayable, _ = UNSAYABLE[source][0 if source is CONTENT else -1]
            opened.behave(status=503, times=2)
            before = len(opened.reached())
            call = await client.ask(opened, Said(model="both", more=unsayable))
            assert client.broken(call)[0] == "provider_overloaded"
            assert {entry.face for entry in opened.reached()[before:]} == {PROVIDERS[source]}

    asyncio.run(scenario())


@pytest.mark.requirement("FN-2")
def test_many_at_once_in_translation_never_spend_more_than_the_budget(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        every_dialect(site)
        site.tenant("acme", budget="0.020 USD")
        site.extra = '[finops]\nreservation_wait = "200ms"'

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            opened.behave(times=None, first_byte=0.02, input_tokens=20, output_tokens=400)
            calls = [
                CLIENTS[source].call(opened, Said(model=model_of(target), stream=stream, cap=400))
                for source, target in PAIRS
                for stream in (False, True)
                for _ in range(3)
            ]
            for call in calls:
                await call.done()
            reached = len(opened.reached())
            settled, presumed = opened.money()
            assert presumed == 0
            assert settled == reached * (20 * 1_000 + 400 * 2_000) <= 20_000_000
            assert reached == sum(call.status == 200 for call in calls)
            assert 0 < reached < len(calls)
            assert {call.status for call in calls} - {200} <= {402, 429}
            assert opened.open_holds == 0

    asyncio.run(scenario())


@pytest.mark.requirement("GW-11")
@of_each
def test_a_translated_answer_is_given_again_byte_for_byte_from_its_key_and_from_the_cache(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for number, said in enumerate(both(model=model_of(target), tools=TOOLS, more=HINTS[source][0])):
                key = {"idempotency-key": f"order {number}"}
                first = await client.ask(opened, said, headers=key)
                again = await client.ask(opened, said, headers=key)
                assert first.body == again.body
                assert client.hear(again).arguments == [{"city": "São Paulo", "days": 3}] * 2
                for name in ("x-securellm-translated", "x-securellm-dropped", "content-type"):
                    assert first.headers[name] == again.headers[name]
                assert again.headers["x-securellm-idempotent-replay"] == "true"
                assert len(opened.reached()) == number + 1
            cold = Said(model=model_of(target), temperature=0)
            before = len(opened.reached())
            first, again = await client.ask(opened, cold), await client.ask(opened, cold)
            assert (first.headers["x-securellm-cache"], again.headers["x-securellm-cache"]) == ("miss", "hit")
            assert first.body == again.body
            assert client.hear(again).text == "".join(SENTENCE)
            assert len(opened.reached()) == before + 1

    asyncio.run(scenario())


# What upstreams refuse, and what they answer that is none


@pytest.mark.requirement("GW-9")
@of_each
def test_an_upstreams_refusal_is_told_in_the_callers_dialect_and_costs_nothing(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for status, code, told in (
                (400, "bad_request", 400),
                (401, "auth_error", 502),
                (429, "provider_rate_limited", 429),
                (503, "provider_overloaded", 503),
            ):
                for said in both(model=model_of(target)):
                    opened.behave(status=status, message="max_completion_tokens: no")
                    call = await client.ask(opened, said)
                    assert call.status == told, call.body
                    assert client.broken(call) == (code, None)
                    outcome = opened.record_of(call)
                    assert (outcome["status"], outcome["code"]) == ("failed", code)
                    assert (outcome["settled"], outcome["presumed"]) == (0, 0)
                    assert f"translate:{target}" in outcome["changes"]
            if target is CHAT:  # It names the member: of a body that the caller never saw.
                call = await client.ask(opened, Said(model=model_of(target), temperature=2.5))
                assert client.broken(call) == ("bad_request", None)
            for knobs in ({"html": True}, {"garbage": True}, {"gzip": True}, {"redirect": "http://127.0.0.1:9/"}):
                opened.behave(**knobs)
                call = await client.ask(opened, Said(model=model_of(target)))
                assert client.broken(call)[0] == "bad_reply"
                assert opened.record_of(call)["status"] == "failed"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@of_each
def test_a_request_as_deep_as_it_may_be_is_translated_or_refused_before_it_costs(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    """What translation adds to its depth is no reason to fail after the money is held."""
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for depth in range(50, 64):
                schema: JSON = {"type": "string"}
                for _ in range(depth // 2):
                    schema = {"type": "object", "properties": {"a": schema}}
                call = await client.ask(opened, Said(model=model_of(target), tools=(("deep", schema),)))
                if call.status != 200:
                    assert (call.status, client.broken(call)[0]) == (400, "too_deep"), call.body
                    opened.record_of(call, "DENY")
            assert opened.money()[1] == 0

    asyncio.run(scenario())
