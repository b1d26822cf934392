"""A tiny ASGI client, and an admin application over real keys in a real control database."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI
from tests.unit.clocks import ManualClock

from securellm.admin import KeyEvent, Part, Ports, ThreadedKeys, build_admin
from securellm.core.errors import GatewayError
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.identity import SCHEMA, KeyRegistry, KeyStore, declared_key
from securellm.storage import ControlStore

PEPPER = bytes(range(32))
TOKEN = "slb_admin_for-tests"
RIGHT = ("authorization", f"Bearer {TOKEN}")
WRONG = ("authorization", "Bearer slb_admin_for-test")

Header = tuple[str, str]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def exchange(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Sequence[Header] = (),
    chunks: Sequence[bytes] = (b"",),
    query: str = "",
    hang: bool = False,
) -> Answer:
    """One request. With `hang` the body never ends."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("203.0.113.7", 40000),
        "server": ("127.0.0.1", 8081),
    }
    waiting = list(chunks)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            body = waiting.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(waiting) or hang}
        if hang:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [message["type"] for message in sent][:1] == ["http.response.start"], sent
    names = [name.decode() for name, _ in sent[0]["headers"]]
    assert len(names) == len(set(names)), names
    return Answer(
        sent[0]["status"],
        {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


class Desk:
    """An admin application and everything behind it, in sight."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.clock = ManualClock()
        self.control = ControlStore.open(folder / "control.db", SCHEMA)
        store = KeyStore(self.control, pepper=PEPPER, clock=self.clock, randomness=SystemRandomness())
        self.declared = declared_key("sk-from-the-file", pepper=PEPPER, tenant="acme", models=("*",), name="file")
        self.registry = KeyRegistry(store, declared=[self.declared])
        self.events: list[KeyEvent] = []
        self.journal_failure: GatewayError | None = None
        self.parts = [Part(name="journal", well=True), Part(name="snapshot", well=True, detail="0.2 s old")]
        self.wait = 0.0
        self.refused: list[str] = []
        self.ports = Ports(
            **{
                "admin_token": lambda: TOKEN,
                "keys": ThreadedKeys(lambda: self.registry),
                "record": self.record,
                "tenants": lambda: {"acme", "globex"},
                "parts": lambda: self.parts,
                "metrics": lambda: b"# HELP up\n",
                "refused_credential": self.refuse,
                "new_id": self._ids().new_request,
                "clock": self.clock,
                "version": "1.2.3",
                **changes,
            }
        )
        self.app: FastAPI = build_admin(self.ports)

    async def record(self, event: KeyEvent) -> None:
        if self.journal_failure is not None:
            raise self.journal_failure
        self.events.append(event)

    def refuse(self, address: str) -> float:
        self.refused.append(address)
        return self.wait

    def _ids(self) -> "_Requests":
        return _Requests(Ids(self.clock, SystemRandomness()))

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Sequence[Header] = (RIGHT,),
        raw: bytes | None = None,
        query: str = "",
    ) -> Answer:
        """One request with the admin token, and `body` as JSON unless `raw` bytes are given."""
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        typed = [*headers, ("content-type", "application/json")] if content else headers
        return asyncio.run(exchange(self.app, method, path, headers=typed, chunks=[content], query=query))


class _Requests:
    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def new_request(self) -> str:
        return self._ids.new("req")
