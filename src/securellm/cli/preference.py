"""`securellm preference`: what people asked to be remembered of them; seen and cleared, never set for them."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="person's preferences",
        path="/admin/v1/tenants/{tenant}/preferences",
        key="principal",
        columns=("principal", "tone", "format", "language", "updated_at"),
        makes=False,
        changes=False,
    ),
    help="See and clear what people asked to be remembered; they alone state it, at /preferences.",
)
