"""A slice's door says what it re-exports, and imports it when it is asked for."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import securellm
from securellm.core.doors import room_by_room

SLICES = sorted(
    door.parent.name
    for door in Path(securellm.__file__).parent.glob("*/__init__.py")
    if "room_by_room(__name__)" in door.read_text(encoding="utf-8")
)


def re_exports(slice_: str) -> tuple[dict[str, str], set[str]]:
    """The module of each name that the door says it re-exports, and which of them it imports at once."""
    source = Path(securellm.__file__).parent / slice_ / "__init__.py"
    tree = ast.parse(source.read_text(encoding="utf-8"))
    (block,) = (statement for statement in tree.body if isinstance(statement, ast.If))
    found: dict[str, str] = {}
    at_once: set[str] = set()
    for statement in [*tree.body, *block.body]:
        if isinstance(statement, ast.ImportFrom) and statement.module != "typing":
            assert statement.module is not None
            assert statement.module.startswith(f"securellm.{slice_}.")
            found |= {alias.name: statement.module for alias in statement.names}
            at_once |= set() if statement in block.body else {alias.name for alias in statement.names}
    return found, at_once


def test_the_slices_have_such_doors() -> None:
    assert {"audit", "finops", "identity", "policy", "providers", "secrets", "storage"} <= set(SLICES)


@pytest.mark.parametrize("slice_", SLICES)
def test_a_door_gives_what_it_says_and_nothing_else(slice_: str) -> None:
    door = import_module(f"securellm.{slice_}")
    names, _ = re_exports(slice_)
    assert sorted(names) == sorted(door.__all__)
    for name, module in names.items():
        assert getattr(door, name) is getattr(import_module(module), name), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        door.nothing  # noqa: B018 - asked for, not used


@pytest.mark.parametrize("slice_", SLICES)
def test_a_name_that_is_a_modules_too_is_there_at_once(slice_: str) -> None:
    names, at_once = re_exports(slice_)
    folder = Path(securellm.__file__).parent / slice_
    assert {name for name in names if (folder / f"{name}.py").exists() or (folder / name).is_dir()} == at_once


def test_asking_for_one_name_imports_its_module_and_no_other() -> None:
    program = "import sys; from securellm.storage import DataDir; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    ours = {name for name in run.stdout.split() if name.startswith("securellm.storage")}
    assert ours == {"securellm.storage", "securellm.storage.datadir", "securellm.storage.errors"}


def test_a_door_without_its_source_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare_door").mkdir()  # a folder without a door is a package without a source
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="the source of bare_door"):
        room_by_room("bare_door")("anything")
