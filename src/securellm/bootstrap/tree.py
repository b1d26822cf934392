"""The whole configuration: every slice's keys put together in one tree."""

from typing import Annotated, Literal

import msgspec

from securellm.cache.settings import CacheSettings, ModelCache
from securellm.finops.settings import BudgetSettings, FinopsSettings, PriceSettings
from securellm.guard.model import GuardMode
from securellm.identity.settings import IdentitySettings, KeySettings, TenantSettings
from securellm.limits.settings import ProviderLimits, TenantLimits
from securellm.policy.settings import PolicySettings
from securellm.providers.settings import ProviderSettings, RouteTimeouts, Timeouts
from securellm.routing.settings import Capabilities, MaxOutput, Retries, RouteSettings
from securellm.secrets.settings import SecretsSettings
from securellm.settings import Bytes, Field, FilePath, HostName, Listen, Seconds, SecretRef


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The certificate both listeners show."""

    cert: Annotated[FilePath, Field(help="PEM file of the certificate and its chain")]
    key: Annotated[FilePath, Field(help="PEM file of its unencrypted key")]


class Startup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Code that the interpreter runs before the gateway: `.pth` files, `sitecustomize`, `usercustomize`. It has run
    by the time it is found."""

    foreign: Annotated[
        Literal["warn", "refuse"], Field(help="what to do at start about such a file that nobody knows")
    ] = "warn"
    admitted: Annotated[
        dict[str, str],
        Field(
            help="files that may be there: the SHA-256 of each in hex, by its name; `doctor` shows both",
            pattern=r"[0-9a-f]{64}",
            shape="64 hex digits",
        ),
    ] = msgspec.field(default_factory=dict)


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listeners and what they bear. Read at start only."""

    listen: Annotated[Listen, Field(help="where clients connect")] = Listen("127.0.0.1", 8080)
    admin_listen: Annotated[
        Listen | None, Field(help="where operators connect: health, metrics, `/admin/v1` (default: nowhere)")
    ] = None
    hosts: Annotated[
        tuple[HostName, ...],
        Field(
            help='names that clients may call `listen` by, such as "llm.bank.example" or "*.bank.example"; addresses '
            "and `localhost` always pass (default: any name)"
        ),
    ] = ()
    admin_hosts: Annotated[
        tuple[HostName, ...],
        Field(
            help="the same of `admin_listen`, beside the hosts of `identity.origins` (default: no other name where "
            "only this machine can connect, else any name)"
        ),
    ] = ()
    tls: Annotated[Tls | None, Field(help="serve TLS on both listeners")] = None
    insecure: Annotated[bool, Field(help="allow a listener without TLS that other machines can reach")] = False
    max_body: Annotated[Bytes, Field(help="largest request body, after inflation", ge=1024, le=1 << 30)] = Bytes(
        10 << 20
    )
    max_headers: Annotated[Bytes, Field(help="largest request head", ge=1024, le=1 << 20)] = Bytes(64 << 10)
    max_depth: Annotated[int, Field(help="deepest nesting of a JSON body", ge=1, le=256)] = 64
    request_timeout: Annotated[Seconds, Field(help="from a request's first byte to its last", ge=0.001, le=3600)] = (
        Seconds(30.0)
    )
    gate_timeout: Annotated[
        Seconds, Field(help="longest time for one gate, beyond which the request is refused", ge=0.001, le=600)
    ] = Seconds(10.0)
    heartbeat: Annotated[Seconds, Field(help="longest silence of a stream to a client", ge=0.1, le=15)] = Seconds(10.0)
    drain: Annotated[
        Seconds, Field(help="time that requests in flight have to end after a stop was asked for", ge=0, le=3600)
    ] = Seconds(30.0)
    stale_policy_fence: Annotated[
        Seconds, Field(help="age of the last confirmed policy at which everything is refused", ge=1, le=86400)
    ] = Seconds(60.0)
    startup_code: Annotated[Startup, Field(help="code that ran before the gateway's")] = msgspec.field(
        default_factory=Startup
    )


class Storage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where records and state are kept. Read at start only."""

    url: Annotated[
        str,
        Field(
            help="`sqlite:///folder` beside this file, `sqlite:////folder` absolute: a folder of SQLite files; or "
            "`postgresql://role@host/database`: the control plane on a server"
        ),
    ] = "sqlite:///var/securellm"
    password: Annotated[SecretRef | None, Field(help="the role's password, where `url` names a server")] = None
    data_dir: Annotated[
        FilePath | None,
        Field(help='folder of the journal and the keys, where `url` names a server (default: "var/securellm")'),
    ] = None


