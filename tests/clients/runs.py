"""The clients at work: one gateway before both upstreams, and each client as a process that tells what it saw."""

import json
import os
import select
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.clients.clients import HERE, NODE, PACKAGES, Client
from tests.clients.matrix import Cell
from tests.harness import ROOT, SDKS_PREVIOUS, GatewayProcess, Site, UpstreamProcess
from tests.upstream import Entry, marked

SENTENCE = "Olá! The fake provider answers: ação ✓ 🎉."
SECOND_SENTENCE = "Olá! The second upstream answers: ação ✓ 🎉."
FORECAST = {"city": "São Paulo", "days": 3}
THOUGHT = "Let me think."
COMMAND_OUTPUT = "quarenta e dois"
"""What the command prints that the provider lets the command-line clients run."""

_PROVIDERS = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "ollama": "/v1"}
_BEHAVIOURS: dict[str, str] = {
    "plain": "fake-small",
    "quiet": marked("fake-small", no_tools=True),
    "counted": marked("fake-small", input_tokens=1000, cached=300, output_tokens=70, reasoning=20),
    "spent": marked("fake-small", input_tokens=1000, cached=300, output_tokens=70, reasoning=20, no_tools=True),
    "shaped": marked("fake-small", reply=(json.dumps(FORECAST, ensure_ascii=False),)),
    "thinking": marked("fake-small", thinking=True),
    "odd": marked("fake-small", unknown_event=True),
    "slow": marked("fake-small", first_byte=0.35, between=0.15, no_tools=True),
    "broken": marked("fake-small", error_event=4, no_tools=True),
    "cut": marked("fake-small", cut_event=4, clean_cut=True, no_tools=True),
    # Each command-line client reads its own member.
    **{
        name: marked("fake-small", tool_arguments=(f'{{"{name}": "echo', f' {COMMAND_OUTPUT}"}}'))
        for name in ("cmd", "command")
    },
    "embed": "fake-embed",
}
"""What the models of a lane are called in a task, and how the fake provider behaves behind each."""
_SECONDS = 110
_NOWHERE = "http://127.0.0.1:9"
"""Answers nobody: whatever is sent there fails at once."""


