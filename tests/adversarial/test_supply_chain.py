"""Code that somebody put before the gateway's: seen by its operator at every start, and refused where they say so."""

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.harness import SECURELLM, Site, command, free_ports, request

from securellm.audit import export

CODE = "import os\nos.environ.pop('NOTHING', None)\n"
DIGEST = hashlib.sha256(CODE.encode()).hexdigest()
BEGUN = 30.0
"""Seconds a start may take at most."""


class Machine:
    """A configuration, and commands that are started as people start them: each by an interpreter of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site("http://127.0.0.1:9")
        self.config = folder / "securellm.toml"
        self.data = folder / "data"
        self.port, self.admin_port = free_ports(2)
        self.write("")

    def write(self, extra: str) -> None:
        self.site.extra = extra
        text = self.site.toml(data_dir=self.data, port=self.port, admin_port=self.admin_port)
        self.config.write_text(text, encoding="utf-8")

    def plant(self) -> Path:
        """A customizer that the interpreter runs before the gateway."""
        (self.folder / "code").mkdir()
        place = self.folder / "code" / "sitecustomize.py"
        place.write_text(CODE)
        self.site.environ["PYTHONPATH"] = str(place.parent)
        return place

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._line(*arguments), env=self.environ(), capture_output=True, text=True, timeout=60, check=False
        )

    @contextmanager
    def serving(self) -> Iterator[None]:
        with (self.folder / "stderr.log").open("wb") as stderr:
            process = subprocess.Popen(
                self._line("serve", "--config", str(self.config)), env=self.environ(), stderr=stderr
            )
        try:
            end = time.monotonic() + BEGUN
            while not self._answers():
                assert process.poll() is None, (self.folder / "stderr.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(30)

    def _answers(self) -> bool:
        try:
            return request(f"http://127.0.0.1:{self.port}", "GET", "/livez").status == 200
        except OSError:
            return False

    def _line(self, *arguments: str) -> list[str]:
        return [str(SECURELLM), *arguments]

    def environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.site.environ}


@pytest.mark.requirement("OP-3")
def test_litellm_1_82_8_what_runs_before_the_gateway_is_logged_counted_and_recorded(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    place = machine.plant()
    with machine.serving():
        metrics = request(f"http://127.0.0.1:{machine.admin_port}", "GET", "/metrics").body.decode()
        assert "\nstartup_code_foreign 1.0\n" in metrics
    records = [json.loads(line) for line in export(machine.data / "audit.db")]
    boot = next(record for record in records if record["type"] == "BOOT")
    assert boot["startup_code"] == [f"{place} sha256:{DIGEST}"]
    assert "foreign_startup_code" in (tmp_path / "stderr.log").read_text()
    told = machine.run("doctor", "--config", str(machine.config), "--json")
    findings = json.loads(told.stdout)["findings"]
    (finding,) = [one for one in findings if one["check"] == "startup code"]
    assert finding["status"] == "warning"
    assert "import os" in finding["text"]
    assert DIGEST in finding["remedy"]
    assert [one for one in findings if one["check"] == "PYTHONPATH"] == []


@pytest.mark.requirement("OP-3")
def test_a_gateway_that_is_told_to_starts_after_no_code_that_nobody_admitted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    place = machine.plant()
    (place.parent / "securellm_notes.py").write_text("")
    machine.write('[server.startup_code]\nforeign = "refuse"\n')
    refused = machine.run("serve", "--config", str(machine.config))
    assert refused.returncode == 3, refused
    assert str(place) in refused.stderr
    assert not (machine.data / "audit.db").exists()
    assert machine.run("doctor", "--config", str(machine.config)).returncode == 1
    machine.write(machine.site.extra + f'admitted = {{ "sitecustomize.py" = "{DIGEST}" }}\n')
    admitted = machine.run("doctor", "--config", str(machine.config))
    assert "nothing that nobody knows runs before the gateway" in admitted.stdout
    place.write_text(CODE + "#")
    assert machine.run("serve", "--config", str(machine.config)).returncode == 3


def test_a_module_that_stands_in_anothers_place_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    place = machine.plant()
    (place.parent / "smtplib.py").write_text("")
    told = machine.run("doctor", "--config", str(machine.config))
    assert f"the module smtplib in {place.parent} of PYTHONPATH stands before" in told.stdout


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('[server.startup_code]\nforeing = "refuse"\n', "did you mean foreign?"),
        ('[server.startup_code]\nforeign = "refuze"\n', "write one of warn, refuse"),
        ('[server.startup_code]\nadmitted = { "a.pth" = "abc" }\n', "64 hex digits"),
        ('[secrets]\napi_references = ["/etc/*"]\n', "references such as"),
        ('[secrets]\napi_reference = ["env:*"]\n', "did you mean api_references?"),
    ],
)
def test_a_setting_that_is_none_is_named_with_what_was_meant(tmp_path: Path, extra: str, said: str) -> None:
    machine = Machine(tmp_path)
    machine.write(extra)
    answer = command(["config", "check", str(machine.config)], environment=machine.environ(), folder=tmp_path)
    assert answer.returncode == 2
    assert said in answer.stdout, answer
