"""The first thing a request to the admin listener meets: authentication, then caps and strict JSON, then the router.

Nothing of an unauthenticated request is read, and its path is compared with the exact public ones only: what is
unknown, misspelt or encoded oddly asks for the token like everything else.
"""

import asyncio
import hashlib
import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from securellm.admin.ports import Ports
from securellm.admin.problems import problem
from securellm.core.document import Document
from securellm.core.errors import Code, GatewayError, Refusal

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


class _Gone(Exception):
    pass


class Edge:
    """ASGI middleware around the whole application. Leaves `request_id` and `authenticated` in the request's state."""

    def __init__(self, app: ASGIApp, *, ports: Ports, public: frozenset[str]) -> None:
        self._app = app
        self._ports = ports
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = self._ports.new_id()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        answer = _labelled(send, request_id)
        try:
            state["authenticated"] = self._authenticate(scope)
            body = await self._body(scope, receive)
        except _Gone:
            return
        except GatewayError as error:
            response = problem(error, request_id=request_id)
            # What was not read must not be taken for the next request.
            response.headers["connection"] = "close"
            await response(scope, receive, answer)
            return
        await self._app(scope, _replay(body, receive), answer)

    def _authenticate(self, scope: Scope) -> bool:
        """Whether the admin token is presented. Raises `Refusal` unless it is, or the path is public."""
        presented = [value for name, value in scope["headers"] if name == b"authorization"]
        if not presented:
            if scope["path"] in self._public:
                return False
            raise Refusal(Code.ADMIN_REQUIRED, "the request carries no admin token")
        scheme, _, token = presented[0].partition(b" ")
        if len(presented) == 1 and scheme.lower() == b"bearer" and self._is_token(token.strip()):
            return True
        wait = self._ports.refused_credential(scope["client"][0] if scope.get("client") else "")
        if scope["path"] in self._public:
            return False
        if wait > 0:
            raise Refusal(Code.RATE_LIMITED, "too many wrong credentials from this address", retry_after=wait)
        raise Refusal(Code.ADMIN_REQUIRED, "this is not the admin token")

    def _is_token(self, presented: bytes) -> bool:
        # Digests have one length, so the comparison tells nothing, not even how long the token is.
        expected = self._ports.admin_token().encode("utf-8")
        return bool(expected) and hmac.compare_digest(
            hashlib.sha256(presented).digest(), hashlib.sha256(expected).digest()
        )

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
