"""One call over a real socket: what arrives, what fails and how, and that nothing is left behind."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.transport.peers import (
    GET,
    OK,
    PATIENT,
    Peer,
    Provider,
    answering,
    patient,
    pooled,
    post,
    run,
    serving,
)

from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.transport import OutboundRequest, Pool, parse_base_url

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def failure_of(call: Awaitable[object]) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as failure:
        await call
    return failure.value


def against(script: Callable[[Peer], Awaitable[None]], story: Callable[[Pool, Provider], Awaitable[None]]) -> None:
    """Run `story` with a pool pointed at a provider that follows `script`."""

    async def scripted(peer: Peer) -> None:
        await script(peer)

    async def whole() -> None:
        async with serving(scripted) as provider, pooled(Pool(provider.target)) as pool:
            await story(pool, provider)

    run(whole())


@pytest.mark.requirement("GW-7")
def test_the_provider_receives_exactly_the_request_and_we_its_reply() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(b"HTTP/1.1 418 Teapot\r\nX-Id: 7\r\nContent-Length: 4\r\n\r\n\x00\xff\r\n")

    async def story(pool: Pool, provider: Provider) -> None:
        request = OutboundRequest(method="POST", path="/v1/x?y=z", headers=((b"x-a", b"b"),), body=b"\x00\r\n\r\nq")
        async with await pool.send(request, timeouts=PATIENT) as reply:
            assert (reply.status, reply.headers) == (418, ((b"x-id", b"7"), (b"content-length", b"4")))
            assert await reply.read(4) == b"\x00\xff\r\n"
        assert seen == [
            b"POST /v1/x?y=z HTTP/1.1\r\nhost: " + provider.target.authority.encode() + b"\r\nx-a: b\r\n"
            b"accept-encoding: identity\r\ncontent-length: 6\r\n\r\n\x00\r\n\r\nq"
        ]

    against(script, story)


def test_a_reply_that_arrives_byte_by_byte_is_the_same_reply() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n":
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=PATIENT) as reply:
            assert b"".join([piece async for piece in reply]) == b"abcde"

    against(script, story)


def test_an_ipv6_provider_is_reached() -> None:
    async def story() -> None:
        try:
            async with serving(answering(), host="::1") as provider, pooled(Pool(provider.target)) as pool:
                assert provider.target.host == "::1"
                async with await pool.send(GET, timeouts=PATIENT) as reply:
                    assert await reply.read(2) == b"ok"
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")

    run(story())


def test_everything_that_has_arrived_comes_in_one_piece() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\na\r\n" + b"1\r\nb\r\n" + b"1\r\nc\r\n")
        await peer.request()

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=PATIENT) as reply:
            assert await anext(reply) == b"abc"

    against(script, story)


@pytest.mark.requirement("GW-10")
def test_a_wait_for_the_next_piece_can_be_given_up_and_taken_again() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\na\r\n")
        await go.wait()
        await peer.send(b"1\r\nb\r\n0\r\n\r\n")

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=PATIENT) as reply:
            assert await anext(reply) == b"a"
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(reply), 0.001)
            go.set()
            assert [piece async for piece in reply] == [b"b"]

    against(script, story)


def test_redirects_are_returned_as_they_are() -> None:
    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=PATIENT) as reply:
            assert (reply.status, dict(reply.headers)[b"location"]) == (307, b"http://127.0.0.1:1/")
            assert await reply.read(0) == b""
        assert provider.connections == 1

    against(answering(b"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"), story)


def test_a_reply_to_head_is_complete_with_its_head() -> None:
    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(OutboundRequest(method="HEAD", path="/"), timeouts=PATIENT) as reply:
            assert await reply.read(0) == b""

    against(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"), story)


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (b"", Code.PROVIDER_UNREACHABLE, None),
        (b"HTTP/1.1 200 OK\r\ncontent", Code.TRUNCATED, None),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Code.TRUNCATED, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart", Code.TRUNCATED, 200),
        (CHUNKED + b"4\r\npart\r\n", Code.TRUNCATED, 200),
        (CHUNKED + b"4\r\npart\r\nzz", Code.BAD_REPLY, 200),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Code.BAD_REPLY, None),
        (b"HTTP/1.1 101 x\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Code.BAD_REPLY, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", Code.BAD_REPLY, None),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000, Code.BAD_REPLY, None),
    ],
)
@pytest.mark.parametrize("abrupt", [False, True])
@pytest.mark.requirement("GW-8", "PR-4", "PR-9")
def test_a_broken_reply_is_a_failure_that_says_what_broke(
    reply: bytes, code: Code, status: int | None, abrupt: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)
        if abrupt:
            peer.reset()

    async def story(pool: Pool, provider: Provider) -> None:
        async def call() -> bytes:
            return await (await pool.send(GET, timeouts=PATIENT)).read(1_000_000)

        failure = await failure_of(call())
        assert (failure.code, failure.provider_status, failure.sent) == (code, status, True)
        assert pool.open == 0

    against(script, story)


@pytest.mark.requirement("GW-8")
def test_what_arrived_before_a_cut_is_delivered_before_the_failure() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"4\r\npart\r\n")

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=PATIENT) as reply:
            assert await anext(reply) == b"part"
            assert (await failure_of(anext(reply))).code is Code.TRUNCATED

    against(script, story)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n", CHUNKED + b"b\r\nhello world\r\n"])
def test_a_reply_above_the_readers_limit_is_refused_and_the_socket_closed(reply: bytes) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)
        await peer.left()
        closed.set()

    async def story(pool: Pool, provider: Provider) -> None:
        failure = await failure_of((await pool.send(GET, timeouts=PATIENT)).read(10))
        assert failure.code is Code.REPLY_TOO_LARGE
        await closed.wait()

    against(script, story)


def test_a_body_of_exactly_the_limit_is_read() -> None:
    async def story(pool: Pool, provider: Provider) -> None:
        assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"

    against(answering(), story)


def test_a_closed_reply_cannot_be_mistaken_for_an_ended_one() -> None:
    async def story(pool: Pool, provider: Provider) -> None:
        reply = await pool.send(GET, timeouts=PATIENT)
        await reply.aclose()
        await reply.aclose()
        with pytest.raises(Fault) as fault:
            await anext(reply)
        assert fault.value.code is Code.INTERNAL

    against(answering(), story)


def test_two_tasks_cannot_read_one_reply() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await peer.left()

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=PATIENT) as reply:
            first = asyncio.ensure_future(reply.read(1))
            await asyncio.sleep(0)
            with pytest.raises(Fault):
                await anext(reply)
            first.cancel()
            await asyncio.wait([first])

    against(script, story)


# Cancellation


@pytest.mark.parametrize("sent", [b"", CHUNKED, CHUNKED + b"4\r\npart\r\n"])
@pytest.mark.requirement("GW-10")
def test_a_cancelled_call_closes_the_providers_socket(sent: bytes) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        asked.set()
        await peer.left()
        closed.set()

    async def story(pool: Pool, provider: Provider) -> None:
        async def call() -> None:
            async with await pool.send(GET, timeouts=PATIENT) as reply:
                async for _ in reply:
                    pass

        task = asyncio.ensure_future(call())
        await asked.wait()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert pool.open == 0
        await closed.wait()

    against(script, story)


@pytest.mark.requirement("GW-10")
def test_an_abandoned_reply_closes_its_socket_before_aclose_returns() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            target = parse_base_url(f"http://127.0.0.1:{listener.getsockname()[1]}")
            async with pooled(Pool(target)) as pool:
                call = asyncio.ensure_future(pool.send(GET, timeouts=PATIENT))
                accepted, _ = await loop.sock_accept(listener)
                with accepted:
                    await loop.sock_recv(accepted, 65_536)
                    await loop.sock_sendall(accepted, CHUNKED)
                    reply = await call
                    await reply.aclose()
                    # No await stands between the close and this look at the other end.
                    accepted.setblocking(False)
                    assert accepted.recv(1) == b""

    run(story())


# Time limits


@pytest.mark.parametrize(
    ("limits", "reply", "named"),
    [
        ({"first_byte": 0.05}, b"", "first_byte"),
        ({"first_byte": 0.05}, b"HTTP/1.1 100 Continue\r\n\r\n", "first_byte"),
        ({"first_byte": 0.05}, b"HTTP/1.1 200 OK\r\na", "first_byte"),
        ({"idle": 0.05}, CHUNKED, "idle"),
        ({"idle": 0.05}, CHUNKED + b"4\r\npart\r\n", "idle"),
        ({"total": 0.05}, b"", "total"),
        ({"total": 0.05}, CHUNKED, "total"),
        ({"total": 0.05, "first_byte": 0.05}, CHUNKED, "total"),
    ],
)
@pytest.mark.requirement("PR-5", "PR-9")
def test_each_time_limit_ends_the_call_by_its_name_and_closes_the_socket(
    limits: dict[str, float], reply: bytes, named: str
) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)
        await peer.left()
        closed.set()

    async def story(pool: Pool, provider: Provider) -> None:
        async def call() -> bytes:
            return await (await pool.send(GET, timeouts=patient(**limits))).read(1_000)

        failure = await failure_of(call())
        assert (failure.code, failure.sent) == (Code.TIMEOUT, True)
        assert named in failure.reason
        await closed.wait()

    against(script, story)


@pytest.mark.requirement("PR-5")
def test_a_provider_that_keeps_talking_is_still_ended_by_the_total_limit() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while not peer.writer.is_closing():
            await peer.send(b"1\r\na\r\n")
            await asyncio.sleep(0.01)

    async def story(pool: Pool, provider: Provider) -> None:
        reply = await pool.send(GET, timeouts=patient(idle=5, total=0.2))
        failure = await failure_of(reply.read(1_000_000))
        assert (failure.code, failure.reason) == (Code.TIMEOUT, "the total timeout ran out")

    against(script, story)


@pytest.mark.requirement("PR-5")
def test_the_idle_limit_counts_from_the_last_byte() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(8):
            await asyncio.sleep(0.05)
            await peer.send(b"1\r\na\r\n")
        await peer.send(b"0\r\n\r\n")

    async def story(pool: Pool, provider: Provider) -> None:
        reply = await pool.send(GET, timeouts=patient(idle=0.3))
        assert await reply.read(100) == b"a" * 8

    against(script, story)


# Large bodies


def test_a_large_request_waits_for_a_slow_provider_and_arrives_whole() -> None:
    received = 0

    async def script(peer: Peer) -> None:
        nonlocal received
        await peer.head()
        while received < 8_000_000:
            received += len(await peer.reader.read(1_000_000))
            await asyncio.sleep(0)
        await peer.send(OK)
        assert await peer.request() == b""

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(post(8_000_000), timeouts=PATIENT) as reply:
            assert await reply.read(2) == b"ok"
        assert received == 8_000_000
        assert pool.idle == 1

    against(script, story)


def test_an_early_answer_to_a_half_written_request_is_delivered_and_costs_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await peer.left()

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(post(50_000_000), timeouts=PATIENT) as reply:
            assert (reply.status, await reply.read(2)) == (413, b"no")
        assert (pool.idle, pool.open) == (0, 0)

    against(script, story)


@pytest.mark.requirement("PR-5")
def test_a_provider_that_does_not_take_the_request_meets_the_first_byte_limit() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await release.wait()

    async def story(pool: Pool, provider: Provider) -> None:
        failure = await failure_of(pool.send(post(50_000_000), timeouts=patient(first_byte=0.1)))
        assert (failure.code, "first_byte" in failure.reason) == (Code.TIMEOUT, True)
        release.set()

    against(script, story)


def test_a_provider_that_leaves_during_the_request_is_unreachable() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async def story(pool: Pool, provider: Provider) -> None:
        failure = await failure_of(pool.send(post(50_000_000), timeouts=PATIENT))
        assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, True)

    against(script, story)


@pytest.mark.requirement("PR-5")
def test_a_slow_reader_makes_the_provider_wait_and_is_not_taken_for_a_silent_provider() -> None:
    size = 30_000_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size and not peer.writer.is_closing():
            await peer.send(b"x" * 100_000)
            sent += 100_000

    async def story(pool: Pool, provider: Provider) -> None:
        async with await pool.send(GET, timeouts=patient(idle=0.1)) as reply:
            await asyncio.sleep(0.4)
            assert reply.buffered < 1_000_000
            assert sent < size
            assert sum([len(piece) async for piece in reply]) == size
        assert pool.idle == 1

    against(script, story)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [OK, CHUNKED, b"2\r\nok\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n", b"HTTP/1.1 204 x\r\n\r\n"]
        )
        | st.binary(min_size=1, max_size=20),
        max_size=6,
    ),
    st.booleans(),
)
@pytest.mark.requirement("PR-9")
def test_whatever_a_provider_says_a_call_ends_with_a_reply_or_an_upstream_failure(
    pieces: list[bytes], abrupt: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)
        if abrupt:
            peer.reset()

    async def story(pool: Pool, provider: Provider) -> None:
        outcome: Code | None = None
        async with asyncio.timeout(20):
            try:
                async with await pool.send(GET, timeouts=PATIENT) as reply:
                    await reply.read(1_000)
            except UpstreamFailure as failure:
                outcome = failure.code
        assert outcome in {None, Code.BAD_REPLY, Code.TRUNCATED, Code.PROVIDER_UNREACHABLE}

    against(script, story)
