"""The data plane's front: what each path leads to, and the edge beyond which no exception passes."""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec

from securellm.core.clock import Clock
from securellm.core.document import Document
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.core.hosts import Hosts
from securellm.core.ids import Ids
from securellm.gateway.capabilities import Gates
from securellm.gateway.completion import complete
from securellm.gateway.listing import list_kept
from securellm.gateway.model import Received, Request
from securellm.gateway.models import list_models
from securellm.gateway.personal import visiting
from securellm.ingress import kept, listings, openapi, pages, personal, routes
from securellm.ingress.errands import look_at
from securellm.ingress.exchange import AsgiExchange, ClientGone, Exchange, Receive, Scope, Send
from securellm.ingress.headers import Trace, credential, deadline, prefers_portuguese, read_headers, trace
from securellm.ingress.kept import KeptPlace
from securellm.ingress.listings import Listed
from securellm.ingress.manners import manner_at
from securellm.ingress.personal import Personal, Processed, process, wants_preferences, with_preferences
from securellm.ingress.query import Query
from securellm.ingress.reply import HttpReply
from securellm.ingress.routes import Place, Route
from securellm.providers import Errand
from securellm.telemetry.logs import logger, place_of
from securellm.telemetry.metrics import Metrics

_log = logger("ingress")

Destination = Place | KeptPlace | Listed | Personal

HEALTH_PATHS = frozenset(
    {"/livez", "/readyz", "/health", "/health/liveliness", "/health/liveness", "/health/readiness", "/metrics"}
)
_ROOT = "/"
_PROBES = HEALTH_PATHS - {"/metrics"}
"""What answers whatever `Host` says: a probe knows an address or nothing, and learns a word."""
_OPEN_PATHS = HEALTH_PATHS | {_ROOT, openapi.PATH}
"""What needs no key."""
_ALIVE = frozenset({_ROOT, "/livez", "/health/liveliness", "/health/liveness"})
"""What answers while the loop does. Some clients look at the root before their first request, without a key."""
_JSON = (b"content-type", b"application/json")
_LONG_BODY = 256 * 1024
"""Bytes from which on a body that may hold thousands of requests is read in a thread."""
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
        self,
        gates: Gates,
        *,
        limits: IngressLimits,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        health: Health,
        hosts: Hosts | None = None,
    ) -> None:
        """`hosts` are the names that are answered; None is any."""
        self.gates = gates
        """Replaced whole by a reload; a story that has begun keeps its own."""
        self._limits = limits
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._health = health
        self._hosts = hosts
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} scopes are not served")
        await self.serve(AsgiExchange(scope, receive, send))

    async def serve(self, exchange: Exchange) -> None:
        """Answer one exchange; whatever happens, in the caller's manner."""
        path = exchange.path
        destination = routes.find(path) or listings.find(path) or kept.find(path) or personal.find(path)
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
            _log.error("unexpected", request_id=reply.request_id, error=type(error).__name__, where=place_of(error))
            self._metrics.refusals.labels(Code.INTERNAL.value).inc()
            await reply.refuse(_shown(error), close=True)
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
        if self._hosts is not None and exchange.path not in _PROBES:
            self._demand_host(exchange, self._hosts)
        if exchange.path in _OPEN_PATHS:
            await self._answer_openly(exchange, reply)
            return
        try:
            if destination is None:
                self._read_head(exchange, reply)
                raise Refusal(Code.NOT_FOUND, f"nothing is served at {exchange.path[:128]}")
            opening = self._open(exchange, destination, reply, started)
            if isinstance(destination, Listed):
                await self._answer_listing(exchange, destination, opening, reply)
                return
        except ClientGone:
            raise
        except Exception as error:
            # No story has begun that could record it.
            self.gates.journal.deny_unauthenticated(_shown(error), exchange.peer)
            raise
        await self._answer_governed(exchange, destination, opening, reply, started)

    async def _answer_governed(
        self,
        exchange: Exchange,
        place: Place | KeptPlace | Personal,
        opening: _Opening,
        reply: HttpReply,
        started: float,
    ) -> None:
        gates = self.gates
        processed = (
            Processed(reply, request_id=reply.request_id, started=started, clock=self._clock)
            if isinstance(place, Personal)
            else None
        )
        call = _Call(exchange, place, opening, reply, processed, gates, self._limits)
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
            read=call.read,
            left=call.left,
        )
        try:
            errand = place.rows[exchange.method].errand if isinstance(place, KeptPlace) else None
            if errand is not None and errand.lists is not None:
                await self._answer_page(errand, received, opening, reply)
            elif isinstance(place, Personal) and place.acts:
                async with visiting(received, gates) as visitor:
                    body = await exchange.body(limit=_SHORT_BODY, seconds=self._limits.request_timeout)
                    answer = await place.answer(exchange.method, visitor, gates, opening.headers, body)
                await reply.send(*personal.written(answer))
            else:
                await complete(received, processed or reply, gates)
        except asyncio.CancelledError:
            if call.left() and not reply.finished:
                raise ClientGone from None
            raise
        finally:
            call.end()

    async def _answer_page(self, errand: Errand, received: Received, opening: _Opening, reply: HttpReply) -> None:
        """A list of what the tenant has: each thing on it is looked at by a request of its own."""

        def one(name: str) -> Received:
            async def read(_: Received) -> Request:
                return look_at(errand, name, opening.headers)

            return msgspec.structs.replace(
                received, request_id=self._ids.new("req"), read=read, idempotency_key=None, pinned_provider=None
            )

        wanted = pages.wanted(errand, reply.manner, opening.query)
        page = await list_kept(received, wanted, self.gates, one)
        await reply.send(200, (_JSON,), pages.written(page, reply.manner))

    async def _answer_listing(self, exchange: Exchange, listed: Listed, opening: _Opening, reply: HttpReply) -> None:
        models = await list_models(self.gates, credential=opening.credential, client_ip=exchange.peer)
        name = opening.model
        if listed.in_body:
            body = await exchange.body(limit=_SHORT_BODY, seconds=self._limits.request_timeout)
            name = listings.asked_in(Document(body, max_depth=self._limits.max_depth))
        models = listings.usable(reply.manner, models)
        answer = listed.listing.answer(reply.manner, models, opening.query, name)
        await reply.send(200, (_JSON,), listings.written(answer))

    def _demand_host(self, exchange: Exchange, hosts: Hosts) -> None:
        try:
            hosts.demand([value.decode("latin-1") for name, value in exchange.headers if name == b"host"])
        except Refusal as refusal:
            self.gates.journal.deny_unauthenticated(refusal, exchange.peer)
            raise

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


