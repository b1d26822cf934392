"""File and store are one configuration: one grammar, one set of checks, and each thing declared once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.bootstrap.stored import (
    ALL,
    BOOK,
    BUDGET,
    FILE,
    KEY_LIMITS,
    LIMITS,
    MODEL,
    PROVIDER,
    SECRETS,
    TENANT,
    loaded,
    stored,
    whole,
)

from securellm.bootstrap import effective as module
from securellm.bootstrap.compiling import compile_snapshot
from securellm.bootstrap.effective import (
    SHELVES,
    TREES,
    Document,
    Kind,
    Name,
    check,
    check_removal,
    compose,
    name_of,
    stored_documents,
)
from securellm.identity import KeyTable
from securellm.settings import ConfigError
from securellm.storage import ControlStore


def told(folder: Path, kind: Kind, document: Document, *, tenant: str = "", base: bool = True) -> list[str]:
    """What `check` says of one document, beside all the others or beside the file alone."""
    effective = whole(folder) if base else compose(loaded(folder), {}, book=BOOK)
    return [str(problem) for problem in check(kind, document, effective, book=BOOK, tenant=tenant)]


def test_what_is_stored_is_decided_by_as_if_it_stood_in_the_file(tmp_path: Path) -> None:
    effective = whole(tmp_path)
    snapshot = compile_snapshot(
        effective.config, KeyTable.of([]), BOOK, now_us=0, key_limits=effective.key_limits, store_version=7
    )
    text = FILE.replace(
        'id = "plain"', 'id = "plain"\nbudget = { month = "5.00 USD" }\nlimits = { requests_per_minute = 60 }'
    )
    text += """
[[providers]]
id = "far"
kind = "openai"
credential = "env:THEIR_API_KEY"

[[models]]
name = "big"
route = [{ provider = "far", model = "gpt-4o" }, { provider = "near", model = "small" }]

