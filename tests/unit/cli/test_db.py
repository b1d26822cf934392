"""`securellm db`: how far the control plane's schema is, and to bring it up to date."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.postgres import ROLES, Database

from securellm.cli import main
from securellm.cli.exits import Exit
from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyFolder
from securellm.storage import ControlStore, DataDir
from securellm.storage.migrating import REVISIONS

HEAD = REVISIONS[-1]


def db(*words: object, **environ: str) -> Result:
    return CliRunner().invoke(main, ["db", *map(str, words)], env=environ)


def refused(result: Result) -> str:
    assert result.exit_code == Exit.REFUSED, result.output
    assert not any(password in result.output for password in ROLES.values())
    return result.stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A whole configuration on SQLite; `served` puts its control plane on a server."""
    path = tmp_path / "securellm.toml"
    path.write_text(
        'mode = "test"\n[storage]\nurl = "sqlite:///data"\n[security]\npepper = "file:pepper"\n'
        '[[providers]]\nid = "mock"\nkind = "mock"\n'
        '[[models]]\nname = "m"\nroute = [{ provider = "mock", model = "echo" }]\n'
    )
    (tmp_path / "pepper").write_text("0f" * 32)
    return path


def served(config: Path, database: Database) -> None:
    (config.parent / "role").write_text(ROLES["gateway"])
    storage = f'url = "{database.url()}"\npassword = "file:role"\ndata_dir = "data"'
    config.write_text(config.read_text().replace('url = "sqlite:///data"', storage))


@pytest.mark.requirement("ST-1")
def test_a_folder_is_brought_up_to_date_and_says_so(config: Path) -> None:
    data = config.parent / "data"
    before = db("status", "--data-dir", data, "--json")
    assert (before.exit_code, json.loads(before.output)) == (1, {"revision": None, "pending": list(REVISIONS)})
    assert not data.exists()
    assert json.loads(db("migrate", "--data-dir", data, "--json").output) == {"made": list(REVISIONS)}
    assert db("migrate", "--config", config).output == "nothing to do: the schema is up to date\n"
    after = db("status", "--config", config)
    assert (after.exit_code, after.output) == (0, f"at {HEAD}; up to date\n")
    assert [file.name for file in sorted(data.iterdir())] == ["control.db", "lock"]


@pytest.mark.requirement("ST-1")
def test_an_unknown_schema_is_refused_by_both(config: Path) -> None:
    data = config.parent / "data"
    db("migrate", "--config", config)
    with closing(sqlite3.connect(data / "control.db", isolation_level=None)) as connection:
        connection.execute("UPDATE control_schema SET version_num = '9999'")
    for command in ("status", "migrate"):
        assert "does not know" in refused(db(command, "--data-dir", data))


def test_a_folder_in_use_is_not_migrated(config: Path) -> None:
    with DataDir(config.parent / "data").lock():
        assert "uses the data directory" in refused(db("migrate", "--config", config))


@pytest.mark.requirement("ST-1")
def test_a_server_is_migrated_by_the_owner_of_its_tables(config: Path, empty_postgres: Database) -> None:
    served(config, empty_postgres)
    assert db("status", "--config", config).output == f"at nothing; pending: {', '.join(REVISIONS)}\n"
    unnamed = db("migrate", "--config", config)
    assert unnamed.exit_code == Exit.PROBLEMS
    assert "--owner" in unnamed.stderr
    owner = ("--owner", "keeper", "--owner-password", "env:PG_OWNER")
    made = db("migrate", "--config", config, *owner, "--json", PG_OWNER=ROLES["keeper"])
    assert json.loads(made.output) == {"made": list(REVISIONS)}
    assert json.loads(db("status", "--config", config, "--json").output) == {"revision": HEAD, "pending": []}
    ControlStore.open(empty_postgres.url(), migrate=False, password=lambda: ROLES["gateway"]).close()
    assert not (config.parent / "data").exists()


def test_a_migration_needs_none_of_the_gateways_secrets(config: Path, empty_postgres: Database) -> None:
    served(config, empty_postgres)
    (config.parent / "pepper").unlink()
    role = (config.parent / "role").rename(config.parent / "put-aside")
    (config.parent / "owner").write_text(ROLES["keeper"])
    made = db("migrate", "--config", config, "--owner", "keeper", "--owner-password", "file:owner")
    assert made.output == f"made: {', '.join(REVISIONS)}\n"
    assert "file:role" in refused(db("status", "--config", config))
    role.rename(config.parent / "role")
    assert db("status", "--config", config).exit_code == Exit.OK


def test_keys_are_issued_on_the_server_and_never_in_a_folder_that_does_not_hold_them(
    config: Path, postgres: Database
) -> None:
    served(config, postgres)
    config.write_text(config.read_text() + '[[tenants]]\nid = "acme"\n')
    issued = CliRunner().invoke(main, ["key", "create", "--config", str(config), "--tenant", "acme", "--json"])
    assert issued.exit_code == 0, issued.output
    with postgres.connect() as connection:
        assert connection.execute("SELECT id FROM virtual_keys").fetchall() == [(json.loads(issued.output)["id"],)]
    assert not (config.parent / "data" / "control.db").exists()
    KeyFolder(config.parent / "data" / "keys", SystemRandomness()).pepper(create=True)
    listed = CliRunner().invoke(main, ["key", "list", "--data-dir", str(config.parent / "data")])
    assert "--config FILE" in refused(listed)
    assert not (config.parent / "data" / "control.db").exists()


def test_what_cannot_be_migrated_says_why(config: Path, empty_postgres: Database) -> None:
    (config.parent / "owner").write_text(ROLES["keeper"])
    owner = ("--owner", "keeper", "--owner-password", "file:owner")
    assert db("migrate", "--config", config, *owner).exit_code == Exit.PROBLEMS
    served(config, empty_postgres)
    literal = db("migrate", "--config", config, "--owner", "keeper", "--owner-password", ROLES["keeper"])
    assert literal.exit_code == Exit.PROBLEMS
    assert ROLES["keeper"] not in literal.output
    assert "PG_OWNER" in refused(db("migrate", "--config", config, *owner[:3], "env:PG_OWNER"))
    assert "no password supplied" in refused(db("migrate", "--config", config, *owner[:2]))
    assert "password authentication failed" in refused(db("migrate", "--config", config, *owner[:3], "file:role"))
    role = ("--owner", "gateway", "--owner-password", "file:role")
    assert "reach around" in refused(db("migrate", "--config", config, *role))
    with empty_postgres.connect("keeper") as connection:
        connection.execute("CREATE TABLE theirs (x int)")
    assert "does not know" in refused(db("migrate", "--config", config, *owner))
    assert "does not know" in refused(db("status", "--config", config))


def test_either_a_configuration_or_a_folder_is_named(config: Path) -> None:
    for command in ("status", "migrate"):
        assert db(command).exit_code == Exit.PROBLEMS
        assert db(command, "--config", config, "--data-dir", config.parent).exit_code == Exit.PROBLEMS
