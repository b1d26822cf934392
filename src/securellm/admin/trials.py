"""Work of seconds that a caller can ask for, such as trying a bundle, apart from the threads that others wait for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from securellm.core.errors import Code, Refusal
from securellm.identity import Actor

T = TypeVar("T")

_AT_ONCE = 2
_RETRY = 5.0
"""Seconds: about what one takes."""


class Trials:
    """Two threads of their own, in which each principal has one thing under way. For one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="trial")
        self._busy: set[str] = set()

    async def run(self, actor: Actor, work: Callable[[], T]) -> T:
        """What `work` returns or raises; `Refusal` (RATE_LIMITED) while another of the caller's runs or waits."""
        if actor.principal in self._busy:
            raise Refusal(Code.RATE_LIMITED, "another trial of yours is still running", retry_after=_RETRY)
        future = self._threads.submit(work)
        self._busy.add(actor.principal)
        # Until it has ended, not until nobody waits for it: who leaves and comes back has one, not two.
        future.add_done_callback(lambda _: self._busy.discard(actor.principal))
        return await asyncio.wrap_future(future)
