"""Threads that wait for a database or a file, apart from those in which long texts are read and screened."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_WAITING = 16
"""Threads: some more than a process has connections, since those who wait for their turn to write have one too."""

_CONTROL = ThreadPoolExecutor(_WAITING, thread_name_prefix="control")
_LOOKING_UP = ThreadPoolExecutor(4, thread_name_prefix="look-up")


async def in_thread(question: Callable[[], T]) -> T:
    """What `question` returns or raises, asked off the loop. However many wait, they hold up each other alone."""
    return await _asked(_CONTROL, question)


async def looked_up(question: Callable[[], T]) -> T:
    """As `in_thread`, for a few rows of a file: behind no database, and behind no long text that is being screened."""
    return await _asked(_LOOKING_UP, question)


async def _asked(threads: ThreadPoolExecutor, question: Callable[[], T]) -> T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(question))
