"""What an operator types against a gateway that runs: every group of commands, its refusals and its exit statuses."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.harness import SECURELLM, GatewayProcess, governed, request

from securellm.cli import COMMANDS, main
from securellm.cli.exits import Exit


def run(gateway: GatewayProcess, *arguments: str, status: int = Exit.OK) -> subprocess.CompletedProcess[str]:
    done = gateway.cli(*arguments, "--data-dir", str(gateway.data_dir))
    assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def said(gateway: GatewayProcess, *arguments: str) -> Any:
    return json.loads(run(gateway, *arguments, "--json").stdout)


@pytest.mark.requirement("CL-1")
def test_a_tenant_a_model_and_a_key_are_made_by_commands_and_serve_at_once(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        said(gateway, "tenant", "create", "--set", "id=zeta", "--set", "budget.month=5.00 USD", "--set", "guard=strict")
        assert said(gateway, "tenant", "get", "zeta")["budget"] == {"month": "5.00 USD"}
        route = json.dumps([{"provider": "openai", "model": "fake-chat"}])
        price = json.dumps({"input_per_million": "1.00 USD", "output_per_million": "1.00 USD"})
        said(
            gateway, "model", "create", "--set", "name=zeta/chat", "--set", f"route={route}", "--set", f"price={price}"
        )
        issued = said(gateway, "key", "create", "--tenant", "zeta", "--model", "zeta/chat")
        assert issued["warnings"] == []
        assert gateway.chat("hello", key=issued["token"], model="zeta/chat").status == 200
        assert {row["id"] for row in said(gateway, "tenant", "list")["data"]} >= {"acme", "zeta"}
        listed = run(gateway, "tenant", "list").stdout
        assert "zeta" in listed
        assert "file" in listed

        rotated = said(gateway, "key", "rotate", issued["id"], "--overlap", "600")
        assert rotated["token"] != issued["token"]
        for token in (issued["token"], rotated["token"]):
            assert gateway.chat("hello", key=token, model="zeta/chat").status == 200
        said(gateway, "key", "revoke", issued["id"])
        for token in (issued["token"], rotated["token"]):
            assert gateway.chat("hello", key=token, model="zeta/chat").status == 401

        said(gateway, "model", "delete", "zeta/chat")
        run(gateway, "model", "get", "zeta/chat", status=Exit.NOT_FOUND)
        gateway.verify()


@pytest.mark.requirement("CL-1")
def test_a_refused_command_says_why_and_its_exit_status_says_what(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        run(gateway, "tenant", "get", "nobody", status=Exit.NOT_FOUND)
        done = run(gateway, "tenant", "create", "--set", "id=acme", status=Exit.CONFLICT)
        assert done.stderr.startswith(("conflict", "managed_by_file"))
        done = run(gateway, "tenant", "update", "acme", "--set", "guard=strict", status=Exit.CONFLICT)
        assert done.stderr.startswith("managed_by_file")
        done = run(gateway, "tenant", "create", "--set", "id=zeta", "--set", "gard=strict", status=Exit.PROBLEMS)
        assert "gard" in done.stderr
        said(gateway, "tenant", "create", "--set", "id=zeta")
        done = run(
            gateway, "tenant", "update", "zeta", "--set", "guard=strict", "--if-match", '"old"', status=Exit.CONFLICT
        )
        assert done.stderr.startswith("precondition_failed")
        run(gateway, "tenant", "create", "--set", "nothing", status=Exit.PROBLEMS)
        run(gateway, "tenant", "create", "--file", str(tmp_path / "absent.json"), status=Exit.PROBLEMS)
        gateway.stop()
        done = run(gateway, "tenant", "list", status=Exit.REFUSED)
        assert "securellm serve" in done.stderr


@pytest.mark.requirement("CL-1")
def test_somebody_elsewhere_names_the_listener_and_their_token(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        token = tmp_path / "token"
        token.write_text(f"{gateway.admin_token}\n")
        there = ("--url", gateway.admin_url, "--token-file", str(token))
        done = gateway.cli("tenant", "list", *there, "--json")
        assert done.returncode == Exit.OK, done.stderr
        token.write_text("sla_of_nobody_whom_anybody_knows_at_all")
        done = gateway.cli("tenant", "list", *there)
        assert done.returncode == Exit.FORBIDDEN, done.stderr
        assert gateway.cli("tenant", "list", "--url", gateway.admin_url).returncode == Exit.PROBLEMS
        assert gateway.cli("tenant", "list").returncode == Exit.PROBLEMS
        token.unlink()
        assert gateway.cli("tenant", "list", *there).returncode == Exit.REFUSED


@pytest.mark.requirement("CL-1")
def test_a_role_takes_two_people_or_a_broken_glass_on_the_host(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        user = said(gateway, "user", "create", "--set", "name=Ana", "--set", "email=ana@example.org")
        principal = user["principal"]
        invitation = said(gateway, "user", "invite", user["id"])["invitation"]
        accepted = request(gateway.admin_url, "POST", "/admin/v1/invitations/accept", key=invitation, body={})
        assert accepted.status == 201, accepted.body
        done = gateway.cli("role", "grant", principal, "auditor", "--data-dir", str(gateway.data_dir))
        assert done.returncode == Exit.FORBIDDEN, done.stdout + done.stderr
        why = ("--break-glass", "the first people of this installation")
        said(gateway, "role", "grant", principal, "auditor", *why)
        (grant,) = [row for row in said(gateway, "role", "list")["data"] if row["principal"] == principal]
        assert grant["role"] == "auditor"
        broken = [record for record in gateway.records("ADMIN") if record["break_glass"]]
        assert [record["break_glass"] for record in broken] == [why[1]]
        run(gateway, "role", "drop", grant["id"], *why)
        held = run(gateway, "role", "list").stdout
        assert principal not in held


@pytest.mark.requirement("CL-1")
def test_every_group_of_commands_explains_itself_without_a_gateway() -> None:
    for name in COMMANDS:
        done = CliRunner().invoke(main, [name, "--help"])
        assert done.exit_code == 0, (name, done.output)
        assert "Usage" in done.output


@pytest.mark.requirement("CL-1")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_what_completes_the_commands(shell: str) -> None:
    done = subprocess.run([SECURELLM, "completion", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "_SECURELLM_COMPLETE" in done.stdout
    words = subprocess.run(
        [SECURELLM],
        env={
            "PATH": "/usr/bin:/bin",
            "_SECURELLM_COMPLETE": "bash_complete",
            "COMP_WORDS": "securellm ten",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert words.stdout.strip() == "plain,tenant"


@pytest.mark.requirement("CL-1", "SC-1")
def test_secrets_are_listed_with_their_places_and_never_with_their_values(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        done = gateway.cli("secret", "list", "--config", str(gateway.config), "--json")
        assert done.returncode == Exit.OK, done.stderr
        found = json.loads(done.stdout)["secrets"]
        assert any(row["used_by"] == "providers[0].credential" for row in found)
        assert all(row["problem"] is None for row in found)
        for value in gateway.site.environ.values():
            assert value not in done.stdout


@pytest.mark.requirement("CL-1", "PO-1")
def test_a_policy_is_proposed_shadowed_and_put_in_force_by_commands(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.json"
    policies = {
        "everything": '@id("everything") permit(principal, action, resource);',
        "no-chat": '@id("no-chat") forbid(principal, action, resource) when { context.surface == "chat" };',
    }
    bundle.write_text(json.dumps({"policies": policies}))
    keys: list[str] = []
    with governed(tmp_path, lambda site: keys.append(site.key())) as (gateway, _):
        assert gateway.cli("policy", "test", str(bundle)).returncode == Exit.OK
        drafted = said(gateway, "policy", "propose", str(bundle), "--tenant", "acme", "--reason", "no chat here")
        assert drafted["state"] == "draft"
        at = (drafted["id"], "--tenant", "acme")
        assert said(gateway, "policy", "shadow", *at)["state"] == "shadow"
        assert gateway.chat("hello", key=keys[0]).status == 200
        done = gateway.cli("policy", "enforce", *at, "--data-dir", str(gateway.data_dir))
        assert done.returncode == Exit.FORBIDDEN, done.stdout + done.stderr
        assert gateway.chat("hello", key=keys[0]).status == 200
        run(gateway, "policy", "enforce", *at, "--break-glass", "first policy of the installation")
        refused = gateway.chat("hello", key=keys[0])
        assert (refused.status, refused.headers["x-securellm-code"]) == (403, "policy_denied")
        run(gateway, "policy", "withdraw", *at, "--break-glass", "it was only a trial")
        assert gateway.chat("hello", key=keys[0]).status == 200
        gateway.verify()


@pytest.mark.requirement("CL-1")
def test_a_configuration_is_explained_with_what_the_api_stored_and_compared(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        said(gateway, "tenant", "create", "--set", "id=zeta", "--set", "guard=strict")
        explained = gateway.cli("config", "explain", str(gateway.config), "tenants[zeta]", "--json")
        assert explained.returncode == Exit.OK, explained.stderr
        found = {row["key"]: row for row in json.loads(explained.stdout)["settings"]}
        assert found["tenants[zeta].guard"]["value"] == "strict"
        assert found["tenants[zeta].guard"]["source"] == "store"
        assert found["tenants[zeta].models"]["source"] == "default"
        lines = gateway.cli("config", "explain", str(gateway.config), "server.listen").stdout
        assert lines.startswith("server.listen = ")
        assert "(line " in lines
        assert gateway.cli("config", "explain", str(gateway.config), "nothing").returncode == Exit.NOT_FOUND
        other = tmp_path / "other.toml"
        other.write_text(gateway.config.read_text().replace("[server]", '[server]\nheartbeat = "7s"', 1))
        assert gateway.cli("config", "diff", str(gateway.config), str(gateway.config)).returncode == Exit.OK
        compared = gateway.cli("config", "diff", str(gateway.config), str(other))
        assert compared.returncode == Exit.DIFFERENT, compared.stderr
        assert "server.heartbeat" in compared.stdout
        assert "next start" in compared.stdout


@pytest.mark.requirement("CL-1", "ID-1")
def test_the_first_owner_comes_in_once_and_invites_the_next(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        newest = gateway.data_dir / "keys" / "setup-token"
        token = newest.read_text()
        newest.write_text("slt_of_a_gateway_that_started_before")
        assert "not the newest" in run(gateway, "setup", "--name", "Ana", status=Exit.REFUSED).stderr
        newest.write_text(token)
        owner = said(gateway, "setup", "--name", "Ana", "--email", "ana@example.org")
        run(gateway, "setup", "--name", "Eve", status=Exit.REFUSED)
        token_file = tmp_path / "token"
        token_file.write_text(owner["token"])
        there = ("--url", gateway.admin_url, "--token-file", str(token_file), "--json")
        held = json.loads(gateway.cli("role", "list", *there).stdout)["data"]
        assert [(row["principal"], row["role"], row["tenant"]) for row in held] == [(owner["principal"], "owner", None)]
        user = json.loads(gateway.cli("user", "create", "--set", "name=Bea", *there).stdout)
        invited = json.loads(gateway.cli("user", "invite", user["id"], *there).stdout)
        card = tmp_path / "invitation"
        card.write_text(invited["invitation"])
        arriving = ("--url", gateway.admin_url, "--token-file", str(card), "--json")
        accepted = json.loads(gateway.cli("user", "accept", *arriving).stdout)
        assert accepted["principal"] == user["principal"]
        assert gateway.cli("user", "accept", *arriving).returncode == Exit.FORBIDDEN
        proposed = gateway.cli("role", "grant", user["principal"], "auditor", *there)
        assert proposed.returncode == Exit.WAITING, proposed.stderr
        proposal = json.loads(proposed.stdout)
        said(gateway, "role", "grant", user["principal"], "owner", "--break-glass", "the first two")
        yes = ("approval", "approve", proposal["id"], "--digest", proposal["digest"])
        assert gateway.cli(*yes, *there).returncode == Exit.FORBIDDEN
        card.write_text(accepted["token"])
        agreed = gateway.cli(*yes, "--note", "known to me", *arriving)
        assert agreed.returncode == Exit.OK, agreed.stderr
        assert json.loads(agreed.stdout)["state"] == "executed"
        assert json.loads(gateway.cli("approval", "list", "--pending", *there).stdout)["data"] == []
        gateway.verify()


@pytest.mark.requirement("CL-1", "SC-2")
def test_the_address_that_a_crashed_gateway_left_is_shown_no_token(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        gateway.kill9()
        with socket.create_server(("127.0.0.1", gateway.admin_port)) as stranger:
            for words in (("tenant", "list"), ("setup",)):
                assert "no gateway serves" in run(gateway, *words, status=Exit.REFUSED).stderr
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.accept()


@pytest.mark.requirement("CL-1")
def test_an_interrupted_command_and_one_that_nobody_reads_say_so_in_their_status(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = ["tenant", "list", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        environment = {**os.environ, "SECURELLM_ADMIN_TOKEN": "sla_for_a_listener_that_never_answers"}
        waiting = subprocess.Popen([SECURELLM, *words], env=environment, stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            waiting.send_signal(signal.SIGINT)
            _, told = waiting.communicate(timeout=60)
    assert (waiting.returncode, told) == (Exit.INTERRUPTED, "interrupted\n")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        done = subprocess.run(
            [SECURELLM, "role", "permissions", "owner"], stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (Exit.UNREAD, b"")
