"""`securellm project`: the parts of a tenant that keys and people belong to."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="project",
        path="/admin/v1/tenants/{tenant}/projects",
        columns=("id", "name"),
        members="id*, name",
        changing="name*",
    ),
    help="See and change the projects of a tenant.",
)
