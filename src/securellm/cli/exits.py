"""What each exit status says to the script that reads it, and the way out when something cannot be had."""

from enum import IntEnum
from typing import NoReturn

import click


class Exit(IntEnum):
    """The exit statuses of `securellm`. A published number never changes its meaning."""

    OK = 0
    UNHEALTHY = 1
    """`doctor` found something that must be corrected, `provider test` got no answer, or `db status` found a schema
    that is not up to date."""
    PROBLEMS = 2
    """The configuration or the command line is wrong, and the problems are printed."""
    REFUSED = 3
    """The configuration is right, but what it needs cannot be had: a lock, a port, a key, a data folder."""
    NOT_FOUND = 4
    """What the command names does not exist, or there is nothing to compare."""
    WAITING = 5
    """The change is right, and waits for another person's approval."""
    FORBIDDEN = 6
    """Whoever the command speaks as may not do this, or was not recognised."""
    CONFLICT = 7
    """What exists contradicts the change, or has changed since it was read."""
    TAMPERED = 8
    """`audit verify` found stored data that is not what was written."""
    DIFFERENT = 9
    """`policy diff` found questions or requests that are answered otherwise, or `config diff` another value."""
    DENIED = 10
    """`policy explain` was asked for something that the bundle does not allow."""
    INTERRUPTED = 130
    """It was interrupted (SIGINT): what was asked may be done, or not."""
    UNREAD = 141
    """Whoever read the answer went away before its end."""


def leave(reason: str, remedy: str) -> NoReturn:
    """Say why, and what to do, and leave."""
    click.echo(f"refused: {reason}\n  {remedy}", err=True)
    raise SystemExit(Exit.REFUSED)
