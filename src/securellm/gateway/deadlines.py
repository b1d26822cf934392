"""How long the caller still waits."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.gateway.model import Received


def time_left(received: Received, clock: Clock) -> float | None:
    return None if received.deadline is None else max(0.0, received.deadline - clock.monotonic())


def patience(received: Received, clock: Clock) -> AbstractAsyncContextManager[object]:
    """A block that ends with TimeoutError once the caller waits no longer, if that was said at all."""
    left = time_left(received, clock)
    return _ENDLESS if left is None else asyncio.timeout(left)


_ENDLESS = nullcontext()


def refuse_late(received: Received, clock: Clock) -> None:
    if time_left(received, clock) == 0.0:
        raise too_late()


def too_late() -> Refusal:
    return Refusal(Code.DEADLINE_EXCEEDED, "the time in x-request-deadline has passed")
