"""The admin application: every route declares what it asks for, or there is no application."""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from securellm.admin import problems
from securellm.admin.audit import add_audit
from securellm.admin.budgets import add_budgets
from securellm.admin.calls import Guarded
from securellm.admin.critical import Criticals
from securellm.admin.decisions import add_decisions
from securellm.admin.edge import Edge
from securellm.admin.entry import add_entry
from securellm.admin.grants import add_grants
from securellm.admin.health import add_health
from securellm.admin.keys import add_keys
from securellm.admin.limits import add_limits
from securellm.admin.models import add_models
from securellm.admin.permissions import API_ROOT, asks, public_paths
from securellm.admin.policies import add_policies
from securellm.admin.ports import Ports
from securellm.admin.preferences import add_preferences
from securellm.admin.projects import add_projects
from securellm.admin.proposals import add_proposals
from securellm.admin.providers import add_providers
from securellm.admin.schema import schema_of
from securellm.admin.services import add_services
from securellm.admin.tenants import add_tenants
from securellm.admin.tokens import add_tokens
from securellm.admin.users import add_users
from securellm.core.errors import GatewayError
from securellm.identity import Permission
from securellm.storage import StorageError

_RESOURCES = (
    add_health,
    add_entry,
    add_tenants,
    add_projects,
    add_users,
    add_services,
    add_tokens,
    add_keys,
    add_models,
    add_budgets,
    add_limits,
    add_preferences,
    add_audit,
    add_decisions,
)
_CRITICAL = (add_providers, add_grants, add_policies, add_proposals)


def build_admin(ports: Ports) -> FastAPI:
    """The ASGI application of the admin listener. Raises `UndeclaredPermission`."""
    app = bare(ports)
    for add in _RESOURCES:
        add(app, ports)
    criticals = Criticals()
    for add_critical in _CRITICAL:
        add_critical(app, ports, criticals)

    @app.get(
        f"{API_ROOT}/openapi.json",
        operation_id="get_openapi",
        tags=["schema"],
        openapi_extra=asks(Permission.SCHEMA_READ, of="nobody"),
    )
    async def read_schema() -> dict[str, Any]:
        """This document."""
        return schema_of(app)

    return behind_edge(app, ports)


def bare(ports: Ports) -> FastAPI:
    """An application without routes, which takes none that does not declare what it asks for."""
    app = FastAPI(
        title="SecureLLM Bridge admin API",
        description="The control plane: tenants, people, keys, roles, providers, models, money and policy.",
        version=ports.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=JSONResponse,
    )
    app.router.route_class = Guarded
    app.state.ports = ports
    app.add_exception_handler(GatewayError, problems.answer_gateway_error)
    app.add_exception_handler(StorageError, problems.answer_storage_error)
    app.add_exception_handler(HTTPException, problems.answer_http_error)
    app.add_exception_handler(RequestValidationError, problems.answer_validation_error)
    return app


def behind_edge(app: FastAPI, ports: Ports) -> FastAPI:
    """Put the edge in front of `app`, whose routes are complete. Raises `UndeclaredPermission`."""
    app.add_middleware(Edge, ports=ports, public=public_paths(app.routes), routes=app.routes)
    return app
