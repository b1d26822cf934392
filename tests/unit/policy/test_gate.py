"""The gate: allow-lists first, then every bundle in force; what is remembered is what would be decided anew."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.clocks import ManualClock
from tests.unit.policy.asking import EVERYTHING, answered, bundle, compiled, facts, gate, in_force, question

from securellm.core.errors import Code, Fault, GatewayError
from securellm.core.surfaces import Surface
from securellm.policy import (
    NO_POLICIES,
    Action,
    Bundle,
    Facts,
    Obligations,
    Permit,
    Policies,
    Policy,
    PolicyDenied,
    Profile,
    Question,
)
from securellm.policy.engine import CompiledBundle, Failed
from securellm.policy.inforce import Scope
from securellm.policy.model import UNBOUND
from securellm.policy.rules import question_of
from securellm.telemetry.metrics import Metrics

pytestmark = pytest.mark.requirement("PO-1")

NO_GPT = '@id("no-gpt") forbid(principal, action, resource == Model::"gpt");'
CAREFUL = (
    '@id("careful") forbid(principal, action, resource) when { context has guard && context.guard.injection > 500 };'
)


def policies(**scopes: CompiledBundle) -> Policies:
    """Of bundles that were tried in this process; names as in `in_force`."""
    made: dict[str, Scope] = {}
    for name, rules in scopes.items():
        scope, _, shadow = name.partition("_")
        key = "" if scope == "installation" else scope
        field = "shadow" if shadow else "enforced"
        made[key] = msgspec.structs.replace(made.get(key, Scope()), **{field: rules})
    return Policies(made, version="policies-test")


ALL = compiled(EVERYTHING)
WITHOUT_GPT = compiled(EVERYTHING, NO_GPT)


def released(policy: Policy, asked: Facts, found: tuple[tuple[str, int], ...] | None) -> Permit | Code:
    try:
        return asyncio.run(policy.release(asked, found, decision_id="dec_1"))
    except (PolicyDenied, Fault) as error:
        return error.code


def shadow_counts(metrics: Metrics) -> dict[str, float]:
    return {
        sample.labels["result"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "policy_shadow_total" and sample.value
    }


def test_without_a_bundle_the_allow_lists_alone_decide() -> None:
    for none in (None, NO_POLICIES):
        permit = answered(gate(), facts(none))
        assert permit == Permit(
            model="gpt", decision_id="dec_1", bundle="lists-1", reasons=("tenant.models", "key.models")
        )
    assert answered(gate(), facts(policies(other=WITHOUT_GPT))) == answered(gate(), facts())


def test_the_allow_lists_speak_first_and_in_their_own_words() -> None:
    both = policies(installation=ALL)
    assert answered(gate(), facts(both, model="nowhere")) is Code.UNKNOWN_MODEL
    assert answered(gate(), facts(both, key_models=("claude",))) is Code.MODEL_NOT_ALLOWED


def test_the_installation_and_the_tenant_must_both_permit() -> None:
    assert isinstance(answered(gate(), facts(policies(installation=ALL, acme=ALL))), Permit)
    assert answered(gate(), facts(policies(installation=WITHOUT_GPT, acme=ALL))) is Code.POLICY_DENIED
    assert answered(gate(), facts(policies(installation=ALL, acme=WITHOUT_GPT))) is Code.POLICY_DENIED
    nothing = compiled('@id("never") forbid(principal, action, resource);')
    assert answered(gate(), facts(policies(acme=nothing))) is Code.POLICY_DENIED


def test_a_bundle_in_force_that_permits_nothing_denies_everything() -> None:
    other = compiled('@id("x") permit(principal, action, resource == Model::"x");')
    assert answered(gate(), facts(policies(installation=other))) is Code.POLICY_DENIED


def test_a_permit_names_every_bundle_and_policy_it_rests_on() -> None:
    permit = answered(gate(), facts(policies(installation=ALL, acme=WITHOUT_GPT), model="claude"))
    assert isinstance(permit, Permit)
    assert permit.bundle == f"lists-1 cedar-{ALL.hash} cedar-{WITHOUT_GPT.hash}"
    assert permit.reasons == ("tenant.models", "key.models", "all", "all")
    assert gate().basis(facts(policies(installation=ALL))) == f"lists-1 cedar-{ALL.hash}"


def test_a_denial_names_its_policies_to_the_operator_and_not_to_the_caller() -> None:
    with pytest.raises(PolicyDenied) as denied:
        asyncio.run(gate().permit(facts(policies(acme=WITHOUT_GPT)), decision_id="dec_1"))
    assert denied.value.rules == ("no-gpt",)
    assert "no-gpt" not in denied.value.reason
    assert denied.value.decision_id == "dec_1"


def test_a_surface_a_model_and_a_way_of_asking_can_be_told_apart() -> None:
    rules = compiled(
        '@id("chat") permit(principal, action in Action::"use_model", resource) when { context.surface == "chat" };',
        '@id("no-stream") forbid(principal, action == Action::"stream", resource);',
        '@id("embed") permit(principal, action == Action::"embed", resource);',
    )
    known = policies(acme=rules)
    assert isinstance(answered(gate(), facts(known)), Permit)
    assert answered(gate(), facts(known, stream=True)) is Code.POLICY_DENIED
    assert answered(gate(), facts(known, surface=Surface.MESSAGES)) is Code.POLICY_DENIED
    assert isinstance(answered(gate(), facts(known, surface=Surface.EMBEDDINGS)), Permit)
    # What a provider keeps is asked for by an action of its own.
    assert answered(gate(), facts(known, model="", errand="files.delete")) is Code.POLICY_DENIED


class Broken:
    """A bundle whose engine fails."""

    hash = "broken"
    mentions_guard = False

    def __init__(self, error: Exception) -> None:
        self._error = error

    def ask(self, question: Question) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [Failed("a policy failed"), ValueError("x"), RecursionError(), MemoryError()])
def test_an_engine_that_fails_never_permits_and_nothing_of_it_is_remembered(error: Exception) -> None:
    policy = gate()
    known = Policies({"acme": Scope(enforced=Broken(error))}, version="v")  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises((Fault, ValueError, RecursionError, MemoryError)):
            asyncio.run(policy.permit(facts(known), decision_id="dec_1"))


def test_a_bundle_that_cannot_be_loaded_closes_its_scope_and_no_other() -> None:
    known = in_force(acme=bundle('@id("a") permit(principal, action, resource) when { context.nope };'))
    assert known.broken.keys() == {"acme"}
    assert answered(gate(), facts(known)) is Code.GATE_FAILED
    assert isinstance(answered(gate(), facts(known, tenant="other")), Permit)
    everywhere = in_force(installation=bundle("grant all;"), other=bundle(EVERYTHING))
    for tenant in ("acme", "other"):
        assert answered(gate(), facts(everywhere, tenant=tenant)) is Code.GATE_FAILED


def test_a_bundle_in_the_shadow_that_cannot_be_loaded_is_left_out() -> None:
    known = in_force(acme_shadow=bundle("grant all;"))
    assert not known.broken
    assert isinstance(answered(gate(), facts(known)), Permit)


def test_what_screening_finds_is_asked_once_it_is_known() -> None:
    policy, known = gate(), policies(acme=compiled(EVERYTHING, CAREFUL))
    permit = answered(policy, facts(known))
    assert isinstance(permit, Permit)
    assert permit.awaits_guard
    assert permit.release_due
    final = released(policy, facts(known), (("injection", 400),))
    assert isinstance(final, Permit)
    assert not final.awaits_guard
    assert not final.release_due
    assert released(policy, facts(known), (("injection", 501),)) is Code.POLICY_DENIED
    assert released(policy, facts(known), None) is Code.GATE_FAILED


def test_approvals_are_counted() -> None:
    known = policies(acme=compiled('@id("two") @require_approval("2") permit(principal, action, resource);'))
    assert answered(gate(), facts(known, approved_by=1)) is Code.APPROVAL_REQUIRED
    permit = answered(gate(), facts(known, approved_by=2))
    assert isinstance(permit, Permit)
    assert permit.obligations.approvals == 2


def test_answers_under_other_obligations_are_not_interchangeable() -> None:
    plain = answered(gate(), facts(policies(acme=ALL)))
    texts = ('@redact("cpf")', '@redact("card")', '@route("a")', '@route("a, b")')
    terms = set()
    for text in texts:
        known = policies(acme=compiled(f'@id("x") {text} permit(principal, action, resource);'))
        permit = answered(gate(), facts(known))
        assert isinstance(permit, Permit)
        assert permit.obligations is not UNBOUND
        terms.add(permit.terms.partition(" redact")[2])
    assert isinstance(plain, Permit)
    assert plain.terms == plain.bundle
    assert len(terms) == len(texts)


def test_obligations_of_both_bundles_hold() -> None:
    known = policies(
        installation=compiled('@id("i") @redact("cpf") @route("a, b") permit(principal, action, resource);'),
        acme=compiled('@id("t") @redact("card") @route("b, c") permit(principal, action, resource);'),
    )
    permit = answered(gate(), facts(known))
    assert isinstance(permit, Permit)
    assert permit.obligations == Obligations(redact=frozenset({"cpf", "card"}), route=frozenset({"b"}))


RULES = compiled(
    '@id("use") @redact("cpf") permit(principal in Tenant::"acme", action in Action::"use_model", resource);',
    '@id("night") forbid(principal, action, resource) when { context.hour >= 22 };',
    '@id("sunday") forbid(principal, action, resource) when { context.weekday == 7 };',
    '@id("key") forbid(principal == Key::"k2", action, resource);',
    '@id("ana") forbid(principal in User::"ana", action, resource);',
    '@id("project") forbid(principal in Project::"p", action, resource);',
    '@id("role") forbid(principal in Role::"guest", action, resource);',
    '@id("stream") forbid(principal, action == Action::"stream", resource == Model::"claude");',
    '@id("surface") forbid(principal, action, resource) when { context.surface == "messages" };',
    '@id("channel") forbid(principal, action, resource) when { context.channel == "mcp" };',
    '@id("providers") forbid(principal, action, resource) when { context.providers.contains("us") };',
    '@id("needs") forbid(principal, action, resource) when { context.needs.contains("tools") };',
    '@id("approved") forbid(principal, action, resource) when { context.approved_by == 3 };',
    '@id("class") forbid(principal, action, resource) when { context has data_class && context.data_class > 2 };',
    '@id("region") forbid(principal, action, resource) when { context has region && context.region == "us" };',
    '@id("residency") forbid(principal, action, resource) when { context has residency && context.residency == "eu" };',
    '@id("budget") forbid(principal, action, resource) '
    'when { context has budget_state && context.budget_state == "low" };',
)
VARIED: dict[str, st.SearchStrategy[Any]] = {
    "tenant": st.sampled_from(["acme", "other"]),
    "key_id": st.sampled_from(["k1", "k2"]),
    "model": st.sampled_from(["gpt", "claude"]),
    "surface": st.sampled_from([Surface.CHAT, Surface.MESSAGES, Surface.EMBEDDINGS]),
    "errand": st.sampled_from([None, "files.get"]),
    "stream": st.booleans(),
    "principal": st.sampled_from(["", "service:s"]),
    "owner": st.sampled_from([None, "user:ana", "user:bob"]),
    "project": st.sampled_from([None, "p"]),
    "roles": st.sampled_from([frozenset(), frozenset({"guest"})]),
    "channel": st.sampled_from(["api", "mcp"]),
    "providers": st.sampled_from([frozenset({"br"}), frozenset({"us", "br"})]),
    "needs": st.sampled_from([frozenset(), frozenset({"tools"})]),
    "approved_by": st.sampled_from([0, 3]),
    "data_class": st.sampled_from([None, 1, 3]),
    "region": st.sampled_from([None, "us"]),
    "residency": st.sampled_from([None, "eu"]),
    "budget_state": st.sampled_from([None, "low"]),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=st.lists(st.tuples(st.fixed_dictionaries(VARIED), st.integers(0, 200)), min_size=2, max_size=12))
def test_a_remembered_decision_is_the_decision(asked: list[tuple[dict[str, Any], int]]) -> None:
    clock = ManualClock()
    start = clock.us
    known = policies(installation=RULES)
    warm = gate(clock)
    for members, hours in asked * 2:
        clock.us = start + hours * 3_600_000_000
        put = facts(known, **members)
        assert answered(warm, put) == answered(gate(clock), put)


def test_what_is_remembered_is_remembered_for_its_hour() -> None:
    clock = ManualClock(us=21 * 3_600_000_000 + 59 * 60_000_000)
    policy, known = gate(clock), policies(installation=RULES)
    assert isinstance(answered(policy, facts(known)), Permit)
    clock.advance(61.0)
    assert answered(policy, facts(known)) is Code.POLICY_DENIED
    clock.advance(2 * 3600.0)
    assert isinstance(answered(policy, facts(known)), Permit)


@pytest.mark.parametrize("member", sorted(VARIED))
def test_every_fact_is_part_of_the_question(member: str) -> None:
    asked = facts()
    questions = {
        question_of(msgspec.structs.replace(asked, **{member: value}), hour=0, weekday=1)
        for value in {
            "tenant": ("acme", "other"),
            "key_id": ("k1", "k2"),
            "model": ("gpt", "claude"),
            "surface": (Surface.CHAT, Surface.MESSAGES),
            "errand": (None, "files.get"),
            "stream": (False, True),
            "principal": ("", "service:s"),
            "owner": (None, "user:ana"),
            "project": (None, "p"),
            "roles": (frozenset(), frozenset({"guest"})),
            "channel": ("api", "mcp"),
            "providers": (frozenset(), frozenset({"us"})),
            "needs": (frozenset(), frozenset({"tools"})),
            "approved_by": (0, 3),
            "data_class": (None, 0),
            "region": (None, ""),
            "residency": (None, "eu"),
            "budget_state": (None, "low"),
        }[member]
    }
    assert len(questions) == 2


def test_every_fact_there_is_is_varied_above() -> None:
    lists = {"key_models", "tenant_models", "known_models", "bundle", "policies"}
    assert set(Facts.__struct_fields__) - lists == set(VARIED)


def test_memory_is_bounded_and_forgotten_with_the_policies() -> None:
    clock = ManualClock()
    policy = gate(clock, remembered=4)
    known = policies(acme=ALL)
    for number in range(20):
        answered(policy, facts(known, key_id=f"k{number}"))
    assert len(policy._memo) == 4
    answered(policy, facts(policies(acme=ALL), key_id="k19"))
    assert len(policy._memo) == 1


def test_a_changed_bundle_decides_at_once() -> None:
    policy = gate()
    assert isinstance(answered(policy, facts(policies(acme=ALL))), Permit)
    assert answered(policy, facts(policies(acme=WITHOUT_GPT))) is Code.POLICY_DENIED
    assert isinstance(answered(policy, facts(policies(acme=ALL))), Permit)


@pytest.mark.parametrize(
    ("enforced", "shadow", "counted"),
    [
        (None, ALL, "same"),
        (None, WITHOUT_GPT, "stricter"),
        (ALL, WITHOUT_GPT, "stricter"),
        (WITHOUT_GPT, ALL, "looser"),
        (WITHOUT_GPT, WITHOUT_GPT, "same"),
        (ALL, compiled('@id("x") @redact("cpf") permit(principal, action, resource);'), "otherwise_bound"),
        (ALL, Broken(Failed("x")), "error"),
        (ALL, compiled(EVERYTHING, CAREFUL), None),
    ],
)
def test_a_shadow_is_counted_and_never_decides(enforced: Any, shadow: Any, counted: str | None) -> None:
    metrics = Metrics()
    policy = Policy(ManualClock(), metrics=metrics)
    beside = Policies({"acme": Scope(enforced=enforced, shadow=shadow)}, version="v")
    alone = Policies({"acme": Scope(enforced=enforced)}, version="v")
    told, due = answered(policy, facts(beside)), answered(gate(), facts(alone))
    if isinstance(told, Permit) and isinstance(due, Permit):
        told = msgspec.structs.replace(told, release_due=due.release_due)
    assert told == due
    assert shadow_counts(metrics) == ({} if counted is None else {counted: 1.0})


@pytest.mark.parametrize(
    ("found", "counted"), [((), "same"), ((("injection", 900),), "stricter"), (None, "unscreened")]
)
def test_a_shadow_that_asks_the_guard_is_counted_after_screening(found: Any, counted: str) -> None:
    metrics = Metrics()
    policy = Policy(ManualClock(), metrics=metrics)
    known = policies(acme=ALL, acme_shadow=compiled(EVERYTHING, CAREFUL))
    permit = answered(policy, facts(known))
    assert isinstance(permit, Permit)
    assert not permit.awaits_guard
    assert permit.release_due
    assert isinstance(released(policy, facts(known), found), Permit)
    assert shadow_counts(metrics) == {counted: 1.0}


def performed(known: Policies, *fields: str, unruled: bool = False, **members: Any) -> Permit | Code:
    asked = question(**{"action": Action.PERFORM, "resource": "summarise", "fields": frozenset(fields), **members})
    try:
        return asyncio.run(gate().ask(asked, known, decision_id="dec_1", unruled=unruled))
    except GatewayError as error:
        return error.code


@pytest.mark.requirement("PO-2")
def test_an_action_needs_a_profile_in_force() -> None:
    profile = (Profile(action="summarise", fields=frozenset({"text"})),)
    known = in_force(installation=Bundle(profiles=profile))
    permit = performed(known, "text")
    assert isinstance(permit, Permit)
    assert permit.reasons == ("profile.summarise",)
    assert performed(known, "text", "secret") is Code.POLICY_DENIED
    assert performed(known, "text", resource="unknown") is Code.POLICY_DENIED
    assert performed(NO_POLICIES, "text") is Code.POLICY_DENIED
    assert performed(policies(acme_shadow=ALL), "text") is Code.POLICY_DENIED
    assert isinstance(performed(NO_POLICIES, "text", unruled=True), Permit)
    assert performed(policies(acme=compiled(EVERYTHING, CAREFUL)), "text") is Code.GATE_FAILED
    assert performed(in_force(acme=bundle("grant all;")), "text") is Code.GATE_FAILED
    approved = in_force(
        installation=Bundle(profiles=(Profile(action="summarise", fields=frozenset({"text"}), approvals=1),))
    )
    assert performed(approved, "text") is Code.APPROVAL_REQUIRED
    assert isinstance(performed(approved, "text", approved_by=1), Permit)
