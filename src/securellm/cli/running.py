"""Run a gateway in this process, and say in one line why it cannot."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

import click

from securellm.bootstrap.admin import build_admin_app
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.serving import serve
from securellm.bootstrap.wiring import Application, open_application
from securellm.cli.exits import Exit
from securellm.core.errors import GatewayError
from securellm.secrets import KeyRefused, SecretUnavailable
from securellm.storage import StorageError
from securellm.telemetry.logs import configure_logs

Ready = Callable[[str, str | None], None]


def run(loaded: Loaded, *, ready: Ready, opened: Callable[[Application], None] = lambda _: None) -> None:
    """Open, serve and close. Exits with `Exit.REFUSED` when what the configuration needs cannot be had."""
    application = opening(loaded)
    try:
        opened(application)
        asyncio.run(serve(application, build_admin_app(application), ready=ready))
    except OSError as error:
        refuse(str(error), "name another address, or stop what uses this one")
    finally:
        application.close()


def opening(loaded: Loaded) -> Application:
    """The application, opened; exits with `Exit.REFUSED` when it cannot be."""
    configure_logs(level=loaded.config.log.level, form=loaded.config.log.format)
    try:
        return open_application(loaded)
    except (StorageError, KeyRefused, SecretUnavailable, GatewayError) as error:
        refuse(error.reason, error.remedy)


def refuse(reason: str, remedy: str) -> NoReturn:
    """Say why, and what to do, and leave."""
    click.echo(f"refused: {reason}\n  {remedy}", err=True)
    raise SystemExit(Exit.REFUSED)
