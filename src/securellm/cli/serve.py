"""`securellm serve`: run the gateway until it is told to stop."""

import sys
from pathlib import Path

import click

from securellm.bootstrap.admin import offer_setup, setup_file
from securellm.bootstrap.wiring import Application
from securellm.cli.places import config_option, config_or_exit
from securellm.cli.running import run
from securellm.settings.loader import located
from securellm.telemetry.logs import logger

_log = logger("serve")

_BOX = """\
┌─ no person is known here yet ─────────────────────────────────────────────────────────
│ set-up token  {secret}
│               good once, for 24 hours; also in {path}
│ use it        securellm setup --config {config} --name YOU
└───────────────────────────────────────────────────────────────────────────────────────"""


@click.command("serve")
@config_option("The configuration file", required=True)
def command(config: Path) -> None:
    """Run the gateway described by FILE. SIGTERM drains and stops it, SIGHUP reads the file again."""
    loaded = config_or_exit(config)
    for problem in loaded.warnings:
        click.echo(f"warning: {located(str(loaded.path), problem)}", err=True)
    run(loaded, ready=lambda *_: None, opened=_offer_setup)


def _offer_setup(application: Application) -> None:
    """Show the set-up token of a new installation to a person; a log that is collected gets its place only."""
    secret = offer_setup(application)
    if secret is None:
        return
    path = setup_file(application)
    if sys.stderr.isatty():
        click.echo(_BOX.format(secret=secret, path=path, config=application.loaded.path), err=True)
    else:
        _log.warning("set_up_offered", path=str(path), hours=24)
