"""The resource /admin/v1/services: programs that call the control plane, or models, as themselves."""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import CurrentCall, demand_tenant
from securellm.admin.etags import etag_of
from securellm.admin.keys import IpRanges, Surfaces
from securellm.admin.moments import moment_of
from securellm.admin.owned import Owned
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Ports
from securellm.admin.shapes import ONCE, Id, Input, ModelName, Name, PathId, TenantQuery, Update, shown
from securellm.admin.users import Issuer, Subject
from securellm.core.surfaces import Surface
from securellm.identity import Permission, ServiceIdentity

Models = Annotated[
    tuple[ModelName, ...],
    Field(max_length=256, description='Models it may call; "*" is all of the tenant\'s, empty none.'),
    ONCE,
]


class NewService(Input):
    """A program to be known."""

    tenant: Annotated[Id | None, Field(description="Null belongs to the installation, and calls no model.")] = None
    project: Id | None = None
    name: Name = ""
    issuer: Issuer = None
    subject: Subject = None
    models: Models = ()
    surfaces: Surfaces = ()
    ip_ranges: IpRanges = ()


class ServiceUpdate(Update):
    """What is to change; what is left out stays."""

    name: Name = ""
    issuer: Issuer = None
    subject: Subject = None
    models: Models = ()
    surfaces: Surfaces = ()
    ip_ranges: IpRanges = ()
    disabled: bool = False


class ServiceView(BaseModel):
    """A program."""

    id: str
    principal: str
    tenant: str | None
    project: str | None
    name: str
    issuer: str | None
    subject: str | None
    models: list[str]
    surfaces: list[Surface]
    ip_ranges: list[str]
    disabled: bool
    created_at: datetime | None


class ServiceList(BaseModel):
    data: list[ServiceView]
    next_cursor: str | None


def add_services(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    directory = ports.directory
    root = f"{API_ROOT}/services"
    one = f"{root}/{{service_id}}"
    services = Owned(
        plural="services",
        find=directory.services.get,
        allow=lambda call, service: call.allow_or_hide(service.tenant, "service", project=service.project),
        view=_view,
        etag=_etag,
    )

    @app.get(
        root, operation_id="list_services", tags=["services"], openapi_extra=asks(Permission.SERVICES_READ, of="tenant")
    )
    async def list_services(call: CurrentCall, asked: TenantQuery) -> ServiceList:
        """List services in the order of their ids."""
        tenant = call.among(asked.tenant)
        found, cursor = await page_of(
            call,
            asked,
            lambda session, after, most: directory.services.page(session, after=after, limit=most, tenant=tenant),
            key=lambda service: service.id,
            tenant=tenant,
        )
        return ServiceList(data=[_view(service) for service in found], next_cursor=cursor)

    @app.post(
        root,
        status_code=201,
        operation_id="create_service",
        tags=["services"],
        openapi_extra=asks(Permission.SERVICES_WRITE, of="tenant"),
        responses=shown(ServiceView, status=201),
        response_model=None,
    )
    async def create_service(call: CurrentCall, asked: NewService) -> Response:
        """Make a service known. It has no role yet."""
        call.allow(asked.tenant, project=asked.project)
        await demand_tenant(call, asked.tenant)
        return await services.create(
            call,
            asked.tenant,
            lambda session: directory.create_service(
                session,
                tenant=asked.tenant,
                project=asked.project,
                name=asked.name,
                issuer=asked.issuer,
                subject=asked.subject,
                models=asked.models,
                surfaces=asked.surfaces,
                ip_ranges=asked.ip_ranges,
                by=call.actor,
            ),
        )

    @app.get(
        one,
        operation_id="get_service",
        tags=["services"],
        openapi_extra=asks(Permission.SERVICES_READ, of="tenant"),
        responses=shown(ServiceView),
        response_model=None,
    )
    async def get_service(call: CurrentCall, service_id: PathId) -> Response:
        """One service."""
        return services.answer(await services.read(call, service_id))

    @app.patch(
        one,
        operation_id="update_service",
        tags=["services"],
        openapi_extra=asks(Permission.SERVICES_WRITE, of="tenant", precondition=True),
        responses=shown(ServiceView),
        response_model=None,
    )
    async def update_service(call: CurrentCall, service_id: PathId, asked: ServiceUpdate) -> Response:
        """Change a service. Disabled, it is refused from now on, and what it has running is cut."""
        return await services.update(call, service_id, asked, directory.replace_service)

    @app.delete(
        one,
        status_code=204,
        operation_id="delete_service",
        tags=["services"],
        openapi_extra=asks(Permission.SERVICES_WRITE, of="tenant", precondition=True),
        response_model=None,
    )
    async def delete_service(call: CurrentCall, service_id: PathId) -> Response:
        """Forget a service with its roles and access tokens."""
        return await services.delete(call, service_id, directory.delete_service)


def _view(service: ServiceIdentity) -> ServiceView:
    return ServiceView(
        id=service.id,
        principal=service.principal,
        tenant=service.tenant,
        project=service.project,
        name=service.name,
        issuer=service.issuer,
        subject=service.subject,
        models=list(service.models),
        surfaces=list(service.surfaces),
        ip_ranges=list(service.ip_ranges),
        disabled=service.disabled,
        created_at=moment_of(service.created_us),
    )


def _etag(service: ServiceIdentity) -> str:
    return etag_of("service", key=service.id, created_us=service.created_us, revision=service.etag)