class Program:
    """One client against one lane: what to run, as whom."""

    def __init__(self, cells: Sequence[Cell], site: Site) -> None:
        self.client = cells[0].client
        self.lane = cells[0].lane
        self.word = f"{self.lane.name}-{self.client.name}"
        """Every request of this run says it."""
        self.faces: dict[str, dict[str, Any]] = {}
        key = site.key()
        for face in self.client.faces:
            wanted = [cell.feature.name for cell in cells if cell.face == face]
            if not wanted:
                continue
            name = f"{self.word}-{face.name}"
            site.tenant(f"poor-{name}", budget="0.000001 USD")
            site.tenant(f"hurried-{name}", limits={"requests_per_minute": 40, "burst": 1})
            provider = self.lane.provider(face.dialect)
            self.faces[face.name] = {
                "wanted": wanted,
                "models": {kind: face.model or f"{provider}-{kind}" for kind in _BEHAVIOURS},
                "poor": site.key(f"poor-{name}"),
                "hurried": site.key(f"hurried-{name}"),
            }
        self.task = {"key": key, "word": self.word, "lane": self.lane.name, "faces": self.faces}

    def run(self, base_url: str, home: Path) -> dict[str, dict[str, Any]]:
        """Run it to its end; what it told by then, and under "" how it ended."""
        home.mkdir(parents=True)
        task = json.dumps({**self.task, "base": base_url, "command": str(_command(self.client.package))})
        try:
            done = subprocess.run(
                [*self.client.command(), task],
                env=_environment(self.client.home, home),
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
            out, err, status = done.stdout, done.stderr, done.returncode
        except subprocess.TimeoutExpired as late:
            out, err, status = _text(late.stdout), _text(late.stderr), None
        told: dict[str, dict[str, Any]] = {"": {"status": status, "stderr": err[-3000:]}}
        for line in out.splitlines():
            if line.startswith("{"):
                told |= json.loads(line)
        return told


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else data or ""


def _command(package: str) -> Path:
    """The program of a command-line client: its native binary, which its start script would look for too."""
    found = [
        *PACKAGES.glob("@openai/codex-linux-*/vendor/*/bin/codex"),
        *PACKAGES.glob("@anthropic-ai/claude-code-linux-*/claude"),
    ]
    wanted = package.rpartition("/")[2]
    return next((path for path in found if wanted in str(path) and "musl/claude" not in str(path)), PACKAGES / wanted)


def _environment(kind: str, home: Path) -> dict[str, str]:
    """A home of its own, no way out but the gateway, and only the environment the client lives in."""
    paths = [SDKS_PREVIOUS, ROOT] if kind == "previous" else [ROOT]
    return {
        "PATH": os.pathsep.join([*([str(NODE.parent)] if NODE else []), os.environ["PATH"]]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "HTTPS_PROXY": _NOWHERE,
        "https_proxy": _NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }


class Matrix:
    """What every client told, run when first asked for, two at a time."""

    def __init__(
        self,
        gateway: GatewayProcess,
        upstream: UpstreamProcess,
        programs: Mapping[tuple[str, str], Program],
        home: Path,
    ) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self._programs = programs
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._running: dict[tuple[str, str], Future[dict[str, dict[str, Any]]]] = {
            name: self._pool.submit(program.run, gateway.base_url, home / "-".join(name))
            for name, program in programs.items()
        }

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def told(self, cell: Cell) -> dict[str, dict[str, Any]]:
        return self._running[cell.lane.name, cell.client.name].result()

    def saw(self, cell: Cell) -> dict[str, Any]:
        """What the client saw of a feature. Fails when it could not say."""
        saw = self.attempt(cell)
        assert "unexpected" not in saw, saw["unexpected"]
        return saw

    def attempt(self, cell: Cell) -> dict[str, Any]:
        """The same, also when the scenario failed."""
        told = self.told(cell)
        name = f"{cell.face.name} {cell.feature.name}"
        assert name in told, f"the client ended before it told {name}: {told['']}"
        return told[name]

    def version(self, client: Client) -> str:
        """What the client says its version is."""
        return str(self._running["own", client.name].result()["versions"][client.package])

    def billed(self, cell: Cell) -> dict[str, int]:
        """What the provider last billed this run for a model with set figures; `output` holds the reasoning."""
        counted = {_BEHAVIOURS["counted"], _BEHAVIOURS["spent"]}
        asked = [entry.order for entry in self.requests(cell) if entry.model in counted]
        bills = [entry.usage for entry in self.upstream.entries("answer") if entry.request in asked and entry.usage]
        assert bills, "nothing was billed"
        bill = bills[-1]
        return {
            "input": bill["input"] + bill["cache_read"] + bill["cache_write_5m"] + bill["cache_write_1h"],
            "cached": bill["cache_read"],
            "output": bill["output"] + bill["reasoning"],
            "reasoning": bill["reasoning"],
        }

    def requests(self, cell: Cell) -> list[Entry]:
        """What reached the fake provider from this run."""
        word = f"({self._programs[cell.lane.name, cell.client.name].word})"
        return [entry for entry in self.upstream.requests() if word in entry.text]

    def finish(self) -> None:
        """Wait until every client has ended."""
        wait(self._running.values())

    @cached_property
    def _records(self) -> list[dict[str, Any]]:
        """What the gateway recorded until every client had ended."""
        self.finish()
        return self.gateway.records("INTENT", "DENY")

    def recorded(self) -> set[str]:
        """The id of every request the gateway recorded before it answered."""
        return {record["request_id"] for record in self._records if record["type"] == "INTENT"}

    def denials(self, cell: Cell, kind: str) -> int:
        """How often the gateway said no to a tenant of this row."""
        tenant = f"{kind}-{cell.lane.name}-{cell.client.name}-{cell.face.name}"
        return sum(record["type"] == "DENY" and record.get("tenant") == tenant for record in self._records)


def sentence(cell: Cell) -> str:
    """What the provider of this lane says."""
    return SECOND_SENTENCE if cell.lane.name == "aimock" else SENTENCE


@contextmanager
def matrix(directory: Path, cells: Iterable[Cell]) -> Iterator[Matrix]:
    """The world these cells need, and their programs at work in it."""
    runs: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        runs.setdefault((cell.lane.name, cell.client.name), []).append(cell)
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        upstream = stack.enter_context(UpstreamProcess(directory / "upstream.jsonl"))
        wanted = any(lane == "aimock" for lane, _ in runs)
        site = _site(upstream.root, stack.enter_context(_second_upstream()) if wanted else _NOWHERE)
        programs = {name: Program(members, site) for name, members in runs.items()}
        with GatewayProcess(site, directory) as gateway:
            running = Matrix(gateway, upstream, programs, directory / "homes")
            try:
                yield running
            finally:
                running.close()
            gateway.stop()
            gateway.verify()


def _site(fake: str, second: str) -> Site:
    """Every model of every lane, each at one provider."""
    site = Site(fake)
    site.server["heartbeat"] = "100ms"
    site.environ["AIMOCK_CREDENTIAL"] = "aimock-takes-any-credential-77aa"
    for provider, version in _PROVIDERS.items():
        other = f"aimock-{provider}"
        site.provider(provider, kind=provider, base_url=f"{fake}/{provider}{version}")
        site.provider(other, kind=provider, base_url=f"{second}{version}", credential="env:AIMOCK_CREDENTIAL")
        for kind, behaviour in _BEHAVIOURS.items():
            site.model(f"{provider}-{kind}", provider, upstream=behaviour)
            site.model(f"{other}-{kind}", other, upstream=f"mock-{kind}")
    site.model("gpt-4o-mini", "openai")
    return site


@contextmanager
def _second_upstream() -> Iterator[str]:
    assert NODE is not None
    process = subprocess.Popen(
        [NODE, HERE / "node" / "aimock.mjs", '{"models":{}}'],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 20)
        line = process.stdout.readline() if readable else b""
        assert line, "the second upstream did not start"
        yield json.loads(line)["root"]
    finally:
        process.terminate()
        process.communicate(timeout=20)
