"""The chore that ships the journal: it measures, backs off, alarms once, and never holds anything up."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.audit.logs import Counted, ManualClock, intent, write

from securellm.audit import LogSource
from securellm.bootstrap import shipping as module
from securellm.bootstrap.shipping import Shipping
from securellm.core.errors import Code, Fault
from securellm.storage import ShippingRefused, StorageDamaged
from securellm.storage.shipment import Shipped
from securellm.telemetry.metrics import Metrics

pytestmark = pytest.mark.requirement("ST-1")

RECORDS = 5


class Server:
    """Takes two records at a time, unless told to do something else."""

    def __init__(self) -> None:
        self.seq = 0
        self.calls = 0
        self.instead: Callable[[], object] | None = None
        self.closed = False

    def ship(self) -> Shipped:
        self.calls += 1
        if self.instead is not None:
            self.instead()
        count = min(2, RECORDS - self.seq)
        self.seq += count
        return Shipped(seq=self.seq, count=count)

    def close(self) -> None:
        self.closed = True


class Gateway:
    """A journal of five records, a server, and the chore between them."""

    def __init__(self, folder: Path) -> None:
        path = folder / "audit.db"
        write(path, [intent(number) for number in range(RECORDS)])
        self.clock = ManualClock()
        self.clock.seconds += 60
        self.server = Server()
        self.metrics = Metrics()
        self.shipping = Shipping(
            LogSource(path), self.server, clock=self.clock, randomness=Counted(), metrics=self.metrics
        )

    def gauge(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(f"audit_shipping_{name}")
        assert value is not None
        return value


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def raising(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


async def until(met: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not met():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0.005)


def test_what_is_left_is_shipped_at_once_batch_after_batch(gateway: Gateway) -> None:
    async def scenario() -> None:
        await gateway.shipping.drain()
        assert gateway.server.seq == RECORDS
        assert (gateway.gauge("backlog"), gateway.gauge("age_seconds")) == (0, 0)

    asyncio.run(scenario())


def test_an_outage_shows_in_the_metrics_and_ends_without_help(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OFTEN", 0.001)
    gateway.server.instead = raising(Fault(Code.STORAGE_UNAVAILABLE, "away"))

    async def scenario() -> None:
        running = asyncio.create_task(gateway.shipping.run())
        await until(lambda: gateway.server.calls >= 3)
        assert gateway.gauge("backlog") == RECORDS
        assert gateway.gauge("age_seconds") == 60
        assert gateway.gauge("refused") == 0
        gateway.server.instead = None
        await until(lambda: gateway.gauge("backlog") == 0)
        running.cancel()

    asyncio.run(scenario())


@pytest.mark.requirement("AU-4")
@pytest.mark.parametrize("error", [ShippingRefused, StorageDamaged])
def test_a_contradiction_is_an_alarm_until_it_is_gone(
    gateway: Gateway, error: type[ShippingRefused | StorageDamaged]
) -> None:
    gateway.server.instead = raising(error("record 3 differs", remedy="Look."))

    async def scenario() -> None:
        await gateway.shipping.drain()
        assert gateway.gauge("refused") == 1
        assert gateway.gauge("backlog") == RECORDS
        gateway.server.instead = raising(Fault(Code.STORAGE_UNAVAILABLE, "away"))
        await gateway.shipping.drain()
        assert gateway.gauge("refused") == 1, "an outage does not end an alarm"
        gateway.server.instead = None
        await gateway.shipping.drain()
        assert gateway.gauge("refused") == 0

    asyncio.run(scenario())


def test_tries_become_rarer_while_they_fail_but_never_too_rare(gateway: Gateway) -> None:
    gateway.server.instead = raising(Fault(Code.STORAGE_UNAVAILABLE, "away"))

    async def scenario() -> None:
        pauses = [gateway.shipping._pause]
        for _ in range(12):
            await gateway.shipping.drain()
            pauses.append(gateway.shipping._pause)
        assert pauses[0] == 1
        assert pauses[1:] == sorted(pauses[1:])
        assert 5 <= pauses[-1] <= 10

    asyncio.run(scenario())


def test_a_server_that_never_answers_holds_up_neither_the_loop_nor_the_end(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DRAIN", 0.05)
    hanging = threading.Event()
    gateway.server.instead = hanging.wait

    async def scenario() -> None:
        running = asyncio.create_task(gateway.shipping.run())
        await until(lambda: gateway.server.calls)
        running.cancel()
        await gateway.shipping.drain()
        gateway.shipping.close()
        assert not gateway.server.closed
        hanging.set()
        await until(lambda: not gateway.shipping._aside.busy)
        gateway.shipping.close()
        assert gateway.server.closed

    asyncio.run(scenario())


def test_a_batch_under_way_at_the_end_is_waited_for_and_the_rest_follows(gateway: Gateway) -> None:
    going = threading.Event()
    gateway.server.instead = going.wait

    async def scenario() -> None:
        running = asyncio.create_task(gateway.shipping.run())
        await until(lambda: gateway.server.calls)
        running.cancel()
        asyncio.get_running_loop().call_later(0.05, going.set)
        await gateway.shipping.drain()
        assert gateway.gauge("backlog") == 0

    asyncio.run(scenario())
