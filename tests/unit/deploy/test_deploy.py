"""What `deploy/` promises: a configuration that starts, a unit that systemd takes, an image of pinned parts."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.harness import ROOT, SECURELLM

from securellm.cli import COMMANDS, main

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "securellm.service"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
SAMPLE = DEPLOY / "securellm.toml"
_SECRETS = {"OPENAI_API_KEY": "sk-deploy-test", "ANTHROPIC_API_KEY": "sk-ant-deploy-test"}


def _service() -> dict[str, str]:
    """The [Service] section of the unit; of a repeated name, the last value."""
    section = UNIT.read_text("utf-8").partition("[Service]\n")[2].partition("\n[Install]")[0]
    lines = [line for line in section.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def _instructions() -> list[tuple[str, str]]:
    text = "\n".join(line for line in DOCKERFILE.read_text("utf-8").splitlines() if not line.startswith("#"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


@pytest.mark.requirement("PR-2")
def test_the_sample_configuration_starts_once_its_secrets_are_there() -> None:
    clean = CliRunner(env=_SECRETS).invoke(main, ["config", "check", str(SAMPLE)])
    assert clean.exit_code == 0, clean.output
    assert "warning" not in clean.output
    without = CliRunner(env=dict.fromkeys(_SECRETS)).invoke(main, ["config", "check", str(SAMPLE)])
    assert without.exit_code == 2
    assert all(name in without.output for name in _SECRETS)


def test_the_sample_budgets_are_hard_and_its_listeners_loopback() -> None:
    sample = tomllib.loads(SAMPLE.read_text("utf-8"))
    assert all(tenant["budget"]["hard"] for tenant in sample["tenants"])
    assert all(sample["server"][name].startswith("127.0.0.1:") for name in ("listen", "admin_listen"))


def test_the_unit_runs_a_command_that_exists_on_the_sample_configuration() -> None:
    service = _service()
    program, command, option, config = service["ExecStart"].split()
    assert (Path(program).name, option, config) == (SECURELLM.name, "--config", f"/etc/securellm/{SAMPLE.name}")
    assert command in COMMANDS
    state = tomllib.loads(SAMPLE.read_text("utf-8"))["storage"]["url"].removeprefix("sqlite:///")
    assert state == f"/var/lib/{service['StateDirectory']}"


def test_the_unit_stops_only_after_the_drain_and_reloads_by_sighup() -> None:
    service = _service()
    drain = tomllib.loads(SAMPLE.read_text("utf-8"))["server"]["drain"]
    assert _seconds(service["TimeoutStopSec"]) > _seconds(drain)
    assert service["KillSignal"] == "SIGTERM"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


@pytest.mark.debian("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text("utf-8")
    program = text.partition("ExecStart=")[2].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(f"ExecStart={program} ", f"ExecStart={SECURELLM} "), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_is_made_of_files_that_exist_and_are_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    sources = [
        source
        for name, rest in _instructions()
        if name in ("COPY", "ADD") and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]
    assert set(sources) == let_in
    assert all((ROOT / source).exists() for source in sources)


def test_every_package_in_the_image_is_pinned_by_hash() -> None:
    installs = re.findall(r"pip install ([^&]+)", " ".join(rest for name, rest in _instructions() if name == "RUN"))
    assert len(installs) == 3
    assert all("--require-hashes -r" in words or "--no-deps --no-index" in words for words in installs)
    for lock in ("requirements.lock", "requirements-build.lock"):
        pins = re.split(r"\n(?=\S)", (ROOT / lock).read_text("utf-8").strip())
        assert all("==" in pin and "--hash=sha256:" in pin for pin in pins if not pin.startswith("#"))


def test_the_image_runs_without_root_and_says_that_it_was_never_built() -> None:
    instructions = _instructions()
    user = [rest for name, rest in instructions if name == "USER"]
    assert user == ["10001:10001"]
    assert ("STOPSIGNAL", "SIGTERM") in instructions
    assert any(name == "HEALTHCHECK" for name, _ in instructions)
    command = next(rest for name, rest in instructions if name == "CMD")
    assert command.startswith('["serve", "--config"')
    assert "Never built where it was written" in DOCKERFILE.read_text("utf-8")


def test_no_lock_holds_an_address() -> None:
    locks = [*ROOT.glob("*.lock"), *(ROOT / "tests").glob("*/node/package-lock.json")]
    assert len(locks) > 4
    for lock in locks:
        assert "://" not in lock.read_text("utf-8"), lock.name
