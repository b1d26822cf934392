"""One bounded question to a secret manager: no redirect, no proxy, no huge answer, no second try.

Whoever asks is a thread that may wait (a start, a command, the keeper's own): each question has a loop of its own.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from securellm.core.errors import Code, GatewayError, UpstreamFailure
from securellm.secrets.model import SourceFailure
from securellm.settings import is_loopback
from securellm.transport import Headers, OutboundRequest, Pool, Target, Timeouts, TlsOptions, parse_base_url

LARGEST = 1 << 20
"""Bytes of an answer."""

T = TypeVar("T")


class Place(NamedTuple):
    """Where a service is and how long it may take, in seconds."""

    name: str
    """As operators know it: `Vault`."""
    target: Target
    timeout: float
    ca_file: Path | None = None


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as plain values; None when it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            return None


def place(name: str, address: str, *, timeout: float, ca_file: Path | None = None, local: bool = False) -> Place:
    """A service by its address. ValueError says what is wrong with it, quoting nothing.

    Secrets cross a network under TLS only: plain http is for this machine, and, with `local`, for the fixed
    addresses at which clouds answer their own machines.
    """
    target = parse_base_url(address)
    if target.scheme == "http" and not (local or is_loopback(target.host)):
        raise ValueError("secrets would cross the network without TLS; the address must begin with https://")
    return Place(name, target, timeout, ca_file if target.scheme == "https" else None)


def ask(where: Place, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    """Send one request and read its answer, whatever its status below 500 but a redirect. Blocks.

    Raises SourceFailure when there is no answer, or one that no caller could use.
    """
    return _on_a_loop_of_its_own(_ask(where, method, path, _written(where, headers), body))


async def _ask(where: Place, method: str, path: str, headers: Headers, body: bytes) -> Answer:
    try:
        tls = TlsOptions(ca_file=where.ca_file) if where.target.scheme == "https" else None
        pool = Pool(where.target, tls=tls, max_connections=1, keep_alive=0.001)
    except ValueError as error:
        raise SourceFailure(f"{where.name}: {error}", "name a PEM file that the gateway's user can read") from None
    seconds = where.timeout
    limits = Timeouts(connect=seconds, first_byte=seconds, idle=seconds, total=seconds)
    request = OutboundRequest(method=method, path=where.target.path + path, headers=headers, body=body)
    try:
        async with await pool.send(request, timeouts=limits) as reply:
            answer = Answer(
                reply.status,
                {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.headers},
                await reply.read(LARGEST),
            )
    except GatewayError as error:
        raise _silent(where, error) from None
    finally:
        await pool.aclose()
    if 300 <= answer.status < 400:
        raise SourceFailure(
            f"{where.name} answered with a redirect, which is never followed",
            "write the address that answers itself",
            silent=True,
        )
    return answer


def _silent(where: Place, error: GatewayError) -> SourceFailure:
    if isinstance(error, UpstreamFailure):
        reason = error.reason.replace("the provider's", "its").replace("the provider", "it")
    else:
        reason = "the question could not be written"
    remedy = f"check the address of {where.name}, its certificate and the way there"
    return SourceFailure(
        f"{where.name} gave no usable answer: {reason}", remedy, silent=error.code is not Code.REPLY_TOO_LARGE
    )


def _written(where: Place, headers: Mapping[str, str]) -> Headers:
    if not all(value.isascii() and value.isprintable() and value == value.strip() for value in headers.values()):
        raise SourceFailure(
            f"what shows {where.name} who we are holds characters that no header can carry",
            "store it alone, in one line",
        )
    return tuple((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())


def _on_a_loop_of_its_own(work: Coroutine[Any, Any, T]) -> T:
    """Whoever calls may stand on a loop already: the question runs in a thread that does not."""
    with ThreadPoolExecutor(1, thread_name_prefix="secrets") as thread:
        return thread.submit(asyncio.run, work).result()
