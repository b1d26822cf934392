"""Code that runs before the gateway: what of it is found, known, admitted and foreign; odd files do no harm."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from securellm.bootstrap.provenance import LARGEST, StartupCode, customizers, foreign, found_in, shadows

SETUPTOOLS = (
    "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
    "enabled and __import__('_distutils_hack').add_shim(); \n"
)
BACKDOOR = "import os, base64; exec(base64.b64decode('cHJpbnQ='))\n"


def found(folder: Path) -> list[StartupCode]:
    return list(found_in([str(folder)]))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder of packages of an interpreter."""
    monkeypatch.setattr("site.getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    return tmp_path


def test_litellm_1_82_8_a_file_that_a_package_brought_along_is_shown_with_its_first_line(packages: Path) -> None:
    (packages / "litellm_init.pth").write_text("# nothing to see\n" + BACKDOOR)
    (packages / "distutils-precedence.pth").write_text(SETUPTOOLS)
    (packages / "_virtualenv.pth").write_text("import _virtualenv")
    (packages / "_editable_impl_securellm_bridge.pth").write_text("/srv/src")
    (code,) = foreign({})
    assert (code.name, code.first) == ("litellm_init.pth", BACKDOOR.strip())
    assert code.digest == hashlib.sha256((packages / "litellm_init.pth").read_bytes()).hexdigest()


def test_what_is_known_is_known_by_its_content_and_not_by_its_name(packages: Path) -> None:
    (packages / "distutils-precedence.pth").write_text(SETUPTOOLS + BACKDOOR)
    assert [code.name for code in foreign({})] == ["distutils-precedence.pth"]
    (packages / "distutils-precedence.pth").unlink()
    (packages / "other.pth").write_text(SETUPTOOLS)
    assert [code.name for code in foreign({})] == ["other.pth"]


def test_an_operator_admits_a_file_as_it_is_and_no_longer_once_it_changes(packages: Path) -> None:
    (packages / "company.pth").write_text(BACKDOOR)
    admitted = {"company.pth": hashlib.sha256(BACKDOOR.encode()).hexdigest()}
    assert foreign(admitted) == ()
    assert foreign({"other.pth": admitted["company.pth"]}) != ()
    (packages / "company.pth").write_text(BACKDOOR + "\n")
    assert [code.name for code in foreign(admitted)] == ["company.pth"]


@pytest.mark.parametrize(
    "content",
    [
        b"import os",
        b"import\tos",
        b"\xef\xbb\xbfimport os",
        b"/a/path\r\nimport os\r\n",
        b"/a/path\rimport os",
        b"\xff\xfe\x00binary\nimport os\n",
        b"#" * 60_000 + b"\nimport os",
    ],
)
def test_a_line_is_executed_here_exactly_where_the_interpreter_executes_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.pth").write_bytes(content)
    assert [code.name for code in found(tmp_path)] == ["one.pth"]


@pytest.mark.parametrize(
    "content", [b"", b"/a/path\n", b"# import os\n", b" import os\n", b"importlib\n", b"imports os"]
)
def test_a_line_that_only_names_a_folder_is_no_code(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.pth").write_bytes(content)
    assert found(tmp_path) == []


def test_the_interpreter_agrees_about_what_is_executed(tmp_path: Path) -> None:
    """The rules are Python's own: each of these files leaves a mark when a folder of packages is read."""
    mark = tmp_path / "marks"
    mark.mkdir()
    folder = tmp_path / "packages"
    folder.mkdir()
    touch = "; open({!r} + '/{}', 'w').close()"
    for name, begin in (
        ("space", "import os"),
        ("tab", "import\tos"),
        ("comment", "# import os"),
        ("late", " import os"),
    ):
        (folder / f"{name}.pth").write_text(begin + touch.format(str(mark), name))
    script = f"import site; site.addsitedir({str(folder)!r})"
    subprocess.run([sys.executable, "-I", "-c", script], check=True, timeout=30)
    assert {path.name for path in mark.iterdir()} == {code.name.removesuffix(".pth") for code in found(folder)}


def test_odd_files_are_told_or_passed_over_and_never_stop_the_look(tmp_path: Path) -> None:
    (tmp_path / "gone.pth").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(LARGEST * 50)
    (tmp_path / "nul.pth").write_bytes(b"import os\0\x1b[2J\xc2\x9b" + b"x" * 5_000)
    (tmp_path / os.fsdecode(b"\xff\x1b[2J\n.pth")).write_text(BACKDOOR)
    codes = {code.name: code for code in found(tmp_path)}
    assert {"pipe.pth", "huge.pth", "nul.pth"} <= codes.keys()
    assert codes["pipe.pth"].digest == codes["huge.pth"].digest == ""
    assert len(codes) == 4
    for code in codes.values():
        assert (code.path + code.first).isascii()
        assert (code.path + code.first).isprintable()
        assert len(code.first) <= 100
    assert list(found_in([str(tmp_path / "not-there"), str(tmp_path / "huge.pth")])) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_did_not_run(tmp_path: Path) -> None:
    (tmp_path / "shut.pth").write_text(BACKDOOR)
    (tmp_path / "shut.pth").chmod(0)
    assert found(tmp_path) == []


def test_a_customizer_is_shown_unless_it_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("sitecustomize", "usercustomize"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert list(customizers()) == []
    (tmp_path / "sitecustomize.py").write_text("# Empty, as some distributions leave it\n\n")
    assert list(customizers()) == []
    (tmp_path / "usercustomize.py").write_text("# hello\nimport os\n")
    (code,) = customizers()
    assert (code.name, code.first) == ("usercustomize.py", "import os")
    # One that has no file any more, or never had one, has run all the same.
    for module in (type(sys)("usercustomize"), type(sys)("usercustomize")):
        monkeypatch.setitem(sys.modules, "usercustomize", module)
        assert [(code.path, code.digest) for code in customizers()] == [("usercustomize", "")]
        module.__file__ = str(tmp_path / "gone.py")


def test_modules_that_stand_before_the_standard_librarys_are_named(tmp_path: Path) -> None:
    for name in ("ssl.py", "harmless.py", "notes.txt", "json.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "securellm").mkdir()
    (tmp_path / "securellm" / "__init__.py").write_text("")
    (tmp_path / "email").mkdir()
    path = os.pathsep.join(["", str(tmp_path), str(tmp_path), "/not/there"])
    assert list(shadows(path)) == [("securellm", str(tmp_path)), ("ssl", str(tmp_path))]
    assert list(shadows("")) == []
