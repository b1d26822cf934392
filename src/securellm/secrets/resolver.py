"""From a reference to the secret: environment variables, a `.env` file, files, the keyring, secret managers."""

import json
import math
import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from securellm.core.clock import Clock, SystemClock
from securellm.secrets import system_keyring
from securellm.secrets.aws import SecretsManager
from securellm.secrets.gcp import SecretManager
from securellm.secrets.model import SecretUnavailable, SourceFailure
from securellm.secrets.settings import AwsSettings, GcpSettings, SecretsSettings
from securellm.secrets.value import SecretValue
from securellm.secrets.vault import Vault
from securellm.settings import SecretRef
from securellm.settings.references import (
    LOCAL,
    SCHEMES,
    AwsPlace,
    GcpPlace,
    NoReference,
    VaultPlace,
    aws_place,
    gcp_place,
    keyring_place,
    vault_place,
)
from securellm.telemetry.logs import conceal

LONGEST = 65_536
"""Bytes a secret may have."""
_STILL = 5.0
"""Seconds for which what a secret manager said, or that it said nothing, is not asked again."""

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.ASCII | re.DOTALL)
_QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')[ \t]*(?:#.*)?""", re.DOTALL)
_COMMENT = re.compile(r"[ \t]+#.*", re.DOTALL)


class _Reading(NamedTuple):
    """What a secret manager holds at a place, as of a time of the clock's `monotonic`."""

    at: float
    whole: SecretValue


def process_environment() -> Mapping[str, str]:
    """The environment this process was started with, for those who may not read it themselves."""
    return dict(os.environ)


