"""From a reference to the secret: environment variables, a `.env` file, files."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from securellm.secrets.value import SecretValue
from securellm.settings import SecretRef

LONGEST = 65_536
"""Bytes a secret file may hold."""

_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.ASCII | re.DOTALL)
_QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')[ \t]*(?:#.*)?""", re.DOTALL)
_COMMENT = re.compile(r"[ \t]+#.*", re.DOTALL)


class SecretUnavailable(Exception):
    """A reference that cannot be resolved. Names the reference or the file; never a value."""

    def __init__(self, reference: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reference}: {reason}")
        self.reference = reference
        self.reason = reason
        self.remedy = remedy


def process_environment() -> Mapping[str, str]:
    """The environment this process was started with, for those who may not read it themselves."""
    return dict(os.environ)


class SecretResolver:
    """Resolves references at the moment they are asked for, so that a rotated secret is seen without a restart.

    `base` is the folder of the configuration file: relative paths start there, and so does `.env`. A variable of
    the process wins over the same name in `.env`.
    """

    def __init__(self, base: Path, environ: Mapping[str, str]) -> None:
        self._base = base
        self._environ = environ

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The secret `ref` names. Raises SecretUnavailable when it is absent, empty, unreadable or not text."""
        match ref.scheme:
            case "env":
                return SecretValue(self._variable(ref))
            case "file":
                return SecretValue(self._file(ref))
        raise SecretUnavailable(str(ref), "the scheme is not in this release", 'use "env:NAME" or "file:PATH"')

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
