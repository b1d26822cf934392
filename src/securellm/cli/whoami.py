"""`securellm whoami`: as whom the commands speak, and with which rights."""

from typing import Any

import click

from securellm.cli.operator import asking, operator, operator_options, printed
from securellm.cli.plain import plain
from securellm.cli.resource import listed


@click.command("whoami")
@operator_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool, **places: Any) -> None:
    """Say as whom the admin API knows you, how you came in, and which roles you hold where."""
    asked = operator(places)
    me = asking(lambda: asked.call("GET", "/admin/v1/me")).body
    if as_json:
        printed(me)
        return
    click.echo(plain(f"{me['principal']}, by {me['method']}, of {me['tenant'] or 'the installation'}"))
    listed(("role", "tenant", "project"), me["grants"], none="no roles")
