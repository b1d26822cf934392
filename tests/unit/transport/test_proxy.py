"""CONNECT through the proxy the file names, and through no other."""

import asyncio

import pytest
from tests.unit.transport.peers import (
    GET,
    PATIENT,
    Authority,
    Peer,
    Script,
    answering,
    patient,
    pooled,
    run,
    serving,
)

from securellm.core.errors import Code, UpstreamFailure
from securellm.transport import Pool, Target, TlsOptions, parse_base_url
from securellm.transport.tunnel import Tunnel


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("proxy"), "ours")


def tunnelling(heads: list[bytes], *, greeting: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Script:
    """A proxy that notes what it was asked and joins the two sides."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def script(peer: Peer) -> None:
        head = await peer.head()
        heads.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        for byte in greeting:
            await peer.send(bytes([byte]))
        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))

    return script


@pytest.mark.requirement("PR-1")
@pytest.mark.parametrize("secured", [False, True])
def test_both_schemes_are_tunnelled_and_the_tunnel_is_kept(authority: Authority, secured: bool) -> None:
    heads: list[bytes] = []

    async def story() -> None:
        context = authority.server("localhost") if secured else None
        tls = TlsOptions(ca_file=authority.file) if secured else None
        async with (
            serving(answering(), tls=context) as provider,
            serving(tunnelling(heads)) as proxy,
            pooled(Pool(provider.target, tls=tls, proxy=proxy.target)) as pool,
        ):
            for _ in range(3):
                assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"
            name = provider.target.authority.encode()
            assert heads == [b"CONNECT " + name + b" HTTP/1.1\r\nhost: " + name + b"\r\n\r\n"]
            assert (provider.connections, proxy.connections) == (1, 1)

    run(story())


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def story() -> None:
        async with serving(answering()) as provider, pooled(Pool(provider.target)) as pool:
            assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"

    run(story())


async def refused(proxy: Target, *, https: bool = False, connect: float = 10) -> UpstreamFailure:
    target = parse_base_url("https://api.example" if https else "http://api.example")
    async with pooled(Pool(target, proxy=proxy)) as pool:
        with pytest.raises(UpstreamFailure) as failure:
            await pool.send(GET, timeouts=patient(connect=connect))
        assert pool.open == 0
    return failure.value


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nsecret", "status 403"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "status 403"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "status 407"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://evil/\r\n\r\n", "status 302"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "status 100"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "malformed"),
        (b"HTTP/2 200\r\n\r\n", "malformed"),
        (b"hello\r\n\r\n", "malformed"),
        (b"\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * 20_000, "too large"),
        (b"HTTP/1.1 200 OK\r\n", "closed"),
        (b"", "closed"),
    ],
)
@pytest.mark.parametrize("https", [False, True])
def test_a_proxy_that_says_no_makes_the_provider_unreachable_and_nothing_is_sent(
    answer: bytes, reason: str, https: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)

    async def story() -> None:
        async with serving(script) as proxy:
            failure = await refused(proxy.target, https=https)
        assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, False)
        assert reason in failure.reason
        assert "secret" not in failure.reason

    run(story())


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
@pytest.mark.requirement("PR-5")
def test_a_silent_proxy_meets_the_connect_limit_and_its_socket_is_closed(greeting: bytes) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(greeting)
        await peer.left()
        closed.set()

    async def story() -> None:
        async with serving(script) as proxy:
            failure = await refused(proxy.target, https=True, connect=0.05)
            assert (failure.code, failure.sent) == (Code.TIMEOUT, False)
            await closed.wait()

    run(story())


def test_the_proxy_cannot_stand_in_for_the_provider_under_tls(authority: Authority) -> None:
    heads: list[bytes] = []

    async def story() -> None:
        async with (
            serving(answering(), tls=authority.server("proxy.example")) as provider,
            serving(tunnelling(heads)) as proxy,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=authority.file), proxy=proxy.target)) as pool,
        ):
            with pytest.raises(UpstreamFailure) as failure:
                await pool.send(GET, timeouts=PATIENT)
            assert (failure.value.code, failure.value.sent) == (Code.PROVIDER_UNREACHABLE, False)
            assert "certificate" in failure.value.reason

    run(story())


def test_what_follows_the_tunnels_head_is_left_to_the_next_protocol() -> None:
    class Recorder(asyncio.Transport):
        paused = False

        def write(self, data: object) -> None:
            pass

        def pause_reading(self) -> None:
            self.paused = True

    async def story() -> None:
        transport, tunnel = Recorder(), Tunnel(parse_base_url("http://api.example"))
        tunnel.connection_made(transport)
        tunnel.data_received(b"HTTP/1.1 200 OK\r\n\r")
        assert not transport.paused
        tunnel.data_received(b"\n")
        await tunnel.opened
        assert transport.paused

    run(story())


def test_an_absent_proxy_is_unreachable() -> None:
    async def story() -> None:
        async with serving(answering()) as gone:
            address = gone.target
        failure = await refused(address)
        assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, False)

    run(story())
