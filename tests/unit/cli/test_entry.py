"""The command line's front door: immediate, and complete."""

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from securellm import __version__
from securellm.cli import COMMANDS, main
from securellm.cli.exits import Exit

LIST_IMPORTS = """
import json, sys
from securellm.cli import main
try:
    main({arguments})
except SystemExit:
    pass
print()
print(json.dumps(sorted(sys.modules)))
"""


def imported(arguments: list[str]) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTS.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    modules: list[str] = json.loads(run.stdout.splitlines()[-1])
    return set(modules)


def test_help_imports_click_and_nothing_else_of_weight() -> None:
    modules = imported(["--help"])
    ours = {name for name in modules if name.split(".")[0] == "securellm"}
    assert ours == {"securellm", "securellm.cli"}
    heavy = {
        "fastapi",
        "pydantic",
        "uvicorn",
        "starlette",
        "cryptography",
        "msgspec",
        "rich",
        "structlog",
        "re2",
        "httptools",
    }
    assert not heavy & modules


def test_a_start_imports_nothing_of_what_its_configuration_may_never_ask_for() -> None:
    heavy = {"fastapi", "starlette", "pydantic", "alembic", "psycopg", "cedarpy", "joserfc", "botocore", "keyring"}
    modules = imported(["serve", "--help"])
    assert "securellm.bootstrap.wiring" in modules
    assert not heavy & modules
    assert not {name for name in modules if name.startswith("sqlalchemy.dialects.postgresql")}


def test_a_command_that_needs_no_server_imports_none() -> None:
    assert not {"fastapi", "uvicorn", "starlette"} & imported(["config", "check", "--help"])
    assert not {"fastapi", "uvicorn", "starlette"} & imported(["doctor", "--help"])


def test_help_names_every_command() -> None:
    answer = CliRunner().invoke(main, ["--help"])
    assert answer.exit_code == Exit.OK
    for name, row in COMMANDS.items():
        assert name in answer.output
        assert row.help in answer.output


def test_every_command_of_the_table_is_a_module_of_this_folder() -> None:
    for name, row in COMMANDS.items():
        assert row.module == f"securellm.cli.{name}"


def test_the_version_is_the_packages() -> None:
    assert __version__ in CliRunner().invoke(main, ["--version"]).output


def test_an_unknown_command_is_refused() -> None:
    assert CliRunner().invoke(main, ["srve"]).exit_code == Exit.PROBLEMS


def test_published_exit_statuses_keep_their_numbers() -> None:
    assert {status.name: int(status) for status in Exit} == {
        "OK": 0,
        "UNHEALTHY": 1,
        "PROBLEMS": 2,
        "REFUSED": 3,
        "NOT_FOUND": 4,
        "WAITING": 5,
        "FORBIDDEN": 6,
        "CONFLICT": 7,
        "TAMPERED": 8,
        "DIFFERENT": 9,
        "DENIED": 10,
        "INTERRUPTED": 130,
        "UNREAD": 141,
    }


def test_the_script_runs_as_a_process(tmp_path: Path) -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("securellm"), "config", "check", str(tmp_path / "absent.toml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == Exit.PROBLEMS
    assert "no such file" in run.stdout
    assert "Traceback" not in run.stderr
