"""`securellm setup`: become the first owner, with the token that the first start left on this host."""

import json
from pathlib import Path

import click

from securellm.bootstrap.operating import Operator, Unanswered, running_place
from securellm.cli.exits import leave
from securellm.cli.operator import asking
from securellm.cli.places import data_dir_or_exit, place_options
from securellm.secrets import SecretValue
from securellm.storage import DataDir

_TOKEN = "setup-token"  # noqa: S105 - the file's name


@click.command()
@place_options
@click.option("--name", default="", help="What people call you.")
@click.option("--email", default="", help="Where people reach you.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(config: Path | None, data_dir: Path | None, name: str, email: str, as_json: bool) -> None:
    """Become the first owner of the gateway on this host. Prints your access token, once.

    The first start wrote a set-up token beside the data; it is good once, for a day, and only until somebody is known.
    """
    data = DataDir(data_dir_or_exit(config, data_dir))
    path = data.keys / _TOKEN
    try:
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        leave("no set-up token is here", "Ask an owner for an invitation; without any owner, start the gateway again.")
    try:
        asked = Operator(running_place(data, SecretValue(secret)))
    except Unanswered as error:
        leave(error.reason, error.remedy)
    answer = asking(lambda: asked.call("POST", "/admin/v1/setup", body={"name": name, "email": email})).body
    click.echo(json.dumps(answer) if as_json else f"{answer['principal']}  {answer['token']}")
