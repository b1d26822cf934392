"""`securellm setup`: become the first owner, with the token that the first start left on this host."""

from pathlib import Path

import click

from securellm.bootstrap.operating import Answer, Operator, Problem, Unanswered, running_place
from securellm.cli.exits import leave
from securellm.cli.operator import asking, welcomed
from securellm.cli.places import data_dir_or_exit, forbidden, place_options
from securellm.secrets import SecretValue
from securellm.storage import DataDir

_TOKEN = "setup-token"  # noqa: S105 - the file's name


@click.command()
@place_options
@click.option("--name", default="", help="What people call you.")
@click.option("--email", default="", help="Where people reach you.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(config: Path | None, data_dir: Path | None, name: str, email: str, as_json: bool) -> None:
    """Become the first owner of the gateway on this host. Prints who you are, and your access token, once.

    The first start wrote a set-up token beside the data; it is good once, for a day, and only until somebody is known.
    """
    data = DataDir(data_dir_or_exit(config, data_dir))
    path = data.keys / _TOKEN
    try:
        secret = path.read_text(encoding="ascii").strip()
    except PermissionError as error:
        forbidden(error)
    except (OSError, ValueError):
        leave("no set-up token is here", "Ask an owner for an invitation; without any owner, start the gateway again.")
    try:
        asked = Operator(running_place(data, SecretValue(secret)))
    except Unanswered as error:
        leave(error.reason, error.remedy)

    def come_in() -> Answer:
        try:
            return asked.call("POST", "/admin/v1/setup", body={"name": name, "email": email})
        except Problem as problem:
            if problem.status != 401:
                raise
            leave(
                "this set-up token is not the newest any more",
                "A gateway that started later on the same database has it; use that one, or start this one again.",
            )

    answer = asking(come_in).body
    welcomed(answer, as_json=as_json)
