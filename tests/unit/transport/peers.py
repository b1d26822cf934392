"""A scripted provider on a real loopback socket, and certificates for it."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from securellm.transport import OutboundRequest, Pool, Target, Timeouts, parse_base_url

AnyPool = TypeVar("AnyPool", bound=Pool)
PATIENT = Timeouts(connect=10, first_byte=10, idle=10, total=30)
"""Limits that no healthy test meets."""
GET = OutboundRequest(method="GET", path="/v1/models")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def patient(**limits: float) -> Timeouts:
    return msgspec.structs.replace(PATIENT, **limits)


def post(size: int) -> OutboundRequest:
    return OutboundRequest(method="POST", path="/v1/x", body=b"x" * size)


class Peer:
    """One accepted connection, seen from the provider."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        """1 for the first connection of the server."""

    async def head(self) -> bytes:
        """The next request's head; empty once the client has left."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return b""

    async def request(self) -> bytes:
        """The next request, head and body; empty once the client has left."""
        head = await self.head()
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return head + await self.reader.readexactly(int(line.partition(b":")[2]))
        return head

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(OSError):
            await self.writer.drain()

    async def left(self) -> bool:
        """True once the client has closed, in any way; what it still says is dropped."""
        try:
            while await self.reader.read(65_536):
                pass
        except OSError:
            pass
        return True

    def reset(self) -> None:
        """Close without any goodbye."""
        self.writer.transport.abort()


Script = Callable[[Peer], Coroutine[None, None, None]]


class Provider:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.connections = 0
        self.open = 0


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", backlog: int = 100
) -> AsyncIterator[Provider]:
    """Run `script` for each connection; what it raises comes out at the end of the block."""
    tasks: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        provider.connections += 1
        provider.open += 1
        task = asyncio.ensure_future(script(Peer(reader, writer, provider.connections)))
        tasks.add(task)
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)
        provider.open -= 1
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        tasks.discard(task)

    server = await asyncio.start_server(serve, host, 0, ssl=tls, backlog=backlog)
    scheme = "https" if tls else "http"
    name = "localhost" if tls else f"[{host}]" if ":" in host else host
    provider = Provider(parse_base_url(f"{scheme}://{name}:{server.sockets[0].getsockname()[1]}"))
    try:
        yield provider
    finally:
        server.close()
        async with asyncio.timeout(10):
            while tasks:
                for task in tuple(tasks):
                    task.cancel()
                await asyncio.sleep(0)
            await server.wait_closed()
    if failures:
        raise failures[0]


@asynccontextmanager
async def pooled(pool: AnyPool) -> AsyncIterator[AnyPool]:
    try:
        yield pool
    finally:
        async with asyncio.timeout(10):
            await pool.aclose()


def answering(reply: bytes = OK) -> Script:
    """Answer every request of a connection with the same bytes."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(reply)

    return script


def run(story: Awaitable[None]) -> None:
    """Run one async test under a wait no healthy run reaches."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story

    asyncio.run(bounded())


class Authority:
    """A certificate authority of its own, valid for the length of a test run."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key.public_key(), san=None)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str, password: bytes | None = None) -> tuple[Path, Path]:
        """Certificate and key files for host names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        san = x509.SubjectAlternativeName([_general_name(name) for name in names])
        certificate = self._folder / f"{self._name}-{names[0]}.crt"
        certificate.write_bytes(
            self._sign(names[0], key.public_key(), san=san).public_bytes(serialization.Encoding.PEM)
        )
        secret = self._folder / f"{self._name}-{names[0]}.key"
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*names))
        return context

    def _sign(
        self, name: str, key: ec.EllipticCurvePublicKey, *, san: x509.SubjectAlternativeName | None
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=san is None, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=san is None,
                    crl_sign=san is None,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if san is not None:
            builder = builder.add_extension(san, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
