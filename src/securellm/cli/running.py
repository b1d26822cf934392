"""Run a gateway in this process, and say in one line why it cannot."""

import asyncio
from collections.abc import Callable

import click

from securellm.bootstrap.admin import open_admin
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.serving import serve
from securellm.bootstrap.wiring import Application, open_application
from securellm.cli.exits import Exit, leave
from securellm.core.errors import GatewayError
from securellm.secrets import KeyRefused, SecretUnavailable
from securellm.settings import ConfigError
from securellm.storage import StorageError
from securellm.telemetry.logs import configure_logs

Ready = Callable[[str, str | None], None]


def run(loaded: Loaded, *, ready: Ready, opened: Callable[[Application], None] = lambda _: None) -> None:
    """Open, serve and close. Exits with `Exit.REFUSED` when what the configuration needs cannot be had."""
    application = opening(loaded)
    try:
        opened(application)
        asyncio.run(serve(application, open_admin(application), ready=ready))
    except OSError as error:
        leave(str(error), "name another address, or stop what uses this one")
    finally:
        application.close()


def opening(loaded: Loaded) -> Application:
    """The application, opened; exits with `Exit.REFUSED` when it cannot be."""
    configure_logs(level=loaded.config.log.level, form=loaded.config.log.format)
    try:
        return open_application(loaded)
    except ConfigError as error:
        for line in error.lines():
            click.echo(line, err=True)
        raise SystemExit(Exit.PROBLEMS) from None
    except (StorageError, KeyRefused, SecretUnavailable, GatewayError) as error:
        leave(error.reason, error.remedy)
