"""A control plane on disk with everything of identity on it, and an issuer that signs whatever a test wants."""

import asyncio
import base64
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from joserfc import jwk, jws
from joserfc.errors import SecurityWarning
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, UpstreamFailure
from securellm.core.randomness import SystemRandomness
from securellm.identity import (
    Actor,
    Callers,
    Directory,
    Grant,
    Issuers,
    Keyring,
    Login,
    Role,
    Sessions,
    Tokens,
    User,
)
from securellm.identity.settings import IssuerSettings
from securellm.storage import EVERYWHERE, ControlStore, Scope, Session

T = TypeVar("T")

PEPPER = bytes(range(32))
ISSUER = "https://login.example.com"
AUDIENCE = "https://bridge.example.com/api"
ORIGIN = "https://console.example.com"
RSA = jwk.RSAKey.generate_key(2048, {"kid": "one"})
OTHER_RSA = jwk.RSAKey.generate_key(2048, {"kid": "two"})
EC = jwk.ECKey.generate_key("P-256", {"kid": "curve"})


def run(awaitable: Any) -> Any:
    return asyncio.run(awaitable)


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def settings(**changes: Any) -> IssuerSettings:
    return IssuerSettings(**{"id": "corp", "issuer": ISSUER, "audience": AUDIENCE, **changes})


def key_set(*keys: jwk.Key) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def claims(now_us: int, **changes: Any) -> dict[str, Any]:
    """Claims that prove `worker` to us; a change of None leaves the claim out."""
    now = now_us // 1_000_000
    told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "worker", "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in told.items() if value is not None}


def sign(told: Mapping[str, Any] | bytes, key: jwk.Key = RSA, *, alg: str = "RS256", **header: Any) -> str:
    payload = told if isinstance(told, bytes) else json.dumps(told).encode()
    protected = {"alg": alg, "kid": key.kid, **header}
    protected = {name: value for name, value in protected.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    registry.max_header_length = 1 << 20
    with warnings.catch_warnings():
        # The library would rather see "Ed25519", which few issuers write yet.
        warnings.simplefilter("ignore", SecurityWarning)
        return jws.serialize_compact(protected, payload, key, algorithms=[alg], registry=registry)


class Network:
    """What an issuer serves: documents by address. Counts what was asked, and fails when it is down."""

    def __init__(self, *keys: jwk.Key) -> None:
        self.documents: dict[str, bytes] = {
            f"{ISSUER}/.well-known/openid-configuration": json.dumps(
                {
                    "issuer": ISSUER,
                    "jwks_uri": f"{ISSUER}/keys",
                    "authorization_endpoint": f"{ISSUER}/auth",
                    "token_endpoint": f"{ISSUER}/token",
                    "authorization_response_iss_parameter_supported": True,
                }
            ).encode()
        }
        self.down = False
        self.asked: list[str] = []
        self.forms: list[tuple[Mapping[str, str], str | None]] = []
        self.publish(*(keys or (RSA,)))

    def publish(self, *keys: jwk.Key) -> None:
        self.documents[f"{ISSUER}/keys"] = key_set(*keys)

    async def get(self, url: str, *, like: str) -> bytes:
        self.asked.append(url)
        # Lets others run, as a network would.
        await asyncio.sleep(0)
        if self.down or url not in self.documents:
            raise UpstreamFailure(Code.PROVIDER_UNREACHABLE, "the connection was refused")
        return self.documents[url]

    async def post(self, url: str, form: Mapping[str, str], *, like: str, authorization: str | None) -> bytes:
        self.forms.append((form, authorization))
        return await self.get(url, like=like)

    async def aclose(self) -> None:
        self.asked.append("closed")

    def readings(self) -> int:
        """How often the keys were read."""
        return self.asked.count(f"{ISSUER}/keys")


class World:
    def __init__(self, control: ControlStore, *issuers: IssuerSettings, network: Network | None = None) -> None:
        self.control = control
        self.clock = ManualClock()
        self.network = network or Network()
        randomness = SystemRandomness()
        homes = {issuer.issuer: issuer.tenant for issuer in issuers}
        self.directory = Directory(self.clock, randomness, issuers=homes)
        self.keyring = Keyring(PEPPER, self.clock, randomness)
        self.tokens = Tokens(PEPPER, self.clock, randomness, self.directory)
        self.sessions = Sessions(PEPPER, self.clock, randomness, idle=1800, life=43200)
        self.issuers = Issuers(issuers, outbound=lambda _: self.network, clock=self.clock, randomness=randomness)
        self.callers = Callers(
            self.control,
            admin_token=lambda: "slb_admin_0123456789",
            directory=self.directory,
            tokens=self.tokens,
            sessions=self.sessions,
            issuers=self.issuers,
            origins=lambda: [ORIGIN],
        )
        self.login = Login(
            self.control,
            issuers=self.issuers,
            directory=self.directory,
            sessions=self.sessions,
            pepper=PEPPER,
            client_secret=lambda _: "client secret",
            clock=self.clock,
            randomness=randomness,
            secure=True,
        )

    def write(self, change: Callable[[Session], T], *, tenant: str | None = None) -> T:
        return self.control.write(change, scope=EVERYWHERE if tenant is None else Scope(tenant))

    def read(self, query: Callable[[Session], T], *, tenant: str | None = None) -> T:
        return self.control.read(query, scope=EVERYWHERE if tenant is None else Scope(tenant))

    def person(self, *roles: Role, tenant: str | None = None, home: str | None = None) -> Actor:
        """Somebody with a way in, holding these roles."""

        def change(session: Session) -> User:
            user = self.directory.create_user(session, tenant=home, name="Ana")
            self.tokens.accept(session, self.tokens.invite(session, user.id))
            for role in roles:
                self.directory.add_grant(session, OWNER, principal=user.principal, role=role, tenant=tenant)
            return user

        return self.actor(self.write(change).principal)

    def actor(self, principal: str) -> Actor:
        def read(session: Session) -> Actor:
            holder = self.directory.holder(session, principal)
            return Actor(
                principal=principal,
                tenant=holder.tenant,
                grants=self.directory.grants_of(session, principal),
                method="token",
            )

        return self.read(read)


def granted(role: Role, *, tenant: str | None = None, project: str | None = None, to: str = "user:x") -> Grant:
    return Grant(id="g", principal=to, role=role, tenant=tenant, project=project, created_us=0, created_by="test")


def actor(*grants: Grant, tenant: str | None = None, principal: str = "user:x") -> Actor:
    return Actor(principal=principal, tenant=tenant, grants=grants, method="token")


OWNER = actor(granted(Role.OWNER), principal="user:first")
