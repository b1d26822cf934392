"""What one tenant, or one key, may take of what all share."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flows.front import World, world
from tests.flows.inprocess import FORM
from tests.flows.keeping import form_of
from tests.harness import Site

from securellm.limits import Rate, TenantRates

FILES = "/v1/files"
PREFERENCES = "/preferences"


def twice_a_minute(site: Site) -> None:
    site.tenant("acme", limits={"requests_per_minute": 2})


async def listed(opened: World, **how: Any) -> Any:
    return await opened.ask(FILES, b"", method="GET", **how)


@pytest.mark.requirement("LM-1")
def test_a_list_of_nothing_counts_as_a_request_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, twice_a_minute) as opened:
            answers = [await listed(opened) for _ in range(3)]
            assert [call.status for call in answers] == [200, 200, 429]
            assert opened.record_of(answers[-1], "DENY")["code"] == "rate_limited"
            assert opened.app.gates.limits.in_flight("acme") == 0

    asyncio.run(scenario())


@pytest.mark.requirement("LM-1", "GW-6")
def test_a_list_takes_no_parallel_place_from_what_is_looked_at_for_it(tmp_path: Path) -> None:
    def prepare(site: Site) -> None:
        site.tenant("acme", limits={"parallel": 1})

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            text = form_of(b"hello", "user_data", "a.txt")
            assert (await opened.ask(FILES, text, headers={"content-type": FORM})).status == 200
            assert len((await listed(opened)).json()["data"]) == 1

    asyncio.run(scenario())


@pytest.mark.requirement("AU-1")
def test_a_list_that_is_refused_is_recorded_under_its_own_id(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            call = await listed(opened, query="after=file-never")
            assert (call.status, call.code) == (404, "not_found")
            assert opened.record_of(call, "DENY")["code"] == "not_found"

    asyncio.run(scenario())


@pytest.mark.requirement("LM-1", "PV-3")
def test_the_limits_of_a_key_hold_where_its_person_looks_at_what_is_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            snapshot = opened.app.gates.snapshots.read()
            (key,) = snapshot.keys.by_id.values()
            slow = TenantRates(requests=Rate(per_minute=1, burst=1))
            limited = msgspec.structs.replace(snapshot, key_rates={("acme", key.id): slow})
            opened.app.gates.snapshots.put(limited)
            answers = [await opened.ask(PREFERENCES, b"", method="GET") for _ in range(2)]
            assert [call.status for call in answers] == [200, 429]

    asyncio.run(scenario())
