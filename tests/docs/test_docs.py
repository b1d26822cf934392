"""The documentation: generated pages are current, links lead somewhere, examples are what they claim to be."""

import configparser
import datetime as dt
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.harness import ROOT, SECURELLM
from tools import reference

from securellm.audit.model import RECORDS, RecordType
from securellm.bootstrap.config import load_config
from securellm.bootstrap.tree import Config
from securellm.cli import main as command_line
from securellm.core.errors import Code
from securellm.ingress import personal
from securellm.ingress.app import HEALTH_PATHS
from securellm.ingress.kept import PATHS
from securellm.ingress.listings import LISTINGS
from securellm.ingress.routes import ROUTES
from securellm.providers.registry import KINDS
from securellm.settings.shapes import Many, Table, table_of
from securellm.telemetry.metrics import Metrics

_SKIPPED = frozenset(
    {".venv", ".venv-sdk-previous", ".venv-clients", ".pytest_cache", ".hypothesis", "node_modules", "build", "dist"}
)
PAGES = tuple(
    sorted(
        page
        for page in ROOT.rglob("*.md")
        if not _SKIPPED & set(page.relative_to(ROOT).parts) and not page.is_relative_to(ROOT / "tests")
    )
)
_WORD = re.compile(r"`([^`]+)`")
_WAIT = 30.0


class Block(NamedTuple):
    """A fenced example."""

    page: str
    line: int
    language: str
    text: str


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language: str, pages: tuple[Path, ...] = PAGES) -> list[Block]:
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] == language:
                name = str(page.relative_to(ROOT))
                found.append(Block(name, text.count("\n", 0, match.start()) + 1, language, match[2]))
    return found


def name_of(block: Block) -> str:
    return f"{block.page}:{block.line}"


