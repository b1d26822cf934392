"""The gateway's own keys: made once, private, beside the data files and never inside them."""

import os
import re
import stat
from pathlib import Path

from securellm.core.randomness import Randomness
from securellm.secrets.value import SecretValue

PEPPER = "pepper"
ADMIN_TOKEN = "admin-token"  # noqa: S105 - the file's name
AUDIT_KEY = "audit-key"

_HEX32 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]{16,256}", re.ASCII)
_SHAPES = {PEPPER: _HEX32, AUDIT_KEY: _HEX32, ADMIN_TOKEN: _PRINTABLE}


class KeyRefused(Exception):
    """A key file that must not be used, and what to do about it. `reason` names the file."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        self.path = path
        self.reason = f"{path}: {reason}"
        super().__init__(self.reason)
        self.remedy = remedy


class KeyFolder:
    """The folder of key files: 0700, its files 0600, both of the gateway's own user.

    Every method raises KeyRefused when a file is readable by others, belongs to someone else, is a link or is
    damaged, and when it is missing although `create` is False: a key that data already depends on is never
    replaced by a new one.
    """

    def __init__(self, path: Path, randomness: Randomness) -> None:
        self.path = path
        self._randomness = randomness

    def pepper(self, *, create: bool) -> SecretValue:
        """The HMAC key under which virtual keys are stored: 64 hex digits. Pass `create=False` once keys exist."""
        return self._key(PEPPER, create=create)

    def audit_key(self, *, create: bool) -> SecretValue:
        """The Ed25519 seed that signs audit checkpoints: 64 hex digits. Pass `create=False` once records exist."""
        return self._key(AUDIT_KEY, create=create)

    def admin_token(self, *, create: bool) -> SecretValue:
        """The bearer token of the admin listener."""
        return self._key(ADMIN_TOKEN, create=create)

    def _key(self, name: str, *, create: bool) -> SecretValue:
        path = self.path / name
        try:
            content = self._read(path)
        except FileNotFoundError:
            if not create:
                remedy = f"restore {path} from its backup; a new one would not fit what is stored"
                raise KeyRefused(path, "is missing", remedy) from None
            content = self._create(path, name)
        except OSError as error:
            raise KeyRefused(path, _why(error), "correct the file or its permissions") from None
        if _SHAPES[name].fullmatch(content) is None:
            raise KeyRefused(path, "does not hold a key", f"restore {path} from its backup")
        return SecretValue(content)

    def _read(self, path: Path) -> str:
        check_private(self.path, folder=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _check(os.fstat(descriptor), path, folder=False)
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(4096).decode("ascii", "replace").removesuffix("\n")
        finally:
            os.close(descriptor)

    def _create(self, path: Path, name: str) -> str:
        fresh = self._randomness.token(32).hex()
        content = f"slb_admin_{fresh}" if name == ADMIN_TOKEN else fresh
        scratch = path.with_name(f".{name}.{self._randomness.token(8).hex()}")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_private(self.path, folder=True)
            _write_private(scratch, f"{content}\n".encode("ascii"))
            try:
                # A link appears whole or not at all, and never over a key that another process has just made.
                os.link(scratch, path)
            except FileExistsError:
                return self._read(path)
            finally:
                scratch.unlink()
                _sync_folder(self.path)
        except OSError as error:
            raise KeyRefused(
                path, f"cannot be made: {_why(error)}", "make its folder writable by the gateway"
            ) from None
        return content


def check_private(path: Path, *, folder: bool) -> None:
    """Raise KeyRefused unless `path` is ours alone; FileNotFoundError when it is absent."""
    _check(path.lstat(), path, folder=folder)


def _check(facts: os.stat_result, path: Path, *, folder: bool) -> None:
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(facts.st_mode):
        raise KeyRefused(path, f"is not a {'folder' if folder else 'regular file'}", "remove it, or restore the backup")
    if facts.st_uid not in (os.geteuid(), 0):
        raise KeyRefused(path, "belongs to another user", f"run as its owner, or: chown $(id -u) {path}")
    if facts.st_mode & 0o077:
        mode = "700" if folder else "600"
        raise KeyRefused(path, "others can read it", f"run: chmod {mode} {path}, and replace the key if they may have")


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    return error.strerror.lower() if error.strerror else "cannot be read"
