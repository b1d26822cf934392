"""An installation with two tenants, people of every role and one of every thing, behind its live admin API."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from fastapi.routing import APIRoute
from tests.flows.inprocess import Asked, send
from tests.harness import Site, free_ports
from tests.postgres import ROLES, Database, Postgres
from tests.unit.admin.driver import Answer, Header, exchange

from securellm import preferences
from securellm.audit import verify
from securellm.bootstrap.admin import build_admin_app, build_ports, plane_of
from securellm.bootstrap.config import load_config
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, journal_observers
from securellm.bootstrap.wiring import Application
from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import IssuedToken, Role, User
from securellm.preferences import Preferences, Stated
from securellm.preferences.store import put
from securellm.providers import KINDS
from securellm.storage import Session

T = TypeVar("T")

OURS, THEIRS = "umbrella", "hooli"
"""The tenant that everything belongs to, and another one."""

CEDAR = '@id("all")\npermit (principal, action, resource);\n'


class Person(NamedTuple):
    """Somebody, and an access token of theirs."""

    user: User
    issued: IssuedToken

    @property
    def header(self) -> Header:
        return ("authorization", f"Bearer {self.issued.secret}")

    @property
    def principal(self) -> str:
        return self.user.principal


class Office:
    """The admin API of a real application inside this process, on one event loop."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.ports = build_ports(app, plane_of(app), randomness=SystemRandomness())
        self.admin = build_admin_app(app)
        self.host: Header = ("authorization", f"Bearer {app.keys.admin_token.reveal()}")
        self._loop = asyncio.new_event_loop()
        self._count = 0

    def close(self) -> None:
        self._loop.run_until_complete(self.app.drain())
        self._loop.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: "Person | Header | None" = None,
        headers: Sequence[Header] = (),
        query: str = "",
        raw: bytes | None = None,
    ) -> Answer:
        """One request below /admin/v1, by the host unless somebody else is named."""
        credential = self.host if by is None else by.header if isinstance(by, Person) else by
        given = [credential, *headers] if credential[0] else [*headers]
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        if content:
            given.append(("content-type", "application/json"))
        address = path if path.startswith("/") else f"/admin/v1/{path}"
        # Each from an address of its own: too many wrong credentials from one are slowed down.
        self._count += 1
        place = str(ip_address((10 << 24) + self._count))
        return self._loop.run_until_complete(
            exchange(self.admin, method, address, headers=given, chunks=[content], query=query, address=place)
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Something on the application's own loop."""
        return self._loop.run_until_complete(work)

    def made(self, path: str, body: Any, **options: Any) -> Any:
        """What a POST made."""
        answer = self.call("POST", path, body, **options)
        assert answer.status in (200, 201, 202), answer
        return answer.json

    def write(self, work: Callable[[Session], T]) -> T:
        return self.app.control.write(work)

    def person(self, role: Role | None = None, *, tenant: str | None = None, home: str | None = "same") -> Person:
        """Somebody with a role in `tenant` (None: the installation), who belongs there."""
        ports = self.ports
        where = tenant if home == "same" else home

        def make(session: Session) -> Person:
            user = ports.directory.create_user(session, tenant=where, name="Ann")
            _, issued = ports.tokens.accept(session, ports.tokens.invite(session, user.id))
            if role is not None:
                ports.directory._grant(session, user.principal, role, tenant=tenant, project=None, by="test")
            return Person(user, issued)

        return self.write(make)

    def routes(self) -> Iterator[tuple[str, APIRoute]]:
        """Every live route of the API and each method it takes."""
        for route in self.admin.routes:
            if isinstance(route, APIRoute) and route.path.startswith("/admin/v1"):
                for method in sorted(route.methods or ()):
                    yield method, route

    def ask(self, token: str, model: str) -> Answer:
        """One request to the data plane."""
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
        asked = Asked(
            template="/v1/chat/completions",
            surface=Surface.CHAT,
            stream=False,
            path="/v1/chat/completions",
            query="",
            content_type="application/json",
            body=body,
        )
        answer = self._loop.run_until_complete(send(self.app, asked, key=token))
        return Answer(answer.status, answer.headers, answer.body)

    def admin_records(self) -> list[dict[str, Any]]:
        """The ADMIN records, newest first."""
        records: list[dict[str, Any]] = []
        query = "type=ADMIN&limit=200"
        while True:
            page = self.call("GET", "audit/records", query=query).json
            records += page["data"]
            if page["next_cursor"] is None:
                return records
            query = f"type=ADMIN&limit=200&cursor={page['next_cursor']}"


ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
"""What the control plane may stand on: parameters of the fixtures that open an office."""


@contextmanager
def office(directory: Path, request: pytest.FixtureRequest) -> Iterator[Office]:
    """An installation on the engine of `request.param`; its file declares the tenant `acme`, providers and models."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        database = None
        if request.param == "postgres":
            server: Postgres = request.getfixturevalue("postgres_server")
            template = request.getfixturevalue("postgres_template")
            database = stack.enter_context(server.database(template=template))
        app = _application(directory, database)
        opened = Office(app)
        try:
            for tenant in (OURS, THEIRS):
                opened.made("tenants", {"id": tenant})
            yield opened
        finally:
            opened.close()
            app.close()
    report = verify(directory / "data" / "audit.db", schema=JOURNAL_SCHEMA, observers=journal_observers())
    assert report.intact, report.problems


def _application(directory: Path, database: Database | None) -> Application:
    site, data, path = Site("http://127.0.0.1:1"), directory / "data", directory / "securellm.toml"
    port, admin_port = free_ports(2)
    text = site.toml(data_dir=data, port=port, admin_port=admin_port)
    if database is not None:
        site.environ["CONTROL_PASSWORD"] = ROLES["gateway"]
        place = f'url = "{database.url()}"\npassword = "env:CONTROL_PASSWORD"\ndata_dir = "{data}"'
        text = text.replace(f'url = "sqlite:///{data}"', place)
        assert place in text
        site.environ["PEPPER"] = "5e" * 32
        text += '\n[security]\npepper = "env:PEPPER"\n'
    path.write_text(text, encoding="utf-8")
    loaded = load_config(path, environ=site.environ, provider_kinds=KINDS)
    return Application(loaded, clock=SystemClock(), randomness=SystemRandomness())


class Things(NamedTuple):
    """One of every thing of `OURS`, by its id."""

    ids: Mapping[str, str]
    owner: Person


def state(session: Session, tenant: str, principal: str) -> None:
    """What somebody prefers, as they would have said it on the data plane."""
    put(session, preferences.Person(tenant, principal), Preferences(tone="formal"), before=Stated(), now_us=1)


def furnish(opened: Office) -> Things:
    """Make one of everything that belongs to `OURS`, and what belongs to nobody."""
    owner = opened.person(Role.OWNER, tenant=OURS)
    someone = opened.person(tenant=OURS)
    opened.made(f"tenants/{OURS}/projects", {"id": "web"})
    service = opened.made("services", {"tenant": OURS})
    key = opened.made("keys", {"tenant": OURS, "models": ["*"]})
    denied = opened.ask(key["token"], "nothing")
    opened.made(f"tenants/{OURS}/budgets", {"scope": "tenant", "target": OURS, "month": "5.00 USD"})
    opened.made(f"tenants/{OURS}/limits", {"scope": "tenant", "target": OURS, "requests_per_minute": 60})
    opened.made("providers", {"id": "spare", "kind": "mock"})
    opened.made("models", {"name": "spare/model", "route": [{"provider": "spare", "model": "echo"}]})
    policy = opened.made("policies", {"tenant": OURS, "bundle": {"policies": CEDAR}, "reason": "to try it"})
    proposal = opened.made("grants", {"principal": someone.principal, "role": "developer", "tenant": OURS}, by=owner)
    opened.write(lambda session: state(session, OURS, someone.principal))
    grant = opened.call("GET", "grants", query=f"tenant={OURS}&principal={owner.principal}").json["data"][0]
    return Things(
        {
            "tenant": OURS,
            "project_id": "web",
            "user_id": someone.user.id,
            "service_id": service["id"],
            "key_id": key["id"],
            "token_id": owner.issued.token.id,
            "grant_id": grant["id"],
            "proposal_id": proposal["id"],
            "version_id": policy["id"],
            "decision_id": denied.headers["x-request-id"],
            "principal": someone.principal,
        },
        owner,
    )
