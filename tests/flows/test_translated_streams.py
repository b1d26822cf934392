"""Streams in translation: a finish leaves only once it is earned and recorded, whatever the upstream does."""

import asyncio
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import Call, Sluice, World, eventually, world
from tests.flows.test_guarded import CPF, DIGITS, escaped, spelled
from tests.flows.test_idempotency import SECRET
from tests.flows.translated import (
    CHAT,
    CLIENTS,
    CONTENT,
    JSON,
    PAIRS,
    PROVIDERS,
    RESPONSES,
    TOOLS,
    Client,
    Heard,
    Said,
    data_of,
    every_dialect,
    model_of,
    of_each,
)
from tests.harness import Site
from tests.upstream import CREDENTIALS
from tests.upstream.speech import SENTENCE

from securellm.core.errors import Code, Fault
from securellm.core.surfaces import Surface

ARGUMENTS = ('{"city": "São', ' Paulo 🌧"', ', "days"', ": 3}")
ANSWERS: tuple[JSON, ...] = ({}, {"tools": TOOLS})
"""What is asked of an upstream: words, or two tool calls."""


def beating(site: Site) -> None:
    every_dialect(site)
    site.server["heartbeat"] = "100ms"


def said_to(target: Surface, *, stream: bool = True, **more: Any) -> Said:
    return Said(model=model_of(target), stream=stream, **more)


def assert_broken(client: Client, call: Call, code: str | None = None) -> str:
    """The stream ended in our error, told as the dialect tells it: nothing says that it is finished. Its code."""
    assert call.status == 200, call.body
    assert call.finished
    assert not client.is_over(call.body), call.body
    told, _ = client.broken(call)
    assert code in (None, told), told
    assert told != "internal"
    if client.surface is RESPONSES:
        numbers = [event["sequence_number"] for event in data_of(call)]
        assert numbers == list(range(len(numbers))), "the error's too"
    return told


async def events_of(opened: World, client: Client, said: Said, **knobs: Any) -> tuple[int, Heard]:
    """How many events the upstream's whole stream has, and what it says."""
    if knobs:
        opened.behave(**knobs)
    call = await client.ask(opened, said)
    heard = client.hear(call)
    await opened.upstream.quiet()
    return opened.upstream.journal.entries("answer")[-1].events, heard


def statuses(opened: World) -> Mapping[str, tuple[str, str | None]]:
    """Of each request how it ended, and with which code."""
    return {record["request_id"]: (record["status"], record["code"]) for record in opened.records("OUTCOME")}


