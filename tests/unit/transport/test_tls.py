"""Verification that cannot be switched off, and certificates of our own."""

import asyncio
import ssl
import warnings
from pathlib import Path

import pytest
from tests.unit.transport.peers import GET, OK, PATIENT, Authority, Peer, answering, patient, pooled, post, run, serving

from securellm.core.errors import Code, UpstreamFailure
from securellm.transport import Pool, Target, TlsOptions


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


async def refused(target: Target, tls: TlsOptions | None) -> UpstreamFailure:
    async with pooled(Pool(target, tls=tls)) as pool:
        with pytest.raises(UpstreamFailure) as failure:
            await (await pool.send(GET, timeouts=PATIENT)).read(10)
        assert pool.open == 0
    return failure.value


@pytest.mark.requirement("PR-1")
def test_a_provider_of_a_trusted_authority_is_spoken_to_and_its_connection_kept(ours: Authority) -> None:
    names: list[str] = []

    async def story() -> None:
        context = ours.server("localhost")
        context.sni_callback = lambda _, name, __: names.append(name)
        async with (
            serving(answering(), tls=context) as provider,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=ours.file))) as pool,
        ):
            for _ in range(3):
                assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"
            assert (provider.connections, names) == (1, ["localhost"])

    run(story())


def test_a_provider_named_by_its_address_is_verified_by_it(ours: Authority) -> None:
    async def story() -> None:
        async with serving(answering(), tls=ours.server("127.0.0.1")) as provider:
            by_address = Target(scheme="https", host="127.0.0.1", port=provider.target.port)
            async with pooled(Pool(by_address, tls=TlsOptions(ca_file=ours.file))) as pool:
                assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"
            assert "certificate" in (await refused(provider.target, TlsOptions(ca_file=ours.file))).reason

    run(story())


def test_a_pinned_peer_is_known_by_its_certificate_alone(ours: Authority) -> None:
    certificate, secret = ours.issue("public.example")
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate, secret)
    pinned = TlsOptions(pinned=certificate.read_text())

    async def story() -> None:
        async with serving(answering(), tls=own) as provider, pooled(Pool(provider.target, tls=pinned)) as pool:
            assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"
        async with serving(answering(), tls=ours.server("localhost")) as provider:
            assert "certificate was not accepted" in (await refused(provider.target, pinned)).reason

    run(story())
    for options in (TlsOptions(pinned="nothing"), TlsOptions(pinned=certificate.read_text(), ca_file=ours.file)):
        with pytest.raises(ValueError, match="pinned"):
            Pool(Target(scheme="https", host="localhost", port=443), tls=options)


def test_an_unknown_authority_or_another_name_is_unreachable_and_sends_nothing(
    ours: Authority, theirs: Authority
) -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.request())

    async def story() -> None:
        async with serving(script, tls=ours.server("localhost")) as provider:
            for tls in (None, TlsOptions(ca_file=theirs.file)):
                failure = await refused(provider.target, tls)
                assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, False)
                assert "certificate was not accepted" in failure.reason
        async with serving(script, tls=ours.server("another.example")) as provider:
            failure = await refused(provider.target, TlsOptions(ca_file=ours.file))
            assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, False)
        assert asked == []

    run(story())


def test_plain_http_and_old_tls_are_refused_where_tls_was_asked_for(ours: Authority) -> None:
    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.left()

    async def story() -> None:
        async with serving(plain) as provider:
            target = Target(scheme="https", host="127.0.0.1", port=provider.target.port)
            failure = await refused(target, None)
            assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, False)
        old = ours.server("localhost")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1_1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        async with serving(answering(), tls=old) as provider:
            failure = await refused(provider.target, TlsOptions(ca_file=ours.file))
            assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, False)

    run(story())


def test_a_provider_that_demands_a_certificate_gets_ours(ours: Authority, theirs: Authority) -> None:
    async def story() -> None:
        context = ours.server("localhost")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ours.file)
        certificate, key = ours.issue("gateway.example")
        foreign, foreign_key = theirs.issue("gateway.example")
        async with serving(answering(), tls=context) as provider:
            shown = TlsOptions(ca_file=ours.file, client_cert=certificate, client_key=key)
            async with pooled(Pool(provider.target, tls=shown)) as pool:
                assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"
            wrong = TlsOptions(ca_file=ours.file, client_cert=foreign, client_key=foreign_key)
            for tls in (TlsOptions(ca_file=ours.file), wrong):
                assert (await refused(provider.target, tls)).code is Code.PROVIDER_UNREACHABLE

    run(story())


