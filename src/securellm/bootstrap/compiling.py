"""From a checked configuration and the virtual keys to the one immutable value the data plane decides by."""

import hashlib

import msgspec

from securellm.bootstrap.config import Loaded
from securellm.bootstrap.tree import Config, Model, Provider, Route, Tenant
from securellm.core.canonical import canonical_bytes
from securellm.core.money import Nanos
from securellm.finops import Budget, Price, PriceBook
from securellm.finops.settings import PriceSettings
from securellm.gateway.snapshot import ServedModel, Snapshot, TenantFacts
from securellm.guard import GuardMode
from securellm.identity import KeyTable, VirtualKey, declared_key
from securellm.limits import Rate, TenantRates
from securellm.policy import bundle_of
from securellm.providers import KINDS
from securellm.routing import Candidate
from securellm.transport import Timeouts

_BUCKETS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "image_input",
)


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


def compile_snapshot(config: Config, keys: KeyTable, book: PriceBook, *, now_us: int) -> Snapshot:
    """Everything a request is decided by, from the file's declarations and the keys as of now."""
    providers = {provider.id: provider for provider in config.providers}
    overlay = _overlay(config, providers, book, now_us=now_us)
    priced = book.with_overlay(overlay)
    models = {model.name: _served(config, model, providers, priced, now_us=now_us) for model in config.models}
    tenants = {tenant.id: _tenant(config, tenant) for tenant in config.tenants}
    policy_version = bundle_of(
        known_models=models.keys(), tenant_models={name: facts.models for name, facts in tenants.items()}
    )
    key_digest = hashlib.sha256(
        canonical_bytes([[key.id, key.revoked_us, key.expires_us] for key in keys.by_digest.values()])
    ).hexdigest()
    return Snapshot(
        version=f"{policy_version}/{priced.version}/{key_digest[:12]}",
        keys=keys,
        tenants=tenants,
        models=models,
        default_model=config.default_model,
        provider_rates={provider.id: provider_rate(provider) for provider in config.providers},
        policy_version=policy_version,
    )


def provider_rate(provider: Provider) -> Rate:
    """What the file says, else the seed of the provider's kind."""
    if provider.limits is not None:
        per_minute = provider.limits.requests_per_minute
        return Rate(per_minute=per_minute, burst=provider.limits.burst or max(1, per_minute // 10))
    seed = KINDS[provider.kind].default_rate
    return Rate(per_minute=seed.requests_per_minute, burst=seed.burst)


def _served(
    config: Config, model: Model, providers: dict[str, Provider], book: PriceBook, *, now_us: int
) -> ServedModel:
    candidates = tuple(
        Candidate(
            provider=route.provider,
            upstream_model=route.model,
            surfaces=frozenset(KINDS[providers[route.provider].kind].surfaces),
        )
        for route in model.route
    )
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
        default_max_output=model.default_max_output,
        context_window=model.context_window or (max(windows) if windows else None),
        max_image_tokens=model.max_image_tokens,
        retries=model.retries,
        timeouts={(route.provider, route.model): _timeouts(config, route) for route in model.route},
        cached=config.cache.enabled if model.cache is None or model.cache.enabled is None else model.cache.enabled,
        cache_ttl=None if model.cache is None else model.cache.ttl,
    )


def _timeouts(config: Config, route: Route) -> Timeouts:
    limits = config.timeouts_of(route)
    return Timeouts(connect=limits.connect, first_byte=limits.first_byte, idle=limits.idle, total=limits.total)


def _tenant(config: Config, tenant: Tenant) -> TenantFacts:
    limits = tenant.limits
    requests = tokens = None
    if limits.requests_per_minute is not None:
        requests = Rate(
            per_minute=limits.requests_per_minute, burst=limits.burst or max(1, limits.requests_per_minute // 10)
        )
    if limits.tokens_per_minute is not None:
        # A whole minute's tokens may come at once: one long prompt is not a burst of requests.
        tokens = Rate(per_minute=limits.tokens_per_minute, burst=limits.tokens_per_minute)
    return TenantFacts(
        id=tenant.id,
        models=frozenset(config.models_of(tenant)),
        budget=_budget(tenant),
        rates=TenantRates(requests=requests, tokens=tokens, parallel=limits.parallel),
        guard=GuardMode(tenant.guard),
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
            price = _price(model.price, known)
            if price is not None:
                overlay[route.provider, route.model] = price
    return overlay


def _price(settings: PriceSettings, known: Price | None) -> Price | None:
    """The operator's figures over the book's; None while input or output has neither."""
    figures: dict[str, int] = {}
    currency = known.currency if known is not None else "USD"
    for bucket in _BUCKETS:
        stated = getattr(settings, f"{bucket}_per_million")
        if stated is not None:
            figures["cache_write_5m" if bucket == "cache_write" else bucket] = stated.picos
            currency = stated.currency
    if known is None and not {"input", "output"} <= figures.keys():
        return None
    base = known if known is not None else Price(input=figures["input"], output=figures["output"])
    # A price of the book that starts beyond a context length would undo an operator's flat price.
    return msgspec.structs.replace(
        base,
        **figures,
        currency=currency,
        long_context=() if figures else base.long_context,
        per_request=base.per_request if settings.per_request is None else settings.per_request.nanos,
        server_tools={**base.server_tools, **{name: fee.nanos for name, fee in settings.server_tools.items()}},
        service_tiers={**base.service_tiers, **settings.tiers},
    )
