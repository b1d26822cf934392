"""Read the configuration and check it whole before anything starts."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from securellm.bootstrap.addresses import data_folder
from securellm.bootstrap.checks import check_installation
from securellm.bootstrap.declared import KindFacts, check_declared
from securellm.bootstrap.review import Review
from securellm.bootstrap.tree import Config, Storage
from securellm.core.canonical import canonical_bytes
from securellm.finops import PriceBook, shipped
from securellm.providers.registry import KINDS
from securellm.secrets import SecretResolver, process_environment
from securellm.settings import ConfigError, FilePath, Problem, effective
from securellm.settings.fields import FieldError
from securellm.settings.loader import parse, read
from securellm.storage import DataDir, is_postgres

__all__ = ["Config", "KindFacts", "Loaded", "config_digest", "data_dir_of", "load_config", "open_config"]

LONGEST = 4 << 20
"""Bytes a configuration file may hold."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that may start, and what its operator should know before it does."""

    config: Config
    document: Mapping[str, Any]
    """The file as it is written, as plain values."""
    warnings: tuple[Problem, ...]
    path: Path
    """The file, absolute. Relative paths inside it start at its folder."""
    data_dir: Path
    """The folder of `audit.db`, `control.db` and `keys/`, absolute."""
    resolver: SecretResolver
    """Resolves the references of this file, each time anew."""

    def locate(self, path: FilePath) -> Path:
        """The file that a key of the configuration names."""
        return self.path.parent / path


def load_config(
    path: Path,
    *,
    environ: Mapping[str, str],
    provider_kinds: Mapping[str, KindFacts],
    book: PriceBook | None = None,
    resolving: bool = True,
) -> Loaded:
    """Read and check the file at `path`. Raises `ConfigError` with every problem, each with its line and key.

    `environ` is what `env:` references see; `provider_kinds` are the kinds this build can speak to; `book` is the
    price book, the shipped one by default. Without `resolving` no secret is asked for: for those who need none.
    """
    path = path.absolute()
    text = _text(path)
    reading = read(text, Config, source=str(path))
    resolver = SecretResolver(path.parent, environ, settings=reading.value.secrets)
    review = Review(
        reading.value, reading.complaints, base=path.parent, resolver=resolver, resolves=lambda _: resolving
    )
    check_installation(review)
    check_declared(review, kinds=provider_kinds, book=book or shipped())
    problems = reading.complaints.all()
    if problems:
        raise ConfigError(str(path), problems)
    return Loaded(
        config=reading.value,
        document=reading.document,
        warnings=tuple(sorted((problem for _, problem in review.warnings), key=lambda problem: problem.line or 0)),
        path=path,
        data_dir=data_folder(reading.value.storage.url, path.parent, beside=reading.value.storage.data_dir),
        resolver=resolver,
    )


def open_config(path: Path, *, resolving: bool = True) -> Loaded:
    """As `load_config`, with the kinds of this build and the environment of this process."""
    return load_config(path, environ=process_environment(), provider_kinds=KINDS, resolving=resolving)


def data_dir_of(path: Path) -> Path:
    """The data folder that the file at `path` names, whatever else is wrong with it. Raises `ConfigError`.

    For those who look at stored data where the gateway's secrets are not at hand.
    """
    return _storage_of(path)[1]


def control_of(path: Path) -> str | Path:
    """Where the file at `path` has the control plane: a server's address or a file's path. As `data_dir_of`."""
    url, folder = _storage_of(path)
    return url if is_postgres(url) else DataDir(folder).control


def _storage_of(path: Path) -> tuple[str, Path]:
    path = path.absolute()
    storage = parse(_text(path), source=str(path)).get("storage", {})
    storage = storage if isinstance(storage, dict) else {"url": None}
    url, beside = storage.get("url", Storage().url), storage.get("data_dir")
    url = url if isinstance(url, str) else ""
    try:
        return url, data_folder(url, path.parent, beside=beside if isinstance(beside, str) else None)
    except FieldError as error:
        problem = Problem(None, "storage.url", error.reason, error.remedy)
        raise ConfigError(str(path), (problem,)) from None


def config_digest(config: Config) -> str:
    """SHA-256 (hex) of the configuration with its defaults filled in; secrets stand in it as references only."""
    return hashlib.sha256(canonical_bytes(effective(config))).hexdigest()


def _text(path: Path) -> str:
    def refuse(line: int | None, reason: str, remedy: str) -> ConfigError:
        return ConfigError(str(path), (Problem(line, "", reason, remedy),))

    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else "cannot be read"
        raise refuse(None, reason, "name a file that the gateway's user can read") from None
    if len(content) > LONGEST:
        raise refuse(None, f"holds more than {LONGEST} bytes", "name a configuration file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refuse(line, "is not UTF-8", "save the file in UTF-8") from None