@pytest.mark.requirement("GW-8", "GW-9")
@of_each
def test_a_stream_cut_at_any_event_or_broken_by_an_error_there_never_looks_finished(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            broken: dict[str, str] = {}
            for answer in ANSWERS:
                said = said_to(target, **answer)
                count, whole = await events_of(opened, client, said, tool_arguments=ARGUMENTS)
                for index in range(count):
                    breaks: list[tuple[JSON, str | None]] = [
                        ({"cut_event": index, "clean_cut": True}, "truncated"),
                        ({"error_event": index}, None),
                    ]
                    if not answer:
                        breaks.append(({"cut_event": index}, None))
                    for knobs, code in breaks:
                        opened.behave(tool_arguments=ARGUMENTS, **knobs)
                        call = await client.ask(opened, said)
                        broken[call.request_id] = assert_broken(client, call, code)
                if target is not CONTENT:  # Without a mark at the end, an end that is cut off is none.
                    opened.behave(tool_arguments=ARGUMENTS, cut_event=count)
                    heard = client.hear(await client.ask(opened, said))
                    assert (heard.text, heard.arguments) == (whole.text, whole.arguments)
            ended = statuses(opened)
            assert {ended[request][0] for request in broken} == {"truncated", "failed"}
            assert all(ended[request][1] == code for request, code in broken.items())
            assert opened.open_holds == 0

    asyncio.run(scenario())


@pytest.mark.requirement("GW-8")
@of_each
def test_a_stream_without_its_end_its_reason_or_its_grammar_never_looks_finished(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for answer in ANSWERS:
                for knobs, code in (
                    ({"no_done": True}, "truncated"),
                    ({"no_finish": True}, None),
                    ({"garbage": True}, "bad_reply"),
                    ({"error_event": 1, "raw_error": True}, None),
                ):
                    if target is CONTENT and "no_done" in knobs:
                        continue  # It has no mark at its end.
                    opened.behave(**knobs)
                    call = await client.ask(opened, said_to(target, **answer))
                    assert_broken(client, call, code)
                    assert opened.record_of(call)["status"] in ("truncated", "failed")
            if target is not CONTENT:
                for size in (None, 7):
                    opened.behave(after_done=True, write_size=size)
                    heard = client.hear(await client.ask(opened, said_to(target)))
                    assert heard.text == "".join(SENTENCE), "what follows the end is no part of it"

    asyncio.run(scenario())


SAME: tuple[JSON, ...] = (
    {"write_size": 1},
    {"write_size": 3, "escape": True},
    {"split_utf8": True},
    {"line_ending": "crlf"},
    {"line_ending": "cr"},
    {"unknown_event": True},
    {"framing": "close"},
    {"queued": 0.06},
    {"interleave": True},
    {"usage": "every_chunk"},
)
"""Ways to say the same."""


@pytest.mark.requirement("GW-7", "GW-8")
@of_each
def test_however_a_stream_is_cut_spelled_or_interleaved_the_client_hears_the_same(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for answer in ANSWERS:
                said = said_to(target, **answer)
                _, whole = await events_of(opened, client, said, tool_arguments=ARGUMENTS)
                for knobs in SAME:
                    _, heard = await events_of(opened, client, said, tool_arguments=ARGUMENTS, **knobs)
                    assert (heard.text, heard.arguments, heard.finish, heard.usage) == (
                        whole.text,
                        whole.arguments,
                        whole.finish,
                        whole.usage,
                    )
            huge = 10_000_000 if source is CHAT else 200_000
            _, heard = await events_of(opened, client, said_to(target), huge_event=huge)
            assert heard.text == "x" * huge + "".join(SENTENCE)
            arguments = json.dumps({"city": "x" * huge, "days": 3})
            _, heard = await events_of(opened, client, said_to(target, tools=TOOLS[:1]), tool_arguments=(arguments,))
            assert heard.arguments == [json.loads(arguments)]

    asyncio.run(scenario())


@pytest.mark.requirement("GW-8")
@of_each
def test_events_that_come_twice_swapped_or_under_one_index_change_no_argument_unnoticed(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    """The oracle is what reaches a client of the upstream's own dialect, of the very same events."""
    client, native = CLIENTS[source], CLIENTS[target]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            told = 0
            for answer in ANSWERS:
                said = said_to(target, **answer)
                count, _ = await events_of(opened, client, said, tool_arguments=ARGUMENTS)
                disorders: list[JSON] = [
                    {name: at} for at in range(count) for name in ("duplicate_event", "swap_events")
                ]
                for knobs in (*disorders, {"shared_index": True}):
                    opened.behave(tool_arguments=ARGUMENTS, times=2, **knobs)
                    call, plain = await client.ask(opened, said), await native.ask(opened, said)
                    if not client.is_over(call.body):
                        assert assert_broken(client, call) in ("bad_reply", "truncated")
                        continue
                    assert native.is_over(plain.body), knobs
                    text, arguments = native.pieces(data_of(plain))
                    heard = client.hear(call)
                    assert heard.text == text
                    written = [given if isinstance(given, str) else json.dumps(given) for _, _, given in heard.calls]
                    assert list(map(loosely, written)) == list(map(loosely, arguments)), knobs
                    told += 1
            assert told or target is RESPONSES, "some disorder can be told by nobody"

    asyncio.run(scenario())


def loosely(arguments: str) -> Any:
    """Arguments as a value, or as the text they are where they are none."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


# The release rule


def _has_begun(call: Call) -> bool:
    return call.status == 200


def _beats(call: Call, client: Client) -> bool:
    return call.writes.count(client.heartbeat) >= 2


@pytest.mark.requirement("GW-8", "GW-10")
@of_each
def test_no_finish_leaves_before_the_outcome_is_durable_while_heartbeats_go_on(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, beating) as opened:
            for answer in ANSWERS:
                with Sluice(opened, "outcome") as sluice:
                    call = client.call(opened, said_to(target, **answer))
                    await sluice.waiting.wait()
                    await call.until(partial(_beats, call, client))
                    assert not client.is_over(call.body)
                    assert answer or b"provider" in call.body, "what was said is out"
                    assert not [r for r in opened.records("OUTCOME") if r["request_id"] == call.request_id]
                    sluice.let_through()
                    heard = client.hear(await call.done())
                    assert heard.finish == client.finishes["tools" if answer else "stop"]
                with Sluice(opened, "outcome") as sluice:
                    call = client.call(opened, said_to(target, stream=False, **answer))
                    await sluice.waiting.wait()
                    assert call.status == 0, "not even its head"
                    sluice.let_through()
                    client.hear(await call.done())
                assert {record["status"] for record in opened.records("OUTCOME")} == {"ok"}

    asyncio.run(scenario())


@pytest.mark.requirement("GW-8")
@of_each
def test_an_outcome_that_cannot_be_recorded_ends_the_stream_in_an_error(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect, balanced=False) as opened:
            journal: Any = opened.app.gates.journal

            async def fail(*_: object, **__: object) -> object:
                raise Fault(Code.AUDIT_UNAVAILABLE, "the disk is gone")

            journal.outcome = fail
            assert_broken(client, await client.ask(opened, said_to(target)), "audit_unavailable")
            whole = await client.ask(opened, said_to(target, stream=False))
            assert (whole.status, client.broken(whole)[0]) == (503, "audit_unavailable")
            assert opened.open_holds == 2, "what is not recorded is not given back"

    asyncio.run(scenario())


@pytest.mark.requirement("GW-10")
def test_heartbeats_flow_before_and_between_translated_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, beating) as opened:

            async def all_at_once(**knobs: Any) -> list[tuple[Client, Call]]:
                opened.behave(times=len(PAIRS), **knobs)
                calls = [(CLIENTS[source], CLIENTS[source].call(opened, said_to(target))) for source, target in PAIRS]
                return [(client, await call.done()) for client, call in calls]

            for client, call in await all_at_once(first_byte=0.25, reply=("a ", "b ", "c "), between=0.15):
                assert call.writes[:2] == [client.heartbeat] * 2
                assert client.hear(call).text == "a b c "
                assert call.writes.count(client.heartbeat) >= 3
            # An error after the silence is an event, since a head has left.
            for client, call in await all_at_once(first_byte=0.25, status=400):
                assert_broken(client, call, "bad_request")

    asyncio.run(scenario())


@pytest.mark.requirement("GW-10")
@of_each
def test_a_client_that_leaves_cancels_the_translated_call_and_is_accounted_for(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            leaving: tuple[tuple[bool, JSON], ...] = (
                (True, {"hang_event": 3}),
                (True, {"hang": True}),
                (False, {"hang": True}),
            )
            for number, (stream, knobs) in enumerate(leaving):
                opened.behave(**knobs)
                call = client.call(opened, said_to(target, stream=stream))
                await opened.reaching(number + 1)
                if "hang_event" in knobs:
                    await call.until(partial(_has_begun, call))
                left = time.monotonic()
                call.leave()
                await call.done()
                await opened.upstream.quiet()
                assert opened.upstream.journal.entries("answer")[-1].gone_after is not None
                assert time.monotonic() - left < 1.0
                outcomes = await opened.recorded("OUTCOME", count=number + 1)
                assert outcomes[-1]["status"] == "client_disconnected"
                assert outcomes[-1]["presumed"] > 0
                assert f"translate:{target}" in outcomes[-1]["changes"]
                await eventually(lambda: opened.open_holds == 0)

    asyncio.run(scenario())


# The guard


@pytest.mark.requirement("GD-5", "GD-6")
@of_each
def test_a_cpf_in_an_answer_never_reaches_the_client_wherever_the_upstream_split_it(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]
    whole = f"It is {CPF}, yes."

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            splits = [(whole[:at], whole[at:]) for at in range(1, len(whole), 2)]
            for pieces in ((whole,), tuple(whole), *splits):
                opened.behave(reply=pieces)
                call = await client.ask(opened, said_to(target, stream=len(pieces) > 1))
                heard = client.hear(call)
                assert not any(spelled(json.dumps(event).encode()) for event in events_or_body(call))
                assert DIGITS not in "".join(filter(str.isdigit, heard.text))
                assert heard.text.startswith("It is ")
                assert heard.text.endswith(", yes.")
                assert heard.finish == client.finishes["stop"]
                outcome = opened.record_of(call)
                assert {finding["type"] for finding in outcome["findings"]} == {"cpf"}
                assert outcome["changes"][-1] == "reply_redaction"

    asyncio.run(scenario())


def events_or_body(call: Call) -> list[JSON]:
    return data_of(call) or [call.json()]


@pytest.mark.requirement("GD-5", "GD-6")
@of_each
def test_a_cpf_in_streamed_tool_arguments_never_reaches_the_client(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]
    spellings = (
        json.dumps({"city": f"it is {CPF}", "days": 1}),
        '{"city":"it is ' + escaped(CPF) + '","days":1}',
        json.dumps({"city": json.dumps({"r": CPF}), "days": 1}),
        '{"city":' + DIGITS + ',"days":1}',
    )

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            for arguments in spellings:
                for at in range(0, len(arguments), 3):
                    opened.behave(tool_arguments=(arguments[:at], arguments[at:]))
                    call = await client.ask(opened, said_to(target, stream=at > 0, tools=TOOLS))
                    heard = client.hear(call)
                    assert [given["days"] for given in heard.arguments] == [1, 3], "what is left is JSON"
                    assert not any(spelled(json.dumps(event).encode()) for event in events_or_body(call))
                    assert not spelled(json.dumps(heard.arguments).encode())
                    assert "reply_redaction" in opened.record_of(call)["changes"]

    asyncio.run(scenario())


@pytest.mark.requirement("GD-5", "GW-8")
@of_each
def test_an_answer_that_must_not_go_on_ends_at_once_in_an_error_of_the_clients_dialect(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    def prepare(site: Site) -> None:
        every_dialect(site)
        site.tenant("acme", guard="strict")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for stream in (False, True):
                opened.behave(reply=("here it is: ", SECRET[:30], SECRET[30:], " and more", " words"))
                call = await client.ask(opened, said_to(target, stream=stream))
                assert client.broken(call)[0] == "reply_blocked"
                assert not client.is_over(call.body)
                assert b"sk-ant" not in call.body
                outcome = opened.record_of(call)
                assert (outcome["status"], outcome["code"]) == ("refused", "reply_blocked")
                assert outcome["settled"] + outcome["presumed"] > 0

    asyncio.run(scenario())


@pytest.mark.requirement("GD-6", "GW-7")
@of_each
def test_what_the_guard_takes_out_of_a_prompt_is_not_in_its_translation(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client = CLIENTS[source]

    async def scenario() -> None:
        async with world(tmp_path, every_dialect) as opened:
            first = await client.ask(opened, said_to(target, stream=False, tools=TOOLS))
            heard = client.hear(first)
            called = [*client.results(heard, (f"found {CPF}", "ok"))]
            written = json.dumps(called).replace("Paulo", CPF)
            for said in (
                said_to(target, text=f"my CPF is {CPF}", system=f"of {CPF}"),
                said_to(target, tools=TOOLS, before=tuple(json.loads(written))),
                said_to(target, tools=(("f", {"type": "object", "properties": {"a": {"enum": [CPF]}}}),)),
            ):
                call = await client.ask(opened, said)
                assert call.status == 200, call.body
                assert not spelled(opened.last().body), opened.last().text
                outcome = opened.record_of(call)
                assert outcome["changes"][:2] == ["redaction", f"translate:{target}"]
                assert client.is_over(call.body)

    asyncio.run(scenario())


@pytest.mark.requirement("SC-2")
@of_each
def test_an_echoed_credential_of_the_upstream_is_translated_for_nobody(
    tmp_path: Path, source: Surface, target: Surface
) -> None:
    client, secret = CLIENTS[source], CREDENTIALS[PROVIDERS[target]]
    behaviours: tuple[JSON, ...] = (
        {"reply": (f"your key is {secret}, dear",)},
        {"reply": (f"your key is {secret}, dear",), "escape": True},
        {"reply": tuple(f"key {secret}.")},
        {"status": 400, "code": None if target is CONTENT else secret, "message": secret},
        {"error_event": 2, "message": secret},
    )

    def prepare(site: Site) -> None:
        every_dialect(site)
        site.tenant("acme", guard="off")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for knobs in behaviours:
                for stream in (False, True):
                    if "error_event" in knobs and not stream:
                        continue
                    opened.behave(**knobs)
                    call = await client.ask(opened, said_to(target, stream=stream))
                    assert secret[:6].encode() not in call.body
                    assert not any(secret.encode() in value for _, value in call.raw_headers)
                    assert not client.is_over(call.body)
                    client.broken(call)
                    assert opened.record_of(call)["status"] == "failed"
            assert secret not in json.dumps(opened.records())

    asyncio.run(scenario())
