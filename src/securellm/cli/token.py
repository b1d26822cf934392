"""`securellm token`: access tokens of the admin API, one's own and those of services."""

from securellm.cli.resource import Resource, group_of

command = group_of(
    Resource(
        noun="access token",
        path="/admin/v1/tokens",
        columns=("id", "principal", "name", "prefix", "expires_at", "revoked_at"),
        filters=("principal",),
        shown_once="token",
        changes=False,
    ),
    help="Issue, list and revoke access tokens of the admin API.",
)
