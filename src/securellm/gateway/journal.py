"""The story's records, each with the money it moves in one durable transaction."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from securellm.audit import Attempt, AuditLog, DeniedAggregate, Record
from securellm.cache import Cached, Finished, freeing, taking
from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault, GatewayError, Refusal, UpstreamFailure
from securellm.custody import keeping
from securellm.finops import Reservation, Settlement, attempting, correcting, holding, settling
from securellm.gateway.case import Case
from securellm.gateway.stages import Recorded
from securellm.limits import network_of
from securellm.routing import PlannedAttempt
from securellm.storage import GroupCommitWriter, Operation
from securellm.telemetry.logs import logger
from securellm.telemetry.metrics import Metrics

_log = logger("journal")

_MOST_CAUSES = 100
"""Causes and networks kept apart in one second; beyond them they are counted together.

So many records a second can strangers cause at most, however many addresses they have: some 30 KB.
"""


class Undecided(Fault):
    """The journal took too long: the record may yet become durable, and is to be taken for one that will."""


class Journal:
    """Where the story writes. A record that cannot be made durable refuses whatever waits for it."""

    def __init__(
        self, writer: GroupCommitWriter, log: AuditLog, *, clock: Clock, metrics: Metrics, seconds: float = 10.0
    ) -> None:
        self._writer = writer
        self._audit = log
        self._clock = clock
        self._metrics = metrics
        self._seconds = seconds
        self._unauthenticated: Counter[tuple[Code, str, bool]] = Counter()
        self._closings: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        """What waits to become durable, and until when: in the order of its submission, in which it does."""

    @property
    def healthy(self) -> bool:
        return self._writer.healthy

    @property
    def accepting(self) -> bool:
        return self._writer.accepting_new_work

    async def intent(self, case: Case, reservation: Reservation) -> Recorded:
        """The reservation, durable. Nothing may reach a provider before this returns."""
        await self._durable(
            self._audit.appending(case.intent()), holding(reservation), *_key_taken(case), new_work=True
        )
        return Recorded(reservation.request_id)

    async def attempt(self, reservation: Reservation, target: PlannedAttempt, failure: UpstreamFailure) -> Recorded:
        """Another attempt and its hold, durable."""
        record = Attempt(
            request_id=reservation.request_id,
            number=reservation.attempt,
            provider=target.provider,
            upstream_model=target.upstream_model,
            reason=failure.code,
            provider_code=failure.provider_code,
            presumed=reservation.carried,
            hold=reservation.amount,
        )
        await self._durable(self._audit.appending(record), attempting(reservation))
        return Recorded(reservation.request_id)

    async def outcome(
        self, case: Case, settlement: Settlement, error: GatewayError | None, *, late: Callable[[], None]
    ) -> Recorded:
        """How it ended and what it cost, durable. Nothing final may reach the client before this returns.

        When the request stops waiting before the record is durable, `late` is called once it is.
        """
        record = case.outcome(settlement, error)
        beside = list(case.beside)
        if case.correction is not None:
            beside.append(correcting(case.correction))
        if case.deposit is not None:
            beside.append(keeping(case.deposit))
        if case.claim is not None and record.key_freed:
            beside.append(freeing(case.claim))
        try:
            await self._durable(self._audit.appending(record), settling(settlement), *beside)
        except (Undecided, asyncio.CancelledError):
            self.afterwards(self._behind(late))
            raise
        return Recorded(settlement.reservation.request_id)

    async def cached(self, case: Case, hit: Cached | Finished, settlement: Settlement) -> None:
        """An answer that no provider was asked for: both of its records at once."""
        await self._durable(
            self._audit.appending(case.intent()),
            holding(settlement.reservation),
            *_key_taken(case),
            self._audit.appending(case.cached(hit, settlement)),
            settling(settlement),
            new_work=True,
        )

    async def deny(self, case: Case, error: GatewayError) -> None:
        """A refusal, durable. Those of the unauthenticated are counted, and written once a second."""
        if case.identity is None:
            self.deny_unauthenticated(error, case.received.client_ip)
            return
        await self._durable(self._audit.appending(case.denied(error)))

    def deny_unauthenticated(self, error: GatewayError, client_ip: str, *, admin: bool = False) -> None:
        """Count a refusal of somebody unknown, on the admin listener or on the clients'."""
        key = (error.code, network_of(client_ip), admin)
        if key not in self._unauthenticated and len(self._unauthenticated) >= _MOST_CAUSES:
            key = (error.code, "others", admin)
        self._unauthenticated[key] += 1

    async def flush_unauthenticated(self) -> None:
        """Write what was counted since the last time: one record for each cause and network."""
        counted, self._unauthenticated = self._unauthenticated, Counter()
        if counted:
            await self._durable(
                *(
                    self._audit.appending(DeniedAggregate(count=count, network=network, code=code, admin=admin))
                    for (code, network, admin), count in sorted(counted.items())
                )
            )

    async def record(self, record: Record) -> None:
        """Anything that is not part of a request's story: configuration, keys."""
        await self._durable(self._audit.appending(record))

    def unknown_outcomes(self, endings: Sequence[tuple[Reservation, Settlement, Record]]) -> None:
        """At start, before anything is served: the end of every request that a former process left open. Blocking."""
        operations: list[Operation] = []
        for _, settlement, record in endings:
            operations += (self._audit.appending(record), settling(settlement))
        if operations:
            self._writer.perform(*operations)

    def afterwards(self, closing: Coroutine[Any, Any, None]) -> None:
        """Finish a story nobody waits for any more; the drain waits for it."""
        task = asyncio.get_running_loop().create_task(_quietly(closing))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    async def drain(self) -> None:
        """Wait until everything begun is recorded."""
        while self._closings:
            await asyncio.wait(self._closings)
        await self.flush_unauthenticated()

    async def _durable(self, *operations: Operation, new_work: bool = False) -> None:
        started = self._clock.monotonic()
        # A record once submitted is written, whether or not its request still waits for it.
        future = self._writer.submit(*operations, new_work=new_work)
        self._bound(future)
        await future
        self._metrics.audit_lag.observe(self._clock.monotonic() - started)

    def _bound(self, future: asyncio.Future[None]) -> None:
        """Give it up after a while. One timer, for whatever waits longest, stands for all of them."""
        loop = future.get_loop()
        if loop is not self._loop:
            self._loop, self._timer = loop, None
            self._waiting.clear()
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        self._waiting.append((loop.time() + self._seconds, future))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._give_up, loop)

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        while self._waiting:
            until, future = self._waiting[0]
            if not future.done():
                if loop.time() < until:
                    self._timer = loop.call_at(until, self._give_up, loop)
                    return
                reason = f"the journal took longer than {self._seconds:g} s"
                future.set_exception(Undecided(Code.AUDIT_UNAVAILABLE, reason))
            self._waiting.popleft()

    async def _behind(self, act: Callable[[], None]) -> None:
        """Act once all that was submitted before is durable."""
        await self._writer.submit(lambda _: None)
        act()


def _key_taken(case: Case) -> tuple[Operation, ...]:
    return () if case.claim is None else (taking(case.claim),)


async def _quietly(closing: Coroutine[Any, Any, None]) -> None:
    try:
        await closing
    except Refusal:
        raise
    except GatewayError as error:
        _log.error("outcome_not_recorded", code=error.code.value, reason=error.reason)
