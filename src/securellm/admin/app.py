"""The admin application: every route declares its permission, or there is no application."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from securellm.admin import problems
from securellm.admin.edge import Edge
from securellm.admin.health import add_health
from securellm.admin.keys import add_keys
from securellm.admin.permissions import API_ROOT, Permission, UndeclaredPermission, asks, public_paths
from securellm.admin.ports import Ports
from securellm.core.errors import GatewayError

__all__ = ["UndeclaredPermission", "behind_edge", "build_admin"]

_PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "An RFC 9457 problem",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def build_admin(ports: Ports) -> FastAPI:
    """The ASGI application of the admin listener. Raises `UndeclaredPermission`."""
    app = FastAPI(
        title="SecureLLM Bridge admin API",
        version=ports.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEM,
    )
    add_health(app, ports)
    add_keys(app, ports)

    @app.get(
        f"{API_ROOT}/openapi.json",
        operation_id="get_openapi",
        tags=["schema"],
        openapi_extra=asks(Permission.SCHEMA_READ),
    )
    async def read_schema() -> JSONResponse:
        """This document."""
        return JSONResponse(_schema(app))

    app.add_exception_handler(GatewayError, problems.answer_gateway_error)
    app.add_exception_handler(HTTPException, problems.answer_http_error)
    app.add_exception_handler(RequestValidationError, problems.answer_validation_error)
    app.add_exception_handler(Exception, problems.answer_unexpected)
    return behind_edge(app, ports)


def behind_edge(app: FastAPI, ports: Ports) -> FastAPI:
    """Put the edge in front of `app`, whose routes are complete. Raises `UndeclaredPermission`."""
    app.add_middleware(Edge, ports=ports, public=public_paths(app.routes))
    return app


def _schema(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, openapi_version="3.1.0", routes=app.routes)
        components = schema.setdefault("components", {})
        shapes = components.setdefault("schemas", {})
        shape = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        shapes.update(shape.pop("$defs", {}))
        shapes["Problem"] = shape
        components["securitySchemes"] = {"admin_token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"admin_token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
