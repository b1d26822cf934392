"""`securellm serve`: run the gateway until it is told to stop."""

from pathlib import Path

import click

from securellm.cli.places import config_option, config_or_exit
from securellm.cli.running import run
from securellm.settings.loader import located


@click.command("serve")
@config_option
def command(config: Path) -> None:
    """Run the gateway described by FILE. SIGTERM drains and stops it, SIGHUP reads the file again."""
    loaded = config_or_exit(config)
    for problem in loaded.warnings:
        click.echo(f"warning: {located(str(loaded.path), problem)}", err=True)
    run(loaded, ready=lambda *_: None)
