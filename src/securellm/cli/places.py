"""Where a command looks: the options that name a configuration or a data folder, and what they lead to."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from securellm.bootstrap.config import Loaded, data_dir_of, open_config
from securellm.cli.exits import Exit
from securellm.settings import ConfigError

F = TypeVar("F", bound=Callable[..., object])


def config_option(command: F) -> F:
    """Add `--config FILE`, required."""
    return click.option(
        "--config", "config", required=True, type=click.Path(path_type=Path), help="The configuration file."
    )(command)


def place_options(command: F) -> F:
    """Add `--config FILE` and `--data-dir DIR`, of which `data_dir_or_exit` wants exactly one."""
    command = click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder.")(command)
    return click.option(
        "--config", "config", type=click.Path(path_type=Path), help="The configuration file that names it."
    )(command)


def config_or_exit(path: Path) -> Loaded:
    """The checked configuration; prints every problem and exits otherwise."""
    try:
        return open_config(path)
    except ConfigError as error:
        refuse(error)


def data_dir_or_exit(config: Path | None, data_dir: Path | None) -> Path:
    """The data folder that the two options name; explains and exits when they name none or two."""
    if (config is None) == (data_dir is None):
        raise click.UsageError("name --config FILE or --data-dir DIR")
    if data_dir is not None:
        return data_dir.absolute()
    assert config is not None
    try:
        return data_dir_of(config)
    except ConfigError as error:
        refuse(error)


def refuse(error: ConfigError) -> NoReturn:
    """Print every problem of a configuration and exit."""
    for line in error.lines():
        click.echo(line, err=True)
    raise SystemExit(Exit.PROBLEMS)
