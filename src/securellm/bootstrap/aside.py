"""Questions to a database that may never answer, asked from a thread that nobody has to wait for."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault

T = TypeVar("T")

BREATH_EVERY = 250
"""Rows a thread works on before it lets the loop in."""


class Aside:
    """One question at a time. One that hangs holds up neither the loop nor the end of the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    @property
    def busy(self) -> bool:
        """Whether a question hangs that nobody may wait for any more."""
        return self._since is not None

    async def ask(self, question: Callable[[], T], *, seconds: float) -> T:
        """What it returns or raises. Raises Fault(STORAGE_UNAVAILABLE) after `seconds`, and while another hangs."""
        if self._since is not None:
            waited = self._clock.monotonic() - self._since
            raise Fault(Code.STORAGE_UNAVAILABLE, f"the control database has not answered for {waited:.0f} s")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._since = self._clock.monotonic()

        def settle(result: T | None, error: BaseException | None) -> None:
            self._since = None
            if answer.done():
                return  # Nobody waits for it any more.
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(cast("T", result))

        def work() -> None:
            result, failed = None, None
            try:
                result = question()
            except BaseException as error:  # noqa: BLE001 - handed on, not handled
                failed = error
            # The loop may have ended while the database was silent.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failed)

        # A daemon, for which no exit waits, as it would for a thread of an executor.
        threading.Thread(target=work, name="control-database", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise Fault(Code.STORAGE_UNAVAILABLE, f"the control database did not answer within {seconds:g} s") from None


def breathe() -> None:
    """Let the loop in: who gives the interpreter up for a moment only has it back before the loop has woken."""
    time.sleep(0.0005)
