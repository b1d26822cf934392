"""What `[identity]` may say, which addresses are asked, and how: small documents, no redirects, TLS but on loopback."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.unit.identity.world import AUDIENCE, ISSUER, run, settings

from securellm.core.errors import Code, UpstreamFailure
from securellm.identity import HttpOutbound, Role, flaws_of, origin_of
from securellm.identity.outbound import LARGEST
from securellm.identity.settings import IdentitySettings, LoginSettings, RoleMapping
from securellm.identity.vouching import split_address

LOGIN = LoginSettings(client_id="bridge", redirect_uri="https://console.example.com/admin/v1/login/callback")


def places(*issuers: Any, origins: tuple[str, ...] = ()) -> list[str]:
    return [".".join(map(str, flaw.place[1:])) for flaw in flaws_of(IdentitySettings(issuers=issuers, origins=origins))]


@pytest.mark.requirement("ID-3")
def test_a_sound_configuration_has_no_flaw() -> None:
    roles = (RoleMapping(group="all", role=Role.AUDITOR, tenant="acme", project="web"),)
    sound = settings(login=LOGIN, roles=roles, jwks_uri=f"{ISSUER}/keys?p=1", tenant="acme")
    local = settings(id="local", issuer="http://127.0.0.1:9000", audience=None)
    assert places(sound, local, origins=("https://console.example.com", "http://[::1]:8081")) == []


@pytest.mark.requirement("ID-3")
def test_every_flaw_of_a_configuration_is_found_where_it_stands() -> None:
    assert places(settings(), settings()) == ["issuers.1.id", "issuers.1.issuer"]
    assert places(settings(issuer="http://login.example.com")) == ["issuers.0.issuer"]
    assert places(settings(issuer="https://user@login.example.com")) == ["issuers.0.issuer"]
    assert places(settings(jwks_uri="ftp://x")) == ["issuers.0.jwks_uri"]
    assert places(settings(login=LoginSettings(client_id="x", redirect_uri="/back"))) == [
        "issuers.0.login.redirect_uri"
    ]
    assert places(settings(max_age=60.0)) == ["issuers.0.max_age"]
    lacking = LoginSettings(client_id=AUDIENCE, redirect_uri=LOGIN.redirect_uri, scopes=("email",))
    assert places(settings(login=lacking)) == ["issuers.0.login.scopes", "issuers.0.audience"]
    for tenant in (None, "beta"):
        outside = (RoleMapping(group="all", role=Role.AUDITOR, tenant=tenant),)
        assert places(settings(tenant="acme", roles=outside)) == ["issuers.0.roles.0.tenant"]
    nameless = (RoleMapping(group="", role=Role.OWNER, project="web"),)
    assert places(settings(roles=nameless)) == ["issuers.0.roles.0.group", "issuers.0.roles.0.project"]
    for origin in (
        "console.example.com",
        "https://console.example.com/",
        "https://console.example.com:443",
        "*",
        "null",
    ):
        assert places(origins=(origin,)) == ["origins.0"]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://console.example.com/x?y", None),
        ("https://Console.Example.com/x", "https://console.example.com"),
        ("https://console.example.com:8443", "https://console.example.com:8443"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("about:blank", None),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


def test_an_address_is_asked_as_it_is_written() -> None:
    assert split_address("https://login.example.com/token/?p=a%20b")[1] == "/token/?p=a%20b"
    assert split_address("https://login.example.com")[1] == "/"
    assert split_address("http://localhost:9000/x", like="http://127.0.0.1:9000")[0].port == 9000


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    ("url", "like"),
    [
        ("http://login.example.com/keys", "http://127.0.0.1:9"),
        ("http://127.0.0.1/keys", "https://login.example.com"),
        ("http://169.254.169.254/latest/meta-data", None),
        ("http://127.0.0.1.evil.example/", None),
        ("file:///etc/passwd", None),
        ("https://a@b.example/", None),
        ("https://b.example/?a b", None),
        ("https://b.example/?a#b", None),
        ("", None),
    ],
)
def test_an_address_without_tls_beyond_loopback_is_never_asked(url: str, like: str | None) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what is wrong differs
        split_address(url, like=like)


def answering(head: str, body: bytes = b"{}") -> Callable[[Callable[[str], Coroutine[Any, Any, Any]]], Any]:
    """Asks a server that gives one answer; with the server's own address."""

    def ask(question: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            writer.close()

        async def story() -> Any:
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                return await question(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

        return run(story())

    return ask


async def fetched(url: str) -> bytes:
    outbound = HttpOutbound()
    try:
        return await outbound.get(url, like=url)
    finally:
        await outbound.aclose()


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "head",
    [
        "302 Found\r\nlocation: http://169.254.169.254/",
        "307 X\r\nlocation: /elsewhere",
        "404 No",
        "500 Oh",
        "204 Empty",
    ],
)
def test_what_is_not_simply_given_is_not_followed(head: str) -> None:
    with pytest.raises(UpstreamFailure) as failure:
        answering(head)(fetched)
    assert failure.value.code is Code.PROVIDER_ERROR


def test_a_document_is_given_whole_or_refused_when_it_is_too_large() -> None:
    assert answering("200 OK", b'{"a":1}')(fetched) == b'{"a":1}'
    with pytest.raises(UpstreamFailure) as failure:
        answering("200 OK", b" " * (LARGEST + 1))(fetched)
    assert failure.value.code is Code.REPLY_TOO_LARGE
