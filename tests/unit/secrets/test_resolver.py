"""From reference to secret: variables, `.env` and files, refused with the reference and never with a value."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.secrets import SecretResolver, SecretUnavailable, process_environment
from securellm.secrets.resolver import LONGEST
from securellm.settings import SecretRef

PLAIN = "hunter2-hunter2"


def env(name: str) -> SecretRef:
    return SecretRef("env", name)


def file(path: str) -> SecretRef:
    return SecretRef("file", path)


def dotenv(folder: Path, text: str, *, mode: int = 0o600) -> Path:
    path = folder / ".env"
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(resolver: SecretResolver, ref: SecretRef) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as error:
        resolver.resolve(ref)
    assert PLAIN not in f"{error.value} {error.value.reason} {error.value.remedy}"
    return error.value


@pytest.mark.requirement("SC-1")
def test_a_variable_is_read_from_the_environment_that_is_given(tmp_path: Path) -> None:
    assert SecretResolver(tmp_path, {"KEY": PLAIN}).resolve(env("KEY")).reveal() == PLAIN


@pytest.mark.requirement("SC-1")
def test_a_file_is_read_from_the_configurations_folder_without_its_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{PLAIN}\n")
    resolver = SecretResolver(tmp_path, {})
    assert resolver.resolve(file("key")).reveal() == PLAIN
    assert resolver.resolve(file(str(tmp_path / "key"))).reveal() == PLAIN


@pytest.mark.requirement("SC-1")
def test_a_rotated_secret_is_seen_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    resolver = SecretResolver(tmp_path, {})
    assert resolver.resolve(file("key")).reveal() == "old"
    (tmp_path / "key").write_text("new")
    assert resolver.resolve(file("key")).reveal() == "new"
    dotenv(tmp_path, "KEY=old")
    assert resolver.resolve(env("KEY")).reveal() == "old"
    dotenv(tmp_path, "KEY=new")
    assert resolver.resolve(env("KEY")).reveal() == "new"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (f"KEY={PLAIN}", PLAIN),
        (f"export KEY = {PLAIN}  # why", PLAIN),
        (f'KEY="{PLAIN} # kept"  # gone', f"{PLAIN} # kept"),
        ("KEY='single'", "single"),
        ("KEY=a=b#c", "a=b#c"),
        ("# KEY=no\n\n  KEY=last\r\n", "last"),
        ("KEY=first\nKEY=second", "second"),
    ],
)
def test_a_dotenv_file_is_read_as_people_write_it(tmp_path: Path, line: str, value: str) -> None:
    dotenv(tmp_path, line)
    assert SecretResolver(tmp_path, {}).resolve(env("KEY")).reveal() == value


def test_the_process_wins_over_dotenv(tmp_path: Path) -> None:
    dotenv(tmp_path, "KEY=file")
    assert SecretResolver(tmp_path, {"KEY": "process"}).resolve(env("KEY")).reveal() == "process"


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_dotenv_file_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = dotenv(tmp_path, f"KEY={PLAIN}", mode=mode)
    error = refused(SecretResolver(tmp_path, {}), env("KEY"))
    assert error.reference == str(path)
    assert error.remedy == f"run: chmod 600 {path}"


@pytest.mark.parametrize("text", [f"{PLAIN}", f"KEY={PLAIN}\n9={PLAIN}", f'KEY="{PLAIN}', f'KEY="{PLAIN}" x'])
def test_a_dotenv_line_that_is_no_assignment_is_named_by_number_only(tmp_path: Path, text: str) -> None:
    dotenv(tmp_path, text)
    assert "line " in refused(SecretResolver(tmp_path, {}), env("KEY")).reason


def test_an_absent_or_empty_variable_is_named(tmp_path: Path) -> None:
    resolver = SecretResolver(tmp_path, {"EMPTY": "", "BYTES": f"\udcff{PLAIN}"})
    assert str(refused(resolver, env("ABSENT"))) == "env:ABSENT: the variable is not set"
    assert str(refused(resolver, env("EMPTY"))) == "env:EMPTY: the variable is empty"
    assert refused(resolver, env("BYTES")).reason == "the variable is not UTF-8 text"


def test_a_file_that_holds_no_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff" + PLAIN.encode())
    (tmp_path / "nul").write_bytes(b"\0" + PLAIN.encode())
    (tmp_path / "long").write_bytes(b"x" * (LONGEST + 1))
    os.mkfifo(tmp_path / "pipe")
    resolver = SecretResolver(tmp_path, {})
    reasons = {name: refused(resolver, file(name)).reason for name in ("absent", "empty", "bytes", "nul", "long", ".")}
    assert reasons == {
        "absent": "no such file or directory",
        "empty": "the file is empty",
        "bytes": "is not UTF-8 text",
        "nul": "holds a NUL character",
        "long": f"holds more than {LONGEST} bytes",
        ".": "is not a regular file",
    }
    assert refused(resolver, file("pipe")).reason == "is not a regular file"


def test_a_scheme_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    assert refused(SecretResolver(tmp_path, {}), SecretRef("ldap", "x")).reason == "no such scheme"


@given(st.text(max_size=60))
def test_any_dotenv_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("dotenv")
    path = folder / ".env"
    path.write_bytes(text.encode())
    path.chmod(0o600)
    try:
        found = SecretResolver(folder, {}).dotenv()
    except SecretUnavailable:
        return
    assert all(name.isidentifier() and name.isascii() for name in found)


def test_the_environment_of_the_process_is_a_copy() -> None:
    assert process_environment() == os.environ
    assert process_environment() is not os.environ
