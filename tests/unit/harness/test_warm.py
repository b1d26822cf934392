"""A command that is forked is the process that the script would have been."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.harness import SECURELLM, Site, free_ports
from tests.warm import Fork, Hearth

BORN = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}


@pytest.fixture(scope="module")
def hearth() -> Iterator[Hearth]:
    with closing(Hearth(SECURELLM, BORN)) as opened:
        yield opened


def begun(hearth: Hearth, folder: Path, *words: str) -> Fork:
    with open(os.devnull, "rb") as nothing, (folder / "said").open("wb") as said:
        return hearth.launch(words, environment=BORN, folder=folder, streams=[nothing, said, said])


def serving(folder: Path) -> list[str]:
    """The words of a command that runs until it is ended."""
    port, admin_port = free_ports(2)
    site = Site("http://127.0.0.1:9")
    text = site.toml(data_dir=folder / "data", port=port, admin_port=admin_port)
    (folder / "securellm.toml").write_text("\n".join(line for line in text.splitlines() if "credential" not in line))
    return ["serve", "--config", "securellm.toml"]


@pytest.mark.parametrize(
    ("words", "status"),
    [(["config", "check", "here.toml"], 2), (["--version"], 0), (["config", "--help"], 0), (["serv"], 2)],
    ids=["in a folder", "version", "help", "misspelt"],
)
def test_it_says_and_ends_as_the_script_does(hearth: Hearth, tmp_path: Path, words: list[str], status: int) -> None:
    (tmp_path / "here.toml").write_text('mode = "nothing"\n[server]\nadmin_listen = "${PLACE}"\n')
    environment = {**BORN, "PLACE": "nowhere"}
    done = hearth.run(words, environment=environment, folder=tmp_path, timeout=60)
    script = subprocess.run(
        [SECURELLM, *words], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (script.returncode, script.stdout, script.stderr)
    assert done.returncode == status
    assert done.args == script.args


def test_it_leads_a_group_and_ends_with_the_signal_that_ended_it(hearth: Hearth, tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
    one, two = (begun(hearth, folder, *serving(folder)) for folder in (tmp_path / "one", tmp_path / "two"))
    assert len({one.pid, two.pid, os.getpid()}) == 3
    assert (os.getpgid(one.pid), os.getpgid(two.pid)) == (one.pid, two.pid)
    assert one.poll() is None
    os.killpg(one.pid, signal.SIGKILL)
    assert one.wait(20) == -signal.SIGKILL
    assert two.poll() is None
    two.send_signal(signal.SIGKILL)
    assert (two.wait(20), two.poll(), two.returncode) == (-signal.SIGKILL,) * 3
    one.terminate()


def test_an_environment_that_an_interpreter_reads_at_its_start_asks_for_a_new_one(hearth: Hearth) -> None:
    assert hearth.takes({**BORN, "ANYTHING": "else"})
    assert not hearth.takes({**BORN, "PYTHONPATH": "/elsewhere"})
    assert not hearth.takes({"PATH": BORN["PATH"]})
