"""How long a request waits for its record to become durable."""

import asyncio
from typing import Any

from tests.unit.clocks import ManualClock

from securellm.audit import Boot
from securellm.core.errors import Code
from securellm.gateway.journal import Journal, Undecided
from securellm.storage import Operation
from securellm.telemetry.metrics import Metrics

RECORD = Boot(version="1", config_digest="", snapshot="")
SECONDS = 0.05


class Silent:
    """A log and a writer that answers only when it is told to."""

    def __init__(self) -> None:
        self.submitted: list[asyncio.Future[None]] = []

    def appending(self, _: object) -> Operation:
        return lambda _: None

    def submit(self, *_: Operation, new_work: bool = False) -> asyncio.Future[None]:
        self.submitted.append(asyncio.get_running_loop().create_future())
        return self.submitted[-1]


def journal_on(writer: Silent) -> Journal:
    silent: Any = writer
    return Journal(silent, silent, clock=ManualClock(), metrics=Metrics(), seconds=SECONDS)


async def told(journal: Journal) -> str:
    try:
        async with asyncio.timeout(5):
            await journal.record(RECORD)
    except Undecided as error:
        return error.code.value
    return "durable"


def test_each_record_that_waits_too_long_is_given_up_and_no_other() -> None:
    writer = Silent()
    journal = journal_on(writer)

    async def scenario() -> list[str]:
        first = asyncio.create_task(told(journal))
        await asyncio.sleep(SECONDS / 2)
        second, third = asyncio.create_task(told(journal)), asyncio.create_task(told(journal))
        assert await first == Code.AUDIT_UNAVAILABLE.value
        assert not second.done()
        writer.submitted[1].set_result(None)
        return [await second, await third]

    assert asyncio.run(scenario()) == ["durable", Code.AUDIT_UNAVAILABLE.value]


def test_a_request_that_stops_waiting_leaves_the_bound_of_the_next_as_it_is() -> None:
    writer = Silent()
    journal = journal_on(writer)

    async def scenario() -> str:
        left = asyncio.create_task(told(journal))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        return await told(journal)

    assert asyncio.run(scenario()) == Code.AUDIT_UNAVAILABLE.value


def test_its_waits_are_bounded_on_whichever_loop_it_is_asked() -> None:
    journal = journal_on(Silent())
    for _ in range(2):
        assert asyncio.run(told(journal)) == Code.AUDIT_UNAVAILABLE.value
