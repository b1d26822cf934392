"""Metrics stand under the promised names, with labels of bounded sets, tenants apart."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from securellm.core.usage import Usage
from securellm.telemetry.metrics import Metrics

LABELS: dict[str, set[str]] = {
    "llm_request_latency_seconds": {"provider", "model"},
    "llm_tokens": {"provider", "model", "type"},
    "llm_errors": {"provider", "error_type"},
    "http_requests": {"surface", "status"},
    "http_request_duration_seconds": {"surface"},
    "http_unparseable_requests": {"cause"},
    "http_open_requests": set(),
    "refusals": {"code"},
    "admin_refusals": {"code"},
    "guard_verdicts": {"direction", "verdict"},
    "policy_shadow": {"result"},
    "cache_lookups": {"result"},
    "audit_lag_seconds": set(),
    "admin_break_glass": {"action"},
    "admin_done_alone": {"action"},
    "audit_healthy": set(),
    "audit_shipping_backlog": set(),
    "audit_shipping_age_seconds": set(),
    "audit_shipping_refused": set(),
    "startup_code_foreign": set(),
    "snapshot_age_seconds": set(),
    "credential_age_seconds": set(),
}
"""What the data plane shows, each with the labels whose values the configuration or the code bounds."""

OF_TENANTS: dict[str, set[str]] = {
    "spend_nanos": {"tenant", "currency"},
    "presumed_spend_nanos": {"tenant", "currency"},
    "corrected_spend_nanos": {"tenant", "currency"},
    "budget_nanos": {"tenant", "currency", "state"},
    "budget_overruns": {"tenant"},
}
"""What the admin listener adds."""


@pytest.fixture
def metrics() -> Metrics:
    """Every family with one series."""
    metrics = Metrics()
    for family, values in (
        (metrics.http_requests, ("chat", "200")),
        (metrics.unparseable, ("malformed_http",)),
        (metrics.refusals, ("rate_limited",)),
        (metrics.admin_refusals, ("forbidden",)),
        (metrics.verdicts, ("prompt", "allow")),
        (metrics.policy_shadow, ("agrees",)),
        (metrics.cache, ("hit",)),
        (metrics.broken_glass, ("approve",)),
        (metrics.done_alone, ("create",)),
        (metrics.llm_errors, ("openai", "timeout")),
        (metrics.spend, ("acme", "USD")),
        (metrics.presumed, ("acme", "USD")),
        (metrics.corrected, ("acme", "USD")),
        (metrics.overruns, ("acme",)),
    ):
        family.labels(*values).inc()
    metrics.http_duration.labels("chat").observe(0.1)
    metrics.llm_latency.labels("openai", "gpt").observe(0.1)
    metrics.budget.labels("acme", "USD", "settled").set(5)
    metrics.count_usage(Usage(input=3), provider="openai", model="gpt")
    return metrics


def families(text: bytes) -> Iterator[Metric]:
    """What a scraper reads; when a series began is said by gauges of their own, left out here."""
    for family in text_string_to_metric_families(text.decode("utf-8")):
        if not family.name.endswith("_created"):
            yield family


def labels_of(text: bytes) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in families(text):
        names = {name for sample in family.samples for name in sample.labels}
        found[family.name] = names - {"le"}
    return found


@pytest.mark.requirement("OB-2")
def test_the_data_plane_shows_the_promised_names_with_the_promised_labels(metrics: Metrics) -> None:
    assert labels_of(metrics.render(with_tenants=False)) == LABELS


@pytest.mark.requirement("OB-2")
def test_tenants_stand_only_where_they_are_asked_for(metrics: Metrics) -> None:
    assert b"acme" not in metrics.render(with_tenants=False)
    assert labels_of(metrics.render(with_tenants=True)) == LABELS | OF_TENANTS


def test_counters_are_exposed_as_totals_and_help_stands_with_each_family(metrics: Metrics) -> None:
    text = metrics.render(with_tenants=True).decode()
    for name in ("http_requests", "llm_tokens", "llm_errors", "refusals", "spend_nanos"):
        assert re.search(rf"^{name}_total\{{", text, re.MULTILINE), name
    assert all(family.documentation for family in families(text.encode()))


@pytest.mark.requirement("OB-2")
def test_each_bucket_of_usage_is_a_type_of_tokens_and_empty_ones_make_no_series() -> None:
    metrics = Metrics()
    metrics.count_usage(Usage(input=100, cache_read=30, reasoning=7), provider="openai", model="gpt")
    metrics.count_usage(Usage(input=1), provider="openai", model="gpt")
    tokens = next(family for family in families(metrics.render(with_tenants=False)) if family.name == "llm_tokens")
    counted = {sample.labels["type"]: sample.value for sample in tokens.samples if sample.name == "llm_tokens_total"}
    assert counted == {"input": 101, "cache_read": 30, "reasoning": 7}


def test_two_gateways_in_one_process_share_no_series() -> None:
    one, other = Metrics(), Metrics()
    one.refusals.labels("rate_limited").inc()
    assert b"rate_limited" not in other.render(with_tenants=True)


def test_a_label_value_cannot_break_the_exposition() -> None:
    metrics = Metrics()
    metrics.llm_errors.labels('a"b\\c\nd', "timeout").inc()
    names = [
        sample.labels["provider"]
        for family in families(metrics.render(with_tenants=False))
        for sample in family.samples
        if family.name == "llm_errors"
    ]
    assert set(names) == {'a"b\\c\nd'}
