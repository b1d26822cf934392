"""What code the interpreter ran before ours: lines of `.pth` files, `sitecustomize` and `usercustomize`.

When this looks, that code has run already: it is evidence, not prevention. An interpreter that runs none (`-S`) finds
no packages either, so every gateway in a virtual environment starts this way; and who could put a file there could
have changed this one. What it does show is a file that somebody's package brought along.
"""

import hashlib
import os
import site
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import PathFinder
from typing import NamedTuple

import msgspec

LARGEST = 1 << 20
"""Bytes: what is larger is not looked through, and is not known."""
_SHOWN = 96
_EXECUTED = (b"import ", b"import\t")
_CUSTOMIZERS = ("sitecustomize", "usercustomize")
_KNOWN: Mapping[str, str] = {
    "distutils-precedence.pth": "2638ce9e2500e572a5e0de7faed6661eb569d1b696fcba07b0dd223da5f5d224",
    "_virtualenv.pth": "69ac3d8f27e679c81b94ab30b3b56e9cd138219b1ba94a1fa3606d5a76a1433d",
}
"""SHA-256 of what tools for environments write there: setuptools', and that of virtualenv and uv."""


class StartupCode(msgspec.Struct, frozen=True, kw_only=True):
    """One file whose code runs at every start of the interpreter."""

    path: str
    """Characters that are not printable ASCII stand as escapes."""
    digest: str
    """SHA-256 of the file in hex; empty where it could not be taken."""
    first: str
    """The first line that is executed, shortened, in printable ASCII."""

    def __str__(self) -> str:
        return f"{self.path} sha256:{self.digest or 'unknown'}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def foreign(admitted: Mapping[str, str]) -> tuple[StartupCode, ...]:
    """What ran and is neither known nor in `admitted`, which gives the SHA-256 of a file by its name."""
    found = (*found_in(folders()), *customizers())
    return tuple(code for code in found if not (code.digest and code.digest in _known(code.name, admitted)))


def _known(name: str, admitted: Mapping[str, str]) -> tuple[str | None, str | None]:
    return _KNOWN.get(name), admitted.get(name)


def folders() -> tuple[str, ...]:
    """The folders whose `.pth` files this interpreter has read."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return tuple(dict.fromkeys((*site.getsitepackages(), *user)))


def found_in(places: Collection[str]) -> Iterator[StartupCode]:
    """Every `.pth` file in `places` with a line that is executed, in the order of their paths."""
    for folder in places:
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".pth"))
        except OSError:
            continue
        for name in names:
            read = _read(f"{folder}/{name}")
            if read is None:
                continue
            lines = read.content.removeprefix(b"\xef\xbb\xbf").splitlines()
            first = next((line for line in lines if line.startswith(_EXECUTED)), None)
            if first is not None or not read.whole:
                yield _code(f"{folder}/{name}", read, first)


def customizers() -> Iterator[StartupCode]:
    """`sitecustomize` and `usercustomize`, where they are there and say anything."""
    for name in _CUSTOMIZERS:
        module = sys.modules.get(name)
        spec = PathFinder.find_spec(name) if module is None else None
        if module is None and spec is None:
            continue
        path = getattr(module, "__file__", None) if spec is None else spec.origin
        read = None if path is None else _read(path)
        if path is None or read is None:
            yield StartupCode(path=shown(path or name), digest="", first="")
            continue
        lines = (line.strip() for line in read.content.splitlines())
        first = next((line for line in lines if line and not line.startswith(b"#")), None)
        if first is not None or not read.whole:
            yield _code(path, read, first)


def shadows(python_path: str, ours: Collection[str] = ("securellm",)) -> Iterator[tuple[str, str]]:
    """Modules in the folders of `PYTHONPATH` that stand before the standard library's, or ours: name and folder."""
    names = sys.stdlib_module_names.union(ours)
    for folder in dict.fromkeys(filter(None, python_path.split(os.pathsep))):
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in dict.fromkeys(entry.partition(".")[0] for entry in entries if _is_module(folder, entry)):
            if name in names:
                yield name, shown(folder)


def shown(text: str) -> str:
    """`text` in printable ASCII, whatever it holds."""
    return ascii(text)[1:-1]


class _Read(NamedTuple):
    content: bytes
    whole: bool


def _read(path: str) -> _Read | None:
    """What is in a file; None where no interpreter could have read it. Waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return None if stat.S_ISDIR(mode) else _Read(b"", whole=False)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    except OSError:
        return _Read(b"", whole=False)
    finally:
        os.close(descriptor)
    return _Read(content, whole=len(content) <= LARGEST)


def _code(path: str, read: _Read, first: bytes | None) -> StartupCode:
    return StartupCode(
        path=shown(path),
        digest=hashlib.sha256(read.content).hexdigest() if read.whole else "",
        first=shown((first or b"")[:_SHOWN].decode("utf-8", "replace"))[:_SHOWN],
    )


def _is_module(folder: str, entry: str) -> bool:
    return entry.endswith((".py", ".pyc", ".so")) or os.path.isfile(os.path.join(folder, entry, "__init__.py"))
