"""What each exit status says to the script that reads it."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses of `securellm`. A published number never changes its meaning."""

    OK = 0
    UNHEALTHY = 1
    """`doctor` found something that must be corrected, or `provider test` got no answer."""
    PROBLEMS = 2
    """The configuration or the command line is wrong, and the problems are printed."""
    REFUSED = 3
    """The configuration is right, but what it needs cannot be had: a lock, a port, a key, a data folder."""
    NOT_FOUND = 4
    """What the command names does not exist."""
    TAMPERED = 8
    """`audit verify` found stored data that is not what was written."""
