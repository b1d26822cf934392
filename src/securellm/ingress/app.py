"""The data plane's front: what each path leads to, and the edge beyond which no exception passes."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from securellm.core.clock import Clock
from securellm.core.document import Document
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.core.ids import Ids
from securellm.gateway.capabilities import Gates
from securellm.gateway.completion import complete
from securellm.gateway.model import Received, Request
from securellm.gateway.models import list_models
from securellm.ingress import listings, openapi, routes
from securellm.ingress.exchange import AsgiExchange, ClientGone, Exchange, Receive, Scope, Send
from securellm.ingress.headers import Trace, credential, deadline, prefers_portuguese, read_headers, trace
from securellm.ingress.listings import Listed
from securellm.ingress.manners import manner_at
from securellm.ingress.query import Query
from securellm.ingress.reply import HttpReply
from securellm.ingress.routes import Place
from securellm.telemetry.logs import logger
from securellm.telemetry.metrics import Metrics

_log = logger("ingress")

Destination = Place | Listed

HEALTH_PATHS = frozenset(
    {"/livez", "/readyz", "/health", "/health/liveliness", "/health/liveness", "/health/readiness", "/metrics"}
)
_ROOT = "/"
_OPEN_PATHS = HEALTH_PATHS | {_ROOT, openapi.PATH}
"""What needs no key."""
_ALIVE = frozenset({_ROOT, "/livez", "/health/liveliness", "/health/liveness"})
"""What answers while the loop does. Some clients look at the root before their first request, without a key."""
_JSON = (b"content-type", b"application/json")
_SHORT_BODY = 64 * 1024
"""Bytes of a body that names a model and nothing else."""


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
    """What the request line and the headers say that the story needs."""

    headers: Mapping[str, str]
    query: Query
    model: str
    """Which the path names; empty where it names none."""
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
        """Answer one exchange; whatever happens, in the caller's manner."""
        destination = routes.find(exchange.path) or listings.find(exchange.path)
        started = self._clock.monotonic()
        reply = self._reply_to(exchange, destination)
        self._metrics.open_requests.inc()
        try:
            await self._answer(exchange, destination, reply, started)
        except ClientGone:
            reply.status = 499
        except asyncio.CancelledError:
            # The time to drain is over: whoever still reads is told, and what happened is being recorded.
            await reply.refuse(Fault(Code.SHUTTING_DOWN, "the process was stopped before the end"), close=True)
        except GatewayError as error:
            self._metrics.refusals.labels(error.code.value).inc()
            await reply.refuse(error, close=error.code is Code.REQUEST_TIMEOUT or not await exchange.discard())
        except Exception as error:  # noqa: BLE001 - one of the three named places: the edge
            _log.error("unexpected", request_id=reply.request_id, error=type(error).__name__, where=_where(error))
            await reply.refuse(Fault(Code.INTERNAL, "an unexpected error stopped this request"), close=True)
        finally:
            reply.close()
            self._note(exchange, reply, self._clock.monotonic() - started)

    def _reply_to(self, exchange: Exchange, destination: Destination | None) -> HttpReply:
        manner = None if destination is None else destination.manner
        return HttpReply(
            exchange,
            manner or manner_at(exchange.path, exchange.headers),
            surface=None if destination is None else destination.surface,
            request_id=self._ids.new("req"),
            heartbeat=self._limits.heartbeat,
            clock=self._clock,
        )

    def _note(self, exchange: Exchange, reply: HttpReply, seconds: float) -> None:
        label = "other" if reply.surface is None else reply.surface.value
        self._metrics.open_requests.dec()
        self._metrics.http_requests.labels(label, str(reply.status)).inc()
        self._metrics.http_duration.labels(label).observe(seconds)
        if exchange.path not in HEALTH_PATHS:
            _log.info(
                "request",
                request_id=reply.request_id,
                trace_id=reply.trace_id,
                surface=label,
                status=reply.status,
                code=reply.code,
                milliseconds=round(seconds * 1000, 3),
            )

    async def _answer(
        self, exchange: Exchange, destination: Destination | None, reply: HttpReply, started: float
    ) -> None:
        if exchange.path in _OPEN_PATHS:
            await self._answer_openly(exchange, reply)
            return
        try:
            if destination is None:
                self._read_head(exchange, reply)
                raise Refusal(Code.NOT_FOUND, f"nothing is served at {exchange.path[:128]}")
            opening = self._open(exchange, destination, reply, started)
        except GatewayError as error:
            # No story has begun that could record it.
            self.gates.journal.deny_unauthenticated(error, exchange.peer)
            raise
        if isinstance(destination, Place):
            await self._answer_governed(exchange, destination, opening, reply, started)
        else:
            await self._answer_listing(exchange, destination, opening, reply)

    async def _answer_governed(
        self, exchange: Exchange, place: Place, opening: _Opening, reply: HttpReply, started: float
    ) -> None:
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
            sent = place.route.parse(body, opening.headers, max_depth=self._limits.max_depth)
            return place.route.read(sent, opening.headers, opening.model)

        received = Received(
            request_id=reply.request_id,
            trace_id=opening.trace.trace_id,
            traceparent=opening.trace.traceparent,
            surface=place.surface,
            credential=opening.credential,
            client_ip=exchange.peer,
            headers=opening.headers,
            started=started,
            deadline=opening.deadline,
            query=exchange.query,
            pinned_provider=opening.headers.get("x-provider"),
            idempotency_key=opening.headers.get("idempotency-key"),
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

    async def _answer_listing(self, exchange: Exchange, listed: Listed, opening: _Opening, reply: HttpReply) -> None:
        models = await list_models(self.gates, credential=opening.credential, client_ip=exchange.peer)
        name = opening.model
        if listed.in_body:
            body = await exchange.body(limit=_SHORT_BODY, seconds=self._limits.request_timeout)
            name = listings.asked_in(Document(body, max_depth=self._limits.max_depth))
        models = listings.usable(reply.manner, models)
        answer = listed.listing.answer(reply.manner, models, opening.query, name)
        await reply.send(200, (_JSON,), listings.written(answer))

    def _read_head(self, exchange: Exchange, reply: HttpReply) -> tuple[Mapping[str, str], Trace]:
        headers = read_headers(exchange.headers)
        reply.speak_portuguese(prefers_portuguese(headers))
        span = trace(headers, self._ids)
        reply.trace_id = span.trace_id
        return headers, span

    def _open(self, exchange: Exchange, destination: Destination, reply: HttpReply, started: float) -> _Opening:
        """What the request line and the headers say. Raises Refusal where they cannot be served."""
        headers, span = self._read_head(exchange, reply)
        if exchange.method not in destination.methods:
            allowed = ", ".join(destination.methods)
            raise Refusal(Code.METHOD_NOT_ALLOWED, f"this path takes {allowed}", param=allowed)
        query = Query.parse(exchange.query)
        model = destination.model(query)
        if self.draining:
            raise Fault(Code.SHUTTING_DOWN, "this replica is draining", retry_after=1.0)
        return _Opening(headers, query, model, span, credential(headers), deadline(headers, started))

    async def _answer_openly(self, exchange: Exchange, reply: HttpReply) -> None:
        if exchange.method not in ("GET", "HEAD"):
            raise Refusal(Code.METHOD_NOT_ALLOWED, f"{exchange.path} takes GET", param="GET, HEAD")
        if exchange.path == "/metrics":
            await reply.send(200, ((b"content-type", b"text/plain; version=0.0.4"),), self._health.metrics())
            return
        if exchange.path == openapi.PATH:
            await reply.send(200, (_JSON,), openapi.written())
            return
        well = exchange.path in _ALIVE or (self._health.ready() and not self.draining)
        body = json.dumps({"status": "ok" if well else "unavailable"}).encode("ascii")
        await reply.send(200 if well else 503, (_JSON,), body)


def _where(error: BaseException) -> str:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return f"{step.tb_frame.f_code.co_qualname}:{step.tb_lineno}" if step is not None else ""
