"""`securellm policy` on files alone: what it says, and with which exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from securellm.cli import main
from securellm.cli.exits import Exit
from securellm.policy import SCHEMA, hash_of, open_bundle

pytestmark = pytest.mark.requirement("PO-1")

STAFF = '@id("staff") permit(principal in Tenant::"acme", action in Action::"use_model", resource);\n'
NIGHT = '@id("night") @note("we sleep") forbid(principal, action, resource) when { context.hour >= 22 };\n'
ASKED: dict[str, Any] = {"action": "stream", "resource": "gpt", "principal": "key:k", "tenant": "acme"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["policy", *map(str, arguments)])


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, text in ((old, STAFF), (new, STAFF + NIGHT)):
        folder.mkdir()
        (folder / "rules.cedar").write_text(text, encoding="utf-8")
    (new / "tests.json").write_text(
        json.dumps([{"name": "night", "ask": {**ASKED, "hour": 23}, "expect": "deny", "rules": ["night"]}])
    )
    return old, new


def test_a_good_bundle_is_told_with_its_hash_and_with_what_it_does_not_prove(bundles: tuple[Path, Path]) -> None:
    _, new = bundles
    told = run("test", new)
    assert told.exit_code == Exit.OK, told.output
    assert hash_of(open_bundle(new)) in told.output
    assert "no test notices when staff is lost" in told.output
    as_json = json.loads(run("test", new, "--json").stdout)
    assert (as_json["ok"], as_json["untested"]) == (True, ["staff"])
    assert run("hash", new).stdout.strip() == as_json["hash"]


def test_a_wrong_bundle_exits_2_with_every_problem(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    _, new = bundles
    (new / "rules.cedar").write_text(STAFF + NIGHT.replace(">= 22", "< 22"), encoding="utf-8")
    told = run("test", new)
    assert told.exit_code == Exit.PROBLEMS
    assert "the test 'night': the decision is allow, not deny" in told.stderr
    as_json = run("test", new, "--json")
    assert as_json.exit_code == Exit.PROBLEMS
    assert json.loads(as_json.stdout)["ok"] is False
    for nothing in (tmp_path / "nowhere", tmp_path):
        assert run("test", nothing).exit_code == Exit.PROBLEMS
        assert json.loads(run("test", nothing, "--json").stdout)["problems"]


def test_a_difference_exits_9_and_none_0(bundles: tuple[Path, Path]) -> None:
    old, new = bundles
    told = run("diff", old, new)
    assert told.exit_code == Exit.DIFFERENT
    assert "allow by staff  ->  deny by night" in told.output
    assert run("diff", new, new).exit_code == Exit.OK
    back = json.loads(run("diff", new, old, "--json").stdout)
    assert back["exhaustive"]
    assert back["looser"] == sum(change["count"] for change in back["changes"]) > 0
    assert run("diff", "-", new).exit_code == Exit.DIFFERENT


def test_an_explanation_says_what_each_policy_says(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    _, new = bundles
    by_day, night = json.dumps(ASKED), json.dumps({**ASKED, "hour": 23})
    told = run("explain", new, night)
    assert told.exit_code == Exit.DENIED
    assert told.output.splitlines() == [
        "deny by night",
        "  permit staff: applies",
        "  forbid night: applies  (we sleep)",
    ]
    file = tmp_path / "question.json"
    file.write_text(by_day)
    allowed = run("explain", new, file, "--json")
    assert allowed.exit_code == Exit.OK
    assert [voice["applies"] for voice in json.loads(allowed.stdout)["voices"]] == [True, False]


@pytest.mark.parametrize("question", ["{}", '{"action": 1}', "{", "nowhere.json", '{"action":"stream","color":"red"}'])
def test_a_question_that_is_none_exits_2(bundles: tuple[Path, Path], question: str) -> None:
    told = run("explain", bundles[0], question)
    assert told.exit_code == Exit.PROBLEMS
    assert told.stderr


def test_the_schema_can_be_read() -> None:
    assert run("schema").stdout == SCHEMA


def test_what_goes_with_recorded_requests_alone_is_refused_elsewhere(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = bundles
    for arguments, said in (
        ((new,), "name OLD and NEW"),
        ((old, new, new), "name OLD and NEW"),
        ((old, new, "--tenant", "acme"), "--tenant goes with --recorded"),
        ((old, new, "--since", "1h"), "--since goes with --recorded"),
        ((old, new, "--last", "5"), "--last goes with --recorded"),
        ((old, new, "--data-dir", tmp_path), "--data-dir goes with --recorded"),
        ((old, new, "--recorded", "--data-dir", tmp_path), "takes NEW alone"),
        ((new, "--recorded", "--last", "50001", "--data-dir", tmp_path), "50000"),
        ((new, "--recorded", "--since", "soon", "--data-dir", tmp_path), "--since is how long ago"),
        ((new, "--recorded", "--since", "2026-01-01", "--data-dir", tmp_path), "--since is how long ago"),
        ((tmp_path / "nowhere", "--recorded", "--data-dir", tmp_path), "nowhere"),
        ((new, "--recorded"), "--config"),
    ):
        told = run("diff", *arguments)
        assert (told.exit_code, said in told.stderr) == (Exit.PROBLEMS, True), (arguments, told.stderr)
    assert run("diff", new, "--recorded", "--data-dir", tmp_path).exit_code == Exit.REFUSED, "no gateway serves there"
