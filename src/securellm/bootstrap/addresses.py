"""What `storage.url` names: a folder of this machine, or a database of a server."""

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from securellm.settings import is_loopback
from securellm.settings.fields import FieldError
from securellm.storage import is_postgres

_REMEDY = 'write "postgresql://role@host/database"'


def data_folder(url: str, base: Path, *, beside: str | None = None) -> Path:
    """The folder `storage.url` names: three slashes from `base`, four absolute. Raises FieldError.

    Where it names a server, the folder is `beside`, which is `storage.data_dir`.
    """
    remedy = 'write "sqlite:///var/securellm" (beside this file) or "sqlite:////var/lib/securellm" (absolute)'
    if is_postgres(url):
        check_server(url)
        return Path(os.path.normpath(base / (beside or "var/securellm")))
    if not url.startswith("sqlite:///"):
        raise FieldError("is not a storage address", remedy)
    folder = url.removeprefix("sqlite:///")
    if folder in ("", "/") or ":memory:" in folder or any(mark in folder for mark in "?#\0"):
        raise FieldError("names no folder", remedy)
    return Path(os.path.normpath(base / folder))


def check_server(url: str) -> None:
    """Raise FieldError unless `url` names a role and a database of a PostgreSQL server, and holds no secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
        words = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise FieldError("is not the address of a database", _REMEDY) from None
    if parts.password is not None or "password" in words or "passfile" in words:
        raise FieldError(
            "a literal secret stands in the file",
            'write [storage] password = "env:NAME" or "file:PATH", and replace the password: it has been on disk',
        )
    if not parts.username or len(parts.path) < 2 or port == 0 or parts.fragment or not url.isprintable():
        raise FieldError("does not name a role and a database", _REMEDY)
    if not parts.hostname and "host" not in words:
        raise FieldError("does not name a server", _REMEDY)


def is_private(url: str) -> bool:
    """Whether what goes to the server at `url` stays on this machine, or goes encrypted to the right one alone."""
    parts = urlsplit(url)
    words = parse_qs(parts.query)
    hosts = [parts.hostname] if parts.hostname else words.get("host", [])
    here = all(host.startswith("/") or is_loopback(host) for host in hosts)
    return here or words.get("sslmode") == ["verify-full"]
