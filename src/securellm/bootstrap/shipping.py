"""The chore that ships the journal to PostgreSQL: beside all requests, which never wait for it."""

import asyncio
import math
from pathlib import Path
from typing import Protocol

from securellm.audit import LogSource
from securellm.bootstrap.aside import Aside, breathe
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.places import control_location
from securellm.core.clock import Clock
from securellm.core.errors import GatewayError
from securellm.core.randomness import Randomness
from securellm.storage import StorageChanged, StorageError
from securellm.storage.shipment import Shipped
from securellm.telemetry.logs import logger
from securellm.telemetry.metrics import Metrics

_OFTEN = 1.0
_RAREST = 10.0
"""Seconds between two tries at most, while the server is away or refuses."""
_PATIENCE = 15.0
"""Seconds for one batch; its statements are each bounded well below."""
_GLANCE = 0.01
_DRAIN = 5.0
"""Seconds for what is left when the gateway ends; the rest is shipped after the next start."""

_log = logger("shipping")


class Ships(Protocol):
    """What copies the journal, a batch at a time. Blocking."""

    def ship(self) -> Shipped:
        """The next batch. Raises `ShippingRefused`, `StorageDamaged`, `Fault` (STORAGE_UNAVAILABLE)."""

    def close(self) -> None:
        """Let its connection go."""


class Shipping:
    """Ships one journal again and again. Nothing local is ever deleted for it, and its failures stop nothing else."""

    def __init__(
        self, source: LogSource, shipper: Ships, *, clock: Clock, randomness: Randomness, metrics: Metrics
    ) -> None:
        self._source = source
        self._shipper = shipper
        self._clock = clock
        self._randomness = randomness
        self._metrics = metrics
        self._aside = Aside(clock)
        self._seq = 0
        """The last position that is known to have been shipped."""
        self._told = ""
        self._failures = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._again()
            await asyncio.sleep(self._pause)

    async def drain(self) -> None:
        """Ship what is left, as far as seconds suffice. To be called once `run` was cancelled."""
        try:
            async with asyncio.timeout(_DRAIN):
                while self._aside.busy:  # noqa: ASYNC110 - what is waited for happens in a thread
                    await asyncio.sleep(_GLANCE)
                await self._again()
        except TimeoutError:
            _log.warning("journal_not_shipped_whole", shipped=self._seq)

    def close(self) -> None:
        """Let the connection go, unless a batch that hangs still has it. Blocking."""
        if not self._aside.busy:
            self._shipper.close()

    @property
    def _pause(self) -> float:
        if not self._failures:
            return _OFTEN
        longest = min(_RAREST, math.ldexp(_OFTEN, self._failures))
        return longest * (0.5 + self._randomness.fraction() / 2)

    async def _again(self) -> None:
        """Ship until nothing is left, or say once why that fails."""
        problem = ""
        refused = False
        try:
            while await self._aside.ask(self._step, seconds=_PATIENCE):
                pass
        except GatewayError as error:
            problem = f"{error.code.value}: {error.reason}"
        except StorageError as error:
            problem = f"{error.reason}. {error.remedy}"
            refused = not isinstance(error, StorageChanged)
        except Exception as error:  # noqa: BLE001 - one of the three named places: the root of a background task
            problem = type(error).__name__
        if refused or not problem:
            # An outage says nothing about a contradiction found before it.
            self._metrics.audit_shipping_refused.set(1 if refused else 0)
        self._failures = min(self._failures + 1, 8) if problem else 0
        if problem != self._told:
            if refused:
                _log.critical("journal_tampered_with", problem=problem)
            elif problem:
                _log.error("journal_not_shipped", problem=problem)
            else:
                _log.warning("journal_shipped_again")
            self._told = problem

    def _step(self) -> bool:
        """One batch, in a thread; whether there may be more."""
        try:
            shipped = self._shipper.ship()
            self._seq = shipped.seq
        finally:
            self._measure()
        breathe()
        return shipped.count > 0

    def _measure(self) -> None:
        count, since_us = self._source.behind(self._seq)
        age = 0.0 if since_us is None else max(0.0, (self._clock.now_us() - since_us) / 1_000_000)
        self._metrics.audit_shipping_backlog.set(count)
        self._metrics.audit_shipping_age.set(age)


def open_shipping(
    loaded: Loaded, journal: Path, *, clock: Clock, randomness: Randomness, metrics: Metrics
) -> Shipping | None:
    """The chore of a gateway that shares a PostgreSQL; nothing is connected yet. Raises `StorageDamaged`."""
    location, password = control_location(loaded)
    if isinstance(location, Path):
        return None
    # Imported here, because the driver is an extra.
    from securellm.storage.shipping import Shipper

    source = LogSource(journal)
    shipper = Shipper(location, password=password, source=source)
    return Shipping(source, shipper, clock=clock, randomness=randomness, metrics=metrics)
