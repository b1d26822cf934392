"""The resource /admin/v1/services: programs that call the control plane, or models, as themselves."""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field, model_validator
from starlette.responses import Response

from securellm.admin.calls import Call, CurrentCall, Page, demand_tenant, scope_of
from securellm.admin.etags import etag_of
from securellm.admin.keys import IpRanges, Surfaces
from securellm.admin.moments import moment_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import Id, Input, ModelName, Name, PathId, TenantQuery, answer, shown
from securellm.admin.users import Issuer, Subject
from securellm.core.surfaces import Surface
from securellm.identity import Permission, ServiceIdentity
from securellm.storage import Session

Models = Annotated[
    tuple[ModelName, ...],
    Field(max_length=256, description='Models it may call; "*" is all of the tenant\'s, empty none.'),
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


class ServiceUpdate(Input):
    """What is to change; what is left out stays."""

    name: Name = ""
    issuer: Issuer = None
    subject: Subject = None
    models: Models = ()
    surfaces: Surfaces = ()
    ip_ranges: IpRanges = ()
    disabled: bool = False

    @model_validator(mode="after")
    def _something(self) -> "ServiceUpdate":
        if not self.model_fields_set:
            raise ValueError("nothing is to change")
        return self


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

    def owned(session: Session, call: Call, service_id: str) -> ServiceIdentity:
        service: ServiceIdentity = directory.get_service(session, service_id)
        call.allow_or_hide(service.tenant, "service", project=service.project)
        return service

    @app.get(
        root, operation_id="list_services", tags=["services"], openapi_extra=asks(Permission.SERVICES_READ, of="tenant")
    )
    async def list_services(call: CurrentCall, asked: TenantQuery) -> ServiceList:
        """List services in the order of their ids."""
        tenant = call.among(asked.tenant)
        after = call.after(asked.cursor, tenant=tenant)

        def found(session: Session) -> Page[ServiceIdentity]:
            services = directory.services(session, after=after, limit=asked.limit + 1, tenant=tenant)
            return Page.of(services, asked.limit, lambda service: service.id)

        page = await call.read(found, scope=scope_of(tenant))
        return ServiceList(
            data=[_view(item) for item in page.items], next_cursor=call.cursor(page.after, tenant=tenant)
        )

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

        def work(session: Session) -> Changed[ServiceIdentity]:
            made = directory.create_service(
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
            )
            return Changed(result=made, id=made.id, after=made)

        made = await call.change("create", "services", work, tenant=asked.tenant)
        return answer(_view(made), etag=_etag(made), status=201, location=f"{API_ROOT}/services/{made.id}")

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
        service = await call.read(lambda session: owned(session, call, service_id), scope=call.home)
        return answer(_view(service), etag=_etag(service))

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
        said = asked.model_fields_set

        def work(session: Session) -> Changed[ServiceIdentity]:
            before = owned(session, call, service_id)
            call.precondition.demand(_etag(before))
            after = directory.replace_service(
                session,
                call.actor,
                service_id,
                name=asked.name if "name" in said else before.name,
                issuer=asked.issuer if "issuer" in said else before.issuer,
                subject=asked.subject if "subject" in said else before.subject,
                models=asked.models if "models" in said else before.models,
                surfaces=asked.surfaces if "surfaces" in said else before.surfaces,
                ip_ranges=asked.ip_ranges if "ip_ranges" in said else before.ip_ranges,
                disabled=asked.disabled if "disabled" in said else before.disabled,
                etag=before.etag,
            )
            return Changed(result=after, id=service_id, before=before, after=after)

        tenant = (await call.read(lambda session: owned(session, call, service_id), scope=call.home)).tenant
        service = await call.change("update", "services", work, tenant=tenant)
        return answer(_view(service), etag=_etag(service))

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

        def work(session: Session) -> Changed[None]:
            before = owned(session, call, service_id)
            call.precondition.demand(_etag(before))
            directory.delete_service(session, call.actor, service_id, etag=before.etag)
            return Changed(result=None, id=service_id, before=before)

        tenant = (await call.read(lambda session: owned(session, call, service_id), scope=call.home)).tenant
        await call.change("delete", "services", work, tenant=tenant)
        return Response(status_code=204)


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
