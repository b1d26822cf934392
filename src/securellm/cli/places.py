"""Where a command looks: the options that name a configuration or a data folder, and what they lead to.

What reads a configuration, and what opens a store, is imported where it is asked for: most commands ask for neither.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click
from click.core import ParameterSource

from securellm.cli.exits import Exit, leave
from securellm.core.errors import GatewayError
from securellm.secrets import SecretUnavailable
from securellm.settings import ConfigError
from securellm.storage import StorageError

if TYPE_CHECKING:
    from securellm.bootstrap.config import Loaded
    from securellm.bootstrap.effective import Effective

F = TypeVar("F", bound=Callable[..., object])


_VARIABLE = "SECURELLM_CONFIG"


class _ConfigOption(click.Option):
    """`--config`, which the environment may name for every command, where no other gateway was typed."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        others = (name for name in ("data_dir", "url") if ctx.params.get(name) is not None)
        if any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in others):
            return None
        return super().resolve_envvar_value(ctx)


def config_option(said: str, *, required: bool = False) -> Callable[[F], F]:
    """Add `--config FILE`; `said` is what the file is, without a full stop."""
    return click.option(
        "--config",
        "config",
        cls=_ConfigOption,
        envvar=_VARIABLE,
        required=required,
        type=click.Path(path_type=Path),
        help=f"{said} (or the variable {_VARIABLE}).",
    )


def place_options(command: F) -> F:
    """Add `--config FILE` and `--data-dir DIR`, of which `data_dir_or_exit` wants exactly one."""
    command = click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder.")(command)
    return config_option("The configuration file that names it")(command)


def config_or_exit(path: Path, *, resolving: bool = True) -> "Loaded":
    """The checked configuration; prints every problem and exits otherwise.

    Without `resolving` no secret is asked for: who operates a gateway need not have its providers' credentials.
    """
    from securellm.bootstrap.config import open_config

    try:
        return open_config(path, resolving=resolving)
    except ConfigError as error:
        refuse(error)


def in_force_or_exit(file: Path) -> "Effective":
    """FILE with what the admin API has stored beside it, where there is such a store yet; explains and exits else.

    No secret is asked for, but the password of a server.
    """
    from securellm.bootstrap.effective import compose, stored_documents
    from securellm.bootstrap.places import control_location, open_control
    from securellm.finops import shipped

    loaded = config_or_exit(file, resolving=False)
    location, _ = control_location(loaded)
    try:
        if isinstance(location, Path) and not location.exists():
            return compose(loaded, {}, book=shipped(), resolving=False)
        store = open_control(loaded)
        try:
            stored = store.read(stored_documents)
        finally:
            store.close()
        return compose(loaded, stored, book=shipped(), resolving=False)
    except ConfigError as error:
        refuse(error)
    except (StorageError, GatewayError) as error:
        leave(reason_of(error), error.remedy)


def reason_of(error: StorageError | GatewayError) -> str:
    """What went wrong, with the reference or the database driver's own words where there are such: for operators."""
    if isinstance(error.__cause__, SecretUnavailable):
        return f"{error.reason} ({error.__cause__.reference})"
    below = getattr(error.__cause__, "orig", None)
    return error.reason if below is None else f"{error.reason}: {' '.join(str(below).split())}"


def data_dir_or_exit(config: Path | None, data_dir: Path | None, *, made: bool = True) -> Path:
    """The data folder that the two options name; explains and exits when they name none or two.

    A folder that was typed must be there, unless what is asked of it may be asked before it is `made`.
    """
    if (config is None) == (data_dir is None):
        raise click.UsageError("name --config FILE or --data-dir DIR")
    if data_dir is not None:
        if made and not data_dir.is_dir():
            leave(f"{data_dir} is no folder", "Name the data folder of a gateway: the one its [storage] leads to.")
        return entered(data_dir.absolute())
    assert config is not None
    from securellm.bootstrap.config import data_dir_of

    try:
        return entered(data_dir_of(config))
    except ConfigError as error:
        refuse(error)


def entered(folder: Path) -> Path:
    """`folder`; explains and exits when it is there for another user only."""
    try:
        os.scandir(folder).close()
    except PermissionError as error:
        forbidden(error)
    except OSError:
        pass
    return folder


def forbidden(error: PermissionError) -> NoReturn:
    """Say what this user may not touch, and who may; exit."""
    leave(f"{error.filename}: permission denied", "Run this as the user that the gateway runs as, such as by sudo -u.")


def refuse(error: ConfigError) -> NoReturn:
    """Print every problem of a configuration and exit."""
    for line in error.lines():
        click.echo(line, err=True)
    raise SystemExit(Exit.PROBLEMS)
