"""Responses in the background: their money stays presumed until their end is seen, and then is what it was."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, RESPONSES, Call, World, asking, world
from tests.flows.keeping import id_of
from tests.flows.test_custody import house
from tests.harness import Site


def told(call: Call) -> tuple[int, str]:
    return call.status, call.code


def in_world(
    directory: Path, prepare: Callable[[Site], object] | None = None
) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    """Run what it decorates in an open world."""

    def run_in(scenario: Callable[[World], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with world(directory, prepare) as opened:
                await scenario(opened)

        asyncio.run(whole())

    return run_in


async def begun(opened: World, **members: Any) -> str:
    call = await opened.ask(RESPONSES, asking(RESPONSES, background=True, **{"max_output_tokens": 500, **members}))
    assert (call.status, call.json()["status"]) == (200, "queued"), call.body
    return f"{RESPONSES}/{id_of(call)}"


async def look(opened: World, path: str, **how: Any) -> Call:
    return await opened.ask(path, b"", **{"method": "GET", **how})


async def ended(opened: World, path: str) -> Call:
    """Look until it is answered: the fake gets on each time."""
    for status in ("in_progress", "completed"):
        call = await look(opened, path)
        assert (call.status, call.json()["status"]) == (200, status)
    return call


def billed(opened: World) -> int:
    """Nanos that the fake has billed, at the prices of a test site."""
    bills = [entry.usage or {} for entry in opened.upstream.journal.entries("answer")]
    return sum(bill.get("input", 0) * 1_000 + bill.get("output", 0) * 2_000 for bill in bills)


@pytest.mark.requirement("GW-2", "FN-1", "FN-2", "AU-4")
def test_its_hold_stays_presumed_until_its_end_is_seen(tmp_path: Path) -> None:
    @in_world(tmp_path, lambda site: site.tenant("acme", budget="1.00 USD"))
    async def scenario(opened: World) -> None:
        path = await begun(opened)
        name = path.rpartition("/")[2]
        (first,) = opened.records("OUTCOME")
        settled, presumed = opened.money()
        assert (settled, presumed) == (0, first["presumed"])
        assert presumed > 1_000_000, "500 tokens at most, and the prompt"
        assert (first["pledged"], first["cost_known"]) == (name, False)
        going = await look(opened, path)
        assert going.json()["status"] == "in_progress"
        assert opened.record_of(going, "OUTCOME")["corrects"] is None
        assert opened.money() == (0, presumed)
        whole = await look(opened, path)
        assert whole.json()["output"][0]["content"][0]["text"]
        corrects = opened.record_of(whole, "OUTCOME")["corrects"]
        await opened.upstream.quiet()
        assert corrects["settled"] == billed(opened) > 0
        assert (corrects["request_id"], corrects["batch"]) == (first["request_id"], name)
        assert corrects["usage"]["output"] > 0
        assert opened.money() == (corrects["settled"], 0)
        again = await look(opened, path)
        assert opened.record_of(again, "OUTCOME")["corrects"] is None
        assert opened.money() == (corrects["settled"], 0), "once"


@pytest.mark.requirement("FN-2")
def test_what_it_may_cost_is_held_against_the_budget_all_the_time(tmp_path: Path) -> None:
    @in_world(tmp_path, lambda site: site.tenant("acme", budget="0.005 USD"))
    async def scenario(opened: World) -> None:
        path = await begun(opened, max_output_tokens=2_000)
        refused = await opened.ask(CHAT, asking(CHAT, max_tokens=1_000))
        assert told(refused) == (402, "budget_exhausted")
        await ended(opened, path)
        assert (await opened.ask(CHAT, asking(CHAT, max_tokens=1_000))).status == 200, "the rest has come back"


@pytest.mark.requirement("FN-2", "AU-4")
def test_a_restart_in_between_forgets_neither_the_money_nor_whose_it_is(tmp_path: Path) -> None:
    async def whole() -> None:
        async with house(tmp_path, lambda site: site.tenant("acme", budget="1.00 USD")) as home:
            async with home.opening() as opened:
                path = await begun(opened)
                held = opened.money()[1]
            async with home.opening() as opened:
                assert opened.money() == (0, held)
                call = await ended(opened, path)
                settled = opened.record_of(call, "OUTCOME")["corrects"]["settled"]
                assert opened.money() == (settled, 0)
            async with home.opening() as opened:
                assert opened.money() == (settled, 0)

    asyncio.run(whole())


@pytest.mark.requirement("FN-2")
def test_one_that_was_stopped_stays_presumed_for_nobody_says_what_it_cost(tmp_path: Path) -> None:
    @in_world(tmp_path, lambda site: site.tenant("acme", budget="1.00 USD"))
    async def scenario(opened: World) -> None:
        path = await begun(opened)
        held = opened.records("OUTCOME")[0]["presumed"]
        assert held > 0
        stopped = await opened.ask(f"{path}/cancel", b"")
        assert (stopped.status, stopped.json()["status"]) == (200, "cancelled")
        assert opened.record_of(stopped, "OUTCOME")["corrects"] is None
        assert (await look(opened, path)).json()["status"] == "cancelled"
        assert opened.money() == (0, held)


@pytest.mark.requirement("FN-2")
@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_figures_count_once_it_has_ended_however_it_ended(tmp_path: Path, status: str) -> None:
    @in_world(tmp_path, lambda site: site.tenant("acme", budget="1.00 USD"))
    async def scenario(opened: World) -> None:
        path = await begun(opened)
        held = opened.money()[1]
        later = opened.upstream.memories["openai"].responses[path.rpartition("/")[2]].later
        usage = {**later[-1]["usage"], "input_tokens": 10, "output_tokens": 7, "total_tokens": 17}
        usage["input_tokens_details"] = {"cached_tokens": 0}
        later[0]["usage"] = {**usage, "output_tokens": 3, "total_tokens": 13}
        later[1] |= {"status": status, "usage": usage, "error": {"code": "server_error", "message": "no"}}
        assert (await look(opened, path)).json()["status"] == "in_progress"
        assert opened.money() == (0, held), "it goes on, whatever it says so far"
        assert (await look(opened, path)).json()["status"] == status
        assert opened.money() == (10 * 1_000 + 7 * 2_000, 0)


@pytest.mark.requirement("GD-1", "GD-6", "PV-1")
def test_what_it_says_is_screened_when_it_is_shown(tmp_path: Path) -> None:
    @in_world(tmp_path)
    async def scenario(opened: World) -> None:
        opened.behave(reply=("the number is 529.982.247-25",))
        call = await ended(opened, await begun(opened))
        assert call.json()["output"][0]["content"][0]["text"] == "the number is [CPF]"
        assert opened.record_of(call, "OUTCOME")["findings"]


@pytest.mark.requirement("GW-6", "ID-4")
def test_another_tenant_neither_sees_it_nor_settles_it(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")

    @in_world(tmp_path, prepare)
    async def scenario(opened: World) -> None:
        path = await begun(opened)
        money = opened.money()
        for _ in range(3):
            assert told(await look(opened, path, key=keys["other"])) == (404, "not_found")
        assert opened.money() == money
        assert (await look(opened, path)).json()["status"] == "in_progress", "nobody else has had it go on"


def test_another_response_than_was_asked_for_is_not_passed_on(tmp_path: Path) -> None:
    @in_world(tmp_path)
    async def scenario(opened: World) -> None:
        path = await begun(opened)
        stored = opened.upstream.memories["openai"].responses[path.rpartition("/")[2]]
        answer = stored.later[-1]
        opened.behave(status=400)
        assert told(await look(opened, path)) == (400, "bad_request")
        stored.value, stored.later = {**answer, "id": "resp_another"}, []
        mixed = await look(opened, path)
        assert told(mixed) == (502, "bad_reply"), "another response than was asked for"
        stored.value = answer
        assert (await look(opened, path)).json()["id"] == path.rpartition("/")[2]


def test_a_stream_in_the_background_and_a_model_that_needs_translation_are_refused(tmp_path: Path) -> None:
    @in_world(tmp_path, lambda site: site.model("claude", "anthropic"))
    async def scenario(opened: World) -> None:
        streamed = await opened.ask(RESPONSES, asking(RESPONSES, background=True, stream=True))
        assert told(streamed) == (400, "unsupported_field")
        assert streamed.json()["error"]["param"] == "background"
        elsewhere = await opened.ask(RESPONSES, asking(RESPONSES, model="claude", background=True))
        assert told(elsewhere) == (400, "not_representable")
        assert opened.reached() == []


@pytest.mark.requirement("GW-11")
def test_the_same_idempotency_key_begins_it_once(tmp_path: Path) -> None:
    @in_world(tmp_path)
    async def scenario(opened: World) -> None:
        headers = {"idempotency-key": "once"}
        body = asking(RESPONSES, background=True)
        first, again = [await opened.ask(RESPONSES, body, headers=headers) for _ in range(2)]
        assert first.json() == again.json()
        assert len(opened.reached()) == 1
        assert len([record for record in opened.records("OUTCOME") if record["pledged"]]) == 1
