"""Who a command speaks as, and to which gateway: the options, and how a refusal leaves."""

import json
import re
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from securellm.bootstrap.keys import Keys, open_keys, stored_keys
from securellm.bootstrap.operating import Operator, Place, Problem, Unanswered, running_place
from securellm.cli.exits import Exit, leave
from securellm.cli.places import config_option, config_or_exit, data_dir_or_exit
from securellm.cli.plain import plain
from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyRefused, SecretUnavailable, SecretValue
from securellm.storage import DataDir
from securellm.transport import parse_base_url

F = TypeVar("F", bound=Callable[..., object])

_ONE_TOKEN = re.compile(r"[!-~]+")
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
        config_option("The configuration of a gateway on this host"),
    ):
        command = option(command)
    return command


def operator(places: dict[str, Any]) -> Operator:
    """The operator that the options name; explains and exits when there is none. Takes its options out of `places`."""
    config, data_dir = places.pop("config"), places.pop("data_dir")
    url, token_file, ca_file = places.pop("url"), places.pop("token_file"), places.pop("ca_file")
    if config is not None or data_dir is not None:
        if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
            raise click.UsageError("name one gateway: --config FILE, --data-dir DIR or --url URL")
        return Operator(_on_this_host(config, data_dir))
    if url is None:
        raise click.UsageError("name --config FILE, --data-dir DIR or --url URL")
    try:
        parse_base_url(url)
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from None
    return Operator(Place(url=url, token=_token(token_file), ca_file=_readable(ca_file)))


def _on_this_host(config: Path | None, data_dir: Path | None) -> Place:
    data, keys = keys_on_this_host(config, data_dir)
    try:
        return running_place(data, keys.admin_token)
    except Unanswered as error:
        leave(error.reason, error.remedy)


def keys_on_this_host(config: Path | None, data_dir: Path | None) -> tuple[DataDir, Keys]:
    """The data folder that the two options name, with its keys; explains and exits when they cannot be had."""
    try:
        if config is not None and data_dir is None:
            loaded = config_or_exit(config, resolving=False)
            data = DataDir(loaded.data_dir)
            return data, open_keys(loaded, data, SystemRandomness())
        data = DataDir(data_dir_or_exit(config, data_dir))
        return data, stored_keys(data, SystemRandomness())
    except KeyRefused as error:
        leave(error.reason, error.remedy)
    except SecretUnavailable as error:
        leave(str(error), error.remedy)


def _token(path: Path | None) -> SecretValue:
    if path is None:
        text = click.Option(["--token"], envvar=_TOKEN).value_from_envvar(click.get_current_context()) or ""
        if not text:
            raise click.UsageError(f"name --token-file FILE, or set {_TOKEN}")
    else:
        try:
            text = path.read_text(encoding="ascii").strip()
            mode = path.stat().st_mode
        except (OSError, ValueError):
            text, mode = "", 0
        if stat.S_ISREG(mode) and mode & 0o077:
            # No more than that: secrets are mounted like this, and whoever mounted them may have no say in it.
            click.echo(plain(f"warning: others can read {path}; run: chmod 600 {path}"), err=True)
    if not _ONE_TOKEN.fullmatch(text):
        leave(f"{path or _TOKEN} cannot be read as a token", "Let it hold the token alone, without another word.")
    return SecretValue(text)


def _readable(ca_file: Path | None) -> Path | None:
    """PEM certificates that can be trusted; explains and exits when they cannot be."""
    if ca_file is not None:
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError:
            leave(f"{ca_file} holds no certificates that can be read", "Name a PEM file in --ca-file.")
    return ca_file


def asking(question: Callable[[], Any]) -> Any:
    """What `question` finds; a refusal is printed, and ends the command with the status that scripts read."""
    try:
        return question()
    except Unanswered as error:
        leave(error.reason, error.remedy)
    except Problem as problem:
        refused(problem.code, problem.reason, *problem.fields, problem.remedy, status=problem.status)


def refused(code: str, reason: str, *more: str, status: int) -> NoReturn:
    """Print what was refused, and what else is to be said of it; leave with what an HTTP status says to scripts."""
    click.echo(plain(f"{code}: {reason}"), err=True)
    for line in more:
        click.echo(plain(f"  {line}"), err=True)
    raise SystemExit(exit_of(status)) from None


def warned(answer: dict[str, Any]) -> None:
    """Say beside the answer what it warns of."""
    for warning in answer.get("warnings") or ():
        click.echo(plain(f"warning: {warning}"), err=True)


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


def printed(answer: Any, *, indent: int | None = None) -> None:
    """One JSON value on standard output."""
    click.echo(plain(json.dumps(answer, ensure_ascii=False, indent=indent)))


def welcomed(answer: dict[str, Any], *, as_json: bool) -> None:
    """Print who has come in and their access token; what to do with it is said beside the answer."""
    if as_json:
        printed(answer)
        return
    click.echo(f"{answer['principal']}  {answer['token']}")
    click.echo(
        f"That is who you are, and your access token, shown this once: keep it, for --token-file or {_TOKEN}.",
        err=True,
    )