def test_certificate_files_that_cannot_be_used_are_refused_by_name(ours: Authority, tmp_path: Path) -> None:
    target = Target(scheme="https", host="localhost", port=443)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    certificate, key = ours.issue("a.example")
    _, other_key = ours.issue("b.example")
    _, locked = ours.issue("c.example", password=b"secret")
    for options, named in (
        (TlsOptions(ca_file=tmp_path / "absent"), "ca_file"),
        (TlsOptions(ca_file=garbage), "ca_file"),
        (TlsOptions(client_cert=tmp_path / "absent"), "client_cert"),
        (TlsOptions(client_cert=garbage), "client_cert"),
        (TlsOptions(client_cert=certificate), "client_cert"),
        (TlsOptions(client_cert=certificate, client_key=other_key), "client_key"),
        (TlsOptions(client_cert=certificate, client_key=locked), "client_key"),
        (TlsOptions(client_key=key), "client_cert"),
    ):
        with pytest.raises(ValueError, match=named):
            Pool(target, tls=options)


def test_no_session_key_is_written_where_the_environment_says(
    ours: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))

    async def story() -> None:
        async with (
            serving(answering(), tls=ours.server("localhost")) as provider,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=ours.file))) as pool,
        ):
            assert await (await pool.send(GET, timeouts=PATIENT)).read(2) == b"ok"

    run(story())
    assert not keys.exists() or b"TRAFFIC_SECRET" not in keys.read_bytes()


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("announced", [True, False])
def test_under_tls_only_an_announced_close_ends_a_body_without_length(ours: Authority, announced: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        if not announced:
            # A close of the socket below TLS: what anyone on the way could do.
            peer.writer.get_extra_info("socket").shutdown(1)

    async def story() -> None:
        async with (
            serving(script, tls=ours.server("localhost")) as provider,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=ours.file))) as pool,
        ):
            reply = await pool.send(GET, timeouts=PATIENT)
            if announced:
                assert await reply.read(10) == b"part"
            else:
                with pytest.raises(UpstreamFailure) as failure:
                    await reply.read(10)
                assert failure.value.code is Code.TRUNCATED

    run(story())


@pytest.mark.requirement("PR-5")
def test_a_tls_handshake_that_never_ends_meets_the_connect_limit() -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.left()
        closed.set()

    async def story() -> None:
        async with serving(script) as provider:
            target = Target(scheme="https", host="127.0.0.1", port=provider.target.port)
            async with pooled(Pool(target)) as pool:
                with pytest.raises(UpstreamFailure) as failure:
                    await pool.send(GET, timeouts=patient(connect=0.05))
                assert (failure.value.code, failure.value.sent) == (Code.TIMEOUT, False)
                await closed.wait()

    run(story())


@pytest.mark.requirement("GW-10")
def test_a_cancelled_call_under_tls_closes_the_providers_socket(ours: Authority) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart")
        asked.set()
        await peer.left()
        closed.set()

    async def story() -> None:
        async with (
            serving(script, tls=ours.server("localhost")) as provider,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=ours.file))) as pool,
        ):

            async def call() -> bytes:
                return await (await pool.send(GET, timeouts=PATIENT)).read(9)

            task = asyncio.ensure_future(call())
            await asked.wait()
            task.cancel()
            await asyncio.wait([task])
            assert (task.cancelled(), pool.open) == (True, 0)
            await closed.wait()

    run(story())


def test_large_bodies_cross_tls_whole_both_ways(ours: Authority) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.request():
            body = request.partition(b"\r\n\r\n")[2]
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def story() -> None:
        async with (
            serving(script, tls=ours.server("localhost")) as provider,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=ours.file))) as pool,
        ):
            for _ in range(2):
                assert await (await pool.send(post(3_000_000), timeouts=PATIENT)).read(3_000_000) == b"x" * 3_000_000
            assert provider.connections == 1

    run(story())


def test_an_idle_tls_connection_is_closed_after_its_time(ours: Authority) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.left()
        closed.set()

    async def story() -> None:
        async with (
            serving(script, tls=ours.server("localhost")) as provider,
            pooled(Pool(provider.target, tls=TlsOptions(ca_file=ours.file), keep_alive=0.02)) as pool,
        ):
            await (await pool.send(GET, timeouts=PATIENT)).read(2)
            await closed.wait()
            assert pool.open == 0

    run(story())
