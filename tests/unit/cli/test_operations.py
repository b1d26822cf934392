"""Commands over the admin API: what each asks for is an operation that the API has, by names that it knows."""

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.unit.admin.driver import Desk, File

from securellm.admin import Kind
from securellm.bootstrap.effective import TREES
from securellm.cli import main
from securellm.cli.exits import Exit
from securellm.core.surfaces import Surface

TOKEN = "sla_of_whom_this_server_would_believe_anybody"
DIGEST = "0" * 64
TYPED = {"digest": DIGEST, "expires": "2027-01-31", "overlap": "60", "count": "5", "role": "auditor"}
"""What is typed where not every word will do."""
APART = {"policy propose", "policy diff"}
"""They read a bundle first: tests/flows/test_commands.py runs them."""
STARRED = re.compile(r"Members(?: \(\* must be there\))?: (.*?)\.\Z", re.DOTALL)


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    body: dict[str, Any]


class Listener:
    """An admin listener that does whatever it is asked, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                split = urlsplit(self.path)
                length = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(length) or b"{}")
                outer.asked.append(Asked(self.command, split.path, parse_qs(split.query), body))
                said = {
                    "data": [{"id": "x", "models": [], "prefix": "p", "name": "\x1b[31mred\u202e"}],
                    "next_cursor": None,
                    "digest": DIGEST,
                    "id": "x",
                    "token": "t",
                    "principal": "user:x",
                    "method": "token",
                    "tenant": None,
                    "grants": [{"role": "owner", "tenant": None, "project": None}],
                    "state": "executed",
                    "result": None,
                }
                answer = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("etag", '"1"')
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as http.server calls them

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--url", self.url], env={"SECURELLM_ADMIN_TOKEN": TOKEN})


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as opened:
        yield opened


class _Trees(File):
    def tree(self, kind: Kind) -> type[msgspec.Struct]:
        return TREES[kind]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with contextlib.closing(Desk(tmp_path_factory.mktemp("desk"), declared=_Trees())) as desk:
        found: dict[str, Any] = desk.call("GET", "/admin/v1/openapi.json").json
    return found


def spoken(command: click.Command = main, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be told where the admin listener is."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            assert found is not None
            yield from spoken(found, f"{name} {word}".strip())
    elif any(parameter.name == "url" for parameter in command.params):
        yield name, command


COMMANDS = {name: command for name, command in spoken() if name not in APART}
PLACES = {"config", "data_dir", "url", "token_file", "ca_file", "as_json", "file", "members", "break_glass", "if_match"}


def typed(command: click.Command) -> list[str]:
    """Words for every argument and option of it that says something to the API."""
    words = []
    for parameter in command.params:
        assert parameter.name is not None
        if parameter.name in PLACES:
            continue
        value = TYPED.get(parameter.name, "x")
        if isinstance(parameter.type, click.Choice):
            value = TYPED.get(parameter.name, Surface.CHAT.value)
        if isinstance(parameter, click.Argument):
            words.append(value)
        elif isinstance(parameter, click.Option):
            words += [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], value]
    for member in said_members(command):
        words += ["--set", f"{member}=x"]
    return words


def said_members(command: click.Command, *, starred: bool = False) -> list[str]:
    """The members that its help names; or those that it says must be there."""
    found = STARRED.search(command.help or "")
    if found is None:
        return []
    names = re.sub(r"\s+|\([^)]*\)", "", found[1]).split(",")
    return [name.strip("*") for name in names if not starred or name.endswith("*")]


def operation(schema: dict[str, Any], asked: Asked) -> tuple[str, dict[str, Any]]:
    for template, methods in schema["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), asked.path) and asked.method.lower() in methods:
            return template, methods[asked.method.lower()]
    raise AssertionError(f"the API has no {asked.method} {asked.path}")


def shape_of(schema: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    (content,) = operation["requestBody"]["content"].values()
    found: dict[str, Any] = content["schema"]
    while "$ref" in found:
        found = schema["components"]["schemas"][found["$ref"].rpartition("/")[2]]
    return found


@pytest.mark.requirement("CL-1")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_asks_for_what_the_api_has_by_the_names_it_knows(
    name: str, listener: Listener, schema: dict[str, Any]
) -> None:
    command = COMMANDS[name]
    listener.asked.clear()
    done = listener.run(*name.split(), *typed(command))
    assert done.exit_code == Exit.OK, (done.output, done.exception)
    assert listener.asked
    for asked in listener.asked:
        template, found = operation(schema, asked)
        known = {parameter["name"] for parameter in found.get("parameters", ()) if parameter["in"] == "query"}
        assert set(asked.query) <= known, template
        if asked.body:
            shape = shape_of(schema, found)
            # A merge patch of a declaration has no shape of its own: it is what making one takes.
            members = shape.get("properties") or shape_of(schema, schema["paths"][template]["put"])["properties"]
            assert set(asked.body) <= set(members), template


@pytest.mark.requirement("CL-1", "DC-1")
@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if said_members(command)])
def test_help_names_every_member_that_the_api_takes(name: str, listener: Listener, schema: dict[str, Any]) -> None:
    command = COMMANDS[name]
    listener.asked.clear()
    listener.run(*name.split(), *typed(command))
    template, found = operation(schema, listener.asked[-1])
    shape = shape_of(schema, found)
    if "properties" in shape:
        assert set(said_members(command)) == set(shape["properties"])
        assert set(said_members(command, starred=True)) == set(shape.get("required", ()))
    else:
        whole = set(shape_of(schema, schema["paths"][template]["put"])["properties"])
        assert whole - set(said_members(command)) <= {"id", "name", "scope", "target"}


@pytest.mark.requirement("CL-1")
def test_a_list_is_a_table_under_its_names_and_obeys_no_one(listener: Listener) -> None:
    first, second = listener.run("user", "list").output.splitlines()
    assert first.split() == ["ID", "TENANT", "NAME", "EMAIL", "DISABLED"]
    assert first.index("TENANT") == second.index("-")
    assert second.isprintable()
    assert "\\u202e" in second


@pytest.mark.requirement("CL-1")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8081", "must begin with http"),
        ("ftp://example.org", "must begin with http"),
        ("", "must begin with http"),
        ("http://user:word@127.0.0.1", "credential"),
    ],
)
def test_an_address_that_is_none_is_said_to_be_none(url: str, said: str) -> None:
    done = CliRunner().invoke(main, ["tenant", "list", "--url", url], env={"SECURELLM_ADMIN_TOKEN": TOKEN})
    assert done.exit_code == Exit.PROBLEMS
    assert said in done.output


@pytest.mark.requirement("CL-1")
@pytest.mark.parametrize("token", ["two words", "line\nbreak", "é"])
def test_a_token_that_cannot_be_one_is_never_sent(token: str, listener: Listener, tmp_path: Path) -> None:
    listener.asked.clear()
    path = tmp_path / "token"
    path.write_text(token)
    done = listener.run("whoami", "--token-file", str(path))
    assert done.exit_code == Exit.REFUSED
    assert token not in done.output
    done = CliRunner().invoke(main, ["whoami", "--url", listener.url], env={"SECURELLM_ADMIN_TOKEN": token})
    assert done.exit_code == Exit.REFUSED
    assert not listener.asked


@pytest.mark.requirement("CL-1", "SC-1")
def test_a_token_that_others_can_read_is_warned_of(listener: Listener, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    for mode, warned in ((0o600, False), (0o400, False), (0o640, True), (0o604, True)):
        path.chmod(mode)
        done = listener.run("whoami", "--token-file", str(path))
        assert done.exit_code == Exit.OK, done.output
        assert (f"warning: others can read {path}; run: chmod 600 {path}\n" == done.stderr) is warned
        assert TOKEN not in done.output


@pytest.mark.requirement("CL-1")
def test_a_prefix_of_the_address_stands_before_every_path(listener: Listener) -> None:
    listener.asked.clear()
    for below in ("", "/", "/admin/v1", "/bridge", "/bridge/admin/v1/"):
        words = ["whoami", "--url", f"{listener.url}{below}"]
        assert CliRunner().invoke(main, words, env={"SECURELLM_ADMIN_TOKEN": TOKEN}).exit_code == Exit.OK
    paths = [asked.path for asked in listener.asked]
    assert paths == ["/admin/v1/me"] * 3 + ["/bridge/admin/v1/me"] * 2


@pytest.mark.requirement("CL-1")
def test_two_gateways_typed_at_once_are_none_and_what_is_typed_goes_before_the_environment(
    listener: Listener, tmp_path: Path
) -> None:
    assert listener.run("whoami", "--data-dir", str(tmp_path)).exit_code == Exit.PROBLEMS
    named = {"SECURELLM_CONFIG": str(tmp_path / "absent.toml"), "SECURELLM_ADMIN_TOKEN": TOKEN}
    assert CliRunner().invoke(main, ["whoami", "--url", listener.url], env=named).exit_code == Exit.OK
    done = CliRunner().invoke(main, ["whoami"], env=named)
    assert (done.exit_code, "absent.toml" in done.output) == (Exit.PROBLEMS, True)


@pytest.mark.requirement("CL-1")
def test_a_folder_that_is_not_there_is_not_taken_for_one_that_was_tampered_with(tmp_path: Path) -> None:
    for words in (["audit", "verify"], ["audit", "tail"], ["key", "list"], ["tenant", "list"], ["budget", "show"]):
        done = CliRunner().invoke(main, [*words, "--data-dir", str(tmp_path / "absent")])
        assert done.exit_code == Exit.REFUSED, words
        assert "is no folder" in done.output


@pytest.mark.requirement("CL-1")
def test_a_proposal_is_approved_only_by_what_was_read_of_it(listener: Listener) -> None:
    listener.asked.clear()
    done = listener.run("approval", "approve", "prp_x")
    assert (done.exit_code, listener.asked) == (Exit.PROBLEMS, [])
    assert "--digest" in done.output
    assert listener.run("approval", "approve", "prp_x", "--digest", DIGEST).exit_code == Exit.OK
    assert listener.asked[-1].body == {"digest": DIGEST, "note": ""}


@pytest.mark.parametrize(("word", "meant"), [("tenan", "tenant"), ("aproval", "approval"), ("kye", "key")])
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(word: str, meant: str) -> None:
    done = CliRunner().invoke(main, [word, "list"])
    assert done.exit_code == Exit.PROBLEMS
    assert f"Did you mean {meant}" in done.output
