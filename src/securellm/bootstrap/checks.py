"""What a configuration must fulfil beyond its grammar: names exist, secrets resolve, listeners are safe."""

import hashlib
import os
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from securellm.bootstrap.places import check_server, is_private
from securellm.bootstrap.tree import Config, Model, Provider, Tenant
from securellm.core.capabilities import Capability
from securellm.core.surfaces import Surface
from securellm.finops import Price, PriceBook, configured
from securellm.guard.model import GuardMode
from securellm.identity import flaws_of
from securellm.routing.settings import RouteSettings
from securellm.secrets import SecretResolver, SecretUnavailable, SecretValue, header_safe
from securellm.settings import FilePath, Listen, Problem, SecretRef, is_loopback
from securellm.settings.fields import Amount, FieldError, nearest
from securellm.settings.loader import Complaints
from securellm.settings.locator import Path as Place
from securellm.settings.references import LOCAL
from securellm.storage import is_postgres
from securellm.transport import TlsOptions, parse_base_url
from securellm.transport.tls import build_context

SHORTEST_KEY = 8
"""Characters below which a virtual key is refused."""
SHORT_KEY = 24
"""Characters below which a virtual key is warned about."""

_HEX32 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class KindFacts(Protocol):
    """What the checks must know of a provider kind."""

    @property
    def default_base_url(self) -> str | None: ...

    @property
    def credential_required(self) -> bool: ...

    @property
    def demo_only(self) -> bool:
        """Whether it answers without a real provider behind it."""
        ...

    @property
    def surfaces(self) -> Mapping[Surface, str]:
        """What it speaks."""
        ...

    @property
    def default_rate(self) -> object | None:
        """The limits row that holds where the file has none."""
        ...


def data_folder(url: str, base: Path, *, beside: str | None = None) -> Path:
    """The folder `storage.url` names: three slashes from `base`, four absolute. Raises FieldError.

    Where it names a server, the folder is `beside`, which is `storage.data_dir`.
    """
    remedy = 'write "sqlite:///var/securellm" (beside this file) or "sqlite:////var/lib/securellm" (absolute)'
    if is_postgres(url):
        check_server(url)
        return Path(os.path.normpath(base / (beside or "var/securellm")))
    if not url.startswith("sqlite:///"):
        raise FieldError("is not a storage address", remedy)
    folder = url.removeprefix("sqlite:///")
    if folder in ("", "/") or ":memory:" in folder or any(mark in folder for mark in "?#\0"):
        raise FieldError("names no folder", remedy)
    return Path(os.path.normpath(base / folder))


