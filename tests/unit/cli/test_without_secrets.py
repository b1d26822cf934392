"""Commands on a host where the gateway's secrets are not: what they need is asked for, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.harness import SECURELLM

from securellm.cli import main
from securellm.cli.exits import Exit
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.identity import Directory, Keyring
from securellm.secrets import KeyFolder
from securellm.storage import ControlStore, DataDir, Session

CONFIG = """\
[server]
listen = "127.0.0.1:8080"

[storage]
url = "sqlite:///data"

[secrets.vault]
address = "https://vault.example.org"
token = "file:vault-token"

[[providers]]
id = "openai"
kind = "openai"
credential = "env:NOT_SET_ANYWHERE_AT_ALL"

[[models]]
name = "gpt-4o-mini"
route = [{ provider = "openai", model = "gpt-4o-mini" }]

[[tenants]]
id = "acme"
budget = { month = "20.00 USD" }
"""

UNPRIVILEGED = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root passes over permissions
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "securellm.toml"
    path.write_text(CONFIG)
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_without_a_gateway_every_key_is_listed_or_those_of_one_project(config: Path) -> None:
    assert run("key", "create", "--config", config, "--tenant", "acme").exit_code == Exit.OK
    data = DataDir(config.parent / "data")
    pepper = bytes.fromhex(KeyFolder(data.keys, SystemRandomness()).pepper(create=False).reveal())
    keyring = Keyring(pepper, SystemClock(), SystemRandomness())

    def make(session: Session) -> None:
        Directory(SystemClock(), SystemRandomness()).create_project(session, tenant="acme", id="web")
        for number in range(450):
            project = None if number % 3 else "web"
            keyring.issue(session, tenant="acme", name="", models=("*",), project=project)

    control = ControlStore.open(data.control, migrate=False)
    control.write(make)
    control.close()

    def listed(*words: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(run("key", "list", "--config", config, "--json", *words).stdout)[
            "data"
        ]
        return rows

    assert len({row["id"] for row in listed()}) == 451
    assert [row["project"] for row in listed("--tenant", "acme", "--project", "web")] == ["web"] * 150
    assert listed("--tenant", "globex") == []


@pytest.mark.requirement("CL-1")
def test_keys_budgets_and_settings_are_looked_after_without_the_providers_credentials(config: Path) -> None:
    assert run("config", "check", config).exit_code == Exit.PROBLEMS
    issued = run("key", "create", "--config", config, "--tenant", "acme", "--json")
    assert issued.exit_code == Exit.OK, issued.output
    key = json.loads(issued.output)["id"]
    assert key in run("key", "list", "--config", config).stdout
    assert run("key", "revoke", "--config", config, key).exit_code == Exit.OK
    assert "revoked" in run("key", "list", "--config", config).stdout
    assert run("budget", "show", "--config", config).exit_code == Exit.OK
    assert run("db", "status", "--config", config).exit_code == Exit.OK
    assert run("config", "diff", config, config).exit_code == Exit.OK
    explained = run("config", "explain", config, "providers[openai].credential")
    assert "env:NOT_SET_ANYWHERE_AT_ALL" in explained.stdout
    mistyped = run("config", "explain", config, "servr.listen")
    assert (mistyped.exit_code, "Did you mean server.listen" in mistyped.output) == (Exit.NOT_FOUND, True)


@pytest.mark.requirement("CL-1")
def test_a_key_for_a_tenant_that_nobody_declared_is_not_made(config: Path) -> None:
    done = run("key", "create", "--config", config, "--tenant", "nobody")
    assert done.exit_code == Exit.NOT_FOUND
    assert "nobody" in done.output
    past = run("key", "create", "--config", config, "--tenant", "acme", "--expires", "2020-01-01")
    assert (past.exit_code, past.output.splitlines()[0].startswith("invalid_request: ")) == (Exit.PROBLEMS, True)
    alone = run("key", "create", "--config", config, "--tenant", "acme", "--ip-range", "10.0.0.0/8")
    assert (alone.exit_code, "no gateway" in alone.output) == (Exit.REFUSED, True)
    assert "key_" not in run("key", "list", "--config", config).stdout


@pytest.mark.requirement("CL-1")
def test_a_model_that_the_tenant_has_not_is_warned_of_beside_the_key(config: Path) -> None:
    done = run("key", "create", "--config", config, "--tenant", "acme", "--model", "gpt-4o-mini", "--model", "nope")
    assert (done.exit_code, done.stderr) == (Exit.OK, "warning: acme has no model called nope now\n")
    assert "warning" not in done.stdout
    assert run("key", "create", "--config", config, "--tenant", "acme").stderr == ""


@pytest.mark.requirement("CL-1", "SC-1")
def test_a_secret_that_cannot_be_had_is_listed_with_the_reason_beside_those_that_can(config: Path) -> None:
    (config.parent / "vault-token").write_text("a token of the vault")
    (config.parent / "vault-token").chmod(0o600)
    done = run("secret", "list", "--config", config)
    assert done.exit_code == Exit.UNHEALTHY
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert rows[1:] == [
        ["secrets.vault.token", "file:vault-token", "ok"],
        ["providers[0].credential", "env:NOT_SET_ANYWHERE_AT_ALL", "the variable is not set"],
    ]
    assert "set NOT_SET_ANYWHERE_AT_ALL" in done.stderr


@pytest.mark.requirement("CL-1")
@pytest.mark.parametrize("words", ["setup", "key list", "tenant list", "audit verify", "budget show", "db status"])
def test_somebody_whom_the_data_folder_is_closed_to_is_told_who_may(words: str, config: Path) -> None:
    data = config.parent / "data"
    data.mkdir(mode=0o000)
    script = [sys.executable, "-c", UNPRIVILEGED, str(SECURELLM), *words.split(), "--config", str(config)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == Exit.REFUSED, done.stderr
    assert done.stderr.startswith(f"refused: {data}")
    assert "permission denied\n  Run this as the user that the gateway runs as" in done.stderr
