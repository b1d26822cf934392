"""A tiny ASGI client, and an admin application over a real control database with people of every kind."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from tests.unit.clocks import ManualClock

from securellm.admin import Cursors, Document, Found, Kind, Part, Ports, Repeats
from securellm.admin.app import build_admin
from securellm.approvals import Approvals
from securellm.audit import AdminDenied, AdminRead, Record
from securellm.bootstrap.control import ControlPlane
from securellm.bootstrap.recorded import Recorded
from securellm.bootstrap.tree import Tenant
from securellm.core.errors import Code, GatewayError, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import SystemRandomness
from securellm.identity import (
    Callers,
    Directory,
    Issuers,
    Keyring,
    Login,
    Role,
    Sessions,
    Tokens,
    User,
    declared_key,
)
from securellm.storage import ControlStore, Session

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
    address: str = "203.0.113.7",
) -> Answer:
    """One request from an address, to `Host` 127.0.0.1 unless told otherwise. With `hang` the body never ends."""
    named = headers if any(name == "host" for name, _ in headers) else [("host", "127.0.0.1:8081"), *headers]
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
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named],
        "client": (address, 40000),
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


class File:
    """Two tenants that the file declares, and nothing else: enough of `Declared` for keys and people."""

    TENANTS = ("acme", "globex")

    def tree(self, kind: Kind) -> type[msgspec.Struct]:
        return Tenant

    def find(self, session: Session, kind: Kind, name: str, *, tenant: str = "") -> Found | None:
        if kind != "tenant" or name not in self.TENANTS:
            return None
        return Found(name=name, document={"id": name}, managed_by="file")

    def page(
        self, session: Session, kind: Kind, *, tenant: str = "", after: str | None, limit: int
    ) -> tuple[Found, ...]:
        found = (self.find(session, kind, name) for name in self.TENANTS if after is None or name > after)
        return tuple(item for item in found if item is not None)[:limit]

    def check(
        self, session: Session, kind: Kind, before: Found | None, document: Document, *, tenant: str = ""
    ) -> None:
        raise AssertionError

    def create(self, session: Session, kind: Kind, document: Document, *, tenant: str = "") -> Found:
        raise Refusal(Code.CONFLICT, "this file takes no more")

    def replace(self, session: Session, kind: Kind, before: Found, document: Document, *, tenant: str = "") -> Found:
        raise AssertionError

    def remove(self, session: Session, kind: Kind, before: Found, *, tenant: str = "") -> None:
        raise AssertionError


class Desk:
    """An admin application and everything behind it, in sight."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.clock = ManualClock()
        self.control = ControlStore.open(folder / "control.db", migrate=True)
        randomness = SystemRandomness()
        self.declared = declared_key("sk-from-the-file", pepper=PEPPER, tenant="acme", models=("*",), name="file")
        self.keyring = Keyring(PEPPER, self.clock, randomness, declared=[self.declared])
        self.directory = Directory(self.clock, randomness)
        self.tokens = Tokens(PEPPER, self.clock, randomness, self.directory)
        self.approvals = Approvals(self.clock, randomness)
        self.records: list[Record] = []
        self.broken: list[str] = []
        self.alone: list[str] = []
        self.refreshed = 0
        self.journal_failure: GatewayError | None = None
        self.parts = [Part(name="journal", well=True), Part(name="snapshot", well=True, detail="0.2 s old")]
        self.wait = 0.0
        self.refused: list[str] = []
        self.denials: list[AdminDenied] = []
        self.looks: list[AdminRead] = []
        self.unknown: list[tuple[Code, str]] = []
        self.token = TOKEN
        self.sessions = Sessions(PEPPER, self.clock, randomness, idle=60, life=600)
        self.issuers = Issuers((), outbound=_no_issuer, clock=self.clock, randomness=randomness)
        callers = Callers(
            self.control,
            admin_token=lambda: self.token,
            directory=self.directory,
            tokens=self.tokens,
            sessions=self.sessions,
            issuers=self.issuers,
            origins=lambda: ("http://console",),
        )
        self.plane = ControlPlane(
            Recorded(lambda: self.control, record=self.record),
            refresh=self.refresh,
            clock=self.clock,
            done_alone=lambda action, glass: (self.broken if glass else self.alone).append(action),
        )
        self.ports = Ports(
            **{
                "callers": callers,
                "control": self.plane,
                "declared": File(),
                "keyring": lambda: self.keyring,
                "directory": self.directory,
                "tokens": self.tokens,
                "sessions": self.sessions,
                "session_life": 600.0,
                "login": self.login,
                "approvals": self.approvals,
                "cursors": Cursors(b"c" * 32),
                "repeats": Repeats(b"r" * 32, clock=self.clock),
                "declared_policies": lambda: (),
                "audit": folder / "audit.db",
                "parts": lambda: self.parts,
                "metrics": lambda: b"# HELP up\n",
                "refused_credential": self.refuse,
                "denied": self.deny,
                "looked": self.look,
                "denied_unknown": lambda error, address: self.unknown.append((error.code, address)),
                "set_up_done": lambda: None,
                "ids": Ids(self.clock, randomness),
                "clock": self.clock,
                "version": "1.2.3",
                "secure": False,
                **changes,
            }
        )
        self.app: FastAPI = build_admin(self.ports)

    def login(self) -> Login:
        return Login(
            self.control,
            issuers=self.issuers,
            directory=self.directory,
            sessions=self.sessions,
            pepper=PEPPER,
            client_secret=lambda _: None,
            clock=self.clock,
            randomness=SystemRandomness(),
            secure=False,
        )

    def record(self, records: tuple[Record, ...]) -> None:
        if self.journal_failure is not None:
            raise self.journal_failure
        self.records += records

    async def deny(self, record: AdminDenied) -> None:
        if self.journal_failure is not None:
            raise self.journal_failure
        self.denials.append(record)

    async def look(self, record: AdminRead) -> None:
        if self.journal_failure is not None:
            raise self.journal_failure
        self.looks.append(record)

    async def refresh(self) -> None:
        self.refreshed += 1

    def refuse(self, address: str) -> float:
        self.refused.append(address)
        return self.wait

    def close(self) -> None:
        self.control.close()

    def person(self, role: Role | None = None, *, tenant: str | None = "acme", of: str | None = "same") -> "Person":
        """Somebody who can sign in; with a role in `tenant`, and belonging to it or (`of=None`) to the installation."""
        home = tenant if of == "same" else of

        def make(session: Session) -> tuple[User, str]:
            user = self.directory.create_user(session, tenant=home, name="Ann")
            secret = self.tokens.invite(session, user.id)
            _, issued = self.tokens.accept(session, secret)
            if role is not None:
                self.directory._grant(session, user.principal, role, tenant=tenant, project=None, by="test")
            return user, issued.secret

        user, secret = self.control.write(make)
        return Person(user, secret)

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


class Person(NamedTuple):
    """A user and the text of an access token of theirs."""

    user: User
    token: str

    @property
    def header(self) -> Header:
        return ("authorization", f"Bearer {self.token}")


def _no_issuer(*settings: object) -> Any:
    raise AssertionError
