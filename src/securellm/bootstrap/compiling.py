"""From a checked configuration and the virtual keys to the one immutable value the data plane decides by."""

from collections.abc import Mapping

import msgspec

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tree import Config, Model, Provider, Route, Tenant
from securellm.core.money import Nanos
from securellm.finops import Budget, Price, PriceBook, configured
from securellm.gateway.snapshot import ServedModel, Snapshot, TenantFacts
from securellm.identity import NO_SERVICES, KeyTable, ServiceTable, VirtualKey, declared_key
from securellm.limits import Rate
from securellm.limits.settings import TenantLimits
from securellm.policy import NO_POLICIES, Policies, bundle_of
from securellm.providers import KINDS
from securellm.routing import Candidate
from securellm.transport import Timeouts


def declared_keys(loaded: Loaded, *, pepper: bytes) -> tuple[VirtualKey, ...]:
    """The virtual keys of the file. The configuration was checked, so their secrets resolve."""
    return tuple(
        declared_key(
            loaded.resolver.resolve(key.secret).reveal(),
            pepper=pepper,
            tenant=key.tenant,
            models=key.models,
            name=key.name,
            surfaces=key.surfaces or (),
            expires_us=key.expires,
        )
        for key in loaded.config.keys
    )


def compile_snapshot(
    config: Config,
    keys: KeyTable,
    book: PriceBook,
    *,
    now_us: int,
    key_limits: Mapping[tuple[str, str], TenantLimits] = {},
    policies: Policies = NO_POLICIES,
    services: ServiceTable = NO_SERVICES,
    store_version: int = 0,
) -> Snapshot:
    """Everything a request is decided by, from what is declared and the keys as of now.

    `store_version` is the control store's, which rises with every change of a key or of a stored declaration.
    """
    providers = {provider.id: provider for provider in config.providers}
    overlay = _overlay(config, providers, book, now_us=now_us)
    priced = book.with_overlay(overlay)
    models = {model.name: _served(config, model, providers, priced, now_us=now_us) for model in config.models}
    tenants = {tenant.id: _tenant(config, tenant) for tenant in config.tenants}
    policy_version = bundle_of(
        known_models=models.keys(), tenant_models={name: facts.models for name, facts in tenants.items()}
    )
    return Snapshot(
        version=versioned("/".join(filter(None, (policy_version, policies.version, priced.version))), store_version),
        keys=keys,
        tenants=tenants,
        models=models,
        default_model=config.default_model,
        provider_rates={provider.id: provider_rate(provider) for provider in config.providers},
        policy_version=policy_version,
        key_rates={place: limits.rates() for place, limits in key_limits.items()},
        policies=policies,
        services=services,
    )


def versioned(version: str, store_version: int) -> str:
    """A snapshot's version once the control store is at `store_version`, with all else as it was."""
    return f"{version.partition('@')[0]}@{store_version}"


def with_keys(snapshot: Snapshot, changes: Mapping[str, VirtualKey | None], *, store_version: int) -> Snapshot:
    """The snapshot as a full compile would make it after a change of these keys alone. Raises `KeyConflict`."""
    return msgspec.structs.replace(
        snapshot, keys=snapshot.keys.changed(changes), version=versioned(snapshot.version, store_version)
    )


def provider_rate(provider: Provider) -> Rate:
    """What the file says, else the seed of the provider's kind."""
    if provider.limits is not None:
        return provider.limits.rate()
    seed = KINDS[provider.kind].default_rate
    return Rate(per_minute=seed.requests_per_minute, burst=seed.burst)


def _served(
    config: Config, model: Model, providers: dict[str, Provider], book: PriceBook, *, now_us: int
) -> ServedModel:
    candidates = tuple(_candidate(model, route, providers[route.provider]) for route in model.route)
    outputs = [candidate.max_output for candidate in candidates if candidate.max_output is not None]
    prices = {
        (route.provider, route.model): book.lookup(
            providers[route.provider].kind, route.model, provider=route.provider, now_us=now_us
        )
        for route in model.route
    }
    windows = [price.context_window for price in prices.values() if price is not None and price.context_window]
    return ServedModel(
        name=model.name,
        candidates=candidates,
        prices=prices,
        price_version=book.version,
        default_max_output=min((model.default_max_output, *outputs)),
        context_window=model.context_window or (max(windows) if windows else None),
        max_image_tokens=model.max_image_tokens,
        retries=model.retries,
        timeouts={(route.provider, route.model): _timeouts(config, route) for route in model.route},
        cached=config.cache.enabled if model.cache is None or model.cache.enabled is None else model.cache.enabled,
        cache_ttl=None if model.cache is None else model.cache.ttl,
    )


def _candidate(model: Model, route: Route, provider: Provider) -> Candidate:
    """One route, with what the model declares where the route itself says nothing."""
    offers = model.capabilities if route.capabilities is None else route.capabilities
    spoken = frozenset(KINDS[provider.kind].surfaces)
    return Candidate(
        provider=route.provider,
        upstream_model=route.model,
        surfaces=spoken if route.surfaces is None else spoken.intersection(route.surfaces),
        offers=None if offers is None else frozenset(offers),
        max_output=model.max_output if route.max_output is None else route.max_output,
    )


def _timeouts(config: Config, route: Route) -> Timeouts:
    limits = config.timeouts_of(route)
    return Timeouts(connect=limits.connect, first_byte=limits.first_byte, idle=limits.idle, total=limits.total)


def _tenant(config: Config, tenant: Tenant) -> TenantFacts:
    return TenantFacts(
        id=tenant.id,
        models=frozenset(config.models_of(tenant)),
        budget=_budget(tenant),
        rates=tenant.limits.rates(),
        guard=tenant.guard,
        fence=tenant.stale_policy_fence,
    )


def _budget(tenant: Tenant) -> Budget | None:
    if tenant.budget is None:
        return None
    month = tenant.budget.month
    return Budget(limit=Nanos(month.nanos), currency=month.currency, hard=tenant.budget.hard)


def budgets_of(config: Config) -> dict[str, Budget]:
    """The budgets the file declares, by tenant."""
    return {tenant.id: budget for tenant in config.tenants if (budget := _budget(tenant)) is not None}


def _overlay(
    config: Config, providers: dict[str, Provider], book: PriceBook, *, now_us: int
) -> dict[tuple[str, str], Price]:
    overlay: dict[tuple[str, str], Price] = {}
    for model in config.models:
        if model.price is None:
            continue
        for route in model.route:
            known = book.lookup(providers[route.provider].kind, route.model, now_us=now_us)
            price = configured(model.price, known)
            if price is not None:
                overlay[route.provider, route.model] = price
    return overlay
