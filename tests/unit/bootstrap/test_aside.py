"""A database that is silent holds up whoever asks it for a bounded time, and nobody else."""

import asyncio
import threading

import pytest
from tests.unit.clocks import ManualClock

from securellm.bootstrap.aside import Aside
from securellm.core.errors import Code, Fault


def failing() -> None:
    raise Fault(Code.STORAGE_UNAVAILABLE, "no")


def test_answers_and_errors_come_through() -> None:
    async def scenario() -> None:
        aside = Aside(ManualClock())
        assert await aside.ask(lambda: 5, seconds=5) == 5
        with pytest.raises(Fault, match="no"):
            await aside.ask(failing, seconds=5)
        assert await aside.ask(lambda: 6, seconds=5) == 6

    asyncio.run(scenario())


def test_a_question_that_hangs_is_given_up_and_no_other_is_asked_until_it_ends() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        aside = Aside(clock)
        answered = threading.Event()

        def hanging() -> None:
            answered.wait(30)
            raise ValueError

        with pytest.raises(Fault, match="did not answer within"):
            await aside.ask(hanging, seconds=0.01)
        clock.advance(7)
        with pytest.raises(Fault, match="has not answered for 7 s"):
            await aside.ask(lambda: 1, seconds=5)
        answered.set()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await aside.ask(lambda: 2, seconds=5) == 2
                    break
                except Fault:
                    await asyncio.sleep(0.001)

    asyncio.run(scenario())


def test_who_asks_may_leave() -> None:
    async def scenario() -> None:
        aside = Aside(ManualClock())
        answered = threading.Event()
        task = asyncio.create_task(aside.ask(lambda: answered.wait(30), seconds=30))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answered.set()

    asyncio.run(scenario())
