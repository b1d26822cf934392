"""Answers from the cache: recorded like any other, never across tenants, never where they could differ."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, EMBEDDINGS, MESSAGES, PATHS, RESPONSES, Call, World, asking, world
from tests.harness import Site


def cold(path: str, text: str = "hello", **members: Any) -> dict[str, Any]:
    """A request whose answer may be kept."""
    return asking(path, text, **({} if path == EMBEDDINGS else {"temperature": 0}), **members)


async def asked_twice(opened: World, path: str, body: object, **how: Any) -> tuple[Call, Call, int]:
    """Both answers, and how many requests the upstream saw."""
    before = len(opened.reached())
    first = await opened.ask(path, body, **how)
    second = await opened.ask(path, body, **how)
    assert first.status == second.status == 200, first.body + second.body
    return first, second, len(opened.reached()) - before


@pytest.mark.parametrize("path", PATHS)
def test_a_hit_costs_nothing_reaches_nobody_and_is_recorded(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: site.tenant("acme", budget="1.00 USD")) as opened:
            first, second, seen = await asked_twice(opened, path, cold(path))
            assert seen == 1
            assert first.body == second.body
            assert (first.headers["x-securellm-cache"], second.headers["x-securellm-cache"]) == ("miss", "hit")
            received = opened.upstream.received
            third = await opened.ask(path, cold(path))
            assert third.body == first.body
            assert opened.upstream.received == received, "not a byte"
            intent, outcome = opened.record_of(second, "INTENT"), opened.record_of(second)
            assert outcome["status"] == "cached"
            assert (intent["hold"], outcome["settled"], outcome["presumed"], outcome["attempts"]) == (0, 0, 0, 0)
            assert outcome["usage"]["input"] == 0

    asyncio.run(scenario())


def test_tenants_and_whatever_travels_beside_the_body_keep_answers_apart(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.tenant("other")
        keys["other"] = site.key("other")
        keys["second"] = site.key("acme")
        site.model("chat", "openai", "compatible")

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            for path in PATHS:
                await opened.ask(path, cold(path))
                before = len(opened.reached())
                call = await opened.ask(path, cold(path), key=keys["other"])
                assert call.headers["x-securellm-cache"] == "miss"
                assert len(opened.reached()) == before + 1
                call = await opened.ask(path, cold(path), key=keys["second"])
                assert call.headers["x-securellm-cache"] == "hit"
            for how in (
                {"headers": {"anthropic-beta": "context-1m-2025-08-07"}},
                {"headers": {"x-provider": "anthropic"}},
                {"query": "beta=true"},
            ):
                call = await opened.ask(MESSAGES, cold(MESSAGES), **how)
                assert (call.status, call.headers["x-securellm-cache"]) == (200, "miss"), how
            call = await opened.ask(CHAT, cold(CHAT), headers={"x-provider": "compatible"})
            assert call.headers["x-securellm-provider"] == "compatible"

    asyncio.run(scenario())


def test_what_could_differ_is_neither_kept_nor_answered_from_it(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    use = {"name": "f", "input_schema": {"type": "object"}}

    async def scenario() -> None:
        async with world(tmp_path) as opened:
            bodies: list[tuple[str, dict[str, Any]]] = [
                (CHAT, asking(CHAT)),
                (CHAT, asking(CHAT, temperature=1)),
                (CHAT, cold(CHAT, tools=[tool])),
                (CHAT, cold(CHAT, n=2)),
                (CHAT, cold(CHAT, stream=True)),
                (CHAT, cold(CHAT, "CPF 529.982.247-25")),
                (RESPONSES, asking(RESPONSES)),
                (RESPONSES, cold(RESPONSES, stream=True)),
                (MESSAGES, cold(MESSAGES, tools=[use])),
                (MESSAGES, asking(MESSAGES, temperature=0.5)),
                (EMBEDDINGS, cold(EMBEDDINGS, "CPF 529.982.247-25")),
            ]
            for path, body in bodies:
                *_, seen = await asked_twice(opened, path, body)
                assert seen == 2, body
            opened.behave(reply=("your CPF is 529.982.247-25",), times=2)
            *_, seen = await asked_twice(opened, CHAT, cold(CHAT, "a redacted reply"))
            assert seen == 2
            opened.behave(status=500, times=3)
            failed = await opened.ask(CHAT, cold(CHAT, "a failure"))
            assert failed.status == 502
            assert (await opened.ask(CHAT, cold(CHAT, "a failure"))).status == 200

    asyncio.run(scenario())


def test_the_caller_may_keep_out_of_the_cache(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            never = {"x-securellm-cache": "no-store"}
            *_, seen = await asked_twice(opened, CHAT, cold(CHAT), headers=never)
            assert seen == 2
            call = await opened.ask(CHAT, cold(CHAT))
            assert call.headers["x-securellm-cache"] == "miss", "nothing was kept"
            before = len(opened.reached())
            call = await opened.ask(CHAT, cold(CHAT), headers={"x-securellm-cache": "no-cache"})
            assert len(opened.reached()) == before + 1

    asyncio.run(scenario())


def test_a_hit_still_passes_every_gate_before_the_cache(tmp_path: Path) -> None:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        keys["narrow"] = site.key("acme", models=["embed"])
        site.tenant("acme", limits={"requests_per_minute": 60, "burst": 3})

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            await opened.ask(CHAT, cold(CHAT))
            call = await opened.ask(CHAT, cold(CHAT), key=keys["narrow"])
            assert call.status == 403, call.body
            statuses = [(await opened.ask(CHAT, cold(CHAT))).status for _ in range(4)]
            assert statuses[:2] == [200, 200]
            assert statuses[-1] == 429
            assert len(opened.reached()) == 1

    asyncio.run(scenario())
