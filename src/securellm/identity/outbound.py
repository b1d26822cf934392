"""What identity asks of OpenID issuers over HTTP: small documents, without redirects, in bounded time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from securellm.core.errors import Code, UpstreamFailure
from securellm.identity.vouching import split_address
from securellm.transport import Headers, OutboundRequest, Pool, Target, Timeouts, TlsOptions

LARGEST = 256 * 1024
"""Bytes of one document."""

_TIMEOUTS = Timeouts(connect=3.0, first_byte=4.0, idle=2.0, total=6.0)


class Outbound(Protocol):
    """How documents of an issuer are had. Raises `UpstreamFailure`, and ValueError for an address not to be asked."""

    async def get(self, url: str, *, like: str) -> bytes:
        """The document at `url`, which must be as safe an address as `like`."""
        ...

    async def post(self, url: str, form: Mapping[str, str], *, like: str, authorization: str | None) -> bytes:
        """The answer to a form."""
        ...

    async def aclose(self) -> None: ...


class HttpOutbound:
    """Over HTTP, each address with its own pool."""

    def __init__(self, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._pools: dict[tuple[str, str, int], Pool] = {}

    async def get(self, url: str, *, like: str) -> bytes:
        target, path = split_address(url, like=like)
        return await self._ask(target, OutboundRequest(method="GET", path=path, headers=_ACCEPT))

    async def post(self, url: str, form: Mapping[str, str], *, like: str, authorization: str | None) -> bytes:
        target, path = split_address(url, like=like)
        headers: Headers = (*_ACCEPT, (b"content-type", b"application/x-www-form-urlencoded"))
        if authorization is not None:
            headers = (*headers, (b"authorization", authorization.encode("ascii")))
        body = urlencode(form).encode("ascii")
        return await self._ask(target, OutboundRequest(method="POST", path=path, headers=headers, body=body))

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    async def _ask(self, target: Target, request: OutboundRequest) -> bytes:
        reply = await self._pool(target).send(request, timeouts=_TIMEOUTS)
        async with reply:
            if reply.status != 200:
                raise UpstreamFailure(
                    Code.PROVIDER_ERROR, f"the issuer answered {reply.status}", provider_status=reply.status
                )
            return await reply.read(LARGEST)

    def _pool(self, target: Target) -> Pool:
        place = (target.scheme, target.host, target.port)
        if place not in self._pools:
            tls = TlsOptions(ca_file=self._ca_file) if target.scheme == "https" else None
            self._pools[place] = Pool(target, tls=tls, max_connections=4)
        return self._pools[place]


_ACCEPT = ((b"accept", b"application/json"),)
