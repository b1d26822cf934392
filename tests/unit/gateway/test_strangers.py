"""Refusals of strangers: counted by cause, network and listener, in a bounded number of records."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.clocks import ManualClock

from securellm.audit import SCHEMA, AuditLog, export
from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.gateway.journal import Journal
from securellm.storage import GroupCommitWriter
from securellm.telemetry.metrics import Metrics

FOREIGN = Refusal(Code.MISDIRECTED, "this listener does not answer for that Host")
MISSING = Refusal(Code.ADMIN_REQUIRED, "the request carries no credential")


def recorded(folder: Path, refusals: list[tuple[Refusal, str, bool]]) -> list[dict[str, Any]]:
    """What one second of these refusals leaves in the log."""
    clock = ManualClock()
    writer = GroupCommitWriter.open(folder / "audit.db", SCHEMA)
    try:
        log = AuditLog.open(writer, writer_id="t", seed=b"s" * 32, clock=clock, randomness=SystemRandomness())

        async def second() -> None:
            journal = Journal(writer, log, clock=clock, metrics=Metrics())
            for error, address, admin in refusals:
                journal.deny_unauthenticated(error, address, admin=admin)
            await journal.flush_unauthenticated()
            await journal.flush_unauthenticated()

        asyncio.run(second())
    finally:
        writer.close()
    return [json.loads(line) for line in export(folder / "audit.db")]


@pytest.mark.requirement("AU-1")
def test_each_cause_network_and_listener_is_counted_apart(tmp_path: Path) -> None:
    records = recorded(
        tmp_path,
        [(MISSING, "192.0.2.1", True)] * 3 + [(MISSING, "192.0.2.1", False)] + [(FOREIGN, "2001:db8::1:1", True)] * 2,
    )
    assert [(item["code"], item["network"], item["admin"], item["count"]) for item in records] == [
        ("admin_required", "192.0.2.1", False, 1),
        ("admin_required", "192.0.2.1", True, 3),
        ("misdirected", "2001:db8::/64", True, 2),
    ]


@pytest.mark.requirement("AU-1")
def test_however_many_addresses_there_are_the_records_of_a_second_are_bounded(tmp_path: Path) -> None:
    asked = [
        (error, f"10.{number // 250}.{number % 250}.1", bool(number % 2))
        for number in range(4_000)
        for error in (MISSING, FOREIGN)
    ]
    records = recorded(tmp_path, asked)
    assert len(records) == 100 + 4, "and one for each cause of each listener"
    assert sum(item["count"] for item in records) == len(asked)
    assert sum(len(json.dumps(item)) for item in records) < 35_000
