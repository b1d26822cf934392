"""`securellm token`: access tokens of the admin API, one's own and those of services."""

from securellm.cli.resource import Resource, Verb, group_of

command = group_of(
    Resource(
        noun="access token",
        path="/admin/v1/tokens",
        columns=("id", "principal", "name", "prefix", "expires_at", "revoked_at"),
        listing="List your own access tokens, or those of a --principal.",
        filters=("principal",),
        shown_once="token",
        members="principal, name, expires_at",
        changes=False,
        removes=False,
        verbs=(Verb(name="revoke", help="End an access token at once."),),
    ),
    help="Issue, list and revoke access tokens of the admin API.",
)
