"""How the story asks a gate: bounded in time, and whatever goes wrong is a refusal with a code."""

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

from securellm.core.errors import Code, Fault, GatewayError
from securellm.telemetry.logs import logger

T = TypeVar("T")

_log = logger("gateway")


async def ask(gate: str, question: Coroutine[Any, Any, T], *, seconds: float, code: Code = Code.GATE_FAILED) -> T:
    """The gate's answer, or a `GatewayError`.

    One that raises anything but a `GatewayError`, takes longer than `seconds`, or is not a coroutine at all, has
    failed: the request is refused with `code`.
    """
    try:
        return await bounded(question, seconds=seconds)
    except GatewayError:
        raise
    except TimeoutError:
        raise Fault(
            Code.GATE_TIMEOUT if code is Code.GATE_FAILED else code, f"{gate} did not answer within {seconds:g} s"
        ) from None
    except Exception as error:
        _log.error("gate_failed", gate=gate, error=type(error).__name__)
        raise Fault(code, f"{gate} failed") from error


async def bounded(question: Coroutine[Any, Any, T], *, seconds: float) -> T:
    """What `question` returns; TimeoutError when that takes longer. One that never waits costs no timer."""
    try:
        first = question.send(None)
    except StopIteration as answered:
        answer: T = answered.value
        return answer
    async with asyncio.timeout(seconds):
        return await _resume(question, first)


@types.coroutine
def _resume(started: Coroutine[Any, Any, T], waiting_for: Any) -> Generator[Any, Any, T]:
    """Carry on a coroutine that has run up to its first wait."""
    while True:
        try:
            sent = yield waiting_for
        except BaseException as error:  # noqa: BLE001 - handed on, not handled
            step = partial(started.throw, error)
        else:
            step = partial(started.send, sent)
        try:
            waiting_for = step()
        except StopIteration as answered:
            answer: T = answered.value
            return answer