[[tenants]]
id = "globex"
models = ["big"]
guard = "strict"
stale_policy_fence = "2s"
"""
    alone = compose(loaded(tmp_path, text), {}, book=BOOK)
    from_file = compile_snapshot(alone.config, KeyTable.of([]), BOOK, now_us=0)
    assert (snapshot.models, snapshot.tenants) == (from_file.models, from_file.tenants)
    assert snapshot.provider_rates == from_file.provider_rates
    assert snapshot.tenants["globex"].fence == 2.0
    assert snapshot.key_rates["plain", "key_1"].parallel == 2
    assert snapshot.version == f"{from_file.version.removesuffix('@0')}@7"


@pytest.mark.parametrize(("kind", "tenant", "document"), ALL)
def test_each_may_be_stored_beside_the_others_and_replaced_by_itself(
    tmp_path: Path, kind: Kind, tenant: str, document: Document
) -> None:
    assert told(tmp_path, kind, document, tenant=tenant) == []


WRONG: list[tuple[Kind, Mapping[str, Any], str, str]] = [
    ("provider", {"credential": "sk-live-0123456789"}, "credential", "a literal secret"),
    ("provider", {"credential": "env:NOT_SET_API_KEY"}, "credential", "not set"),
    ("provider", {"kind": "opena"}, "kind", "did you mean openai?"),
    ("provider", {"base_url": "ftp://x"}, "base_url", "http"),
    ("provider", {"id": "../etc"}, "id", "not allowed"),
    ("provider", {"id": 5}, "id", "must be a string, not an integer"),
    ("provider", {"timeouts": {"total": 5}}, "timeouts.total", "must be a string"),
    ("provider", {"admin": True}, "admin", "no such key"),
    ("provider", {"limits": None}, "limits", "not null"),
    ("model", {"route": []}, "route", "is empty"),
    ("model", {"route": [{"provider": "fat", "model": "x"}]}, "route[0].provider", "did you mean far?"),
    ("model", {"price": {"input_per_million": "1.00 EUR"}}, "price", "every price in one currency"),
    ("tenant", {"models": ["bigger"]}, "models[0]", "did you mean big?"),
    ("tenant", {"stale_policy_fence": "1s"}, "stale_policy_fence", "least value"),
    ("tenant", {"stale_policy_fence": "2m"}, "stale_policy_fence", "longer than the gateway's own"),
    ("tenant", {"guard": "none"}, "guard", "known words"),
    ("tenant", {"policy": {"bundle": "/etc/passwd"}}, "policy", "names files of the host"),
    ("budget", {"month": "5"}, "month", "not an amount"),
    ("budget", {"month": "5.00 EUR"}, "month", "is in EUR"),
    ("budget", {"scope": "project"}, "scope", "nothing bounds a project by this yet"),
    ("budget", {"target": "acme"}, "target", "is another tenant"),
    ("limits", {"requests_per_minute": 0}, "requests_per_minute", "least value"),
]


@pytest.mark.requirement("PR-2")
@pytest.mark.parametrize(("kind", "change", "key", "reason"), WRONG)
def test_a_document_is_refused_as_its_table_in_the_file_would_be(
    tmp_path: Path, kind: Kind, change: Mapping[str, Any], key: str, reason: str
) -> None:
    tenant, document = next((tenant, document) for other, tenant, document in ALL if other == kind)
    (problem,) = told(tmp_path, kind, {**document, **change}, tenant=tenant)
    assert problem.startswith(f"{key}: "), problem
    assert reason in problem
    assert "sk-live" not in problem


def test_a_document_that_lacks_its_name_or_is_empty_is_refused(tmp_path: Path) -> None:
    for kind in SHELVES:
        assert told(tmp_path, kind, {}, tenant="acme"), kind
    assert any("missing" in problem for problem in told(tmp_path, "provider", {"kind": "openai"}))


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("provider", {**PROVIDER, "id": "near"}),
        ("model", {**MODEL, "name": "small"}),
        ("tenant", {"id": "acme"}),
    ],
)
def test_what_the_file_declares_is_not_declared_again(tmp_path: Path, kind: Kind, document: Document) -> None:
    (problem,) = told(tmp_path, kind, document)
    assert "is declared in the configuration file too" in problem
    with pytest.raises(ConfigError, match="is declared in the configuration file too") as refused:
        compose(loaded(tmp_path), stored(*ALL, (kind, "", document)), book=BOOK)
    assert refused.value.source == "the control store"


def test_a_tenant_has_one_budget_and_one_set_of_limits(tmp_path: Path) -> None:
    (problem,) = told(tmp_path, "budget", {**BUDGET, "target": "acme"}, tenant="acme")
    assert "has a budget already" in problem
    limited = {**TENANT, "limits": {"parallel": 5}}
    rows = stored(*ALL, ("tenant", "", limited), ("limits", "globex", {**LIMITS, "target": "globex"}))
    with pytest.raises(ConfigError, match="has limits already"):
        compose(loaded(tmp_path), rows, book=BOOK)
    (problem,) = told(tmp_path, "budget", {**BUDGET, "target": "nobody"}, tenant="nobody")
    assert "no such tenant" in problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
WORDS = sorted({name for tree in TREES.values() for name in tree.__struct_fields__})


@given(
    st.sampled_from(ALL),
    st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=10), JSON, max_size=5),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_document_whatsoever_is_more_than_refused(
    tmp_path: Path, row: tuple[Kind, str, Document], change: dict[str, Any], whole_new: bool
) -> None:
    kind, tenant, document = row
    for problem in check(
        kind, change if whole_new else {**document, **change}, whole(tmp_path), book=BOOK, tenant=tenant
    ):
        assert problem.reason


@pytest.mark.parametrize(
    ("kind", "id_", "key"),
    [("provider", "far", "models[big].route[0].provider"), ("model", "big", "tenants[globex].models[0]")],
)
def test_what_others_refer_to_is_not_removed(tmp_path: Path, kind: Kind, id_: str, key: str) -> None:
    (problem,) = check_removal(kind, id_, whole(tmp_path), book=BOOK)
    assert problem.key == key
    assert "has this" in problem.reason


def test_what_nobody_refers_to_may_go(tmp_path: Path) -> None:
    effective = whole(tmp_path)
    assert check_removal("tenant", "globex", effective, book=BOOK) == []
    assert check_removal("budget", "tenant:plain", effective, book=BOOK, tenant="plain") == []
    assert check_removal("provider", "near", effective, book=BOOK) == []


def test_a_change_that_breaks_something_else_says_what(tmp_path: Path) -> None:
    rows = (*ALL, ("model", "", {"name": "spoken", "route": [{"provider": "far", "model": "m", "surfaces": ["chat"]}]}))
    effective = compose(loaded(tmp_path), stored(*rows), book=BOOK)
    (problem,) = check("provider", {**PROVIDER, "kind": "anthropic"}, effective, book=BOOK)
    assert problem.key == "models[spoken].route[0].surfaces"
    assert "does not speak" in problem.reason


def test_a_secret_that_has_gone_since_does_not_stand_in_the_way_of_other_changes(tmp_path: Path) -> None:
    environ = dict(SECRETS)
    effective = whole(tmp_path, environ=environ)
    del environ["THEIR_API_KEY"]
    assert check("tenant", {"id": "fresh"}, effective, book=BOOK) == []
    (problem,) = check("provider", {**PROVIDER, "id": "another"}, effective, book=BOOK)
    assert problem.key == "credential"


def test_all_that_is_wrong_with_what_is_stored_is_told_at_once(tmp_path: Path) -> None:
    rows = stored(("provider", "", {**PROVIDER, "kind": "x"}), ("model", "", {**MODEL, "retries": 99}), *ALL[2:3])
    with pytest.raises(ConfigError) as refused:
        compose(loaded(tmp_path), rows, book=BOOK)
    keys = {problem.key for problem in refused.value.problems}
    assert {"providers[far].kind", "models[big].retries", "tenants[globex].models[0]"} <= keys


def test_a_document_under_another_name_than_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not bear the id"):
        compose(loaded(tmp_path), {Name("provider", "", "other"): PROVIDER}, book=BOOK)


def test_who_manages_what_and_how_it_was_written(tmp_path: Path) -> None:
    effective = whole(tmp_path)
    assert [effective.managed_by("provider", name) for name in ("near", "far", "none")] == ["file", "api", None]
    assert effective.managed_by("budget", "tenant:acme", tenant="acme") == "file"
    assert effective.managed_by("budget", "tenant:plain", tenant="plain") == "api"
    assert effective.managed_by("limits", "tenant:acme", tenant="acme") is None
    assert effective.names("model") == ("big", "small")
    assert effective.names("limits", tenant="plain") == ("key:key_1", "tenant:plain")
    assert effective.names("budget", tenant="acme") == ("tenant:acme",)
    assert effective.document("model", "big") == MODEL
    assert effective.document("tenant", "acme") == {"id": "acme", "budget": {"month": "10.00 USD", "hard": True}}
    assert effective.document("budget", "tenant:acme", tenant="acme") == {
        "scope": "tenant",
        "target": "acme",
        "month": "10.00 USD",
        "hard": True,
    }
    assert effective.document("tenant", "nobody") is None


def test_a_stored_tenant_without_screening_is_warned_about(tmp_path: Path) -> None:
    effective = whole(tmp_path, ("tenant", "", {"id": "loose", "guard": "off"}))
    (warning,) = effective.warnings
    assert (warning.key, "screened" in warning.reason) == ("tenants[loose].guard", True)


def test_what_is_put_on_the_shelves_is_read_back_by_its_name(tmp_path: Path) -> None:
    store = ControlStore.open(tmp_path / "control.db", migrate=True)
    try:
        for kind, tenant, document in ALL:
            name = name_of(kind, document, tenant=tenant)
            store.write(
                lambda session, name=name, document=document: SHELVES[name.kind].create(  # type: ignore[misc]
                    session, dict(document), id=name.id, tenant=name.tenant, now_us=0
                )
            )
        module._PAGE, before = 1, module._PAGE
        try:
            found = store.read(stored_documents)
        finally:
            module._PAGE = before
        assert found == stored(*ALL)
        assert KEY_LIMITS in found.values()
    finally:
        store.close()
