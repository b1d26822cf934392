"""How long the caller still waits."""

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.gateway.model import Received


def time_left(received: Received, clock: Clock) -> float | None:
    return None if received.deadline is None else max(0.0, received.deadline - clock.monotonic())


def refuse_late(received: Received, clock: Clock) -> None:
    if time_left(received, clock) == 0.0:
        raise too_late()


def too_late() -> Refusal:
    return Refusal(Code.DEADLINE_EXCEEDED, "the time in x-request-deadline has passed")
