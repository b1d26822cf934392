"""May they: allow-lists of tenants and keys, default deny, and silence about what others have."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.policy import Facts, Permit, Policy, bundle_of, visible_models
from securellm.telemetry.metrics import Metrics

NAMES = st.sampled_from(["a", "b", "c", "*"])
LISTS = st.frozensets(NAMES)
GATE = Policy(ManualClock(), metrics=Metrics())


def facts(
    model: str = "gpt",
    *,
    key_models: frozenset[str] = frozenset({"*"}),
    tenant_models: frozenset[str] = frozenset({"*"}),
    known_models: frozenset[str] = frozenset({"gpt", "claude"}),
) -> Facts:
    return Facts(
        tenant="acme",
        key_id="key_1",
        model=model,
        surface=Surface.CHAT,
        key_models=key_models,
        tenant_models=tenant_models,
        known_models=known_models,
        bundle="lists-1",
    )


def decide(asked: Facts) -> Permit | Code:
    try:
        return asyncio.run(GATE.permit(asked, decision_id="dec_1"))
    except Refusal as refusal:
        return refusal.code


def test_a_permit_names_the_model_the_decision_and_the_lists_it_rests_on() -> None:
    assert decide(facts()) == Permit(
        model="gpt", decision_id="dec_1", bundle="lists-1", reasons=("tenant.models", "key.models")
    )


def test_a_model_the_tenant_may_use_and_the_key_may_not_is_not_allowed() -> None:
    assert decide(facts(key_models=frozenset({"claude"}))) is Code.MODEL_NOT_ALLOWED


def test_empty_lists_allow_nothing() -> None:
    assert decide(facts(key_models=frozenset())) is Code.MODEL_NOT_ALLOWED
    assert decide(facts(tenant_models=frozenset())) is Code.UNKNOWN_MODEL
    assert decide(facts(known_models=frozenset())) is Code.UNKNOWN_MODEL


def test_a_model_of_others_is_refused_in_the_very_words_of_one_that_does_not_exist() -> None:
    refusals = []
    for asked in (facts("nowhere"), facts("claude", tenant_models=frozenset({"gpt"}))):
        for key_models in (frozenset({"*"}), frozenset[str]()):
            with pytest.raises(Refusal) as refused:
                asyncio.run(
                    GATE.permit(
                        Facts(**{**_members(asked), "key_models": key_models}),  # type: ignore[arg-type]
                        decision_id="dec_1",
                    )
                )
            refusals.append((refused.value.code, refused.value.reason, refused.value.param))
    assert set(refusals) == {(Code.UNKNOWN_MODEL, "there is no model of this name", "model")}


def _members(asked: Facts) -> dict[str, object]:
    return {name: getattr(asked, name) for name in asked.__struct_fields__}


def test_a_refusal_does_not_repeat_what_the_caller_wrote() -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(GATE.permit(facts("529.982.247-25"), decision_id="dec_1"))
    assert "529" not in str(refused.value)


@given(model=NAMES, key_models=LISTS, tenant_models=LISTS, known_models=LISTS)
def test_a_model_is_permitted_exactly_when_all_three_lists_hold_it(
    model: str, key_models: frozenset[str], tenant_models: frozenset[str], known_models: frozenset[str]
) -> None:
    due = (
        model != "*"
        and model in known_models
        and bool({model, "*"} & tenant_models)
        and bool({model, "*"} & key_models)
    )
    answer = decide(facts(model, key_models=key_models, tenant_models=tenant_models, known_models=known_models))
    assert isinstance(answer, Permit) is due
    visible = visible_models(key_models=key_models, tenant_models=tenant_models, known_models=known_models)
    assert (model in visible) is due


def test_visible_models_keep_the_declared_order() -> None:
    known = {"z": 1, "a": 2, "m": 3}
    assert visible_models(key_models=("*",), tenant_models={"z", "m"}, known_models=known.keys()) == ("z", "m")


def test_the_bundle_changes_exactly_when_the_lists_do() -> None:
    first = bundle_of(known_models=["a", "b"], tenant_models={"acme": ["a", "b"]})
    assert first == bundle_of(known_models={"b": 0, "a": 0}, tenant_models={"acme": ("b", "a")})
    others = [
        bundle_of(known_models=["a"], tenant_models={"acme": ["a", "b"]}),
        bundle_of(known_models=["a", "b"], tenant_models={"acme": ["a"]}),
        bundle_of(known_models=["a", "b"], tenant_models={"acm": ["a", "b"]}),
        bundle_of(known_models=["a", "b"], tenant_models={}),
    ]
    assert len({first, *others}) == 5