class Review:
    """One pass over a configuration. Problems go to `complaints`; `warnings()` runs the pass."""

    def __init__(
        self,
        config: Config,
        complaints: Complaints,
        *,
        base: Path,
        resolver: SecretResolver,
        kinds: Mapping[str, KindFacts],
        book: PriceBook,
        resolves: Callable[[Place], bool] = lambda _: True,
    ) -> None:
        """`resolves` says of which places the secrets are looked at."""
        self._config = config
        self._complaints = complaints
        self._base = base
        self._resolver = resolver
        self._resolves = resolves
        self._kinds = kinds
        self._book = book
        self._prices: dict[str, tuple[Price | None, ...]] = {}
        self._warnings: list[tuple[Place, Problem]] = []
        self._providers = {provider.id: provider for provider in config.providers}
        self._models = {model.name: model for model in config.models}
        self._tenants = {tenant.id: tenant for tenant in config.tenants}
        self._dotenv_broken = False

    def warnings(self) -> tuple[Problem, ...]:
        """Check everything and say what is allowed but unwise."""
        self._check_dotenv()
        self._check_server()
        self._check_storage()
        self._check_secrets()
        self._check_security()
        self._check_identity()
        self.declared()
        return tuple(sorted((problem for _, problem in self._warnings), key=lambda problem: problem.line or 0))

    def declared(self) -> tuple[tuple[Place, Problem], ...]:
        """Check what names each other: providers, models, tenants and keys. Warnings with their places."""
        self._check_providers()
        self._check_models()
        self._check_default()
        self._check_tenants()
        self._check_keys()
        return tuple(self._warnings)

    def _refuse(self, path: Place, reason: str, remedy: str, *, suggestion: str | None = None) -> None:
        self._complaints.add(path, reason, remedy, suggestion=suggestion)

    def _warn(self, path: Place, reason: str, remedy: str) -> None:
        if not self._complaints.broken(path):
            self._warnings.append((path, self._complaints.problem(path, reason, remedy)))

    # Server and storage

    def _check_server(self) -> None:
        server = self._config.server
        if server.tls is not None:
            self._check_certificate(("server", "tls"), server.tls.cert, server.tls.key)
        self._check_listener(("server", "listen"), server.listen)
        if server.admin_listen is None:
            return
        self._check_listener(("server", "admin_listen"), server.admin_listen)
        if server.admin_listen == server.listen and server.listen.port:
            self._refuse(("server", "admin_listen"), "is the address of `listen`", "choose another port")

    def _check_listener(self, path: Place, listen: Listen) -> None:
        server = self._config.server
        if listen.loopback or server.tls is not None or self._complaints.broken(("server", "tls")):
            return
        if server.insecure:
            self._warn(path, "other machines reach it without TLS", "keep it behind a proxy that serves TLS")
        else:
            self._refuse(
                path,
                "other machines would reach it without TLS",
                "set [server.tls] cert and key, listen on 127.0.0.1, or set insecure = true behind a TLS proxy",
            )

    def _check_certificate(self, path: Place, cert: FilePath, key: FilePath) -> None:
        both = [self._check_file((*path, "cert"), cert), self._check_file((*path, "key"), key)]
        if not all(both):
            return
        try:
            # An empty password makes an encrypted key an error; without one OpenSSL would ask on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._base / cert, self._base / key, password="")
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or "not PEM"
            self._refuse(
                (*path, "cert"),
                f"cannot be used with its key: {str(why).lower().replace('_', ' ')}",
                "name a PEM certificate and the unencrypted PEM key that belongs to it",
            )

    def _check_file(self, path: Place, file: FilePath) -> bool:
        if self._complaints.broken(path):
            return False
        try:
            with (self._base / file).open("rb") as opened:
                opened.read(1)
        except OSError as error:
            why = error.strerror.lower() if error.strerror else "cannot be read"
            self._refuse(path, f"the file cannot be read: {why}", "name a file that the gateway's user can read")
            return False
        return True

    def _check_storage(self) -> None:
        storage = self._config.storage
        try:
            data_folder(storage.url, self._base, beside=storage.data_dir)
        except FieldError as error:
            self._refuse(("storage", "url"), error.reason, error.remedy)
            return
        if not is_postgres(storage.url):
            for name, value in (("password", storage.password), ("data_dir", storage.data_dir)):
                if value is not None:
                    self._refuse(("storage", name), "has no meaning for a folder of SQLite files", "leave it out")
            return
        self._resolve(("storage", "password"), storage.password)
        if self._config.security.pepper is None:
            self._refuse(
                ("security", "pepper"),
                "missing: all gateways on one server recognise the same keys, so they share one pepper",
                'make one with openssl rand -hex 32, and add pepper = "env:NAME" or "file:PATH" under [security]',
            )
        if not is_private(storage.url):
            self._warn(
                ("storage", "url"),
                "what is stored may cross the network in clear, or to somebody else's server",
                "add ?sslmode=verify-full&sslrootcert=FILE to the address",
            )

    # Secrets

    def _check_dotenv(self) -> None:
        try:
            self._resolver.dotenv()
        except SecretUnavailable as unavailable:
            self._dotenv_broken = True
            self._refuse((".env",), f"{unavailable.reason} ({unavailable.reference})", unavailable.remedy)

    def _resolve(self, path: Place, ref: SecretRef | None) -> SecretValue | None:
        if ref is None or self._complaints.broken(path) or not self._resolves(path):
            return None
        try:
            return self._resolver.resolve(ref)
        except SecretUnavailable as unavailable:
            if not (self._dotenv_broken and unavailable.reference != str(ref)):
                self._refuse(path, str(unavailable), unavailable.remedy)
            return None

    def _check_secrets(self) -> None:
        secrets = self._config.secrets
        if secrets.max_age < secrets.refresh:
            self._refuse(
                ("secrets", "max_age"), "is shorter than `refresh`", "a credential must live to its next reading"
            )
        vault, gcp = secrets.vault, secrets.gcp
        if vault is not None:
            path: Place = ("secrets", "vault")
            self._check_manager((*path, "address"), vault.address)
            shown = {"token": vault.token, "role_id": vault.role_id, "secret_id": vault.secret_id, "jwt": vault.jwt}
            for name in {"token": ("token",), "approle": ("role_id", "secret_id"), "kubernetes": ("jwt",)}[vault.auth]:
                self._check_opener((*path, name), shown[name], needed=f'auth = "{vault.auth}"')
            if vault.auth == "kubernetes" and vault.role is None:
                self._refuse((*path, "role"), 'missing: auth = "kubernetes" needs it', "add the name of the role")
        if secrets.aws is not None and secrets.aws.endpoint is not None:
            self._check_manager(("secrets", "aws", "endpoint"), secrets.aws.endpoint)
        if gcp is not None:
            path = ("secrets", "gcp")
            self._check_manager((*path, "token_endpoint"), gcp.token_endpoint)
            if gcp.endpoint is not None:
                self._check_manager((*path, "endpoint"), gcp.endpoint)
            if gcp.auth == "service-account":
                self._check_opener((*path, "service_account"), gcp.service_account, needed='auth = "service-account"')
        for name, manager in (("vault", vault), ("aws", secrets.aws), ("gcp", gcp)):
            if manager is not None and manager.ca_file is not None:
                self._check_file(("secrets", name, "ca_file"), manager.ca_file)

    def _check_manager(self, path: Place, address: str) -> None:
        try:
            target = parse_base_url(address)
        except ValueError as error:
            self._refuse(path, str(error), 'write an address such as "https://vault.example.com:8200"')
        else:
            if target.scheme == "http" and not is_loopback(target.host):
                self._refuse(path, "secrets would cross the network without TLS", "use https://")

    def _check_opener(self, path: Place, ref: SecretRef | None, *, needed: str) -> None:
        """What opens a secret manager is kept on this machine."""
        if ref is None:
            self._refuse(path, f"missing: {needed} needs it", f'add {path[-1]} = "file:PATH"')
        elif ref.scheme not in LOCAL and not self._complaints.broken(path):
            self._refuse(path, "is itself kept in a secret manager", 'write "env:NAME", "file:PATH" or "keyring:…"')

    def _check_identity(self) -> None:
        for flaw in flaws_of(self._config.identity):
            self._refuse(flaw.place, flaw.reason, flaw.remedy)
        for index, issuer in enumerate(self._config.identity.issuers):
            path: Place = ("identity", "issuers", index)
            if issuer.ca_file is not None:
                self._check_file((*path, "ca_file"), issuer.ca_file)
            if issuer.login is not None:
                place: Place = (*path, "login", "client_secret")
                secret = self._resolve(place, issuer.login.client_secret)
                if secret is not None and not header_safe(secret):
                    self._refuse(
                        place,
                        f"{issuer.login.client_secret} holds spaces or characters that no header can carry",
                        "store the client's secret alone, in one line",
                    )

    def _check_security(self) -> None:
        security = self._config.security
        for name, ref in (("pepper", security.pepper), ("audit_key", security.audit_key)):
            secret = self._resolve(("security", name), ref)
            if secret is not None and _HEX32.fullmatch(secret.reveal()) is None:
                self._refuse(("security", name), f"{ref} does not hold 64 hex digits", "make one: openssl rand -hex 32")
        token = self._resolve(("security", "admin_token"), security.admin_token)
        if token is not None and (len(token.reveal()) < SHORT_KEY or not header_safe(token)):
            self._refuse(
                ("security", "admin_token"),
                f"{security.admin_token} does not hold {SHORT_KEY} or more printable ASCII characters",
                "make one: openssl rand -hex 32",
            )

    # Providers and models

    def _check_providers(self) -> None:
        self._check_unique("providers", "id", (provider.id for provider in self._config.providers))
        for index, provider in enumerate(self._config.providers):
            path: Place = ("providers", index)
            self._check_kind(path, provider)
            self._check_address(path, provider)
            secret = self._resolve((*path, "credential"), provider.credential)
            if secret is not None and not header_safe(secret):
                self._refuse(
                    (*path, "credential"),
                    f"{provider.credential} holds spaces or characters that no header can carry",
                    "store the provider's key alone, in one line",
                )
            self._check_trust(path, provider)

    def _check_kind(self, path: Place, provider: Provider) -> None:
        kind = self._kinds.get(provider.kind)
        if kind is None:
            known = sorted(self._kinds)
            self._refuse(
                (*path, "kind"),
                "no such kind of provider",
                f"write one of {', '.join(known)}",
                suggestion=nearest(provider.kind, known),
            )
            return
        if kind.demo_only and self._config.mode == "production" and not self._complaints.broken(("mode",)):
            self._refuse(
                (*path, "kind"),
                "this kind answers in demo and test mode only",
                'name a real provider, or set mode = "demo" at the top of the file',
            )
        if kind.credential_required and provider.credential is None:
            self._refuse(
                (*path, "credential"),
                f"missing: {_quoted(provider.id)} cannot be called without a credential",
                f'add credential = "env:{_variable(provider.id)}"',
            )
        if kind.default_base_url is None and provider.base_url is None:
            self._refuse((*path, "base_url"), "missing: this kind has no address of its own", "add base_url")
        if kind.default_rate is None and provider.limits is None:
            self._refuse(
                (*path, "limits"),
                "missing: this kind has no limits of its own",
                "add limits = { requests_per_minute = 600, burst = 60 }",
            )

    def _check_address(self, path: Place, provider: Provider) -> None:
        if provider.base_url is not None:
            try:
                target = parse_base_url(provider.base_url)
            except ValueError as error:
                self._refuse((*path, "base_url"), str(error), 'write an address such as "https://api.example.com/v1"')
            else:
                if target.scheme == "http" and not is_loopback(target.host):
                    self._warn(
                        (*path, "base_url"),
                        "prompts and the credential cross the network without TLS",
                        "use https:// where the provider offers it",
                    )
        if provider.proxy is not None:
            remedy = 'write "http://host:port"'
            try:
                proxy = parse_base_url(provider.proxy)
            except ValueError as error:
                self._refuse((*path, "proxy"), str(error), remedy)
            else:
                if proxy.scheme != "http" or proxy.path:
                    self._refuse((*path, "proxy"), "is not the address of an HTTP proxy", remedy)

    def _check_trust(self, path: Place, provider: Provider) -> None:
        files = [
            ((*path, name), file)
            for name, file in (
                ("ca_file", provider.ca_file),
                ("client_cert", provider.client_cert),
                ("client_key", provider.client_key),
            )
            if file is not None
        ]
        readable = [self._check_file(place, file) for place, file in files]
        if not files or not all(readable):
            return
        try:
            build_context(
                TlsOptions(
                    ca_file=self._located(provider.ca_file),
                    client_cert=self._located(provider.client_cert),
                    client_key=self._located(provider.client_key),
                )
            )
        except ValueError as error:
            self._refuse(files[0][0], str(error), "name PEM files; the key unencrypted and of that certificate")

    def _located(self, file: FilePath | None) -> Path | None:
        return None if file is None else self._base / file

    def _check_models(self) -> None:
        self._check_unique("models", "name", (model.name for model in self._config.models))
        for index, model in enumerate(self._config.models):
            for place, route in enumerate(model.route):
                path: Place = ("models", index, "route", place, "provider")
                self._check_known(path, route.provider, "providers", "id", self._providers)
                self._check_surfaces(("models", index, "route", place, "surfaces"), route)
                self._check_capabilities(("models", index, "route", place, "capabilities"), route.capabilities)
            self._check_capabilities(("models", index, "capabilities"), model.capabilities)
            self._check_pin(("models", index, "name"), model)
            self._prices[model.name] = self._prices_of(index, model)

        self._check_one_price_each()

    def _check_surfaces(self, path: Place, route: RouteSettings) -> None:
        provider = self._providers.get(route.provider)
        spoken = self._kinds[provider.kind].surfaces if provider is not None and provider.kind in self._kinds else None
        if route.surfaces is None or spoken is None:
            return
        for surface in route.surfaces:
            if surface not in spoken:
                self._refuse(
                    path,
                    f"{_quoted(route.provider)} does not speak {_quoted(surface)}",
                    f"name some of {', '.join(spoken)}",
                )

    def _check_capabilities(self, path: Place, capabilities: tuple[Capability, ...] | None) -> None:
        idle = [name for name in (Capability.PARALLEL_TOOLS, Capability.STRICT_TOOLS) if name in (capabilities or ())]
        if idle and Capability.TOOLS not in (capabilities or ()):
            self._warn(path, f"{_quoted(idle[0])} is of no use without {_quoted(Capability.TOOLS)}", "declare both")

    def _check_pin(self, path: Place, model: Model) -> None:
        provider = model.name.partition("/")[0]
        if provider != model.name and provider in self._providers:
            elsewhere = next((route.provider for route in model.route if route.provider != provider), None)
            if elsewhere is not None:
                self._warn(
                    path,
                    f"reads as a pin to provider {_quoted(provider)}, yet a route leads to {_quoted(elsewhere)}",
                    "give it a name that begins with no provider's id",
                )

    def _check_one_price_each(self) -> None:
        first: dict[tuple[str, str], Model] = {}
        for index, model in enumerate(self._config.models):
            for route in model.route if model.price is not None else ():
                other = first.setdefault((route.provider, route.model), model)
                if other.price != model.price and not self._complaints.within(("models", index, "price")):
                    self._refuse(
                        ("models", index, "price"),
                        f"model {_quoted(other.name)} gives another price to the same place of the same provider",
                        "give both the same price: the provider asks only one",
                    )

    def _prices_of(self, index: int, model: Model) -> tuple[Price | None, ...]:
        """What the model costs on each of its routes; None where nobody knows."""
        providers = [(self._providers.get(route.provider), route.model) for route in model.route]
        places = [(provider.kind, name) for provider, name in providers if provider and provider.kind in self._kinds]
        known = [self._book.lookup(kind, name) for kind, name in places]
        path: Place = ("models", index, "price")
        if model.price is None or self._complaints.within(path):
            return tuple(known)
        try:
            return tuple(configured(model.price, price) or price for price in known)
        except ValueError as error:
            self._refuse(path, str(error), "write all that the price book lacks, and every price in one currency")
            return ()

    def _check_default(self) -> None:
        default = self._config.default
        if default.provider is not None:
            self._check_known(("default", "provider"), default.provider, "providers", "id", self._providers)
        if default.model is None:
            return
        self._check_known(("default", "model"), default.model, "models", "name", self._models)
        model = self._models.get(default.model)
        if model is None or default.provider is None:
            return
        if default.provider in self._providers and all(route.provider != default.provider for route in model.route):
            self._refuse(
                ("default", "model"),
                "no route of this model leads to the default provider",
                "name a model that the default provider serves",
            )

    # Tenants and keys

    def _check_tenants(self) -> None:
        self._check_unique("tenants", "id", (tenant.id for tenant in self._config.tenants))
        for index, tenant in enumerate(self._config.tenants):
            path: Place = ("tenants", index)
            for place, name in enumerate(tenant.models or ()):
                self._check_known((*path, "models", place), name, "models", "name", self._models)
            fence = tenant.stale_policy_fence
            if fence is not None and fence > self._config.server.stale_policy_fence:
                self._refuse(
                    (*path, "stale_policy_fence"),
                    "is longer than the gateway's own",
                    "write less than server.stale_policy_fence, or leave it out",
                )
            if tenant.guard is GuardMode.OFF:
                self._warn((*path, "guard"), "nothing this tenant sends or receives is screened", 'use "standard"')
            if tenant.budget is not None and not self._complaints.within((*path, "budget")):
                self._check_budget((*path, "budget"), tenant, tenant.budget.month, hard=tenant.budget.hard)

    def _check_budget(self, path: Place, tenant: Tenant, month: Amount, *, hard: bool) -> None:
        for name in self._config.models_of(tenant):
            prices = self._prices.get(name, ())
            foreign = sorted({price.currency for price in prices if price is not None} - {month.currency})
            if foreign:
                self._refuse(
                    path,
                    f"is in {month.currency}, but model {_quoted(name)} is priced in {', '.join(foreign)}",
                    "write budget and prices in one currency",
                )
            elif hard and None in prices:
                self._warn(
                    path,
                    f"model {_quoted(name)} has a route of unknown price, which this hard budget refuses",
                    "add price = { input_per_million, output_per_million } to the model",
                )

    def _check_keys(self) -> None:
        seen: set[bytes] = set()
        for index, key in enumerate(self._config.keys):
            path: Place = ("keys", index)
            self._check_known((*path, "tenant"), key.tenant, "tenants", "id", self._tenants)
            tenant = self._tenants.get(key.tenant)
            allowed = None if tenant is None else tenant.models
            for place, name in enumerate(key.models):
                if name == "*":
                    continue
                where: Place = (*path, "models", place)
                self._check_known(where, name, "models", "name", self._models)
                if allowed is not None and name not in allowed:
                    self._warn(where, "the key's tenant may not use this model", "add it to the tenant's models")
            secret = self._resolve((*path, "secret"), key.secret)
            if secret is not None:
                digest = hashlib.sha256(secret.reveal().encode()).digest()
                self._check_virtual_key((*path, "secret"), key.secret, secret, shared=digest in seen)
                seen.add(digest)

    def _check_virtual_key(self, path: Place, ref: SecretRef, secret: SecretValue, *, shared: bool) -> None:
        length = len(secret.reveal())
        if length < SHORTEST_KEY:
            self._refuse(
                path,
                f"{ref} holds fewer than {SHORTEST_KEY} characters",
                f"use a random key of {SHORT_KEY} characters or more, such as openssl rand -hex 24 makes",
            )
        elif not header_safe(secret):
            self._refuse(path, f"{ref} holds characters that no header can carry", "use letters and digits")
        elif shared:
            self._refuse(path, f"{ref} is the secret of another key too", "give each key a secret of its own")
        elif length < SHORT_KEY:
            self._warn(path, f"{ref} holds fewer than {SHORT_KEY} characters", "use a longer random key")

    # Names

    def _check_unique(self, table: str, key: str, names: Iterable[str]) -> None:
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in seen:
                self._refuse(
                    (table, index, key), f"{_quoted(name)} is declared twice", f"give each of [[{table}]] its own {key}"
                )
            seen.add(name)

    def _check_known(self, path: Place, name: str, table: str, key: str, known: Mapping[str, object]) -> None:
        if name in known or self._names_are_unsure(table, key):
            return
        names = sorted(known)
        near = nearest(name, names)
        remedy = f"declare it under [[{table}]]"
        if near is None and 0 < len(names) <= 8:
            remedy += f", or write one of {', '.join(names)}"
        self._refuse(path, f"no [[{table}]] has this {key}", remedy, suggestion=near)

    def _names_are_unsure(self, table: str, key: str) -> bool:
        """Whether a declared name could not be read: a reference to it is then no mistake of its own."""
        broken = self._complaints.broken
        return broken((table,)) or any(
            broken((table, index, key)) for index in range(len(getattr(self._config, table)))
        )


def _quoted(name: str) -> str:
    """A declared name, which has been checked to be short and plain, inside a sentence."""
    return f'"{name}"'


def _variable(provider: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", provider.upper()) + "_API_KEY"
