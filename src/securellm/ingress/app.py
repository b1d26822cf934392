"""The data plane's front: which path is which surface, and the edge beyond which no exception passes."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from securellm.core.clock import Clock
from securellm.core.document import Document
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.core.ids import Ids
from securellm.core.surfaces import Surface
from securellm.gateway.capabilities import Gates
from securellm.gateway.completion import complete
from securellm.gateway.model import Received, Request
from securellm.gateway.models import VisibleModel, list_models
from securellm.ingress import chat, embeddings, messages, responses
from securellm.ingress.exchange import AsgiExchange, ClientGone, Exchange, Receive, Scope, Send
from securellm.ingress.headers import Trace, credential, deadline, prefers_portuguese, read_headers, trace
from securellm.ingress.reply import HttpReply
from securellm.telemetry.logs import logger
from securellm.telemetry.metrics import Metrics

_log = logger("ingress")


class Route(NamedTuple):
    """A governed path: the surface it belongs to and how its body is read."""

    surface: Surface
    extract: Callable[[Document, Mapping[str, str]], Request]


ROUTES: Mapping[str, Route] = {
    "/v1/chat/completions": Route(Surface.CHAT, chat.extract),
    "/v1/responses": Route(Surface.RESPONSES, responses.extract),
    "/v1/messages": Route(Surface.MESSAGES, messages.extract),
    "/v1/embeddings": Route(Surface.EMBEDDINGS, embeddings.extract),
}
"""Every path that can reach a provider. What is not here is not served."""

HEALTH_PATHS = frozenset(
    {"/livez", "/readyz", "/health", "/health/liveliness", "/health/liveness", "/health/readiness", "/metrics"}
)


class IngressLimits(NamedTuple):
    """The operator's bounds on what a caller may send. Bytes and seconds."""

    max_body: int = 10 * 1024 * 1024
    max_depth: int = 64
    request_timeout: float = 30.0
    heartbeat: float = 10.0


class Health(NamedTuple):
    """What health paths answer with."""

    ready: Callable[[], bool]
    metrics: Callable[[], bytes]
    """Series that name no tenant: those stand on the admin listener only."""


class _Opening(NamedTuple):
    """What the headers say that the story needs."""

    headers: Mapping[str, str]
    trace: Trace
    credential: str | None
    deadline: float | None


