"""`securellm role`: who holds which role, and where."""

from typing import Any
from urllib.parse import urlencode

import click

from securellm.bootstrap.operating import segment
from securellm.cli.operator import asking, operator, operator_options, printed
from securellm.cli.resource import Resource, add_commands, etag_of, glass, glass_option, told
from securellm.identity import PERMISSIONS, Role

_GRANTS = "/admin/v1/grants"
_RESOURCE = Resource(
    noun="grant",
    path=_GRANTS,
    columns=("id", "principal", "role", "tenant", "project"),
    filters=("tenant", "principal"),
    makes=False,
    changes=False,
    removes=False,
)
_reason_option = click.option("--reason", default="", help="Why, for whoever approves it.")


@click.group()
def command() -> None:
    """See who holds which role, grant one, take one back."""


add_commands(command, _RESOURCE)


@command.command("permissions")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def permissions(role: str, as_json: bool) -> None:
    """Print what a role may do. Needs no gateway."""
    held = sorted(permission.value for permission in PERMISSIONS[Role(role)])
    if as_json:
        printed({"role": role, "permissions": held})
        return
    for permission in held:
        click.echo(permission)


@command.command("grant")
@operator_options
@click.argument("principal")
@click.argument("role", metavar="ROLE", type=click.Choice([role.value for role in Role]))
@click.option("--tenant", help="Where it holds (default: everywhere).")
@click.option("--project", help="The one project of the tenant in which it holds.")
@_reason_option
@glass_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def grant(
    principal: str,
    role: str,
    tenant: str | None,
    project: str | None,
    reason: str,
    break_glass: str | None,
    as_json: bool,
    **places: Any,
) -> None:
    """Give PRINCIPAL (user:… or service:…) a ROLE: owner, admin, security_officer, finops, developer, approver,
    auditor or dpo. It takes two people.
    """
    asked = operator(places)
    said = {"principal": principal, "role": role, "tenant": tenant, "project": project, "reason": reason or None}
    body = {name: value for name, value in said.items() if value is not None}
    answer = asking(lambda: asked.call("POST", _GRANTS, body=body, headers=glass(break_glass)))
    told(_RESOURCE, answer, as_json=as_json)


@command.command("drop")
@operator_options
@click.argument("grant_id", metavar="ID")
@_reason_option
@glass_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def drop(grant_id: str, reason: str, break_glass: str | None, as_json: bool, **places: Any) -> None:
    """Take a role back. It takes two people."""
    asked = operator(places)
    path = f"{_GRANTS}/{segment(grant_id)}"
    why = f"?{urlencode({'reason': reason})}" if reason else ""
    answer = asking(
        lambda: asked.call("DELETE", f"{path}{why}", headers={"if-match": etag_of(asked, path), **glass(break_glass)})
    )
    told(_RESOURCE, answer, as_json=as_json)