def sections(text: str) -> dict[str, str]:
    """What stands under each heading of the second level."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text: str) -> list[str]:
    """The words in the first column of the tables, headings and rules left out."""
    return [match[1] for line in text.splitlines() if line.startswith("| `") and (match := _WORD.search(line))]


# Reference pages


@pytest.mark.requirement("DC-1")
def test_the_generated_pages_are_current() -> None:
    assert reference.main(["--check"]) == 0


@pytest.mark.requirement("DC-1")
def test_every_error_code_has_its_row_and_every_row_its_code() -> None:
    assert sorted(first_cells(read("docs/reference/errors.md"))) == sorted(code.value for code in Code)
    assert set(reference.MEANINGS) == set(Code)


@pytest.mark.requirement("DC-1", "OB-2")
def test_every_exposed_metric_has_its_row_and_every_row_its_metric() -> None:
    exposed = re.findall(r"^# TYPE (\S+) ", Metrics().render(with_tenants=True).decode("ascii"), re.MULTILINE)
    rows = first_cells(read("docs/reference/metrics.md"))
    assert sorted(rows) == sorted(name for name in exposed if not name.endswith("_created"))


@pytest.mark.requirement("DC-1")
def test_no_metric_without_tenants_is_said_to_be_elsewhere() -> None:
    public = Metrics().render(with_tenants=False).decode("ascii")
    for line in read("docs/reference/metrics.md").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert (f"# TYPE {cells[0].strip('`')} " in public) == (cells[3] == "both"), line


@pytest.mark.requirement("DC-1", "CL-1")
def test_every_verb_and_option_has_its_place_and_every_place_its_verb() -> None:
    shown = {
        heading.strip("`"): {name for line in body.splitlines() for name in option_names(line)}
        for heading, body in sections(read("docs/reference/cli.md")).items()
        if heading != "Exit codes"
    }
    assert shown == {
        name: {opt for param in command.params if isinstance(param, click.Option) for opt in param.opts}
        for name, command in reference.verbs()
    }
    assert set(reference.EXITS) <= set(shown)


def option_names(line: str) -> list[str]:
    return _WORD.findall(line.split("|")[1]) if line.startswith("| `-") else []


@pytest.mark.requirement("DC-1", "AU-1")
def test_every_audit_record_and_member_has_its_place() -> None:
    parts = sections(read("docs/reference/audit-records.md"))
    headings = [reference.record_name(record) for record in RECORDS]
    assert [heading for heading in parts if heading in headings] == headings
    assert {heading.partition(",")[0] for heading in headings} == set(RecordType)
    for record in RECORDS:
        rows = set(first_cells(parts[reference.record_name(record)]))
        assert rows >= set(record.__struct_fields__), record


@pytest.mark.requirement("DC-1")
def test_every_setting_has_its_row_and_every_row_its_setting() -> None:
    parts = sections(read("docs/reference/configuration.md"))
    rows = [cell for heading, body in parts.items() if heading != "Kinds of provider" for cell in first_cells(body)]
    assert sorted(rows) == sorted(settings(table_of(Config)))
    kinds = first_cells(parts["Kinds of provider"])
    assert sorted(kinds) == sorted(KINDS)


def settings(table: Table) -> Iterator[str]:
    for member in table.members:
        yield member.name
        inner = member.shape.item if isinstance(member.shape, Many) else member.shape
        if isinstance(inner, Table):
            yield from settings(inner)


def test_the_api_page_lists_every_path_of_the_data_plane() -> None:
    cells = set(_WORD.findall(read("docs/reference/api.md")))
    assert {*ROUTES, *PATHS, *LISTINGS, *personal.PATHS, *HEALTH_PATHS} <= cells


# Pages


@pytest.mark.requirement("DC-1")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_something(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if urllib.parse.urlsplit(target).scheme:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        assert found.is_relative_to(ROOT), f"{page.name} links out of the repository: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_documentation_is_reached_from_its_index() -> None:
    index = read("docs/README.md")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs")
        if name.parts[0] != "decisions" and name != Path("README.md"):
            assert f"]({name})" in index, name
    decisions = read("docs/decisions/README.md")
    for page in (ROOT / "docs" / "decisions").glob("0*.md"):
        assert f"]({page.name})" in decisions, page.name


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    readme = read("README.md")
    assert len(readme.splitlines()) <= 140
    first = next(block for block in blocks("sh") if block.page == "README.md")
    assert [line.partition("#")[0].strip() for line in first.text.splitlines()] == ["make demo", "make test"]


def test_the_strata_of_the_architecture_are_those_of_the_contracts() -> None:
    contracts = configparser.ConfigParser()
    contracts.read_string(read(".importlinter"))
    layers = [
        {name.strip() for name in line.split("|")}
        for line in contracts["importlinter:contract:strata"]["layers"].strip().splitlines()
    ]
    rows = re.findall(r"^\| \d+[ab]? \| ((?:`\w+` ?)+)\|", sections(read("ARCHITECTURE.md"))["Strata"], re.MULTILINE)
    assert [set(_WORD.findall(row)) for row in rows] == layers


# Examples


def configurations() -> list[Block]:
    return [block for block in blocks("toml") if "[[providers]]" in block.text]


@pytest.mark.requirement("DC-1")
@pytest.mark.parametrize("block", configurations(), ids=name_of)
def test_configurations_in_the_documentation_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "securellm.toml"
    path.write_text(block.text, encoding="utf-8")
    environ = {name: f"dummy-{name.lower()}-0123456789abcdef" for name in re.findall(r'"env:(\w+)"', block.text)}
    assert load_config(path, environ=environ, provider_kinds=KINDS).warnings == ()


@pytest.mark.parametrize("block", blocks("python"), ids=name_of)
def test_python_in_the_documentation_compiles(block: Block) -> None:
    compile(block.text, name_of(block), "exec")


@pytest.mark.parametrize("block", blocks("json"), ids=name_of)
def test_json_in_the_documentation_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.requirement("DC-1", "CL-1")
@pytest.mark.parametrize("block", blocks("sh"), ids=name_of)
def test_commands_in_the_documentation_exist_with_their_options(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.split(r" [|>] ", line)[0], comments=True)
        if not words or "=" in words[0] or words[0].rpartition("/")[2] != "securellm":
            continue
        command: click.Command = command_line
        rest = words[1:]
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, line
            command, rest = found, rest[1:]
        command.make_context("securellm", rest)


@pytest.mark.requirement("DC-1", "CL-1")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_that_a_sentence_names_exist_with_their_options(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for said in re.findall(r"`securellm ([^`]+)`", text):
        command: click.Command = command_line
        for word in said.split():
            options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
            if word.startswith("-"):
                assert word in {*options, "-h", "--help", "--version"}, f"securellm {said}"
            elif isinstance(command, click.Group) and word.islower():
                found = command.get_command(click.Context(command), word)
                assert found is not None, f"securellm {said}"
                command = found


class _Demo:
    """A demo that runs, and the words that lead to it."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [SECURELLM, "demo", "--json", "--data-dir", folder, "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        facts = json.loads(self._process.stdout.readline())
        self.words = {"URL": facts["base_url"], "KEY": facts["api_key"], "DATA": facts["data_dir"]}

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=_WAIT)


