"""`securellm config check`: what an operator reads and what a script gets."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securellm.cli import main
from securellm.cli.exits import Exit

GOOD = """\
[[providers]]
id = "local"
kind = "openai-compatible"
base_url = "http://10.0.0.7:8000/v1"
credential = "file:key"
limits = { requests_per_minute = 60 }

[[models]]
name = "small"
route = [{ provider = "local", model = "small" }]
"""


def check(folder: Path, text: str, *options: str) -> Result:
    path = folder / "securellm.toml"
    path.write_text(text)
    (folder / "key").write_text("hunter2-hunter2")
    return CliRunner().invoke(main, ["config", "check", str(path), *options])


@pytest.mark.requirement("PR-2")
def test_a_complete_file_is_ok_and_its_warnings_are_shown(tmp_path: Path) -> None:
    answer = check(tmp_path, GOOD)
    assert answer.exit_code == Exit.OK
    warning, ok = answer.output.splitlines()
    assert warning.startswith(f"warning: {tmp_path}/securellm.toml:4: providers[0].base_url: ")
    assert ok.startswith(f"{tmp_path}/securellm.toml: ok, digest ")


@pytest.mark.requirement("PR-2")
def test_every_problem_is_a_line_that_an_editor_can_jump_to(tmp_path: Path) -> None:
    text = GOOD.replace("openai-compatible", "openai-compatble").replace('"file:key"', '"hunter2-hunter2"')
    answer = check(tmp_path, text)
    assert answer.exit_code == Exit.PROBLEMS
    kind, credential, count = answer.output.splitlines()
    assert kind.startswith(f"{tmp_path}/securellm.toml:3: providers[0].kind: no such kind of provider \N{EM DASH} ")
    assert kind.endswith("(did you mean openai-compatible?)")
    assert credential.startswith(f"{tmp_path}/securellm.toml:5: providers[0].credential: a literal secret")
    assert count == "2 to correct"
    assert "hunter2" not in answer.output


def test_a_script_gets_one_json_object(tmp_path: Path) -> None:
    good = json.loads(check(tmp_path, GOOD, "--json").output)
    assert good["ok"] is True
    assert len(good["digest"]) == 64
    assert (good["problems"], [each["line"] for each in good["warnings"]]) == ([], [4])
    answer = check(tmp_path, GOOD.replace("[[models]]", "[[modles]]"), "--json")
    assert answer.exit_code == Exit.PROBLEMS
    bad = json.loads(answer.output)
    assert bad["ok"] is False
    assert [(each["line"], each["key"], each["suggestion"]) for each in bad["problems"]] == [
        (None, "models", None),
        (8, "modles", "models"),
    ]


def test_a_file_that_is_not_toml_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    answer = check(tmp_path, "[server\n")
    assert answer.exit_code == Exit.PROBLEMS
    assert "securellm.toml:1: not TOML" in answer.output
