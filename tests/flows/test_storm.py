"""Everything at once on little money: providers that fail or do not tell their cost, clients that leave."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.flows.front import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, World, asking, world
from tests.harness import Site

LIMIT = 3_000_000
CAPS: dict[str, tuple[str, tuple[int, ...]]] = {
    CHAT: ("max_tokens", (5, 60)),
    MESSAGES: ("max_tokens", (5, 60)),
    RESPONSES: ("max_output_tokens", (16, 60)),
}
FAILURES: tuple[dict[str, Any], ...] = (
    {"status": 400},
    {"status": 429},
    {"status": 500},
    {"status": 503},
    {"cut_event": 2},
    {"usage": "none"},
)


def poor(site: Site) -> None:
    site.tenant("acme", budget="0.003 USD")
    site.model("chat", "openai", "compatible", retries=2)


def accounted(opened: World) -> int:
    """All that is spent, presumed or held."""
    state = opened.app.finops.snapshot()
    return sum(balance.settled + balance.presumed for balance in state.balances) + sum(h.amount for h in state.holds)


@pytest.mark.requirement("FN-2")
def test_no_storm_overshoots_a_budget_or_leaves_a_hold_behind(tmp_path: Path) -> None:
    chance = Random(7)

    async def one(opened: World, number: int) -> int:
        path = chance.choice((CHAT, RESPONSES, MESSAGES, EMBEDDINGS))
        body = asking(path, f"hello {number}")
        if path in CAPS:
            name, caps = CAPS[path]
            body |= {name: chance.choice(caps), "stream": chance.random() < 0.5}
        keyed = chance.random() < 0.3
        call = opened.call(path, body, headers={"idempotency-key": str(chance.randrange(10))} if keyed else {})
        if chance.random() < 0.5:
            for _ in range(chance.randrange(80)):
                await asyncio.sleep(0)
            call.leave()
        await call.done()
        assert accounted(opened) <= LIMIT
        return call.status

    async def scenario() -> None:
        async with world(tmp_path, poor) as opened:
            statuses: list[int] = []
            for number in range(3):
                for _ in range(6):
                    opened.behave(**chance.choice(FAILURES))
                statuses += await asyncio.gather(*(one(opened, 40 * number + each) for each in range(40)))
            await opened.app.drain()
            assert {0, 200} <= set(statuses), "some leave, and some are served"
            assert opened.open_holds == 0
            assert 0 < accounted(opened) <= LIMIT
            assert not opened.app.finops.suspended

    asyncio.run(scenario())