def in_shell(script: str, words: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", "set -e\n" + script.replace(".venv/bin/securellm", "securellm")],
        env={"PATH": f"{SECURELLM.parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", **words},
        capture_output=True,
        text=True,
        timeout=_WAIT,
    )


@pytest.mark.debian("curl")
@pytest.mark.requirement("DC-1")
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorial" / "first-request.md",)
    _, _, allowed, redacted, refused, tail, money, flip = blocks("sh", page)
    (program,) = blocks("python", page)
    (tmp_path / "flip.py").write_text(program.text, encoding="utf-8")
    demo = _Demo(tmp_path / "demo")
    try:
        stream = in_shell(allowed.text, demo.words).stdout
        assert '"content":"Hello"' in stream
        assert stream.rstrip().endswith("data: [DONE]")
        assert "My CPF is [CPF]" in in_shell(redacted.text, demo.words).stdout
        answer = in_shell(refused.text, demo.words).stdout
        assert "403" in answer
        assert "guard_blocked" in answer
        decision = re.search(r"x-securellm-decision-id: (\S+)", answer)
        records = [json.loads(line) for line in in_shell(tail.text, demo.words).stdout.splitlines()]
        assert [record["type"] for record in records] == ["INTENT", "OUTCOME", "INTENT", "OUTCOME", "DENY"]
        assert decision is not None
        assert records[-1]["decision_id"] == decision[1]
        assert "529.982.247-25" not in json.dumps(records)
        seen = in_shell(money.text, demo.words)
        assert seen.returncode == 0, seen.stderr
        assert "intact" in seen.stdout
    finally:
        demo.stop()
    script = f"set +e\ncd {shlex.quote(str(tmp_path))}\n{flip.text}".replace("python3", sys.executable)
    found = in_shell(script, demo.words)
    assert "TAMPERED" in found.stderr
    assert found.stdout.splitlines()[-1] == "8"


@pytest.mark.requirement("DC-1")
def test_a_backup_made_as_the_page_says_can_be_restored_as_it_says(tmp_path: Path) -> None:
    save, _, restore = blocks("sh", (ROOT / "docs" / "how-to" / "back-up-and-restore.md",))
    demo = _Demo(tmp_path / "data")
    demo.stop()
    with sqlite3.connect(f"file:{tmp_path / 'data' / 'audit.db'}?immutable=1", uri=True) as connection:
        (vkey,) = connection.execute("SELECT value FROM meta WHERE key = 'vkey'").fetchone()
    connection.close()

    def run(block: Block) -> subprocess.CompletedProcess[str]:
        script = block.text.replace("/var/lib/securellm", str(tmp_path / "data"))
        return in_shell(script.replace("/backup/", f"{tmp_path}/backup/"), {"VKEY": vkey})

    (tmp_path / "backup").mkdir()
    assert run(save).returncode == 0
    restored = run(restore)
    assert restored.returncode == 0, restored.stderr
    assert "intact" in restored.stdout
    assert (tmp_path / "data-restored" / "keys" / "pepper").is_file()


@pytest.mark.debian("nginx")
@pytest.mark.requirement("DC-1")
def test_nginx_accepts_the_server_block(tmp_path: Path) -> None:
    (block,) = blocks("nginx")
    _write_certificate(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = (
        block.text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        .replace("/etc/nginx/tls/llm.example.com.pem", str(tmp_path / "cert.pem"))
        .replace("/etc/nginx/tls/llm.example.com.key", str(tmp_path / "key.pem"))
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "\n".join(f"{kind}_temp_path {tmp_path / kind};" for kind in kinds)
    path = tmp_path / "nginx.conf"
    path.write_text(
        f"pid {tmp_path / 'pid'};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}\n{site}\n}}\n",
        encoding="utf-8",
    )
    checked = subprocess.run(["nginx", "-t", "-c", path], capture_output=True, text=True, timeout=_WAIT)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "llm.example.com")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day + dt.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
