"""`securellm user`: the people who operate the gateway."""

from typing import Any

import click

from securellm.cli.operator import asking, operator, operator_options, welcomed
from securellm.cli.resource import Resource, Verb, group_of

command = group_of(
    Resource(
        noun="user",
        path="/admin/v1/users",
        columns=("id", "tenant", "name", "email", "disabled"),
        filters=("tenant",),
        members="tenant, name, email, issuer, subject",
        changing="name, email, issuer, subject, disabled",
        shown_once="invitation",
        verbs=(Verb(name="invite", help="Make a way in for a person, shown this once."),),
    ),
    help="See, invite and change people.",
)


@command.command("accept")
@operator_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def accept(as_json: bool, **places: Any) -> None:
    """Take up an invitation, presented as the access token of --url. Prints who one is, and one's token, once."""
    if places["url"] is None:
        raise click.UsageError("name --url URL, and the invitation in --token-file FILE")
    asked = operator(places)
    answer = asking(lambda: asked.call("POST", "/admin/v1/invitations/accept", body={})).body
    welcomed(answer, as_json=as_json)
