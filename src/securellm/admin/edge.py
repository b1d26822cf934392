"""The first thing a request to the admin listener meets: who calls, then caps and strict JSON, then the router.

Nothing of an unauthenticated request is read, and its path is compared with the exact public ones only: what is
unknown, misspelt or encoded oddly asks for a credential like everything else. Beyond being one that this listener
answers for, `Host` decides nothing. No refusal leaves before it is recorded, and no exception passes: a defect is a
refusal too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from securellm.admin.browsing import prefers_page
from securellm.admin.health import LIVE_PATHS, READY_PATHS
from securellm.admin.permissions import API_ROOT, BROWSER_PATHS, ONE_TIME_PATHS
from securellm.admin.ports import Ports
from securellm.admin.problems import fault_of, language_of, problem
from securellm.admin.refusals import Refusals, denied_of
from securellm.core.document import Document
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.identity import Actor, Credential, read_cookie, session_cookie_name
from securellm.storage import EVERYWHERE

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PROBES = frozenset({*LIVE_PATHS, *READY_PATHS})
"""What answers whatever `Host` says: a probe knows an address or nothing, and learns a word."""
_LONGEST_CREDENTIAL = 16 * 1024
"""Bytes: what is longer is no credential of ours, and is not looked at."""


class _Gone(Exception):
    pass


class _BrokenOff(Exception):
    """Half an answer has left: the server closes the connection, so that nobody takes it for a whole one."""


class Edge:
    """ASGI middleware around the whole application. Leaves `request_id`, `language` and `actor` in the state."""

    def __init__(self, app: ASGIApp, *, ports: Ports, public: frozenset[str], routes: Sequence[BaseRoute] = ()) -> None:
        self._app = app
        self._ports = ports
        self._public = public
        self._routes = routes
        self._refusals = Refusals(ports.denied, clock=ports.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = self._ports.ids.new("req")
        headers = _texts(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["language"] = language_of(headers.get("accept-language", [None])[0])
        # Only where a browser comes by itself: all else is an API, and its problems have one form.
        state["page"] = scope["path"] in BROWSER_PATHS and prefers_page(headers.get("accept", [None])[0])
        state["actor"] = state["refusal"] = state["call"] = None
        answer = _Recorded(_labelled(send, request_id), scope, receive, self._record)
        try:
            if scope["path"] not in _PROBES:
                self._demand_host(headers)
            state["actor"] = await self._authenticate(scope, headers)
            body = await self._body(scope, receive)
            await self._app(scope, _replay(body, receive), answer)
        except _Gone:
            return
        except GatewayError as error:
            await answer.refuse(error)
        except Exception as error:  # noqa: BLE001 - one of the three named places: the edge
            await answer.refuse(fault_of(error, request_id=request_id))

    def _demand_host(self, headers: dict[str, list[str]]) -> None:
        """Raises `Refusal` for a `Host` that is not on the list, where there is one: nothing else ever reads it."""
        hosts = self._ports.hosts()
        if hosts is not None:
            hosts.demand(headers.get("host", []))

    async def _record(self, scope: Scope, error: GatewayError) -> None:
        """Raises `Fault` (AUDIT_UNAVAILABLE) when there can be no record of who was refused, and of what."""
        state, client_ip = scope["state"], _address(scope)
        if state["actor"] is None:
            self._ports.denied_unknown(error, client_ip)
            return
        await self._refusals.note(
            denied_of(
                error,
                scope,
                actor=state["actor"],
                call=state["call"],
                routes=self._routes,
                request_id=state["request_id"],
                client_ip=client_ip,
            )
        )

    async def _authenticate(self, scope: Scope, headers: dict[str, list[str]]) -> Actor | None:
        """Who calls; None only for a public path. Raises `Refusal`."""
        client_ip = _address(scope)
        if scope["path"] in ONE_TIME_PATHS:
            await self._take_one_time(scope, headers, client_ip)
            return None
        credential = _credential(scope["method"], headers, secure=self._ports.secure)
        # Public to be read: another method has a body, and nothing of a stranger's is read.
        public = scope["path"] in self._public and scope["method"] in _SAFE_METHODS
        if credential is None or (public and scope["path"].startswith(API_ROOT)):
            if public:
                return None
            raise Refusal(Code.ADMIN_REQUIRED, "the request carries no credential of the control plane")
        try:
            return await self._ports.callers.recognise(credential, client_ip=client_ip)
        except Refusal:
            self._count(client_ip, public=public)
            if public:
                return None
            raise

    async def _take_one_time(self, scope: Scope, headers: dict[str, list[str]], client_ip: str) -> None:
        """Raises `Refusal` unless the secret that this path is for is presented. It is used up by the handler."""
        credential = _credential(scope["method"], headers, secure=self._ports.secure)
        secret = "" if credential is None else credential.bearer or ""
        purpose = ONE_TIME_PATHS[scope["path"]]
        try:
            await self._ports.control.read(
                lambda session: self._ports.tokens.offered(session, secret, purpose), scope=EVERYWHERE
            )
        except Refusal:
            if secret:
                self._count(client_ip, public=False)
            raise
        scope["state"]["one_time"] = secret

    def _count(self, client_ip: str, *, public: bool) -> None:
        """Count a wrong credential. Raises `Refusal` (RATE_LIMITED) where there were too many."""
        wait = self._ports.refused_credential(client_ip)
        if wait > 0 and not public:
            raise Refusal(Code.RATE_LIMITED, "too many wrong credentials from this address", retry_after=wait)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, of bounded size, in bounded time, and strict JSON where there is one."""
        if scope["method"] not in _BODY_METHODS:
            return b""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._ports.request_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._ports.max_body:
                        raise Refusal(Code.BODY_TOO_LARGE, f"the body exceeds {self._ports.max_body} bytes")
                    parts.append(part)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refusal(Code.REQUEST_TIMEOUT, "the body did not arrive in time") from None
        body = b"".join(parts)
        if body:
            Document(body)
        return body


