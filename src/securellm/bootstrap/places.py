"""Where the control plane is: the address of a server, and the store behind whatever the file names."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from securellm.core.errors import Code, Fault
from securellm.secrets import SecretUnavailable
from securellm.settings import is_loopback
from securellm.settings.fields import FieldError
from securellm.storage import ControlStore, DataDir, is_postgres

if TYPE_CHECKING:
    from securellm.bootstrap.config import Loaded

_REMEDY = 'write "postgresql://role@host/database"'


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


def control_location(loaded: "Loaded") -> tuple[str | Path, Callable[[], str] | None]:
    """Where the control plane of a configuration is, and what tells the password of a server now."""
    storage = loaded.config.storage
    if not is_postgres(storage.url):
        return DataDir(loaded.data_dir).control, None
    reference = storage.password
    if reference is None:
        return storage.url, None

    def password() -> str:
        try:
            return loaded.resolver.resolve(reference).reveal()
        except SecretUnavailable as error:
            raise Fault(
                Code.STORAGE_UNAVAILABLE, f"the password of the control database cannot be read: {error.reason}"
            ) from error

    return storage.url, password


def open_control(loaded: "Loaded") -> ControlStore:
    """The control plane's store. A file is brought up to date; a server's schema must be.

    Raises as `ControlStore.open`.
    """
    location, password = control_location(loaded)
    return ControlStore.open(location, migrate=True, password=password)
