"""The control plane's store, wherever the configuration has it."""

from collections.abc import Callable
from pathlib import Path

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tables import TABLES
from securellm.core.errors import Code, Fault
from securellm.secrets import SecretUnavailable
from securellm.storage import ControlStore, DataDir, is_postgres


def control_location(loaded: Loaded) -> tuple[str | Path, Callable[[], str] | None]:
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


def open_control(loaded: Loaded) -> ControlStore:
    """The control plane's store. A file is brought up to date; a server's schema must be.

    Raises as `ControlStore.open`.
    """
    location, password = control_location(loaded)
    return open_store(location, password=password)


def open_store(location: str | Path, *, password: Callable[[], str] | None = None) -> ControlStore:
    """As `open_control`, where there is no configuration to be asked."""
    assert TABLES, "known before a store is opened"
    return ControlStore.open(location, migrate=True, password=password)
