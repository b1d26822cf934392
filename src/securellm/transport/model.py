"""What a provider's address, time limits and one outgoing request are."""

import ipaddress
import math
import re
from pathlib import Path

import msgspec

Headers = tuple[tuple[bytes, bytes], ...]
DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one call, in seconds, all mandatory."""

    connect: float
    """Until a connection is ready: waiting for a free one, DNS, TCP, proxy and TLS."""
    first_byte: float
    """From the first byte written until the reply's status and headers are complete."""
    idle: float
    """The longest silence of the provider inside the reply's body, while we are willing to read."""
    total: float
    """From the call to the last byte of the reply."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"the {name} timeout must be a positive number of seconds")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An absolute HTTP address, as `parse_base_url` accepts it."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lower case; an IPv6 address without its brackets."""
    port: int
    path: str = ""
    """Empty, or beginning with a slash and not ending with one."""

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, not a name."""
        return ":" in self.host or self.host.rpartition(".")[2].isdecimal()

    @property
    def authority(self) -> str:
        """Host and port, as CONNECT wants them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """The authority without a port that the scheme implies."""
        authority = self.authority
        return authority.rpartition(":")[0] if self.port == DEFAULT_PORTS[self.scheme] else authority


class OutboundRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request; the pool adds Host, Content-Length and Accept-Encoding, which `headers` must not hold."""

    method: str
    path: str
    """The whole request target, query included: the pool adds nothing of its target's path."""
    headers: Headers = ()
    body: bytes = b""


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trust and who we are; verification itself cannot be turned off."""

    ca_file: Path | None = None
    """PEM certificates trusted in place of the system's."""
    pinned: str | None = None
    """The one certificate (PEM) that the peer must show, whatever name it is for; nothing else is trusted then."""
    client_cert: Path | None = None
    """PEM certificate chain shown to the provider."""
    client_key: Path | None = None
    """Its unencrypted key, when not in the same file."""


def parse_base_url(text: str) -> Target:
    """Accept an http(s) address without user, query or fragment; ValueError says what is wrong, quoting nothing."""
    if not text.isascii():
        raise ValueError("the host must be written in ASCII (an international name in its xn-- form)")
    if any(character <= " " or character == "\x7f" for character in text):
        raise ValueError("an address holds no space or control character")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError("the address must begin with http:// or https://")
    for mark, name in (("?", "a query"), ("#", "a fragment"), ("\\", "a backslash")):
        if mark in rest:
            raise ValueError(f"the address must not hold {name}")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        raise ValueError("the address must not hold a user or password; use the credential field")
    host, port = _split_authority(authority)
    path = (slash + path).rstrip("/")
    if not _PATH.fullmatch(path):
        raise ValueError("the path holds an empty segment or an illegal character")
    if any(segment in {".", ".."} for segment in path.lower().replace("%2e", ".").split("/")):
        raise ValueError("the path must not hold . or .. segments")
    return Target(
        scheme=scheme,
        host=_checked_host(host),
        port=DEFAULT_PORTS[scheme] if port is None else _checked_port(port),
        path=path,
    )


def _split_authority(authority: str) -> tuple[str, str | None]:
    if authority.startswith("["):
        literal, bracket, after = authority.partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise ValueError("the IPv6 address is not closed by a bracket")
        return literal + bracket, after[1:] if after else None
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def _checked_port(text: str) -> int:
    if not (text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise ValueError("the port must be a number from 1 to 65535")
    return int(text)


def _checked_host(host: str) -> str:
    if not host:
        raise ValueError("the address has no host")
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("the brackets hold no valid IPv6 address") from None
        if address.scope_id is not None:
            raise ValueError("an IPv6 zone is not supported")
        return str(address)
    host = host.lower()
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("the host is not a valid name")
    if labels[-1].isdecimal() or labels[-1].startswith("0x"):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("the host looks like an IPv4 address but is not four plain decimal numbers") from None
    return host
