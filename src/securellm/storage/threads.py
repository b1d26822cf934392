"""The threads that wait for a database, apart from those that requests are decided in."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_WAITING = 16
"""Threads: some more than a process has connections, since those who wait for their turn to write have one too."""

_THREADS = ThreadPoolExecutor(_WAITING, thread_name_prefix="control")


async def in_thread(question: Callable[[], T]) -> T:
    """What `question` returns or raises, asked off the loop. However many wait, they hold up each other alone."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: context.run(question))
