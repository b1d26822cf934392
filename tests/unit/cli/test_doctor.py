"""`securellm doctor`: what is wrong with an installation, and what to back up."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from securellm.cli import doctor, main
from securellm.cli.doctor import Finding, Status
from securellm.cli.exits import Exit
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.secrets import KeyFolder
from securellm.storage.datadir import DataDir


class Stopped:
    """A clock that stands still."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """A data folder as a gateway leaves it."""
    data = DataDir(tmp_path / "data")
    with data.lock():
        pass
    keys = KeyFolder(data.keys, SystemRandomness())
    keys.pepper(create=True)
    keys.audit_key(create=True)
    keys.admin_token(create=True)
    for file in (data.audit, data.control):
        file.write_bytes(b"x")
    return data


def failures(findings: Iterable[Finding]) -> list[str]:
    return [finding.check for finding in findings if finding.status is Status.FAILURE]


def examine(data: DataDir) -> list[Finding]:
    return [finding for finding in doctor.examine(data, clock=SystemClock()) if finding.check != "disk"]


def test_a_healthy_folder_has_nothing_to_correct(data: DataDir) -> None:
    assert {finding.status for finding in examine(data)} == {Status.OK}


def test_a_folder_before_its_first_start_is_no_failure(tmp_path: Path) -> None:
    findings = examine(DataDir(tmp_path / "none" / "yet"))
    assert failures(findings) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "mode", "check"),
    [
        (".", 0o750, "data folder"),
        ("keys", 0o755, "key pepper"),
        ("keys/pepper", 0o640, "key pepper"),
        ("keys/audit-key", 0o604, "key audit-key"),
        ("keys/admin-token", 0o644, "key admin-token"),
    ],
)
def test_what_others_can_read_must_be_corrected(data: DataDir, name: str, mode: int, check: str) -> None:
    (data.root / name).chmod(mode)
    found = [finding for finding in examine(data) if finding.check == check]
    assert [finding.status for finding in found] == [Status.FAILURE]
    assert "chmod" in found[0].remedy


@pytest.mark.parametrize("name", ["pepper", "audit-key"])
def test_a_key_missing_beside_existing_data_must_be_restored(data: DataDir, name: str) -> None:
    (data.keys / name).unlink()
    assert failures(examine(data)) == [f"key {name}"]


def test_a_key_that_comes_from_a_reference_is_not_sought(data: DataDir) -> None:
    (data.keys / "pepper").unlink()
    assert failures(doctor.examine(data, clock=SystemClock(), referenced=frozenset({"pepper"}))) in ([], ["disk"])


def test_a_held_lock_is_noted_with_its_process(data: DataDir) -> None:
    with data.lock():
        [lock] = [finding for finding in examine(data) if finding.check == "lock"]
    assert (lock.status, lock.text) == (Status.NOTE, f"process {os.getpid()} uses the data folder")


def test_a_clock_that_went_back_must_be_corrected(data: DataDir) -> None:
    written = data.audit.stat().st_mtime_ns // 1000
    hour = 3_600_000_000
    assert "clock" in failures(doctor.examine(data, clock=Stopped(written - hour)))
    assert "clock" not in failures(doctor.examine(data, clock=Stopped(written + hour)))
    assert "clock" in failures(doctor.machine(Stopped(0)))


@pytest.mark.parametrize(
    ("soft", "status"), [(64, Status.FAILURE), (1024, Status.WARNING), (4096, Status.OK), (-1, Status.OK)]
)
def test_too_few_file_descriptors_are_said(soft: int, status: Status) -> None:
    assert doctor.look_at_descriptors(soft).status is status


@pytest.mark.parametrize(("free", "status"), [(4, Status.FAILURE), (9, Status.WARNING), (50, Status.OK)])
def test_a_disk_that_fills_is_said_before_nothing_is_served(free: int, status: Status) -> None:
    assert doctor.look_at_disk(Path("/x"), free=free, total=100).status is status


def test_it_says_what_to_back_up_and_that_the_keys_go_elsewhere(data: DataDir) -> None:
    answer = CliRunner().invoke(main, ["doctor", "--data-dir", str(data.root)])
    together, apart = [line for line in answer.output.splitlines() if line.startswith("Back up")]
    assert together.endswith(f"{data.audit}, {data.control}")
    assert "apart" in apart
    assert apart.endswith(str(data.keys))


def test_a_script_gets_one_json_object(data: DataDir) -> None:
    (data.keys / "pepper").chmod(0o644)
    answer = CliRunner().invoke(main, ["doctor", "--data-dir", str(data.root), "--json"])
    assert answer.exit_code == Exit.UNHEALTHY
    report = json.loads(answer.output)
    assert report["ok"] is False
    assert {"check", "status", "text", "remedy"} == set(report["findings"][0])
    assert report["backup"] == {"together": [str(data.audit), str(data.control)], "apart": [str(data.keys)]}


def test_a_configuration_with_problems_is_looked_at_as_far_as_it_goes(tmp_path: Path) -> None:
    config = tmp_path / "securellm.toml"
    config.write_text('[storage]\nurl = "sqlite:///d"\n[[providers]]\nid = "a"\nkind = "nonesuch"\n')
    answer = CliRunner().invoke(main, ["doctor", "--config", str(config)])
    assert answer.exit_code == Exit.UNHEALTHY
    assert "providers[0].kind" in answer.output
    assert str(tmp_path / "d" / "audit.db") in answer.output


def test_files_that_every_user_can_read_are_warned_about(tmp_path: Path) -> None:
    config, secret = tmp_path / "securellm.toml", tmp_path / "key"
    config.write_text(
        '[[providers]]\nid = "a"\nkind = "openai"\ncredential = "file:key"\n'
        '[[models]]\nname = "m"\nroute = [{ provider = "a", model = "m" }]\n'
    )
    secret.write_text("sk-something")
    secret.chmod(0o644)
    config.chmod(0o666)
    answer = CliRunner().invoke(main, ["doctor", "--config", str(config), "--json"])
    warnings = [row["text"] for row in json.loads(answer.output)["findings"] if row["status"] == "warning"]
    assert f"every user of this machine can read {secret}" in warnings
    assert any(text.startswith(f"others can write {config}") for text in warnings)
    assert "sk-something" not in answer.output


def test_it_wants_to_know_where_to_look() -> None:
    assert CliRunner().invoke(main, ["doctor"]).exit_code == Exit.PROBLEMS