class _Recorded:
    """`send`, which lets an answer pass once there is a record of it where it refuses."""

    def __init__(
        self, send: Send, scope: Scope, receive: Receive, record: Callable[[Scope, GatewayError], Awaitable[None]]
    ) -> None:
        self._send = send
        self._scope = scope
        self._receive = receive
        self._record = record
        self._begun = False
        self._withheld = False

    async def __call__(self, message: Message) -> None:
        if self._withheld:
            return
        state = self._scope["state"]
        if message["type"] == "http.response.start" and state["refusal"] is not None:
            fault = await self._unrecorded(state["refusal"])
            if fault is not None:
                self._withheld = True
                await self._problem(fault, self._pass)
                return
        await self._pass(message)

    async def refuse(self, error: GatewayError) -> None:
        """Answer `error`, whatever the application was about to say; what it has begun to say breaks off."""
        if self._withheld:
            return
        if self._begun:
            await self._unrecorded(error)
            raise _BrokenOff
        self._scope["state"]["refusal"] = error
        await self._problem(error, self)

    async def _problem(self, error: GatewayError, send: Send) -> None:
        state = self._scope["state"]
        response = problem(error, request_id=state["request_id"], language=state["language"], page=state["page"])
        # What was not read must not be taken for the next request.
        response.headers["connection"] = "close"
        await response(self._scope, self._receive, send)

    async def _pass(self, message: Message) -> None:
        self._begun = True
        await self._send(message)

    async def _unrecorded(self, error: GatewayError) -> GatewayError | None:
        """What stands in the way of a record of `error`; None once there is one."""
        try:
            await self._record(self._scope, error)
        except GatewayError as fault:
            return fault
        except Exception as defect:  # noqa: BLE001 - the edge again: without a record, no answer but this
            fault_of(defect, request_id=self._scope["state"]["request_id"])
            return Fault(Code.AUDIT_UNAVAILABLE, "the refusal cannot be recorded")
        return None


def _texts(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _credential(method: str, headers: dict[str, list[str]], *, secure: bool) -> Credential | None:
    """What is presented: one bearer token, else one session's cookie. An `Authorization` of another kind is wrong.

    Raises `Refusal` (ADMIN_REQUIRED).
    """
    origin = headers.get("origin", [None])[0]
    unsafe = method not in _SAFE_METHODS
    presented = headers.get("authorization", [])
    if presented:
        scheme, _, token = presented[0].partition(" ")
        token = token.strip(" ")
        bearer = token if len(presented) == 1 and scheme.lower() == "bearer" and _plausible(token) else ""
        return Credential(bearer=bearer, origin=origin, unsafe=unsafe)
    session = read_cookie("; ".join(headers.get("cookie", [])), session_cookie_name(secure=secure))
    return None if session is None else Credential(session=session, origin=origin, unsafe=unsafe)


def _plausible(token: str) -> bool:
    return 0 < len(token) <= _LONGEST_CREDENTIAL and token.isascii() and token.isprintable() and " " not in token


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _labelled(send: Send, request_id: str) -> Send:
    async def labelled(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", request_id.encode("ascii")),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
            ]
        await send(message)

    return labelled
