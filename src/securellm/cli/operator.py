"""Who a command speaks as, and to which gateway: the options, and how a refusal leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from securellm.bootstrap.operating import Operator, Place, Problem, Unanswered, running_place
from securellm.bootstrap.wiring import open_keys, stored_keys
from securellm.cli.exits import Exit, leave
from securellm.cli.places import config_or_exit, data_dir_or_exit
from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyRefused, SecretUnavailable, SecretValue
from securellm.storage import DataDir

F = TypeVar("F", bound=Callable[..., object])

_TOKEN = "SECURELLM_ADMIN_TOKEN"  # noqa: S105 - the variable's name
_URL = "SECURELLM_ADMIN_URL"


def operator_options(command: F) -> F:
    """Add the options that say which gateway is meant: one on this host, or one anywhere."""
    for option in (
        click.option("--ca-file", type=click.Path(path_type=Path), help="PEM certificates to trust at --url."),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            help=f"File with your access token, for --url (default: the variable {_TOKEN}).",
        ),
        click.option("--url", envvar=_URL, help=f"The admin listener of a gateway anywhere (or the variable {_URL})."),
        click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder of a gateway on this host."),
        click.option("--config", type=click.Path(path_type=Path), help="The configuration of a gateway on this host."),
    ):
        command = option(command)
    return command


def operator(places: dict[str, Any]) -> Operator:
    """The operator that the options name; explains and exits when there is none. Takes its options out of `places`."""
    config, data_dir = places.pop("config"), places.pop("data_dir")
    url, token_file, ca_file = places.pop("url"), places.pop("token_file"), places.pop("ca_file")
    if config is not None or data_dir is not None:
        return Operator(_on_this_host(config, data_dir))
    if url is None:
        raise click.UsageError("name --config FILE, --data-dir DIR or --url URL")
    return Operator(Place(url=url, token=_token(token_file), ca_file=ca_file))


def _on_this_host(config: Path | None, data_dir: Path | None) -> Place:
    try:
        if config is not None and data_dir is None:
            loaded = config_or_exit(config)
            data = DataDir(loaded.data_dir)
            return running_place(data, open_keys(loaded, data, SystemRandomness()).admin_token)
        data = DataDir(data_dir_or_exit(config, data_dir))
        return running_place(data, stored_keys(data, SystemRandomness()).admin_token)
    except KeyRefused as error:
        leave(error.reason, error.remedy)
    except SecretUnavailable as error:
        leave(str(error), error.remedy)
    except Unanswered as error:
        leave(error.reason, error.remedy)


def _token(path: Path | None) -> SecretValue:
    context = click.get_current_context()
    if path is not None:
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            leave(f"{path} cannot be read as a token", "Name a file that holds the token alone.")
    else:
        text = click.Option(["--token"], envvar=_TOKEN).value_from_envvar(context) or ""
    if not text:
        raise click.UsageError(f"name --token-file FILE, or set {_TOKEN}")
    return SecretValue(text)


def asking(question: Callable[[], Any]) -> Any:
    """What `question` finds; a refusal is printed, and ends the command with the status that scripts read."""
    try:
        return question()
    except Unanswered as error:
        leave(error.reason, error.remedy)
    except Problem as problem:
        click.echo(f"{problem.code}: {problem.reason}", err=True)
        for field in problem.fields:
            click.echo(f"  {field}", err=True)
        click.echo(f"  {problem.remedy}", err=True)
        raise SystemExit(exit_of(problem.status)) from None


def exit_of(status: int) -> Exit:
    """The exit status that says what an HTTP status says."""
    match status:
        case 404:
            return Exit.NOT_FOUND
        case 401 | 403:
            return Exit.FORBIDDEN
        case 409 | 412 | 428:
            return Exit.CONFLICT
        case 400 | 413 | 422:
            return Exit.PROBLEMS
    return Exit.REFUSED


def printed(answer: Any) -> None:
    """One JSON value on standard output."""
    click.echo(json.dumps(answer, ensure_ascii=False))