class SecretResolver:
    """Resolves references at the moment they are asked for, so that a rotated secret is seen without a restart.

    `base` is the folder of the configuration file: relative paths start there, and so does `.env`. A variable of
    the process wins over the same name in `.env`. Every method blocks; any thread may call.
    """

    def __init__(
        self,
        base: Path,
        environ: Mapping[str, str],
        *,
        settings: SecretsSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._base = base
        self._environ = environ
        self._settings = settings or SecretsSettings()
        self._clock = clock or SystemClock()
        self._managers: dict[str, Vault | SecretsManager | SecretManager] = {}
        self._read: dict[tuple[str, object], _Reading] = {}
        self._silent: dict[str, tuple[float, SourceFailure]] = {}
        self._locks = {scheme: threading.Lock() for scheme in SCHEMES if scheme not in LOCAL}

    def resolve(self, ref: SecretRef, *, newer_than: float = -math.inf) -> SecretValue:
        """The secret `ref` names. Raises SecretUnavailable when it is absent, empty, unreadable or not text.

        What a secret manager said a moment ago is not asked again, unless it was before `newer_than` (a time of the
        clock's `monotonic`).
        """
        try:
            match ref.scheme:
                case "env":
                    text = self._variable(ref)
                case "file":
                    text = self._file(ref)
                case "keyring":
                    text = system_keyring.read(keyring_place(ref))
                case "vault" | "aws" | "gcp":
                    text = self._managed(ref, newer_than)
                case _:
                    raise SourceFailure("no such scheme", f"write one of {', '.join(SCHEMES)}")
            value = _sound(text)
        except NoReference as wrong:
            raise SecretUnavailable(str(ref), wrong.reason, wrong.remedy) from None
        except SourceFailure as failure:
            raise SecretUnavailable(str(ref), failure.reason, failure.remedy, withdrawn=failure.withdrawn) from None
        conceal(value.reveal())
        return value

    def forget(self) -> None:
        """Ask secret managers anew, whatever they said a moment ago."""
        self._read, self._silent = {}, {}

    # Secret managers

    def _managed(self, ref: SecretRef, newer_than: float) -> str:
        """What the reference names of what its manager says."""
        with self._locks[ref.scheme]:
            now = self._clock.monotonic()
            failed_at, failure = self._silent.get(ref.scheme, (-math.inf, None))
            if failure is not None and now - failed_at < _STILL:
                raise SourceFailure(failure.reason, failure.remedy, silent=True)
            try:
                return self._asked(ref, newer_than, now)
            except SecretUnavailable as inner:
                raise SourceFailure(f"{ref.scheme} cannot be asked: {inner}", inner.remedy) from None
            except SourceFailure as silence:
                if silence.silent:
                    self._silent[ref.scheme] = (self._clock.monotonic(), silence)
                raise

    def _asked(self, ref: SecretRef, newer_than: float, now: float) -> str:
        manager = self._manager(ref.scheme)
        place: VaultPlace | AwsPlace | GcpPlace
        read: Callable[[], Mapping[str, Any] | str]
        if isinstance(manager, Vault):
            place = vault_place(ref)
            read = partial(manager.read, place)
        elif isinstance(manager, SecretsManager):
            place = aws_place(ref)
            read = partial(manager.read, place)
        else:
            place = gcp_place(ref)
            read = partial(manager.read, place)
        member, document = place.member, (ref.scheme, place._replace(member=""))
        kept = self._read.get(document)
        if kept is None or kept.at <= newer_than or now - kept.at > _STILL:
            said = read()
            whole = said if isinstance(said, str) else json.dumps(said)
            kept = self._read[document] = _Reading(now, SecretValue(whole))
        if member is None:
            return kept.whole.reveal().removesuffix("\n").removesuffix("\r")
        return _member(kept.whole, member)

    def _manager(self, scheme: str) -> "Vault | SecretsManager | SecretManager":
        """Made once. Raises SourceFailure when its table is missing or wrong."""
        manager = self._managers.get(scheme)
        if manager is None:
            try:
                manager = self._managers[scheme] = self._made(scheme)
            except ValueError as error:
                raise SourceFailure(f"[secrets.{scheme}]: {error}", f"correct [secrets.{scheme}]") from None
        return manager

    def _made(self, scheme: str) -> "Vault | SecretsManager | SecretManager":
        settings, base, clock, environ = self._settings, self._base, self._clock, self._environ
        if scheme == "aws":
            return SecretsManager(settings.aws or AwsSettings(), base=base, clock=clock, environ=environ)
        if scheme == "gcp":
            return SecretManager(
                settings.gcp or GcpSettings(), base=base, clock=clock, environ=environ, resolve=self._key
            )
        if settings.vault is None:
            raise SourceFailure("[secrets.vault] is not in the configuration", "add [secrets.vault] with its address")
        return Vault(settings.vault, base=base, clock=clock, resolve=self._key)

    def _key(self, ref: SecretRef) -> SecretValue:
        """What shows a secret manager who we are, which is kept in no secret manager."""
        if ref.scheme not in LOCAL:
            raise SourceFailure("what opens a secret manager is itself kept in one", f"use one of {sorted(LOCAL)}")
        return self.resolve(ref)

    # This machine

    def dotenv(self) -> Mapping[str, str]:
        """What `.env` declares; empty where there is none. Raises SecretUnavailable when others can read it."""
        path = self._base / ".env"
        try:
            text = _read(path, private=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SecretUnavailable(str(path), _why(error), "make it a private file of the gateway's user") from None
        except _LooseError:
            raise SecretUnavailable(str(path), "others can read it", f"run: chmod 600 {path}") from None
        except ValueError as error:
            raise SecretUnavailable(str(path), str(error), "write lines of NAME=value in UTF-8") from None
        return _assignments(path, text)

    def _variable(self, ref: SecretRef) -> str:
        value = self._environ.get(ref.value)
        if value is None:
            value = self.dotenv().get(ref.value)
        if value is None:
            remedy = f"set {ref.value} in the environment or in {self._base / '.env'}"
            raise SecretUnavailable(str(ref), "the variable is not set", remedy)
        if not value:
            raise SecretUnavailable(str(ref), "the variable is empty", f"give {ref.value} its value")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise SecretUnavailable(str(ref), "the variable is not UTF-8 text", f"give {ref.value} a value in UTF-8")
        return value

    def _file(self, ref: SecretRef) -> str:
        path = self._base / ref.value
        try:
            value = _read(path, private=False).removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise SecretUnavailable(str(ref), _why(error), f"make {path} readable by the gateway's user") from None
        except ValueError as error:
            raise SecretUnavailable(str(ref), str(error), f"write the secret alone into {path}, in UTF-8") from None
        if not value:
            raise SecretUnavailable(str(ref), "the file is empty", f"write the secret into {path}")
        return value


def _member(whole: SecretValue, name: str) -> str:
    """One member of a secret that is a JSON object."""
    try:
        members = json.loads(whole.reveal())
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise SourceFailure("the secret is not a JSON object, so it has no members", "leave #KEY out, or store JSON")
    if name not in members:
        raise SourceFailure(f"the secret has no member {name}", "correct what follows #")
    value = members[name]
    if not isinstance(value, str):
        raise SourceFailure(f"the secret's member {name} is not a string", "store it in quotes")
    return value


def _sound(text: str) -> SecretValue:
    """A value that is somebody's secret. Raises SourceFailure."""
    if not text:
        raise SourceFailure("the secret is empty", "store its value")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise SourceFailure("the secret is not UTF-8 text", "store it in UTF-8") from None
    if size > LONGEST:
        raise SourceFailure(f"the secret has more than {LONGEST} bytes", "store the secret alone")
    if "\0" in text:
        raise SourceFailure("the secret holds a NUL character", "store the secret alone, as text")
    return SecretValue(text)


class _LooseError(Exception):
    """A private file that others can read."""


def _read(path: Path, *, private: bool) -> str:
    # O_NONBLOCK: opening a pipe must not hang the start.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("is not a regular file")
        if private and facts.st_mode & 0o077:
            raise _LooseError
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LONGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LONGEST:
        raise ValueError(f"holds more than {LONGEST} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


def _assignments(path: Path, text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            raise SecretUnavailable(str(path), f"line {number} is not NAME=value", "correct the line")
        name, value = match.groups()
        if value[:1] in ("'", '"'):
            quoted = _QUOTED.fullmatch(value)
            if quoted is None:
                raise SecretUnavailable(str(path), f"line {number} does not close its quote", "correct the line")
            found[name] = quoted[1] if quoted[2] is None else quoted[2]
        else:
            found[name] = "" if value.startswith("#") else _COMMENT.sub("", value)
    return found


def _why(error: OSError) -> str:
    return error.strerror.lower() if error.strerror else "cannot be read"
