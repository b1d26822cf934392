"""Health and metrics, for probes and scrapers: public on the admin listener, details for the authenticated only.

/metrics asks for no token here, as Prometheus expects of a loopback or cluster-internal listener; it holds counts
and names of tenants, models and providers, never content or credentials. Do not expose this listener.
"""

from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from securellm.admin.permissions import asks_nothing
from securellm.admin.ports import Ports
from securellm.admin.shapes import Responses

LIVE_PATHS = ("/livez", "/health/liveliness", "/health/liveness")
READY_PATHS = ("/readyz", "/health", "/health/readiness")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PartHealth(BaseModel):
    well: bool
    detail: str


class Health(BaseModel):
    """How it stands; the parts are told to the authenticated only."""

    status: Literal["ok", "unavailable"]
    parts: dict[str, PartHealth] | None = None


def add_health(app: FastAPI, ports: Ports) -> None:
    """Serve the probes and the metrics."""

    async def live() -> Response:
        """The event loop answers."""
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        """Whether requests can be served; which part fails is told to the authenticated only."""
        parts = ports.parts()
        well = all(part.well for part in parts)
        body: dict[str, object] = {"status": "ok" if well else "unavailable"}
        if request.state.actor is not None:
            body["parts"] = {part.name: {"well": part.well, "detail": part.detail} for part in parts}
        return JSONResponse(body, status_code=200 if well else 503)

    async def metrics() -> Response:
        """Prometheus text exposition."""
        return Response(ports.metrics(), media_type=METRICS_TYPE)

    for path in LIVE_PATHS:
        _probe(app, path, live, {200: {"model": Health}})
    for path in READY_PATHS:
        _probe(app, path, ready, {200: {"model": Health}, 503: {"model": Health}})
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    _probe(app, "/metrics", metrics, {200: text})


def _probe(app: FastAPI, path: str, answer: Callable[..., Awaitable[Response]], responses: Responses) -> None:
    app.add_api_route(
        path,
        answer,
        methods=["GET"],
        operation_id=path.strip("/").replace("/", "_"),
        tags=["health"],
        response_model=None,
        response_class=Response,
        responses=responses,
        openapi_extra=asks_nothing(),
    )
    app.add_api_route(
        path,
        answer,
        methods=["HEAD"],
        include_in_schema=False,
        response_model=None,
        openapi_extra=asks_nothing(),
    )
