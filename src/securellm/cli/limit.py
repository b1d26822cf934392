"""`securellm limit`: how fast a tenant, a project, a key or a person may ask."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="limit",
        path="/admin/v1/tenants/{tenant}/limits",
        key="target",
        named="SCOPE:TARGET",
        columns=("scope", "target", "requests_per_minute", "burst", "tokens_per_minute", "parallel"),
        members="scope* (tenant, project, key or user), target*, requests_per_minute, burst, tokens_per_minute, "
        "parallel",
        changing="requests_per_minute, burst, tokens_per_minute, parallel",
    ),
    help="See and change limits of a tenant and of its projects, keys and people.",
)