class _Call:
    """A governed exchange while its story runs: a body still to be read, and a client that may leave."""

    def __init__(
        self,
        exchange: Exchange,
        place: Place | KeptPlace | Personal,
        opening: _Opening,
        reply: HttpReply,
        processed: Processed | None,
        gates: Gates,
        limits: IngressLimits,
    ) -> None:
        self._exchange = exchange
        self._place = place
        self._opening = opening
        self._reply = reply
        self._processed = processed
        self._gates = gates
        self._limits = limits
        self._story = asyncio.current_task()
        self._abandoned = False
        self._stop_watching: Callable[[], None] | None = None

    def left(self) -> bool:
        """Whether the client has gone away before its answer was whole."""
        return self._abandoned

    async def read(self, received: Received) -> Request:
        """Take the body in, and what it asks. From here on it is noticed when the client leaves."""
        exchange, place, opening, limits = self._exchange, self._place, self._opening, self._limits
        body = await exchange.body(limit=limits.max_body, seconds=limits.request_timeout)
        self._stop_watching = exchange.when_gone(self._abandon)
        if self._processed is not None:
            return await process(body, received, self._gates, self._processed)
        preferred = wants_preferences(opening.headers, place.surface)
        if isinstance(place, Place):
            return await self._asked(place.route, body, received, preferred=preferred)
        assert isinstance(place, KeptPlace)
        asked = partial(place.asked, exchange.method, body, opening.headers, opening.query, max_depth=limits.max_depth)
        return asked() if len(body) < _LONG_BODY else await asyncio.to_thread(asked)

    async def _asked(self, route: Route, body: bytes, received: Received, *, preferred: bool) -> Request:
        opening = self._opening
        sent = route.parse(body, opening.headers, max_depth=self._limits.max_depth)
        if not preferred:
            return route.read(sent, opening.headers, opening.model)
        document, edits = await with_preferences(sent.document, received, self._gates)
        request = route.read(sent._replace(document=document), opening.headers, opening.model)
        return msgspec.structs.replace(request, edits=edits)

    def end(self) -> None:
        """The story has ended: nobody needs to know any more whether the client is there."""
        if self._stop_watching is not None:
            self._stop_watching()
            self._stop_watching = None

    def _abandon(self) -> None:
        if not self._reply.finished and self._story is not None:
            self._abandoned = True
            self._story.cancel()


def _shown(error: Exception) -> GatewayError:
    """What is recorded and answered: of a defect, that there was one."""
    if isinstance(error, GatewayError):
        return error
    return Fault(Code.INTERNAL, "an unexpected error stopped this request")
