"""`securellm db`: the schema of the control plane."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

import click

from securellm.bootstrap.config import control_of
from securellm.bootstrap.places import control_location
from securellm.cli.exits import Exit, leave
from securellm.cli.places import config_or_exit, data_dir_or_exit, place_options, reason_of
from securellm.cli.places import refuse as refuse_configuration
from securellm.core.errors import GatewayError
from securellm.secrets import SecretResolver, SecretUnavailable, process_environment
from securellm.settings import ConfigError
from securellm.settings.references import NoReference, parse_reference
from securellm.storage import DataDir, StorageError
from securellm.storage.upkeep import migrate_file, migrate_server, schema_of

T = TypeVar("T")


@click.group("db")
def command() -> None:
    """See the control plane's schema, and bring it up to date."""


@command.command("status")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Say how far the schema is. Exits 0 when it is up to date, 1 when steps are pending, 3 when it is unknown."""
    if config is not None and data_dir is None:
        location, password = control_location(config_or_exit(config, resolving=False))
    else:
        location, password = DataDir(data_dir_or_exit(config, data_dir, made=False)).control, None
    found = _try(lambda: schema_of(location, password=password))
    if as_json:
        click.echo(json.dumps({"revision": found.revision, "pending": list(found.pending)}))
    elif found.pending:
        click.echo(f"at {found.revision or 'nothing'}; pending: {', '.join(found.pending)}")
    else:
        click.echo(f"at {found.revision}; up to date")
    raise SystemExit(Exit.UNHEALTHY if found.pending else Exit.OK)


@command.command("migrate")
@place_options
@click.option("--owner", help="On a server: the role that owns the tables, which is not the one that serves.")
@click.option("--owner-password", help='Where its password is, such as "env:PGOWNER" or "file:owner".')
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def migrate(
    config: Path | None, data_dir: Path | None, owner: str | None, owner_password: str | None, as_json: bool
) -> None:
    """Make every pending step, all or none. On a server it also lets the serving role use the tables.

    Of the configuration it reads [storage] alone, so the gateway's secrets need not be at hand.
    """
    location = _place(config, data_dir)
    if isinstance(location, Path):
        if owner is not None or owner_password is not None:
            raise click.UsageError("a folder of SQLite files has no owner")
        made = _try(lambda: _migrate_folder(DataDir(location.parent)))
    else:
        if owner is None:
            raise click.UsageError("name the --owner of the tables; the role that serves must not own them")
        assert config is not None
        parts = urlsplit(location)
        url = parts._replace(netloc=f"{quote(owner, safe='')}@{parts.netloc.rpartition('@')[2]}").geturl()
        password = _password(config, owner_password)
        made = _try(lambda: migrate_server(url, password=password, serving=unquote(parts.username or "")))
    if as_json:
        click.echo(json.dumps({"made": list(made)}))
    else:
        click.echo(f"made: {', '.join(made)}" if made else "nothing to do: the schema is up to date")


def _place(config: Path | None, data_dir: Path | None) -> str | Path:
    if config is None or data_dir is not None:
        return DataDir(data_dir_or_exit(config, data_dir, made=False)).control
    try:
        return control_of(config)
    except ConfigError as error:
        refuse_configuration(error)


def _password(config: Path, written: str | None) -> Callable[[], str] | None:
    if written is None:
        return None
    try:
        reference = parse_reference(written)
    except NoReference:
        raise click.UsageError('--owner-password takes a reference, such as "env:PGOWNER"; never a password') from None
    resolver = SecretResolver(config.absolute().parent, process_environment())
    return lambda: resolver.resolve(reference).reveal()


def _migrate_folder(data: DataDir) -> tuple[str, ...]:
    with data.lock():
        return migrate_file(data.control)


def _try(work: Callable[[], T]) -> T:
    try:
        return work()
    except (StorageError, GatewayError) as error:
        leave(reason_of(error), error.remedy)
    except SecretUnavailable as error:
        leave(str(error), error.remedy)
