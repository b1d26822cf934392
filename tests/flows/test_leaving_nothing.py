"""A request that is over is gone from memory: nothing of it waits for the garbage collector to find it."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.flows.front import CHAT, STREAMED, asking, world


@contextmanager
def kept_garbage() -> Iterator[list[str]]:
    """At the end, the names of our own types of which something was left that held itself."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        names = {f"{type(left).__module__}.{type(left).__qualname__}" for left in gc.garbage}
        found += sorted(name for name in names if name.startswith("securellm."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("stream", [False, True])
def test_an_answered_request_leaves_nothing_that_holds_itself(tmp_path: Path, path: str, stream: bool) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            await opened.ask(path, asking(path, stream=stream))
            with kept_garbage() as left:
                for _ in range(3):
                    call = await opened.ask(path, asking(path, stream=stream))
                    assert call.status == 200
            assert left == []

    asyncio.run(scenario())


def test_a_refused_request_leaves_nothing_that_holds_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            await opened.ask(CHAT, asking(CHAT, model="unknown"))
            with kept_garbage() as left:
                call = await opened.ask(CHAT, asking(CHAT, model="unknown"))
                assert call.status == 404
            assert left == []

    asyncio.run(scenario())
