"""Call the admin API of a gateway, here or elsewhere, as an operator's command does."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from securellm.core.errors import UpstreamFailure
from securellm.secrets import SecretValue
from securellm.storage import DataDir
from securellm.transport import OutboundRequest, Pool, Timeouts, TlsOptions, parse_base_url

RUNNING = "running.json"
API_ROOT = "/admin/v1"
_PATIENCE = Timeouts(connect=2.0, first_byte=60.0, idle=10.0, total=90.0)
_LARGEST = 16 * 1024 * 1024
_PAGE = 200


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where an admin listener is, and what is presented to it."""

    url: str
    token: SecretValue
    ca_file: Path | None = None
    certificate: str | None = None
    """What it shows for its own, where that is known: nothing else is accepted then."""


class Unanswered(Exception):
    """No admin listener answered."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Problem(Exception):
    """The admin API said no: an RFC 9457 problem."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(body.get("code", "unknown"))
        self.reason = str(body.get("detail", f"the admin listener answered {status}"))
        self.remedy = str(body.get("remedy", "Read the gateway's log."))
        self.fields = tuple(
            f"{error.get('field')}: {error.get('reason')}"
            for error in body.get("errors") or ()
            if isinstance(error, Mapping)
        )
        super().__init__(self.reason)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the admin API said."""

    status: int
    etag: str | None
    body: dict[str, Any]


def running_place(data: DataDir, token: SecretValue) -> Place:
    """The gateway that serves from this data folder. Raises `Unanswered` when none does.

    What a gateway that crashed has left is not believed: whoever listens there now would be shown the token.
    """
    owner = data.owner()
    try:
        running = json.loads((data.root / RUNNING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        running = {}
    if owner is None or str(running.get("pid")) != owner:
        raise Unanswered(f"no gateway serves from {data.root}", "Start it with `securellm serve`.")
    url, certificate = running.get("admin_url"), running.get("certificate")
    if not isinstance(url, str):
        raise Unanswered(
            "a gateway uses this data folder and has no admin listener", "Set server.admin_listen, or stop it first."
        )
    return Place(url=url, token=token, certificate=certificate if isinstance(certificate, str) else None)


class Operator:
    """One operator's calls, one after the other. Blocking."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """What the gateway answers. Raises `Problem` for a refusal and `Unanswered` for silence."""
        return asyncio.run(self._exchange(method, path, body, headers or {}))

    def items(self, path: str, query: Mapping[str, str] | Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """Everything a list holds, page by page."""
        cursor: str | None = None
        given = list(query.items()) if isinstance(query, Mapping) else list(query)
        while True:
            asked = [*given, ("limit", str(_PAGE)), *([] if cursor is None else [("cursor", cursor)])]
            page = self.call("GET", f"{path}?{urlencode(asked)}").body
            yield from page["data"]
            cursor = page.get("next_cursor")
            if not cursor:
                return

    async def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Answer:
        target = parse_base_url(self._place.url)
        before = target.path.removesuffix(API_ROOT)
        tls = None
        if target.scheme == "https":
            tls = TlsOptions(ca_file=self._place.ca_file, pinned=self._place.certificate)
        pool = Pool(target, tls=tls)
        said = {
            "authorization": f"Bearer {self._place.token.reveal()}",
            "content-type": "application/json",
            "accept": "application/json",
            **headers,
        }
        request = OutboundRequest(
            method=method,
            path=f"{before}{path}",
            headers=tuple((name.encode("ascii"), value.encode("utf-8")) for name, value in said.items()),
            body=b"" if body is None else json.dumps(body).encode("utf-8"),
        )
        try:
            reply = await pool.send(request, timeouts=_PATIENCE)
            content = await reply.read(_LARGEST)
        except UpstreamFailure as failure:
            raise Unanswered(
                f"no admin listener answers at {self._place.url}: {failure.reason}",
                "Start the gateway, or correct the address, its port and its certificate authority (--ca-file).",
            ) from None
        finally:
            await pool.aclose()
        try:
            answer = json.loads(content) if content else {}
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or (reply.status >= 300 and "code" not in answer):
            raise Unanswered(
                f"what answers at {self._place.url} (status {reply.status}) is no admin listener",
                "Name the address of server.admin_listen, or of what stands before it.",
            )
        if reply.status >= 400:
            raise Problem(reply.status, answer)
        etag = next((value for name, value in reply.headers if name.lower() == b"etag"), None)
        return Answer(status=reply.status, etag=None if etag is None else etag.decode("latin-1"), body=answer)


def segment(name: str) -> str:
    """`name` as one segment of a path."""
    return quote(name, safe="")
