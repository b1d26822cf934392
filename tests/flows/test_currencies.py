"""Budgets and prices in another currency than the dollar, and prices that change their currency."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, MESSAGES, RESPONSES, asking, world
from tests.flows.keeping import id_of
from tests.flows.test_batches import begin, finished, line, look, pledged
from tests.flows.test_custody import house
from tests.harness import Site

BRL = {"input_per_million": "1.00 BRL", "output_per_million": "2.00 BRL"}
FREE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/messages/count_tokens", {"model": "messages", "messages": asking(MESSAGES)["messages"]}),
    ("/v1/moderations", {"model": "chat", "input": "hello"}),
    ("/v1/conversations", {}),
)


def in_reais(site: Site) -> None:
    site.tenant("acme", budget="5.00 BRL")
    site.model("chat", "openai", price=BRL)
    site.model("messages", "anthropic", price=BRL)
    site.model("embed", "openai", upstream="fake-embed", price=BRL)


@pytest.mark.requirement("FN-2")
def test_what_costs_nothing_is_served_under_a_budget_in_any_currency(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, in_reais) as opened:
            for path, body in FREE:
                call = await opened.ask(path, body)
                assert call.status == 200, (path, call.body)
                assert opened.record_of(call)["settled"] == 0
            stored = id_of(await opened.ask(RESPONSES, asking(RESPONSES, max_output_tokens=20)))
            assert (await look(opened, f"{RESPONSES}/{stored}")).status == 200
            assert {(balance.currency, balance.presumed) for balance in opened.app.finops.snapshot().balances} == {
                ("BRL", 0)
            }

    asyncio.run(scenario())


@pytest.mark.requirement("GW-6", "FN-2")
def test_a_batch_in_another_currency_is_held_and_paid_in_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, in_reais) as opened:
            batch = await begin(opened, line("a"))
            assert pledged(opened) > 0
            shown = await finished(opened, batch)
            assert (await look(opened, f"/v1/files/{shown['output_file_id']}/content")).status == 200
            assert pledged(opened) == 0
            (balance,) = opened.app.finops.snapshot().balances
            assert (balance.currency, balance.presumed) == ("BRL", 0)
            assert balance.settled > 0

    asyncio.run(scenario())


@pytest.mark.requirement("FN-2")
def test_what_began_in_one_currency_is_never_paid_in_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with house(tmp_path) as home:
            async with home.opening() as opened:
                batch = await begin(opened, line("a"))
                working = id_of(await opened.ask(RESPONSES, asking(RESPONSES, background=True)))
                assert (await opened.ask(CHAT, asking(CHAT))).status == 200
                before = opened.money()
            home.site.model("chat", "openai", price=BRL)
            async with home.opening() as opened:
                shown = await finished(opened, batch)
                assert (await look(opened, f"/v1/files/{shown['output_file_id']}/content")).status == 200
                for _ in range(4):
                    response = await look(opened, f"{RESPONSES}/{working}")
                assert json.loads(response.body)["status"] == "completed"
                assert len(opened.app.finops.snapshot().pledges) == 2, "what it did cost waits for the former price"
                assert opened.money() == before

    asyncio.run(scenario())
