"""The real application inside the test's own process, spoken to through its ASGI face."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.harness import Site, free_ports

from securellm.audit import verify
from securellm.bootstrap.config import load_config
from securellm.bootstrap.wiring import JOURNAL_SCHEMA, Application
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.finops import LedgerReplay
from securellm.providers import KINDS

BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "any",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "temperature": 0,
    },
    "/v1/responses": {"model": "any", "input": "hello", "max_output_tokens": 5, "temperature": 0},
    "/v1/messages": {
        "model": "claude",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "temperature": 0,
    },
    "/v1/embeddings": {"model": "any", "input": "hello"},
}
"""A good request for every governed route; each may be answered from the cache, so that its gate is asked too."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def application(directory: Path, site: Site) -> Iterator[Application]:
    """Open it on a data folder below `directory`; at the end its audit must verify."""
    port, admin_port = free_ports(2)
    path = directory / "securellm.toml"
    data = directory / "data"
    path.write_text(site.toml(data_dir=data, port=port, admin_port=admin_port), encoding="utf-8")
    loaded = load_config(path, environ=site.environ, provider_kinds=KINDS)
    opened = Application(loaded, clock=SystemClock(), randomness=SystemRandomness())
    try:
        yield opened
    finally:
        opened.close()
    report = verify(data / "audit.db", schema=JOURNAL_SCHEMA, observers=(LedgerReplay(),))
    assert report.intact, report.problems


async def post(app: Application, path: str, body: object, *, key: str, headers: Mapping[str, str] = {}) -> Answer:
    """One request, whole. `body` is JSON unless it is bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8")
    sent: list[dict[str, Any]] = []
    received = False
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal received
        if not received:
            received = True
            return {"type": "http.request", "body": raw, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode("ascii"),
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {key}".encode("ascii")),
            (b"content-type", b"application/json"),
            *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()),
        ],
        "client": ("127.0.0.1", 50_000),
    }
    async with asyncio.timeout(20):
        await app.ingress(scope, receive, send)
    return Answer(
        status=sent[0]["status"],
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in sent[0]["headers"]},
        body=b"".join(message.get("body", b"") for message in sent[1:]),
    )
