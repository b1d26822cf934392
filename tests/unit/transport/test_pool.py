"""Connections kept, shared, waited for and let go."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from tests.unit.transport.peers import GET, OK, PATIENT, Peer, answering, patient, pooled, run, serving

from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.transport import Pool, Reply, Target, TlsOptions, parse_base_url
from securellm.transport.connection import Connection


async def call(pool: Pool, **limits: float) -> bytes:
    return await (await pool.send(GET, timeouts=patient(**limits))).read(1_000)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the awaited condition never held")


def test_calls_one_after_another_share_one_connection() -> None:
    async def story() -> None:
        async with serving(answering()) as provider, pooled(Pool(provider.target)) as pool:
            for _ in range(5):
                assert await call(pool) == b"ok"
                assert (pool.open, pool.idle) == (1, 1)
            assert provider.connections == 1

    run(story())


def test_a_connection_is_free_as_soon_as_its_reply_has_arrived_even_unread() -> None:
    async def story() -> None:
        async with serving(answering()) as provider, pooled(Pool(provider.target, max_connections=1)) as pool:
            first = await pool.send(GET, timeouts=PATIENT)
            second = await pool.send(GET, timeouts=PATIENT)
            assert (await first.read(2), await second.read(2)) == (b"ok", b"ok")
            assert provider.connections == 1

    run(story())


def test_closing_a_finished_reply_never_touches_the_next_call_of_its_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await asyncio.sleep(0.02)
        await peer.send(b"more")

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target)) as pool:
            first = await pool.send(GET, timeouts=PATIENT)
            second = await pool.send(GET, timeouts=PATIENT)
            await first.aclose()
            assert await second.read(4) == b"more"

    run(story())


def test_the_connection_used_last_is_used_first() -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % peer.number)

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target)) as pool:
            await asyncio.gather(call(pool), call(pool), call(pool))
            assert provider.connections == pool.idle == 3
            last = await call(pool)
            assert [await call(pool) for _ in range(4)] == [last] * 4

    run(story())


def test_an_idle_connection_is_closed_after_its_time() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.left()
        gone.set()

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target, keep_alive=0.05)) as pool:
            await call(pool)
            await gone.wait()
            assert (pool.open, pool.idle) == (0, 0)

    run(story())


def test_no_more_than_the_allowed_idle_connections_are_kept() -> None:
    async def story() -> None:
        async with serving(answering()) as provider, pooled(Pool(provider.target, max_idle=2)) as pool:
            await asyncio.gather(*(call(pool) for _ in range(5)))
            assert provider.connections == 5
            assert (pool.open, pool.idle) == (2, 2)

    run(story())


@pytest.mark.parametrize("parting", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n", b"x"])
def test_an_idle_connection_on_which_anything_arrived_is_never_used_again(parting: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            await asyncio.sleep(0.01)
            await peer.send(parting)
        if parting or peer.number > 1:
            await peer.left()

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target)) as pool:
            await call(pool)
            await until(lambda: pool.idle == 0)
            assert await call(pool) == b"ok"
            assert provider.connections == 2

    run(story())


def test_bytes_that_wait_in_the_kernel_are_seen_before_a_rested_connection_is_used() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            target = parse_base_url(f"http://127.0.0.1:{listener.getsockname()[1]}")
            async with pooled(Pool(target)) as pool:
                first = asyncio.ensure_future(call(pool))
                old, _ = await loop.sock_accept(listener)
                await loop.sock_recv(old, 65_536)
                await loop.sock_sendall(old, OK)
                await first
                await asyncio.sleep(1.05)
                # The loop does not turn between the close and the next call's choice of a connection.
                old.close()
                second = asyncio.ensure_future(call(pool))
                new, _ = await loop.sock_accept(listener)
                with new:
                    assert (await loop.sock_recv(new, 65_536)).startswith(b"GET ")
                    await loop.sock_sendall(new, OK)
                    assert await second == b"ok"

    run(story())


def test_a_connection_that_dies_under_a_request_is_not_retried() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target)) as pool:
            await call(pool)
            with pytest.raises(UpstreamFailure) as failure:
                await call(pool)
            assert (failure.value.code, failure.value.sent) == (Code.PROVIDER_UNREACHABLE, True)
            assert provider.connections == 1

    run(story())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"x",
    ],
)
def test_a_connection_with_more_to_say_or_no_more_use_is_closed(reply: bytes) -> None:
    async def story() -> None:
        async with serving(answering(reply)) as provider, pooled(Pool(provider.target)) as pool:
            assert await call(pool) == b"ok"
            assert pool.open == 0
            assert await call(pool) == b"ok"
            assert provider.connections == 2

    run(story())


def test_calls_beyond_the_limit_wait_in_line_for_a_connection() -> None:
    order: list[int] = []

    async def numbered(pool: Pool, number: int) -> None:
        await call(pool)
        order.append(number)

    async def story() -> None:
        async with serving(answering()) as provider, pooled(Pool(provider.target, max_connections=1)) as pool:
            calls = [asyncio.ensure_future(numbered(pool, number)) for number in range(6)]
            await asyncio.sleep(0)
            assert (pool.open, pool.waiting) == (1, 5)
            await asyncio.gather(*calls)
            assert order == [0, 1, 2, 3, 4, 5]
            assert (provider.connections, pool.open, pool.waiting) == (1, 1, 0)

    run(story())


def test_a_connection_that_closes_gives_its_place_to_the_next_in_line() -> None:
    async def story() -> None:
        reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        async with serving(answering(reply)) as provider, pooled(Pool(provider.target, max_connections=2)) as pool:
            assert await asyncio.gather(*(call(pool) for _ in range(8))) == [b"ok"] * 8
            assert (provider.connections, pool.open) == (8, 0)

    run(story())


@pytest.mark.requirement("PR-5")
def test_waiting_for_a_connection_is_bounded_and_sends_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await peer.left()

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target, max_connections=1)) as pool:
            async with await pool.send(GET, timeouts=PATIENT):
                for limits in ({"connect": 0.03}, {"total": 0.03}):
                    with pytest.raises(UpstreamFailure) as failure:
                        await call(pool, **limits)
                    assert (failure.value.code, failure.value.sent) == (Code.TIMEOUT, False)
                assert (pool.open, pool.waiting) == (1, 0)
            assert pool.open == 0
            assert provider.connections == 1

    run(story())


def test_a_cancelled_wait_leaves_the_line_and_loses_no_place() -> None:
    hold = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await hold.wait()
            await peer.send(OK)

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target, max_connections=1)) as pool:
            first = asyncio.ensure_future(call(pool))
            waiting = [asyncio.ensure_future(call(pool)) for _ in range(3)]
            await until(lambda: pool.waiting == 3)
            waiting[1].cancel()
            await asyncio.wait([waiting[1]])
            assert pool.waiting == 2
            hold.set()
            assert list(await asyncio.gather(first, waiting[0], waiting[2])) == [b"ok"] * 3
            assert (pool.open, pool.idle, pool.waiting) == (1, 1, 0)

    run(story())


class Meddling(Pool):
    """A pool in which something happens in the very turn in which a connection changes hands."""

    meddle: Callable[[Connection], object] | None = None
    at: str = ""

    def _meddle(self, at: str, connection: Connection) -> None:
        if self.at == at and self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle(connection)

    def made(self, connection: Connection) -> None:
        super().made(connection)
        self._meddle("made", connection)

    def released(self, connection: Connection) -> None:
        super().released(connection)
        self._meddle("released", connection)

    def retired(self, connection: Connection) -> None:
        super().retired(connection)
        self._meddle("retired", connection)


@pytest.mark.parametrize(
    ("at", "reply"),
    [("released", OK), ("retired", b"HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")],
)
def test_a_call_cancelled_in_the_turn_it_is_served_passes_its_place_on(at: str, reply: bytes) -> None:
    async def story() -> None:
        async with serving(answering(reply)) as provider, pooled(Meddling(provider.target, max_connections=1)) as pool:
            calls = [asyncio.ensure_future(call(pool)) for _ in range(3)]
            pool.at, pool.meddle = at, lambda _: calls[1].cancel()
            await asyncio.wait(calls)
            assert (calls[0].result(), calls[1].cancelled(), calls[2].result()) == (b"ok", True, b"ok")
            assert (pool.open - pool.idle, pool.waiting) == (0, 0)

    run(story())


def test_a_connection_that_dies_in_the_turn_it_is_handed_over_is_replaced() -> None:
    async def story() -> None:
        async with serving(answering()) as provider, pooled(Meddling(provider.target, max_connections=1)) as pool:
            pool.at, pool.meddle = "released", lambda connection: connection.abort()
            assert list(await asyncio.gather(call(pool), call(pool))) == [b"ok"] * 2
            assert (provider.connections, pool.open, pool.idle) == (2, 1, 1)

    run(story())


def test_a_connection_that_dies_as_it_is_made_is_unreachable_and_leaks_no_place() -> None:
    async def story() -> None:
        async with serving(answering()) as provider, pooled(Meddling(provider.target)) as pool:
            pool.at, pool.meddle = "made", lambda connection: connection.abort()
            with pytest.raises(UpstreamFailure) as failure:
                await call(pool)
            assert (failure.value.code, failure.value.sent) == (Code.PROVIDER_UNREACHABLE, False)
            assert pool.open == 0

    run(story())


def test_a_closed_pool_ends_calls_that_are_still_connecting() -> None:
    async def script(peer: Peer) -> None:
        await peer.left()

    async def story() -> None:
        async with serving(script) as provider:
            pool = Pool(Target(scheme="https", host="127.0.0.1", port=provider.target.port))
            connecting = asyncio.ensure_future(call(pool, connect=30))
            await until(lambda: provider.open == 1)
            await pool.aclose()
            with pytest.raises(Fault) as fault:
                await asyncio.wait_for(connecting, 10)
            assert (fault.value.code, pool.open) == (Code.SHUTTING_DOWN, 0)

    run(story())


def test_many_cancelled_calls_leak_no_place() -> None:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await asyncio.sleep(0.002)
            await peer.send(OK)

    async def story() -> None:
        async with serving(script) as provider, pooled(Pool(provider.target, max_connections=3)) as pool:
            for delay in range(30):
                calls = [asyncio.ensure_future(call(pool)) for _ in range(8)]
                await asyncio.sleep(delay / 5_000)
                for task in calls[::2]:
                    task.cancel()
                await asyncio.wait(calls)
                assert all(task.cancelled() or task.result() == b"ok" for task in calls)
                assert pool.waiting == 0
                assert pool.open == pool.idle <= 3

    run(story())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refused_connection_is_unreachable_and_sends_nothing(host: str) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        async with pooled(Pool(parse_base_url(f"http://{host}:{port}"))) as pool:
            with pytest.raises(UpstreamFailure) as failure:
                await call(pool)
            assert (failure.value.code, failure.value.sent) == (Code.PROVIDER_UNREACHABLE, False)
            assert (failure.value.reason, pool.open) == ("the connection was refused", 0)

    run(story())


def test_an_unknown_name_is_unreachable_and_sends_nothing() -> None:
    async def story() -> None:
        async with pooled(Pool(parse_base_url("http://does-not-exist.invalid"))) as pool:
            with pytest.raises(UpstreamFailure) as failure:
                await call(pool, connect=2)
            assert failure.value.code in {Code.PROVIDER_UNREACHABLE, Code.TIMEOUT}
            assert (failure.value.sent, pool.open) == (False, 0)

    run(story())


@pytest.mark.requirement("PR-5")
def test_a_provider_that_never_accepts_meets_the_connect_limit() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            address = listener.getsockname()
            # Fill the queue of connections nobody accepts; Linux then drops the next one's first packet.
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            async with pooled(Pool(parse_base_url(f"http://127.0.0.1:{address[1]}"))) as pool:
                with pytest.raises(UpstreamFailure) as failure:
                    await call(pool, connect=0.05)
                assert (failure.value.code, failure.value.sent) == (Code.TIMEOUT, False)
                assert (failure.value.reason, pool.open) == ("the connect timeout ran out", 0)
            for filler in fillers:
                filler.close()

    run(story())


def test_a_closed_pool_ends_running_and_waiting_calls_and_every_socket() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await peer.left()

    async def story() -> None:
        async with serving(script) as provider:
            pool = Pool(provider.target, max_connections=1)
            reply: Reply = await pool.send(GET, timeouts=PATIENT)
            running = asyncio.ensure_future(reply.read(9))
            waiting = asyncio.ensure_future(call(pool))
            await until(lambda: pool.waiting == 1)
            await asyncio.gather(pool.aclose(), pool.aclose())
            for ended in (running, waiting, asyncio.ensure_future(call(pool))):
                with pytest.raises(Fault) as fault:
                    await ended
                assert fault.value.code is Code.SHUTTING_DOWN
            await until(lambda: provider.open == 0)
            assert pool.open == 0

    run(story())


def test_impossible_options_are_refused_at_once() -> None:
    plain = parse_base_url("http://x")
    with pytest.raises(ValueError, match="https"):
        Pool(plain, tls=TlsOptions())
    with pytest.raises(ValueError, match="proxy"):
        Pool(plain, proxy=parse_base_url("https://proxy"))
    with pytest.raises(ValueError, match="proxy"):
        Pool(plain, proxy=parse_base_url("http://proxy/path"))
    with pytest.raises(ValueError, match="max_connections"):
        Pool(plain, max_connections=0)
