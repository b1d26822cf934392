"""Recorded decisions asked again: by the same bundles alike, and what cannot be told is counted, never guessed."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.clocks import ManualClock
from tests.unit.policy.asking import EVERYTHING, bundle, compiled, facts, gate, question

from securellm.audit.model import _LONGEST_LIST
from securellm.core.errors import Code
from securellm.core.surfaces import Surface
from securellm.policy import (
    Bundle,
    BundleRefused,
    Declared,
    Facts,
    GuardFacts,
    Lineup,
    Policies,
    PolicyDenied,
    Question,
    Replay,
    Traffic,
    guard_facts,
    question_of,
)
from securellm.policy import replaying as replaying_module
from securellm.policy.inforce import Scope
from securellm.policy.replaying import FAILED, MOST_CHANGES, MOST_RULES, Inquiry, Replies
from securellm.policy.rules import HOUR

pytestmark = pytest.mark.requirement("PO-1")

REQUEST = "req_0123456789abcdefghjkmnpqrs"
LISTED = ("tenant.models", "key.models")

CLAUSES = (
    "context.hour > 11",
    "context.weekday == 6 || context.weekday == 7",
    'context.surface == "chat"',
    'context.providers.contains("us")',
    'context.needs.contains("tools")',
    "context.approved_by > 1",
    "context has data_class && context.data_class > 1",
    'context has region && context.region == "br"',
    'context has residency && context.residency == "eu"',
    'context has budget_state && context.budget_state == "low"',
    "context has guard && context.guard.injection > 500",
    'context has guard && context.guard.findings.contains("cpf")',
    'principal in Tenant::"acme"',
    'principal in Role::"clerk"',
    'principal in User::"ana"',
    'principal in Project::"p"',
    'principal == Key::"k1"',
    'resource == Model::"gpt"',
    'action == Action::"stream"',
)


@st.composite
def bundles(draw: st.DrawFn) -> tuple[str, ...]:
    policies = [draw(st.sampled_from((EVERYTHING, '@id("gpt") permit(principal, action, resource == Model::"gpt");')))]
    for number, clause in enumerate(draw(st.lists(st.sampled_from(CLAUSES), max_size=3, unique=True))):
        effect = draw(
            st.sampled_from(
                ("forbid", '@redact("cpf") permit', '@route("us") permit', '@require_approval("2") permit', "permit")
            )
        )
        said = effect.replace("permit", f'@id("p{number}") permit').replace("forbid", f'@id("p{number}") forbid')
        policies.append(f"{said}(principal, action, resource) when {{ {clause} }};")
    return tuple(policies)


ASKED: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    model=st.sampled_from(("gpt", "claude")),
    surface=st.sampled_from((Surface.CHAT, Surface.MESSAGES, Surface.EMBEDDINGS)),
    stream=st.booleans(),
    errand=st.sampled_from((None, None, None, "files.delete")),
    principal=st.sampled_from(("", "key:k1")),
    owner=st.sampled_from((None, "user:ana", "service:s2")),
    project=st.sampled_from((None, "p")),
    roles=st.sampled_from((frozenset(), frozenset({"clerk", "guest"}))),
    providers=st.sampled_from((frozenset(), frozenset({"us", "eu"}))),
    needs=st.sampled_from((frozenset(), frozenset({"tools"}))),
    approved_by=st.integers(0, 3),
    data_class=st.sampled_from((None, 1, 3)),
    region=st.sampled_from((None, "br")),
    residency=st.sampled_from((None, "eu")),
    budget_state=st.sampled_from((None, "low")),
)
FOUND = st.sampled_from(((), (("cpf", 1000),), (("injection", 400),), (("injection", 900), ("card", 1000))))
HOURS = st.integers(0, 24 * 7 - 1)


def in_force(old: Sequence[str], installation: Sequence[str]) -> Policies:
    scopes = {"acme": compiled(*old), "": compiled(*installation)}
    return Policies({name: Scope(enforced=made) for name, made in scopes.items()}, version="1")


def declared(**scopes: Sequence[str]) -> tuple[Declared, ...]:
    return tuple(
        Declared(tenant="" if name == "installation" else name, state="enforced", bundle=bundle(*texts))
        for name, texts in scopes.items()
    )


def inquired(inquiry: Inquiry) -> Replies:
    """As the child replies, in this process: for texts that the test itself wrote and that harm nothing."""
    places: dict[Any, int] = {}
    given = []
    ready = [compiled(*each.policies["main.cedar"].split("\n")) for each in inquiry.bundles]
    for asked, who in zip(inquiry.questions, inquiry.asks, strict=True):
        given.append(tuple(places.setdefault(ready[place].ask(asked), len(places)) for place in who))
    return Replies(answers=tuple(places), given=tuple(given))


def replayed(traffic: Traffic) -> Replay:
    return traffic._judged(inquired(traffic._inquiry()))


def decided(policies: Policies, asked: Facts, found: Any, clock: ManualClock) -> dict[str, Any]:
    """What the gate says, before and after screening, as a record has it."""
    policy = gate(clock)
    guard: GuardFacts | None = None
    try:
        permit = asyncio.run(policy.permit(asked, decision_id="dec_1"))
        guard = guard_facts(found)
        if permit.release_due:
            permit = asyncio.run(policy.release(asked, found, decision_id="dec_1"))
        held, rules = "allow", permit.reasons
    except PolicyDenied as denied:
        held = "deny" if denied.code is Code.POLICY_DENIED else "approval_required"
        rules = denied.rules
    return {"questions": (question_of(asked, hour=0, weekday=1, guard=guard),), "held": held, "rules": rules}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(old=bundles(), installation=bundles(), traffic=st.lists(st.tuples(ASKED, FOUND, HOURS), min_size=1, max_size=20))
def test_what_was_recorded_is_decided_again_by_the_same_bundles(
    old: tuple[str, ...], installation: tuple[str, ...], traffic: list[tuple[dict[str, Any], Any, int]]
) -> None:
    policies = in_force(old, installation)
    lineup = Lineup(declared(acme=old, installation=installation), bundle(*old), tenant="acme")
    kept = Traffic(lineup)
    for members, found, hour in traffic:
        clock = ManualClock(us=hour * HOUR + 1_800_000_000)
        asked = facts(policies, **members)
        kept.add(
            REQUEST,
            **decided(policies, asked, found, clock),
            tenant="acme",
            policy_version=f"lists-1 {policies.of('acme').basis}",
            from_us=clock.now_us() - 1_000_000,
            until_us=clock.now_us() + 1_000_000,
        )
    replay = replayed(kept)
    assert (replay.same, replay.changes, replay.not_replayable) == (len(traffic), (), {})
    assert (replay.drifted.count, replay.other_policies) == (0, 0)


# What is said of differences


def traffic_of(
    *asked: Question, new: Sequence[str], old: Sequence[str] = (EVERYTHING,), held: Any = "allow", **members: Any
) -> Traffic:
    lineup = Lineup(declared(acme=old), bundle(*new), tenant="acme")
    kept = Traffic(lineup)
    for each in asked or (question(guard=GuardFacts()),):
        told: dict[str, Any] = {
            "tenant": "acme",
            "held": held,
            "rules": (*LISTED, "all"),
            "policy_version": f"lists-1 {lineup.basis('acme')}",
            "from_us": 10 * HOUR,
            "until_us": 10 * HOUR + 1,
        }
        kept.add(REQUEST, (each,), **{**told, **members})
    return kept


FORBID = '@id("no") forbid(principal, action, resource);'


def test_a_record_that_contradicts_the_bundles_it_names_is_believed_by_nobody() -> None:
    for changed in ({"rules": (*LISTED, "other")}, {"held": "deny", "rules": ("no",)}):
        replay = replayed(traffic_of(new=(EVERYTHING, FORBID), **changed))
        assert (replay.drifted.count, replay.drifted.requests, replay.denied) == (1, (REQUEST,), 0)


def test_a_record_without_its_question_is_counted_and_not_guessed() -> None:
    kept = traffic_of(new=(EVERYTHING, FORBID))
    kept.add("req_old", (), tenant="acme", held="allow", rules=LISTED, policy_version="lists-1", from_us=1, until_us=1)
    replay = replayed(kept)
    assert {reason.value: doubt.count for reason, doubt in replay.not_replayable.items()} == {"not_written_down": 1}
    assert (replay.decisions, replay.denied) == (2, 1)


@pytest.mark.parametrize("from_us", [None, 10 * HOUR + 2, 10 * HOUR - 25 * HOUR])
def test_a_decision_of_no_known_hour_is_counted_and_not_guessed(from_us: int | None) -> None:
    replay = replayed(traffic_of(new=(EVERYTHING, FORBID), from_us=from_us, until_us=9 * HOUR + 1))
    if from_us is not None and from_us < 9 * HOUR:
        replay = replayed(traffic_of(new=(EVERYTHING, FORBID), from_us=from_us, until_us=10 * HOUR))
    assert {reason.value: doubt.count for reason, doubt in replay.not_replayable.items()} == {"hour": 1}


def test_the_turn_of_an_hour_matters_only_to_bundles_that_tell_the_hours_apart() -> None:
    turning: dict[str, Any] = {"from_us": 11 * HOUR - 1, "until_us": 11 * HOUR}
    late = '@id("late") forbid(principal, action, resource) when { context.hour >= 11 };'
    replay = replayed(traffic_of(new=(EVERYTHING, late), **turning))
    assert {reason.value: doubt.count for reason, doubt in replay.not_replayable.items()} == {"hour": 1}
    early = '@id("late") forbid(principal, action, resource) when { context.hour >= 10 };'
    assert replayed(traffic_of(new=(EVERYTHING, early), **turning)).denied == 1


def test_another_tenants_bundle_decides_nothing_and_the_installations_does() -> None:
    lineup = Lineup(
        declared(installation=(EVERYTHING,), other=(EVERYTHING, FORBID)), bundle(EVERYTHING, FORBID), tenant="acme"
    )
    assert len(lineup.before("acme")) == 1
    assert len(lineup.after("acme")) == 2
    assert lineup.after("zeta") == lineup.before("zeta")
    everyone = Lineup(declared(acme=(EVERYTHING,)), bundle(FORBID), tenant="")
    assert [len(everyone.after(tenant)) for tenant in ("acme", "zeta")] == [2, 1]


def test_a_bundle_in_the_shadow_decides_nothing() -> None:
    shadow = Declared(tenant="acme", state="shadow", bundle=bundle(FORBID))
    assert Lineup((shadow,), bundle(EVERYTHING), tenant="acme").before("acme") == ()


def test_where_the_engine_fails_the_request_would_be_refused() -> None:
    kept = traffic_of(new=(EVERYTHING, FORBID))
    inquiry = kept._inquiry()
    replies = inquired(inquiry)
    failing = Replies(answers=replies.answers, given=tuple((row[0], FAILED) for row in replies.given))
    replay = kept._judged(failing)
    assert (replay.denied, replay.changes[0].after.decision) == (1, "error")


def test_equal_requests_are_asked_once_and_kinds_of_change_are_bounded() -> None:
    kept = traffic_of(*[question(guard=GuardFacts())] * 500, new=(EVERYTHING, FORBID))
    assert len(kept._inquiry().questions) == 1
    replay = replayed(kept)
    assert (replay.denied, replay.changes[0].count, len(replay.changes[0].requests)) == (500, 500, 3)
    names = [f"m{number}" for number in range(MOST_CHANGES + 5)]
    policies = [f'@id("{name}") forbid(principal, action, resource == Model::"{name}");' for name in names]
    asked = [question(resource=name, guard=GuardFacts()) for name in names]
    replay = replayed(traffic_of(*asked, new=(EVERYTHING, *policies)))
    assert (replay.denied, len(replay.changes), replay.more_changes) == (MOST_CHANGES + 5, MOST_CHANGES, 5)


def test_requests_that_other_gates_refused_are_counted_by_their_codes() -> None:
    kept = traffic_of(new=(FORBID,))
    for code in ("rate_limited", "rate_limited", "guard_blocked"):
        kept.refused(code)
    replay = replayed(kept)
    assert (replay.elsewhere, replay.decisions) == ({"guard_blocked": 1, "rate_limited": 2}, 4)


def test_where_more_policies_decided_than_a_record_names_the_first_of_them_must_agree() -> None:
    many = [f'@id("p{number:03}") permit(principal, action, resource);' for number in range(150)]
    names = tuple(f"p{number:03}" for number in range(150))
    for rules, drifted in ((names[:MOST_RULES], 0), (names[1 : MOST_RULES + 1], 1), (names[:5], 1)):
        replay = replayed(traffic_of(old=many, new=(EVERYTHING,), rules=(*LISTED, *rules)))
        assert replay.drifted.count == drifted
    assert len(LISTED) + MOST_RULES == _LONGEST_LIST


def test_a_bundle_that_nobody_is_asked_about_is_not_tried() -> None:
    lineup = Lineup(declared(acme=(EVERYTHING,), other=("grant all;",)), bundle(EVERYTHING, FORBID), tenant="acme")
    kept = Traffic(lineup)
    kept.add(
        REQUEST,
        (question(guard=GuardFacts()),),
        tenant="acme",
        held="allow",
        rules=(*LISTED, "all"),
        policy_version=f"lists-1 {lineup.basis('acme')}",
        from_us=1,
        until_us=2,
    )
    assert len(kept._inquiry().bundles) == 2
    assert kept.replay().denied == 1


# The child


def test_what_is_wrong_with_a_bundle_in_force_is_nobody_elses_business() -> None:
    with pytest.raises(BundleRefused) as refused:
        traffic_of(old=("grant all secrets;",), new=(EVERYTHING,)).replay()
    assert refused.value.problems == ("a bundle in force cannot be read",)


def test_a_child_asks_and_says_the_same() -> None:
    kept = traffic_of(new=(EVERYTHING, FORBID))
    assert kept.replay() == replayed(traffic_of(new=(EVERYTHING, FORBID)))


@pytest.mark.parametrize(
    "text",
    ["grant all;", '@id("a") permit(principal, action, resource) when { context.x };', '@id("a") permit(', ""],
)
def test_a_candidate_that_cannot_be_tried_is_refused(text: str) -> None:
    kept = Traffic(Lineup((), Bundle(policies={"a": text}), tenant="acme"))
    with pytest.raises(BundleRefused):
        kept.replay()


def test_a_comparison_that_takes_too_long_is_refused() -> None:
    with pytest.raises(BundleRefused, match="longer"):
        traffic_of(new=(EVERYTHING,)).replay(seconds=0.01)


@pytest.mark.parametrize("said", ["", "{}", '{"given": [[0]], "answers": []}', '{"given": [[-2]]}', "x"])
def test_a_child_that_babbles_is_a_refusal(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying_module, "_COMMAND", (sys.executable, "-I", "-c", f"print({said!r})"))
    with pytest.raises(BundleRefused, match="no answers"):
        traffic_of(new=(EVERYTHING,)).replay()


def test_the_questions_of_a_batch_are_decided_together() -> None:
    late = '@id("late") forbid(principal, action, resource) when { context has guard && context.guard.injection > 1 };'
    chat = '@id("no-chat") forbid(principal, action, resource == Model::"chat");'
    own, inner = question(resource="file"), question(resource="chat")
    for new, guard, result in (
        ((EVERYTHING, late, chat), GuardFacts(), "denied"),
        ((EVERYTHING, late, chat), None, "denied"),
        # A file was screened when it was uploaded: what is made of it is not.
        ((EVERYTHING, late), GuardFacts(), "same"),
        ((EVERYTHING, late), None, "not_screened"),
    ):
        kept = Traffic(Lineup(declared(acme=(EVERYTHING,)), bundle(*new), tenant="acme"))
        kept.add(
            REQUEST,
            (msgspec.structs.replace(own, guard=guard), inner),
            tenant="acme",
            held="allow",
            rules=(*LISTED, "all"),
            policy_version="lists-1",
            from_us=1,
            until_us=2,
        )
        replay = replayed(kept)
        doubts = {reason.value: doubt.count for reason, doubt in replay.not_replayable.items()}
        assert {"denied": replay.denied, "same": replay.same, **doubts}[result] == 1


def test_a_candidate_that_kills_its_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(replaying_module, "_COMMAND", (sys.executable, "-I", "-c", program))
    with pytest.raises(BundleRefused, match="ended its process"):
        traffic_of(new=(EVERYTHING,)).replay()
