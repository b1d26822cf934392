"""`securellm service`: programs that are known by themselves."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="service",
        path="/admin/v1/services",
        columns=("id", "tenant", "name", "disabled"),
        filters=("tenant",),
        members="tenant, project, name, issuer, subject, models, surfaces, ip_ranges",
        changing="name, issuer, subject, models, surfaces, ip_ranges, disabled",
    ),
    help="See and change service identities.",
)
