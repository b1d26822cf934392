"""Run a gateway in this process, and say in one line why it cannot."""

import asyncio
from collections.abc import Callable

import click

from securellm.bootstrap.admin import open_admin
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.provenance import StartupCode, foreign
from securellm.bootstrap.serving import serve
from securellm.bootstrap.wiring import Application, open_application
from securellm.cli.exits import Exit, leave
from securellm.cli.places import reason_of
from securellm.core.errors import GatewayError
from securellm.secrets import KeyRefused, SecretUnavailable
from securellm.settings import ConfigError
from securellm.storage import StorageError
from securellm.telemetry.logs import configure_logs, logger

_log = logger("serve")

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
    code = _foreign_code(loaded)
    try:
        return open_application(loaded, startup_code=code)
    except ConfigError as error:
        for line in error.lines():
            click.echo(line, err=True)
        raise SystemExit(Exit.PROBLEMS) from None
    except (StorageError, GatewayError) as error:
        leave(reason_of(error), error.remedy)
    except (KeyRefused, SecretUnavailable) as error:
        leave(error.reason, error.remedy)


def _foreign_code(loaded: Loaded) -> tuple[StartupCode, ...]:
    """What ran before us and nobody knows, said aloud; where the configuration wants it, the way out."""
    settings = loaded.config.server.startup_code
    found = foreign(settings.admitted)
    for code in found:
        _log.warning("foreign_startup_code", path=code.path, sha256=code.digest, first=code.first)
    if found and settings.foreign == "refuse":
        leave(
            f"code that nobody knows ran before this: {', '.join(code.path for code in found)}",
            "Find out who put it there (see `securellm doctor`); remove it, or admit it under [server.startup_code].",
        )
    return found
