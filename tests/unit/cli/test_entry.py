"""The command line's front door: immediate, and complete."""

import json
import socket
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from securellm import __version__
from securellm.audit import AuditLog, Boot
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, WRITER_ID
from securellm.cli import COMMANDS, main
from securellm.cli.exits import Exit
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyFolder
from securellm.storage import DataDir, GroupCommitWriter

LIST_IMPORTS = """
import json, sys
from securellm.cli import main
for arguments in {commands}:
    try:
        main(arguments)
    except SystemExit as left:
        assert left.code in {statuses}, (arguments, left.code)
print()
print(json.dumps(sorted(sys.modules)))
"""

SERVING = {"fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "re2", "cedarpy", "joserfc"}
STORING = {"sqlalchemy", "alembic", "psycopg"}


def imported(*commands: list[str], status: Exit = Exit.OK) -> set[str]:
    """What is imported by a process that runs these commands, one after the other, each ending with `status`."""
    run = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTS.format(commands=commands, statuses=(int(status),))],
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


def test_a_command_that_asks_a_gateway_elsewhere_imports_what_speaks_http_and_nothing_else_of_weight(
    tmp_path: Path,
) -> None:
    token = tmp_path / "token"
    token.write_text("slt_0123456789", encoding="ascii")
    lists = [f"{noun} list" for noun in ("tenant", "user", "service", "key", "role", "token", "approval", "provider")]
    of_a_tenant = [f"{noun} list --tenant acme" for noun in ("project", "limit", "budget", "preference")]
    others = ["model list", "policy list", "whoami", "audit search", "audit decision dec_1", "key revoke key_1"]
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    place = ["--url", f"http://127.0.0.1:{port}", "--token-file", str(token)]
    asked = [[*line.split(), *place] for line in (*lists, *of_a_tenant, *others)]
    modules = imported(*asked, status=Exit.REFUSED)
    assert "httptools" in modules
    assert not (SERVING | STORING | {"structlog", "cryptography", "securellm.bootstrap.config"}) & modules
    assert not {name for name in modules if name.startswith(("securellm.finops", "securellm.guard", "securellm.audit"))}


def test_a_command_for_a_gateway_on_this_host_finds_it_without_a_database_or_a_server(tmp_path: Path) -> None:
    place = folder(tmp_path)
    by_folder = imported(["tenant", "list", "--data-dir", str(tmp_path / "data")], status=Exit.REFUSED)
    assert not (SERVING | STORING | {"structlog", "securellm.bootstrap.config"}) & by_folder
    by_configuration = imported(["tenant", "list", "--config", str(place)], status=Exit.REFUSED)
    assert "securellm.bootstrap.config" in by_configuration
    assert not (SERVING | STORING) & by_configuration


def test_a_command_that_only_looks_imports_neither_a_database_nor_a_server(tmp_path: Path) -> None:
    place, data = str(folder(tmp_path)), str(tmp_path / "data")
    looks = [["config", "check", place], ["doctor", "--config", place], ["policy", "schema"], ["completion", "bash"]]
    assert not (SERVING | STORING) & imported(*looks)
    reads = [["audit", verb, "--data-dir", data] for verb in ("verify", "tail", "export")]
    assert not (SERVING | STORING) & imported(*reads)


def folder(home: Path) -> Path:
    """A configuration that may start, whose data folder has keys, a journal with one record, and no gateway."""
    data = DataDir(home / "data")
    home.chmod(0o700)
    data.root.mkdir(mode=0o700)
    keys = KeyFolder(data.keys, SystemRandomness())
    keys.pepper(create=True)
    keys.admin_token(create=True)
    seed = bytes.fromhex(keys.audit_key(create=True).reveal())
    writer = GroupCommitWriter.open(data.audit, JOURNAL_SCHEMA)
    log = AuditLog.open(writer, writer_id=WRITER_ID, seed=seed, clock=SystemClock(), randomness=SystemRandomness())
    writer.perform(log.appending(Boot(version=__version__, config_digest="", snapshot="")))
    writer.close()
    path = home / "securellm.toml"
    path.write_text(
        f"""[storage]
url = "sqlite:///{data.root.name}"

[[providers]]
id = "local"
kind = "ollama"

[[models]]
name = "llama"
route = [{{ provider = "local", model = "llama" }}]

[[tenants]]
id = "acme"
""",
        encoding="utf-8",
    )
    return path


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
