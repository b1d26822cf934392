"""Prometheus metrics, by the names of REQUIREMENTS OB-2. Label sets are bounded by configuration, never by callers."""

from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from securellm.core.usage import Usage

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """A metric with labels, each series of which is looked up once: that costs more than counting does."""

    def __init__(self, metric: M) -> None:
        self.labels: Callable[..., M] = cache(metric.labels)


class Metrics:
    """Every instrument of the gateway, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.tenants = CollectorRegistry(auto_describe=True)
        """Series that name tenants: for the admin listener only."""
        self.http_requests = Family(
            Counter("http_requests", "HTTP requests answered", ["surface", "status"], registry=self.registry)
        )
        self.http_duration = Family(
            Histogram(
                "http_request_duration_seconds",
                "From the request line to the last byte",
                ["surface"],
                buckets=_LATENCY,
                registry=self.registry,
            )
        )
        self.open_requests = Gauge("http_open_requests", "Requests being served", registry=self.registry)
        self.unparseable = Family(
            Counter(
                "http_unparseable_requests", "Connections answered with a bare 400", ["cause"], registry=self.registry
            )
        )
        self.llm_latency = Family(
            Histogram(
                "llm_request_latency_seconds",
                "One attempt at a provider, to its last byte",
                ["provider", "model"],
                buckets=_LATENCY,
                registry=self.registry,
            )
        )
        self.llm_tokens = Family(
            Counter("llm_tokens", "Tokens billed by providers", ["provider", "model", "type"], registry=self.registry)
        )
        self.llm_errors = Family(
            Counter("llm_errors", "Failed attempts at providers", ["provider", "error_type"], registry=self.registry)
        )
        self.refusals = Family(Counter("refusals", "Requests refused, by code", ["code"], registry=self.registry))
        self.admin_refusals = Family(
            Counter("admin_refusals", "Calls of the admin listener refused, by code", ["code"], registry=self.registry)
        )
        self.verdicts = Family(
            Counter("guard_verdicts", "Guard verdicts", ["direction", "verdict"], registry=self.registry)
        )
        self.policy_shadow = Family(
            Counter(
                "policy_shadow",
                "Decisions of policy bundles in the shadow, beside those in force",
                ["result"],
                registry=self.registry,
            )
        )
        self.cache = Family(Counter("cache_lookups", "Exact cache look-ups", ["result"], registry=self.registry))
        self.audit_lag = Histogram(
            "audit_lag_seconds",
            "From a record's submission to its durability",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=self.registry,
        )
        self.broken_glass = Family(
            Counter(
                "admin_break_glass",
                "Changes that take two people and were made by one on the host",
                ["action"],
                registry=self.registry,
            )
        )
        self.done_alone = Family(
            Counter(
                "admin_done_alone",
                "Changes that take two people wherever there are two, made while there was one",
                ["action"],
                registry=self.registry,
            )
        )
        self.audit_healthy = Gauge("audit_healthy", "1 while the journal accepts records", registry=self.registry)
        self.audit_shipping_backlog = Gauge(
            "audit_shipping_backlog",
            "Records of the journal that PostgreSQL is not known to hold; 0 where none is shared",
            registry=self.registry,
        )
        self.audit_shipping_age = Gauge(
            "audit_shipping_age_seconds", "Since the oldest of those records was made", registry=self.registry
        )
        self.audit_shipping_refused = Gauge(
            "audit_shipping_refused",
            "1 while the journal is not shipped because it, or what PostgreSQL holds of it, was changed",
            registry=self.registry,
        )
        self.spend = Family(
            Counter("spend_nanos", "Settled cost in nano-units", ["tenant", "currency"], registry=self.tenants)
        )
        self.presumed = Family(
            Counter(
                "presumed_spend_nanos",
                "Cost presumed spent until reconciled, in nano-units",
                ["tenant", "currency"],
                registry=self.tenants,
            )
        )
        self.corrected = Family(
            Counter(
                "corrected_spend_nanos",
                "Cost presumed for batches that gave way to their true cost, in nano-units",
                ["tenant", "currency"],
                registry=self.tenants,
            )
        )
        self.budget = Family(
            Gauge(
                "budget_nanos",
                "Budget state of the current period, in nano-units",
                ["tenant", "currency", "state"],
                registry=self.tenants,
            )
        )
        self.overruns = Family(
            Counter("budget_overruns", "Calls billed above their reservation", ["tenant"], registry=self.tenants)
        )
        self.startup_code_foreign = Gauge(
            "startup_code_foreign",
            "Files whose code ran before the gateway's and that nobody admitted",
            registry=self.registry,
        )
        self.snapshot_age = Gauge(
            "snapshot_age_seconds", "Since the snapshot was last confirmed", registry=self.registry
        )

        self.credential_age = Gauge(
            "credential_age_seconds",
            "Since the least recently confirmed provider credential was read at its source",
            registry=self.registry,
        )

    def count_usage(self, usage: Usage, *, provider: str, model: str) -> None:
        for bucket in usage.__struct_fields__:
            tokens = getattr(usage, bucket)
            if tokens:
                self.llm_tokens.labels(provider, model, bucket).inc(tokens)

    def render(self, *, with_tenants: bool) -> bytes:
        """The text exposition format, version 0.0.4."""
        return generate_latest(self.registry) + (generate_latest(self.tenants) if with_tenants else b"")
