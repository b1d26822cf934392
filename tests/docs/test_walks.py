"""The how-to pages of the control plane, walked: their commands run in their order against a gateway, and do it."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.test_docs import blocks, in_shell
from tests.harness import ROOT, GatewayProcess, governed

from securellm.cli.exits import Exit

MODEL = "gpt-4o-mini"


class Walk:
    """Somebody with a shell on the gateway's host, who types what a page says with their own names in it."""

    def __init__(self, gateway: GatewayProcess, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder
        self.words: dict[str, str] = {}
        """What stands in the environment of the shell."""
        self._names = {
            "securellm.toml": str(gateway.config),
            "https://admin.example.com": gateway.admin_url,
            "var/securellm/keys": str(gateway.data_dir / "keys"),
        }

    def call(self, written: str, meant: str) -> None:
        """From here on, what a page writes as `written` is `meant`."""
        self._names[written] = meant

    def keep(self, name: str, text: str) -> None:
        """Put a token into a file of this name."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        self.call(name, str(path))

    def blocks(self, page: str) -> list[str]:
        """The page's examples in the shell, in order."""
        return [block.text for block in blocks("sh", (ROOT / "docs" / "how-to" / page,))]

    def type(self, block: str, *, ends: Exit = Exit.OK) -> list[str]:
        """What each command of a block printed; the last one ends as it should, the others well."""
        for written in sorted(self._names, key=len, reverse=True):
            block = block.replace(written, self._names[written])
        lines = [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        if not lines[0].startswith("securellm "):
            done = in_shell(block, self.words)
            assert done.returncode == ends, (block, done.stdout, done.stderr)
            return [done.stdout]
        said = []
        for number, line in enumerate(lines, 1):
            done = self._run(line)
            assert done.returncode == (ends if number == len(lines) else Exit.OK), (line, done.stdout, done.stderr)
            said.append(done.stdout)
        return said

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        words = shlex.split(line, comments=True)
        assert words[0] == "securellm", line
        into = words.pop() if ">" in words[-2:-1] else None
        done = self.gateway.cli(*[word for word in words[1:] if word != ">"])
        if into is not None:
            Path(into).write_text(done.stdout)
        return done


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    with governed(tmp_path / "site", lambda site: site.model(MODEL, "openai")) as (gateway, _):
        yield Walk(gateway, tmp_path)


def commands(block: str) -> list[str]:
    """Each command of a block by itself."""
    return [f"securellm {part}" for part in block.split("securellm ")[1:]]


def one(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    assert found, (pattern, text)
    return str(found[-1])


@pytest.mark.debian("curl")
@pytest.mark.requirement("DC-1", "ID-1", "CL-1")
def test_two_people_come_in_and_agree_as_the_pages_say(walk: Walk) -> None:
    setup, known, invited, accept, grant, program = walk.blocks("roles.md")
    (first,) = walk.type(setup)
    ann = one(r"(sla_\S+)", first)
    walk.keep("token.txt", ann)
    walk.keep("ann.token", ann)
    walk.call("invitation.txt", str(walk.folder / "invitation.txt"))
    me, _ = walk.type(known)
    assert me.startswith("user:usr_")
    create, invite = commands(invited)
    (bob,) = walk.type(create)
    walk.call("usr_06hhgq2g01fha7x6batftszwvw", bob.strip())
    walk.call("usr_…", bob.strip())
    walk.type(invite)
    (second,) = walk.type(accept)
    walk.keep("bob.token", one(r"(sla_\S+)", second))

    by_curl, agree, typed, alone = walk.blocks("four-eyes.md")
    walk.gateway.cli("tenant", "create", "--config", str(walk.gateway.config), "--set", "id=umbrella")
    walk.words |= {"API": f"{walk.gateway.admin_url}/admin/v1", "ANN": ann, "BOB": one(r"(sla_\S+)", second)}
    owner = json.loads(walk.type(alone)[0])
    assert (owner["role"], owner["tenant"]) == ("owner", "umbrella")

    proposal = json.loads(walk.type(by_curl)[0])
    listed, approve = agree.split("\ncurl ")
    assert proposal["id"] in walk.type(listed)[0]
    walk.words["ID"] = proposal["id"]
    approved = walk.type("curl " + approve.replace('"…"', f'"{proposal["digest"]}"'))
    assert json.loads(approved[0])["state"] == "executed"

    role, pending, yes = commands(typed)
    role = role.replace("--token-file", f"--url {walk.gateway.admin_url} --token-file").replace("developer", "auditor")
    assert walk.type(role, ends=Exit.WAITING) == [""]
    (table,) = walk.type(pending.replace("--token-file", f"--url {walk.gateway.admin_url} --token-file"))
    waiting = one(r"(prp_\w+)", table)
    walk.call("prp_…", waiting)
    digest = json.loads(
        walk.gateway.cli("approval", "get", "--config", str(walk.gateway.config), waiting, "--json").stdout
    )["digest"]
    yes = yes.replace("--token-file", f"--url {walk.gateway.admin_url} --digest {digest} --token-file")
    assert "executed" in walk.type(yes)[0]

    proposed, waits = commands(grant)
    walk.type(proposed, ends=Exit.WAITING)
    assert "create_grant" in walk.type(waits)[0]
    service, token = commands(program)
    walk.call("svc_06hhgq2g01fha7x6batftszwvw", walk.type(service)[0].strip())
    assert "sla_" in walk.type(token)[0]
    walk.gateway.verify()


@pytest.mark.debian("curl")
@pytest.mark.requirement("DC-1", "CL-1", "GW-14")
def test_keys_money_pace_and_preferences_are_kept_as_the_pages_say(walk: Walk) -> None:
    gateway = walk.gateway
    issued = gateway.create_key()
    walk.call("KEY_ID", issued["id"])
    rotate, replace, update = walk.blocks("rotate-a-virtual-key.md")
    former = issued["token"]
    renewed = one(r"(slb_\S+)", walk.type(rotate)[0])
    assert [gateway.chat("hi", key=token).status for token in (former, renewed)] == [200, 200]
    walk.type(update)
    assert gateway.chat("hi", key=renewed).status == 403
    _, listed, _ = walk.type(replace)
    assert "billing-2026-11" in listed
    assert gateway.chat("hi", key=renewed).status == 401

    issued = gateway.create_key()
    walk.call("KEY_ID", issued["id"])
    key = issued["token"]
    tenant, budget, limit, spent = walk.blocks("budgets-and-limits.md")
    assert '"300.00 USD"' in walk.type(tenant)[1]
    assert "50.00 USD" in walk.type(budget)[1]
    pace, shown, more, gone = commands(limit)
    walk.type(pace)
    answers = [gateway.chat("hi", key=key) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert "retry-after" in answers[1].headers
    assert answers[0].headers["x-ratelimit-limit-requests"] == "60"
    assert "60" in walk.type(shown)[0]
    walk.type(more)
    walk.type(gone)
    assert "remaining" in walk.type(spent)[0]

    walk.words |= {"URL": gateway.base_url, "KEY": key}
    put, process, remember = walk.blocks("preferences.md")
    assert json.loads(walk.type(put)[0])["language"] == "pt-BR"
    answer = json.loads(walk.type(process.replace('{"text"', f'{{"model": "{MODEL}", "text"'))[0])
    assert set(answer) == {"text", "usage", "model", "latency_ms", "request_id"}
    (program,) = blocks("python", (ROOT / "docs" / "how-to" / "preferences.md",))
    script = walk.folder / "program.py"
    script.write_text(program.text)
    said = in_shell(f"{sys.executable} {script}", walk.words)
    assert said.stdout.strip(), said.stderr
    assert "preferences" in gateway.records("OUTCOME")[-1]["changes"]
    kept = json.loads(walk.type(remember.replace("req_…", answer["request_id"]))[0])
    assert kept["text"] == "I am vegetarian"
    gateway.verify()


@pytest.mark.debian("curl")
@pytest.mark.requirement("DC-1")
def test_the_admin_api_answers_the_curls_of_its_page(walk: Walk) -> None:
    _, make, change, look = walk.blocks("operate-with-the-admin-api.md")[:4]
    walk.words |= {"TOKEN": walk.gateway.admin_token, "DECISION_ID": "dec_" + "0" * 26}
    first = make.replace("http://127.0.0.1:8081", walk.gateway.admin_url)
    assert '"token"' in walk.type(first)[0]
    assignments = "".join(line for line in first.splitlines(keepends=True) if re.match(r"[A-Z]+=", line))
    assert json.loads(walk.type(assignments + change)[0])["name"] == "Umbrella"
    records, decision = walk.type(assignments + look.replace("\ncurl", "\necho; curl"))[0].splitlines()
    assert "umbrella" in records
    assert json.loads(decision)["code"] == "not_found"
