"""Doors that open room by room: what a package re-exports is imported when somebody asks for it by name.

Were everything behind a door imported with it, a command that wants one noun of a slice would wait for its tables, its
regular expressions and the drivers below them.
"""

import ast
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def room_by_room(package: str) -> Callable[[str], Any]:
    """The `__getattr__` (PEP 562) of a package's door.

    The door says what is where, as any door does, in imports that type checkers follow and nobody runs:

        if TYPE_CHECKING:
            from securellm.shop.service import Shop
        else:
            __getattr__ = room_by_room(__name__)

    A name that is a module's name too is imported outside of the block: otherwise it would mean the module to whoever
    comes after that module was imported.
    """
    rooms: dict[str, str] = {}

    def entered(name: str) -> Any:
        if not rooms:
            rooms.update(_rooms_of(package))
        if name not in rooms:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(rooms[name]), name)
        setattr(import_module(package), name, found)
        return found

    return entered


def _rooms_of(package: str) -> dict[str, str]:
    """The module of each name that the door re-exports."""
    spec = find_spec(package)
    # Loaders of files and of archives can both say it; the type that all loaders share does not.
    source = None if spec is None or spec.loader is None else spec.loader.get_source(package)  # type: ignore[attr-defined]
    if source is None:
        raise ImportError(f"the source of {package} is not beside it", name=package)
    return {
        alias.name: statement.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module is not None
        for alias in statement.names
    }
