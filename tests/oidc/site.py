"""Everything of identity against a real provider: sockets, disk, signatures; only the clock can be moved."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from tests.oidc.provider import API, REDIRECT

from securellm.core.clock import SystemClock
from securellm.core.randomness import SystemRandomness
from securellm.identity import (
    Actor,
    Callers,
    Credential,
    Directory,
    Entered,
    HttpOutbound,
    Identities,
    Issuers,
    Login,
    Proven,
    Role,
    Sessions,
    Tokens,
)
from securellm.identity.settings import IssuerSettings, LoginSettings, RoleMapping
from securellm.storage import ControlStore

T = TypeVar("T")

PEPPER = bytes(range(32))


class MovedClock(SystemClock):
    """The machine's clock, some seconds on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Site:
    """A gateway's identity for one issuer. Its pools belong to one event loop, so it owns one."""

    def __init__(self, folder: Path, issuer: str, *, client: str = "bridge") -> None:
        self.clock = MovedClock()
        self.control = ControlStore.open(folder / "control.db", migrate=True)
        self.settings = IssuerSettings(
            id="corp",
            issuer=issuer,
            audience=API,
            roles=(RoleMapping(group="auditors", role=Role.AUDITOR),),
            login=LoginSettings(
                client_id=client, redirect_uri=REDIRECT, scopes=("openid", "profile", "email", "groups")
            ),
        )
        randomness = SystemRandomness()
        self.directory = Directory(self.clock, randomness, issuers={issuer: None})
        self.tokens = Tokens(PEPPER, self.clock, randomness, self.directory)
        self.sessions = Sessions(PEPPER, self.clock, randomness, idle=1800, life=43200)
        self.issuers = Issuers(
            [self.settings], outbound=lambda _: HttpOutbound(), clock=self.clock, randomness=randomness
        )
        self.callers = Callers(
            self.control,
            admin_token=lambda: "slb_admin_0123456789",
            directory=self.directory,
            tokens=self.tokens,
            sessions=self.sessions,
            issuers=self.issuers,
            origins=tuple,
        )
        self.login = Login(
            self.control,
            issuers=self.issuers,
            directory=self.directory,
            sessions=self.sessions,
            pepper=PEPPER,
            client_secret=lambda _: "a+secret/with:marks%25&signs" if client == "bridge" else None,
            clock=self.clock,
            randomness=randomness,
            secure=False,
        )
        self.identities = Identities(PEPPER, self.clock, issuers=self.issuers)
        self._loop = asyncio.Runner()

    def run(self, question: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(question)

    def finish(self, location: str, cookie: str | None) -> Proven:
        """What the gateway makes of the browser that comes back to `location`."""
        assert location.startswith(f"{REDIRECT}?")
        return self.run(self.login.finish(urlsplit(location).query, cookie))

    def enter(self, proven: Proven) -> Entered:
        return self.control.write(lambda session: self.login.enter(session, proven))

    def recognise(self, **presented: Any) -> Actor:
        return self.run(self.callers.recognise(Credential(**presented), client_ip="127.0.0.1"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.issuers.aclose())
        self._loop.close()
        self.control.close()
