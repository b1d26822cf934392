"""What providers, models, tenants and keys must fulfil beyond their grammar: what they name exists and fits."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from securellm.bootstrap.review import SHORT_KEY, Review
from securellm.bootstrap.tree import Model, Provider, Tenant
from securellm.core.capabilities import Capability
from securellm.core.surfaces import Surface
from securellm.finops import Price, PriceBook, configured
from securellm.guard.model import GuardMode
from securellm.routing.settings import RouteSettings
from securellm.secrets import SecretValue, header_safe
from securellm.settings import FilePath, SecretRef, is_loopback
from securellm.settings.fields import Amount, nearest
from securellm.settings.locator import Path as Place
from securellm.transport import TlsOptions
from securellm.transport.tls import build_context

SHORTEST_KEY = 8
"""Characters below which a virtual key is refused."""


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


def check_declared(review: Review, *, kinds: Mapping[str, KindFacts], book: PriceBook) -> None:
    """Look at what names each other."""
    _Declared(review, kinds, book).check()


class _Declared:
    """One pass over what is declared."""

    def __init__(self, review: Review, kinds: Mapping[str, KindFacts], book: PriceBook) -> None:
        config = review.config
        self._review = review
        self._kinds = kinds
        self._book = book
        self._prices: dict[str, tuple[Price | None, ...]] = {}
        self._providers = {provider.id: provider for provider in config.providers}
        self._models = {model.name: model for model in config.models}
        self._tenants = {tenant.id: tenant for tenant in config.tenants}

    def check(self) -> None:
        self._check_providers()
        self._check_models()
        self._check_default()
        self._check_tenants()
        self._check_keys()

    # Providers and models

    def _check_providers(self) -> None:
        self._check_unique("providers", "id", (provider.id for provider in self._review.config.providers))
        for index, provider in enumerate(self._review.config.providers):
            path: Place = ("providers", index)
            self._check_kind(path, provider)
            self._check_address(path, provider)
            self._review.header_secret(
                (*path, "credential"), provider.credential, remedy="store the provider's key alone, in one line"
            )
            self._check_trust(path, provider)

    def _check_kind(self, path: Place, provider: Provider) -> None:
        kind = self._kinds.get(provider.kind)
        if kind is None:
            known = sorted(self._kinds)
            self._review.refuse(
                (*path, "kind"),
                "no such kind of provider",
                f"write one of {', '.join(known)}",
                suggestion=nearest(provider.kind, known),
            )
            return
        if kind.demo_only and self._review.config.mode == "production" and not self._review.broken(("mode",)):
            self._review.refuse(
                (*path, "kind"),
                "this kind answers in demo and test mode only",
                'name a real provider, or set mode = "demo" at the top of the file',
            )
        if kind.credential_required and provider.credential is None:
            self._review.refuse(
                (*path, "credential"),
                f"missing: {_quoted(provider.id)} cannot be called without a credential",
                f'add credential = "env:{_variable(provider.id)}"',
            )
        if kind.default_base_url is None and provider.base_url is None:
            self._review.refuse((*path, "base_url"), "missing: this kind has no address of its own", "add base_url")
        if kind.default_rate is None and provider.limits is None:
            self._review.refuse(
                (*path, "limits"),
                "missing: this kind has no limits of its own",
                "add limits = { requests_per_minute = 600, burst = 60 }",
            )

    def _check_address(self, path: Place, provider: Provider) -> None:
        if provider.base_url is not None:
            remedy = 'write an address such as "https://api.example.com/v1"'
            target = self._review.address((*path, "base_url"), provider.base_url, remedy=remedy)
            if target is not None and target.scheme == "http" and not is_loopback(target.host):
                self._review.warn(
                    (*path, "base_url"),
                    "prompts and the credential cross the network without TLS",
                    "use https:// where the provider offers it",
                )
        if provider.proxy is not None:
            remedy = 'write "http://host:port"'
            proxy = self._review.address((*path, "proxy"), provider.proxy, remedy=remedy)
            if proxy is not None and (proxy.scheme != "http" or proxy.path):
                self._review.refuse((*path, "proxy"), "is not the address of an HTTP proxy", remedy)

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
        readable = [self._review.file(place, file) for place, file in files]
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
            self._review.refuse(files[0][0], str(error), "name PEM files; the key unencrypted and of that certificate")

    def _located(self, file: FilePath | None) -> Path | None:
        return None if file is None else self._review.base / file

    def _check_models(self) -> None:
        self._check_unique("models", "name", (model.name for model in self._review.config.models))
        for index, model in enumerate(self._review.config.models):
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
                self._review.refuse(
                    path,
                    f"{_quoted(route.provider)} does not speak {_quoted(surface)}",
                    f"name some of {', '.join(spoken)}",
                )

    def _check_capabilities(self, path: Place, capabilities: tuple[Capability, ...] | None) -> None:
        idle = [name for name in (Capability.PARALLEL_TOOLS, Capability.STRICT_TOOLS) if name in (capabilities or ())]
        if idle and Capability.TOOLS not in (capabilities or ()):
            self._review.warn(
                path, f"{_quoted(idle[0])} is of no use without {_quoted(Capability.TOOLS)}", "declare both"
            )

    def _check_pin(self, path: Place, model: Model) -> None:
        provider = model.name.partition("/")[0]
        if provider != model.name and provider in self._providers:
            elsewhere = next((route.provider for route in model.route if route.provider != provider), None)
            if elsewhere is not None:
                self._review.warn(
                    path,
                    f"reads as a pin to provider {_quoted(provider)}, yet a route leads to {_quoted(elsewhere)}",
                    "give it a name that begins with no provider's id",
                )

    def _check_one_price_each(self) -> None:
        first: dict[tuple[str, str], Model] = {}
        for index, model in enumerate(self._review.config.models):
            for route in model.route if model.price is not None else ():
                other = first.setdefault((route.provider, route.model), model)
                if other.price != model.price and not self._review.within(("models", index, "price")):
                    self._review.refuse(
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
        if model.price is None or self._review.within(path):
            return tuple(known)
        try:
            return tuple(configured(model.price, price) or price for price in known)
        except ValueError as error:
            self._review.refuse(
                path, str(error), "write all that the price book lacks, and every price in one currency"
            )
            return ()

    def _check_default(self) -> None:
        default = self._review.config.default
        if default.provider is not None:
            self._check_known(("default", "provider"), default.provider, "providers", "id", self._providers)
        if default.model is None:
            return
        self._check_known(("default", "model"), default.model, "models", "name", self._models)
        model = self._models.get(default.model)
        if model is None or default.provider is None:
            return
        if default.provider in self._providers and all(route.provider != default.provider for route in model.route):
            self._review.refuse(
                ("default", "model"),
                "no route of this model leads to the default provider",
                "name a model that the default provider serves",
            )

    # Tenants and keys

    def _check_tenants(self) -> None:
        self._check_unique("tenants", "id", (tenant.id for tenant in self._review.config.tenants))
        for index, tenant in enumerate(self._review.config.tenants):
            path: Place = ("tenants", index)
            for place, name in enumerate(tenant.models or ()):
                self._check_known((*path, "models", place), name, "models", "name", self._models)
            fence = tenant.stale_policy_fence
            if fence is not None and fence > self._review.config.server.stale_policy_fence:
                self._review.refuse(
                    (*path, "stale_policy_fence"),
                    "is longer than the gateway's own",
                    "write less than server.stale_policy_fence, or leave it out",
                )
            if tenant.guard is GuardMode.OFF:
                self._review.warn(
                    (*path, "guard"), "nothing this tenant sends or receives is screened", 'use "standard"'
                )
            if tenant.budget is not None and not self._review.within((*path, "budget")):
                self._check_budget((*path, "budget"), tenant, tenant.budget.month, hard=tenant.budget.hard)

    def _check_budget(self, path: Place, tenant: Tenant, month: Amount, *, hard: bool) -> None:
        for name in self._review.config.models_of(tenant):
            prices = self._prices.get(name, ())
            foreign = sorted({price.currency for price in prices if price is not None} - {month.currency})
            if foreign:
                self._review.refuse(
                    path,
                    f"is in {month.currency}, but model {_quoted(name)} is priced in {', '.join(foreign)}",
                    "write budget and prices in one currency",
                )
            elif hard and None in prices:
                self._review.warn(
                    path,
                    f"model {_quoted(name)} has a route of unknown price, which this hard budget refuses",
                    "add price = { input_per_million, output_per_million } to the model",
                )

    def _check_keys(self) -> None:
        seen: set[bytes] = set()
        for index, key in enumerate(self._review.config.keys):
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
                    self._review.warn(where, "the key's tenant may not use this model", "add it to the tenant's models")
            secret = self._review.secret((*path, "secret"), key.secret)
            if secret is not None:
                digest = hashlib.sha256(secret.reveal().encode()).digest()
                self._check_virtual_key((*path, "secret"), key.secret, secret, shared=digest in seen)
                seen.add(digest)

    def _check_virtual_key(self, path: Place, ref: SecretRef, secret: SecretValue, *, shared: bool) -> None:
        length = len(secret.reveal())
        if length < SHORTEST_KEY:
            self._review.refuse(
                path,
                f"{ref} holds fewer than {SHORTEST_KEY} characters",
                f"use a random key of {SHORT_KEY} characters or more, such as openssl rand -hex 24 makes",
            )
        elif not header_safe(secret):
            self._review.refuse(path, f"{ref} holds characters that no header can carry", "use letters and digits")
        elif shared:
            self._review.refuse(path, f"{ref} is the secret of another key too", "give each key a secret of its own")
        elif length < SHORT_KEY:
            self._review.warn(path, f"{ref} holds fewer than {SHORT_KEY} characters", "use a longer random key")

    # Names

    def _check_unique(self, table: str, key: str, names: Iterable[str]) -> None:
        seen: set[str] = set()
        for index, name in enumerate(names):
            if name in seen:
                self._review.refuse(
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
        self._review.refuse(path, f"no [[{table}]] has this {key}", remedy, suggestion=near)

    def _names_are_unsure(self, table: str, key: str) -> bool:
        """Whether a declared name could not be read: a reference to it is then no mistake of its own."""
        broken = self._review.broken
        return broken((table,)) or any(
            broken((table, index, key)) for index in range(len(getattr(self._review.config, table)))
        )


def _quoted(name: str) -> str:
    """A declared name, which has been checked to be short and plain, inside a sentence."""
    return f'"{name}"'


def _variable(provider: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", provider.upper()) + "_API_KEY"
