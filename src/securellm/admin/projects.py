"""The resource /admin/v1/tenants/{tenant}/projects: parts of a tenant that keys and roles are bound to."""

from datetime import datetime

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from securellm.admin.calls import CurrentCall, demand_tenant, scope_of
from securellm.admin.etags import etag_of
from securellm.admin.moments import moment_of
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.shapes import Id, Input, ListQuery, Name, PathId, answer, shown
from securellm.core.errors import Code, Refusal
from securellm.identity import Permission, Project
from securellm.storage import Session


class NewProject(Input):
    """A project to be made."""

    id: Id
    name: Name = ""


class ProjectUpdate(Input):
    """What a project is called from now on."""

    name: Name


class ProjectView(BaseModel):
    """A project."""

    id: str
    tenant: str
    name: str
    created_at: datetime | None


class ProjectList(BaseModel):
    data: list[ProjectView]
    next_cursor: str | None


def add_projects(app: FastAPI, ports: Ports) -> None:
    """Serve the resource."""
    directory = ports.directory
    root = f"{API_ROOT}/tenants/{{tenant}}/projects"
    one = f"{root}/{{project_id}}"

    @app.get(
        root, operation_id="list_projects", tags=["projects"], openapi_extra=asks(Permission.PROJECTS_READ, of="tenant")
    )
    async def list_projects(call: CurrentCall, tenant: PathId, asked: ListQuery) -> ProjectList:
        """List the projects of a tenant that the caller may see."""
        projects = call.projects(tenant)

        def found(session: Session, after: str | None, most: int) -> tuple[Project, ...]:
            if projects is None:
                return directory.projects.page(session, tenant=tenant, after=after, limit=most)
            names = [name for name in sorted(projects) if after is None or name > after][:most]
            return tuple(directory.projects.get(session, name, tenant=tenant) for name in names)

        items, cursor = await page_of(call, asked, found, key=lambda project: project.id, tenant=tenant)
        return ProjectList(data=[_view(project) for project in items], next_cursor=cursor)

    @app.post(
        root,
        status_code=201,
        operation_id="create_project",
        tags=["projects"],
        openapi_extra=asks(Permission.PROJECTS_WRITE, of="tenant"),
        responses=shown(ProjectView, status=201),
        response_model=None,
    )
    async def create_project(call: CurrentCall, tenant: PathId, asked: NewProject) -> Response:
        """Make a project."""
        call.allow(tenant)
        await demand_tenant(call, tenant)

        def work(session: Session) -> Changed[Project]:
            made = directory.create_project(session, tenant=tenant, id=asked.id, name=asked.name)
            return Changed(result=made, id=made.id, after=made)

        made = await call.change("create", "projects", work, tenant=tenant, scope=scope_of(tenant))
        location = f"{API_ROOT}/tenants/{tenant}/projects/{made.id}"
        return answer(_view(made), etag=_etag(made), status=201, location=location)

    @app.get(
        one,
        operation_id="get_project",
        tags=["projects"],
        openapi_extra=asks(Permission.PROJECTS_READ, of="tenant"),
        responses=shown(ProjectView),
        response_model=None,
    )
    async def get_project(call: CurrentCall, tenant: PathId, project_id: PathId) -> Response:
        """One project."""
        call.allow(tenant, project=project_id)
        project = await call.read(
            lambda session: directory.projects.get(session, project_id, tenant=tenant), scope=scope_of(tenant)
        )
        return answer(_view(project), etag=_etag(project))

    @app.patch(
        one,
        operation_id="update_project",
        tags=["projects"],
        openapi_extra=asks(Permission.PROJECTS_WRITE, of="tenant", precondition=True),
        responses=shown(ProjectView),
        response_model=None,
    )
    async def update_project(call: CurrentCall, tenant: PathId, project_id: PathId, asked: ProjectUpdate) -> Response:
        """Call a project something else."""
        call.allow(tenant, project=project_id)

        def work(session: Session) -> Changed[Project]:
            before = directory.projects.get(session, project_id, tenant=tenant)
            call.precondition.demand(_etag(before))
            after = directory.rename_project(session, before, asked.name)
            return Changed(result=after, id=project_id, before=before, after=after)

        project = await call.change("update", "projects", work, tenant=tenant, scope=scope_of(tenant))
        return answer(_view(project), etag=_etag(project))

    @app.delete(
        one,
        status_code=204,
        operation_id="delete_project",
        tags=["projects"],
        openapi_extra=asks(Permission.PROJECTS_WRITE, of="tenant", precondition=True),
        response_model=None,
    )
    async def delete_project(call: CurrentCall, tenant: PathId, project_id: PathId) -> Response:
        """Remove a project to which no role, service or living key is bound."""
        call.allow(tenant, project=project_id)

        def work(session: Session) -> Changed[None]:
            before = directory.projects.get(session, project_id, tenant=tenant)
            call.precondition.demand(_etag(before))
            keys = ports.keyring().page(session, limit=1_000, tenant=tenant, projects=(project_id,))
            if any(key.revoked_us is None for key in keys):
                raise Refusal(Code.CONFLICT, "virtual keys are bound to this project")
            directory.delete_project(session, before)
            return Changed(result=None, id=project_id, before=before)

        await call.change("delete", "projects", work, tenant=tenant, scope=scope_of(tenant))
        return Response(status_code=204)


def _view(project: Project) -> ProjectView:
    return ProjectView(
        id=project.id, tenant=project.tenant, name=project.name, created_at=moment_of(project.created_us)
    )


def _etag(project: Project) -> str:
    key = f"{project.tenant}/{project.id}"
    return etag_of("project", key=key, created_us=project.created_us, revision=project.etag)