class Security(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway's own secrets. Each one left out is a file under `keys/` in the data folder, made at first start."""

    pepper: Annotated[SecretRef | None, Field(help="key under which virtual keys are hashed: 64 hex digits")] = None
    admin_token: Annotated[SecretRef | None, Field(help="bearer token of the admin listener")] = None
    audit_key: Annotated[SecretRef | None, Field(help="Ed25519 seed that signs audit checkpoints: 64 hex digits")] = (
        None
    )


class Default(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is meant where a caller or an operator names nothing."""

    provider: Annotated[str | None, Field(help="id of a declared provider (default: the first)")] = None
    model: Annotated[str | None, Field(help="name of a declared model (default: the first)")] = None


class Provider(ProviderSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One upstream. What is not declared here is never spoken to."""

    limits: Annotated[
        ProviderLimits | None, Field(help="what we send it at most (default: the kind's, where it has one)")
    ] = None


class Route(RouteSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One place a model may be served from; they are tried in order."""

    timeouts: Annotated[RouteTimeouts | None, Field(help="this route's own timeouts over its provider's")] = None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the allow-list: a name that clients use and the ordered plan behind it."""

    name: Annotated[
        str,
        Field(
            help="name clients use",
            pattern=r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}",
            shape="up to 128 letters, digits and . _ : / @ + -, the first a letter or digit",
        ),
    ]
    route: Annotated[tuple[Route, ...], Field(help="places it is served from, in order", min_items=1)]
    retries: Retries = 2
    price: Annotated[PriceSettings | None, Field(help="overlay of the price book")] = None
    capabilities: Capabilities = None
    max_output: MaxOutput = None
    default_max_output: Annotated[
        int,
        Field(
            help="output cap set where a caller under a hard budget sets none, in tokens; at most `max_output`", ge=1
        ),
    ] = 4096
    context_window: Annotated[
        int | None, Field(help="tokens it takes in at most (default: the price book's figure, where it has one)", ge=1)
    ] = None
    max_image_tokens: Annotated[int | None, Field(help="tokens that one image can cost at most", ge=1)] = None
    cache: Annotated[ModelCache | None, Field(help="this model's own cache rules")] = None


class Tenant(TenantSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant: whose money, limits, cache and records these are."""

    budget: Annotated[BudgetSettings | None, Field(help="what it may spend (default: no limit)")] = None
    limits: Annotated[TenantLimits, Field(help="how fast it may ask")] = msgspec.field(default_factory=TenantLimits)
    guard: Annotated[GuardMode, Field(help="how strict screening is")] = GuardMode.STANDARD
    policy: Annotated[PolicySettings, Field(help="its own policy bundle, which must permit too")] = msgspec.field(
        default_factory=PolicySettings
    )
    stale_policy_fence: Annotated[
        Seconds | None,
        Field(help="age of the last confirmed policy at which this tenant is refused (default: the server's)", ge=2),
    ] = None


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs on standard error; never content."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Field(help="least severity that is written")] = (
        "info"
    )
    format: Annotated[Literal["json", "console"], Field(help="one JSON object a line, or text for a person")] = "json"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration file."""

    mode: Annotated[
        Literal["production", "demo", "test"],
        Field(help="`demo` and `test` alone allow a provider that only pretends"),
    ] = "production"
    server: Annotated[Server, Field(help="listeners and limits")] = msgspec.field(default_factory=Server)
    storage: Annotated[Storage, Field(help="where records and state are kept")] = msgspec.field(default_factory=Storage)
    security: Annotated[Security, Field(help="the gateway's own secrets")] = msgspec.field(default_factory=Security)
    secrets: Annotated[SecretsSettings, Field(help="where secrets are kept")] = msgspec.field(
        default_factory=SecretsSettings
    )
    default: Annotated[Default, Field(help="default provider and model")] = msgspec.field(default_factory=Default)
    providers: Annotated[tuple[Provider, ...], Field(help="at least one `[[providers]]`", min_items=1)]
    models: Annotated[tuple[Model, ...], Field(help="at least one `[[models]]`: the allow-list", min_items=1)]
    tenants: Annotated[tuple[Tenant, ...], Field(help="tenants declared in the file")] = ()
    keys: Annotated[tuple[KeySettings, ...], Field(help="virtual keys declared in the file")] = ()
    identity: Annotated[IdentitySettings, Field(help="people and services")] = msgspec.field(
        default_factory=IdentitySettings
    )
    policy: Annotated[PolicySettings, Field(help="the policy bundle of all tenants")] = msgspec.field(
        default_factory=PolicySettings
    )
    cache: Annotated[CacheSettings, Field(help="the exact cache")] = msgspec.field(default_factory=CacheSettings)
    finops: Annotated[FinopsSettings, Field(help="reservations")] = msgspec.field(default_factory=FinopsSettings)
    log: Annotated[Log, Field(help="logs")] = msgspec.field(default_factory=Log)

    @property
    def default_provider(self) -> str:
        """The id of the one default provider."""
        return self.default.provider or self.providers[0].id

    @property
    def default_model(self) -> str:
        """The name of the one default model."""
        return self.default.model or self.models[0].name

    def models_of(self, tenant: TenantSettings) -> tuple[str, ...]:
        """The names of the models `tenant` may use."""
        return tuple(model.name for model in self.models) if tenant.models is None else tenant.models

    def timeouts_of(self, route: Route) -> Timeouts:
        """The four timeouts of one route. Raises KeyError when its provider is not declared."""
        for provider in self.providers:
            if provider.id == route.provider:
                return provider.timeouts if route.timeouts is None else route.timeouts.over(provider.timeouts)
        raise KeyError(route.provider)