class Ingress:
    """The raw ASGI application of the data-plane listener."""

    def __init__(
        self, gates: Gates, *, limits: IngressLimits, clock: Clock, ids: Ids, metrics: Metrics, health: Health
    ) -> None:
        self.gates = gates
        """Replaced whole by a reload; a story that has begun keeps its own."""
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._health = health
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} scopes are not served")
        await self.serve(AsgiExchange(scope, receive, send))

    async def serve(self, exchange: Exchange) -> None:
        """Answer one exchange; whatever happens, in the caller's dialect."""
        route = ROUTES.get(exchange.path)
        surface = route.surface if route is not None else _surface_of(exchange)
        label = route.surface.value if route is not None else "other"
        started = self._clock.monotonic()
        request_id = self._ids.new("req")
        reply = HttpReply(exchange, surface, request_id=request_id, heartbeat=self._limits.heartbeat, clock=self._clock)
        self._metrics.open_requests.inc()
        try:
            await self._answer(exchange, route, reply, request_id, started)
        except ClientGone:
            reply.status = 499
        except asyncio.CancelledError:
            # The time to drain is over: whoever still reads is told, and what happened is being recorded.
            await reply.refuse(Fault(Code.SHUTTING_DOWN, "the process was stopped before the end"), close=True)
        except GatewayError as error:
            self._metrics.refusals.labels(error.code.value).inc()
            await reply.refuse(error, close=error.code is Code.REQUEST_TIMEOUT or not await exchange.discard())
        except Exception as error:  # noqa: BLE001 - one of the three named places: the edge
            _log.error("unexpected", request_id=request_id, error=type(error).__name__, where=_where(error))
            await reply.refuse(Fault(Code.INTERNAL, "an unexpected error stopped this request"), close=True)
        finally:
            reply.close()
            self._metrics.open_requests.dec()
            self._metrics.http_requests.labels(label, str(reply.status)).inc()
            seconds = self._clock.monotonic() - started
            self._metrics.http_duration.labels(label).observe(seconds)
            if exchange.path not in HEALTH_PATHS:
                _log.info(
                    "request",
                    request_id=request_id,
                    trace_id=reply.trace_id,
                    surface=label,
                    status=reply.status,
                    code=reply.code,
                    milliseconds=round(seconds * 1000, 3),
                )

    async def _answer(
        self, exchange: Exchange, route: Route | None, reply: HttpReply, request_id: str, started: float
    ) -> None:
        if exchange.path in HEALTH_PATHS:
            await self._answer_health(exchange, reply)
            return
        try:
            opening = self._open(exchange, route, reply, started)
        except GatewayError as error:
            # No story has begun that could record it.
            self.gates.journal.deny_unauthenticated(error, exchange.peer)
            raise
        if route is None:
            models = await list_models(self.gates, credential=opening.credential, client_ip=exchange.peer)
            await reply.send(
                200, ((b"content-type", b"application/json"),), _models_body(models, anthropic=_is_anthropic(exchange))
            )
            return
        story = asyncio.current_task()
        assert story is not None
        abandoned = False
        stop_watching: Callable[[], None] | None = None

        def abandon() -> None:
            nonlocal abandoned
            if not reply.finished:
                abandoned = True
                story.cancel()

        async def read() -> Request:
            nonlocal stop_watching
            body = await exchange.body(limit=self._limits.max_body, seconds=self._limits.request_timeout)
            stop_watching = exchange.when_gone(abandon)
            document = Document(body, max_depth=self._limits.max_depth)
            return route.extract(document, opening.headers)

        received = Received(
            request_id=request_id,
            trace_id=opening.trace.trace_id,
            traceparent=opening.trace.traceparent,
            surface=route.surface,
            credential=opening.credential,
            client_ip=exchange.peer,
            headers=opening.headers,
            started=started,
            deadline=opening.deadline,
            query=exchange.query,
            pinned_provider=opening.headers.get("x-provider"),
            read=read,
            left=lambda: abandoned,
        )
        try:
            await complete(received, reply, self.gates)
        except asyncio.CancelledError:
            if abandoned and not reply.finished:
                raise ClientGone from None
            raise
        finally:
            if stop_watching is not None:
                stop_watching()

    def _open(self, exchange: Exchange, route: Route | None, reply: HttpReply, started: float) -> "_Opening":
        """What the request line and the headers say. Raises Refusal where they cannot be served."""
        headers = read_headers(exchange.headers)
        reply.speak_portuguese(prefers_portuguese(headers))
        span = trace(headers, self._ids)
        reply.trace_id = span.trace_id
        if route is None and exchange.path != "/v1/models":
            raise Refusal(Code.NOT_FOUND, f"nothing is served at {exchange.path[:128]}")
        allowed = "POST" if route is not None else "GET"
        if exchange.method != allowed:
            raise Refusal(Code.METHOD_NOT_ALLOWED, f"{exchange.path} takes {allowed}", param=allowed)
        if self.draining:
            raise Fault(Code.SHUTTING_DOWN, "this replica is draining", retry_after=1.0)
        return _Opening(headers, span, credential(headers), deadline(headers, started))

    async def _answer_health(self, exchange: Exchange, reply: HttpReply) -> None:
        if exchange.method not in ("GET", "HEAD"):
            raise Refusal(Code.METHOD_NOT_ALLOWED, f"{exchange.path} takes GET", param="GET")
        if exchange.path == "/metrics":
            await reply.send(200, ((b"content-type", b"text/plain; version=0.0.4"),), self._health.metrics())
            return
        alive = exchange.path in ("/livez", "/health/liveliness", "/health/liveness")
        well = alive or (self._health.ready() and not self.draining)
        body = json.dumps({"status": "ok" if well else "unavailable"}).encode("ascii")
        await reply.send(200 if well else 503, ((b"content-type", b"application/json"),), body)


def _surface_of(exchange: Exchange) -> Surface | None:
    return Surface.MESSAGES if exchange.path.startswith("/v1/messages") or _is_anthropic(exchange) else None


def _is_anthropic(exchange: Exchange) -> bool:
    return any(name == b"anthropic-version" for name, _ in exchange.headers)


def _where(error: BaseException) -> str:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return f"{step.tb_frame.f_code.co_qualname}:{step.tb_lineno}" if step is not None else ""


def _models_body(models: tuple[VisibleModel, ...], *, anthropic: bool) -> bytes:
    """The list in the caller's shape: Anthropic's for its SDKs, OpenAI's for all others."""
    if anthropic:
        data: list[dict[str, object]] = [
            {"type": "model", "id": model.name, "display_name": model.name, "created_at": "1970-01-01T00:00:00Z"}
            for model in models
        ]
        shape: dict[str, object] = {
            "data": data,
            "has_more": False,
            "first_id": models[0].name if models else None,
            "last_id": models[-1].name if models else None,
        }
    else:
        shape = {
            "object": "list",
            "data": [
                {
                    "id": model.name,
                    "object": "model",
                    "created": 0,
                    "owned_by": model.owner,
                    "surfaces": list(model.surfaces),
                }
                for model in models
            ],
        }
    return json.dumps(shape, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
