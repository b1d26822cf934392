"""Cedar behind its walls: what is not a clean yes is a no."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.policy.asking import EVERYTHING, compiled, problems, question

from securellm.core.errors import Code
from securellm.guard import FindingType
from securellm.policy import Action, GuardFacts, Obligations, Question
from securellm.policy.engine import CompiledBundle, Failed, Head, PolicyRow, PolicySet, Told
from securellm.policy.model import INJECTION_STEPS, REDACTABLE, UNBOUND, Answer, Verdict
from securellm.policy.obligations import bound, obligations_of
from securellm.policy.rules import clamped, guard_facts, hour_and_weekday
from securellm.policy.scanning import segments
from securellm.policy.schema import PRINCIPALS, RESOURCES
from securellm.policy.trial import described

pytestmark = pytest.mark.requirement("PO-1")

FORBIDDING = (
    '@id("night") forbid(principal, action, resource) when { context.hour >= 22 };',
    '@id("gpt") forbid(principal, action, resource == Model::"gpt");',
    '@id("tools") forbid(principal, action, resource) when { context.needs.contains("tools") };',
    '@id("others") forbid(principal, action, resource) unless { principal in Tenant::"acme" };',
    '@id("secret") forbid(principal, action, resource) when { context has data_class && context.data_class > 2 };',
    '@id("stream") forbid(principal, action == Action::"stream", resource);',
    '@id("found") forbid(principal, action, resource) when { context has guard && context.guard.injection > 500 };',
)
PERMITTING = (
    EVERYTHING,
    '@id("use") permit(principal in Tenant::"acme", action in Action::"use_model", resource);',
    '@id("team") @redact("cpf") permit(principal in Role::"team", action, resource);',
    '@id("br") @route("br-1, br-2") permit(principal, action, resource) when { context.surface == "chat" };',
)
QUESTIONS = st.builds(
    Question,
    action=st.sampled_from([Action.INVOKE, Action.STREAM, Action.EMBED]),
    resource=st.sampled_from(["gpt", "claude", "x"]),
    principal=st.sampled_from(["key:k1", "user:ana", "service:s", "agent:a"]),
    tenant=st.sampled_from(["acme", "other"]),
    roles=st.frozensets(st.sampled_from(["team", "else"])),
    surface=st.sampled_from(["chat", "messages", ""]),
    hour=st.integers(0, 23),
    weekday=st.integers(1, 7),
    needs=st.frozensets(st.sampled_from(["tools", "vision"])),
    providers=st.frozensets(st.sampled_from(["br-1", "us-1"])),
    data_class=st.none() | st.integers(0, 4),
    guard=st.none() | st.builds(GuardFacts, injection=st.sampled_from(INJECTION_STEPS)),
)


def test_nothing_permitted_is_denied_and_a_forbid_outweighs_every_permit() -> None:
    assert compiled(FORBIDDING[0]).ask(question()) == Answer(verdict=Verdict.DENY, rules=())
    both = compiled(EVERYTHING, FORBIDDING[1])
    assert both.ask(question()) == Answer(verdict=Verdict.DENY, rules=("gpt",))
    assert both.ask(question(resource="claude")) == Answer(verdict=Verdict.ALLOW, rules=("all",))


def test_a_principal_is_in_its_tenant_its_project_its_roles_and_whom_it_acts_for() -> None:
    for scope, asked in {
        'Tenant::"acme"': question(),
        'Project::"p"': question(project="p"),
        'Role::"r"': question(roles=frozenset({"r"})),
        'User::"ana"': question(owner="user:ana"),
        'Service::"s"': question(owner="service:s"),
        'Key::"k1"': question(),
    }.items():
        only = compiled(f'@id("only") permit(principal in {scope}, action, resource);')
        assert only.ask(asked).verdict is Verdict.ALLOW, scope
        assert only.ask(question(principal="key:k2", tenant="other")).verdict is Verdict.DENY, scope


def test_things_of_a_family_can_be_named_together() -> None:
    kept = compiled('@id("files") permit(principal, action == Action::"use_kept", resource in Kept::"files");')
    assert kept.ask(question(action=Action.USE_KEPT, resource="files.delete")).verdict is Verdict.ALLOW
    assert kept.ask(question(action=Action.USE_KEPT, resource="batches.create")).verdict is Verdict.DENY
    tools = compiled('@id("srv") permit(principal, action == Action::"tool_call", resource in Server::"git");')
    assert tools.ask(question(action=Action.TOOL_CALL, resource="git/commit")).verdict is Verdict.ALLOW
    assert tools.ask(question(action=Action.TOOL_CALL, resource="gitx/commit")).verdict is Verdict.DENY


@pytest.mark.parametrize("action", list(Action))
def test_every_action_can_be_asked_with_everything_known_and_with_nothing(action: Action) -> None:
    principal = "user:ana" if action.value.startswith("admin") else "key:k1"
    least = Question(action=action, resource="", principal=principal, tenant="")
    most = question(
        action=action,
        principal=principal,
        project="p",
        roles=frozenset({"r"}),
        owner=None if principal.startswith("user") else "user:ana",
        needs=frozenset({"tools"}),
        fields=frozenset({"text"}),
        data_class=4,
        region="br",
        residency="br",
        tool_risk=5,
        budget_state="low",
        guard=GuardFacts(injection=1000, findings=frozenset({"cpf"})),
    )
    for asked in (least, most):
        assert compiled(EVERYTHING).ask(asked).verdict is Verdict.ALLOW


def test_before_screening_only_what_forbids_without_it_is_final() -> None:
    rules = compiled(EVERYTHING, FORBIDDING[0], FORBIDDING[6])
    assert rules.ask(question()).verdict is Verdict.LATER
    assert rules.ask(question(hour=23)) == Answer(verdict=Verdict.DENY, rules=("night",))
    assert rules.ask(question(guard=GuardFacts(injection=572))) == Answer(verdict=Verdict.DENY, rules=("found",))
    assert rules.ask(question(guard=GuardFacts(injection=429))) == Answer(verdict=Verdict.ALLOW, rules=("all",))


def test_a_permit_that_asks_what_was_found_waits_for_it() -> None:
    clean = compiled(
        '@id("clean") permit(principal, action, resource) when { context has guard && context.guard.injection < 400 };'
    )
    assert clean.ask(question()) == Answer(verdict=Verdict.LATER, rules=())
    assert clean.ask(question(guard=GuardFacts())).verdict is Verdict.ALLOW
    assert clean.ask(question(guard=GuardFacts(injection=1000))).verdict is Verdict.DENY


def test_the_guard_is_found_however_its_name_is_spelled() -> None:
    hidden = compiled(
        EVERYTHING,
        '@id("h") forbid(principal, action, resource) '
        'when { context has "gu\\u{61}rd" && context["\\u{67}uard"].injection > 500 };',
    )
    assert hidden.mentions_guard


def test_a_policy_that_fails_is_no_answer_at_all() -> None:
    # The engine itself would skip the failing forbid and say yes.
    overflowing = '@id("o") forbid(principal, action, resource) when { context.hour * 9223372036854775807 > 1 };'
    rows = (PolicyRow(id="all", effect="permit"), PolicyRow(id="o", effect="forbid"))
    rules = CompiledBundle("h", (EVERYTHING, overflowing), rows)
    with pytest.raises(Failed) as failed:
        rules.ask(question(hour=5))
    assert failed.value.code is Code.GATE_FAILED
    assert "questions end in an error" in problems(EVERYTHING, overflowing)


@pytest.mark.parametrize(
    "wrong",
    [
        {"principal": "robot:1"},
        {"principal": ""},
        {"action": "fly"},
        {"owner": "nobody"},
        {"hour": "five"},
        {"hour": None},
        {"hour": 10**30},
        {"surface": None},
        {"surface": "\ud800"},
        {"providers": {"a": 1}},
        {"resource": 7},
        {"data_class": "public"},
        {"guard": {"injection": 0}},
        {"needs": [["tools"]]},
    ],
)
def test_a_question_that_does_not_fit_the_schema_is_never_allowed(wrong: dict[str, Any]) -> None:
    with pytest.raises((Failed, AttributeError)):
        compiled(EVERYTHING).ask(question(**wrong))


WHO = (
    "principal",
    "principal is Key",
    'principal == Key::"k1"',
    'principal in User::"ana"',
    'principal in Role::"team"',
    'principal is Key in Tenant::"acme"',
    'principal in Project::"p"',
    'principal in Tenant::"other"',
)
WHAT = (
    "action",
    'action == Action::"stream"',
    'action in Action::"use_model"',
    'action in [Action::"invoke"]',
    'action in [Action::"use_model", Action::"use_kept"]',
    'action in [Action::"use_kept", Action::"tool_call"]',
)
OF_WHAT = (
    "resource",
    "resource is Model",
    'resource == Model::"gpt"',
    'resource == Kept::"files.delete"',
    'resource in Kept::"files"',
    'resource is Tool in Server::"git"',
)
ANY_QUESTIONS = st.builds(
    Question,
    action=st.sampled_from([Action.INVOKE, Action.STREAM, Action.EMBED, Action.USE_KEPT, Action.TOOL_CALL]),
    resource=st.sampled_from(["gpt", "files", "files.delete", "git/commit", "git"]),
    principal=st.sampled_from(["key:k1", "key:k2", "agent:a"]),
    owner=st.sampled_from([None, "user:ana", "service:s"]),
    project=st.sampled_from([None, "p"]),
    tenant=st.sampled_from(["acme", "other"]),
    roles=st.frozensets(st.sampled_from(["team", "else"])),
    surface=st.sampled_from(["chat", "messages"]),
    guard=st.none() | st.builds(GuardFacts, injection=st.sampled_from(INJECTION_STEPS)),
)
CONDITIONS = (
    "",
    'when { context.surface == "chat" }',
    'when { principal in [Role::"team", User::"ana"] }',
    'unless { principal in Tenant::"acme" && resource in Kept::"files" }',
    "when { context has guard && context.guard.injection > 500 }",
)
POLICIES = st.tuples(
    st.sampled_from(["permit", "forbid"]),
    st.sampled_from(WHO),
    st.sampled_from(WHAT),
    st.sampled_from(OF_WHAT),
    st.sampled_from(
        ["", 'when { context.surface == "chat" }', "when { context has guard && context.guard.injection > 5 }"]
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(POLICIES, min_size=1, max_size=8), st.lists(ANY_QUESTIONS, min_size=30, max_size=60))
def test_a_slice_of_a_bundle_says_what_the_whole_says(
    policies: list[tuple[str, ...]], questions: list[Question]
) -> None:
    text = "\n".join(
        f'@id("p{number}") {effect}({who}, {what}, {of_what}) {condition};'
        for number, (effect, who, what, of_what, condition) in enumerate(policies)
    )
    texts = [segment.text for segment in segments(text)]
    rows, wrong = described(segments(text))
    assert not wrong
    sliced, whole = CompiledBundle("h", texts, rows), CompiledBundle("h", texts, rows, sliced=0)
    engine = PolicySet(text)
    for asked in questions:
        answer = sliced.ask(asked)
        assert answer == whole.ask(asked)
        if asked.guard is not None or not sliced.mentions_guard:
            assert Told(answer.verdict is Verdict.ALLOW, answer.rules) == engine.ask(asked)


def test_before_screening_a_slice_leaves_out_what_asks_about_it_too() -> None:
    unscreened = '@id("seen") forbid(principal in Tenant::"acme", action, resource) unless { context has guard };'
    elsewhere = '@id("elsewhere") forbid(principal in Tenant::"other", action, resource);'
    rules = compiled(EVERYTHING, unscreened, elsewhere)
    assert rules.ask(question()).verdict is Verdict.LATER
    assert rules.ask(question(guard=GuardFacts())).verdict is Verdict.ALLOW


def test_only_policies_whose_heads_take_a_question_in_are_asked() -> None:
    failing = '@id("no") forbid(principal in Tenant::"other", action, resource) when { context.hour + OVER > 0 };'
    failing = failing.replace("OVER", str(2**63 - 1))
    head = Head(principal=("Tenant", "other"))
    rows = (PolicyRow(id="all", effect="permit"), PolicyRow(id="no", effect="forbid", head=head))
    rules = CompiledBundle("h", (EVERYTHING, failing), rows)
    assert rules.ask(question(hour=5)).verdict is Verdict.ALLOW
    with pytest.raises(Failed):
        rules.ask(question(tenant="other", hour=5))


def test_what_slices_hold_is_bounded_and_beyond_it_the_whole_bundle_answers() -> None:
    texts = [EVERYTHING, *(f'@id("m{n}") forbid(principal, action, resource == Model::"m{n}");' for n in range(6))]
    rows = [PolicyRow(id="all", effect="permit")]
    rows += [PolicyRow(id=f"m{n}", effect="forbid", head=Head(resource=("Model", f"m{n}"))) for n in range(6)]
    small = CompiledBundle("h", texts, rows, sliced=4)
    assert [small.ask(question(resource=f"m{n % 8}")).verdict for n in range(16)] == (
        [Verdict.DENY] * 6 + [Verdict.ALLOW] * 2
    ) * 2
    assert sum(len(held) for held in small._slices.values()) <= 2 * len(texts) + 4


def test_what_a_policy_names_is_told_as_strictly_as_all_else() -> None:
    rules = compiled(EVERYTHING, '@id("team") forbid(principal in Role::"team", action, resource);')
    assert rules.ask(question(roles=frozenset({"team"}))).verdict is Verdict.DENY
    with pytest.raises(Failed):
        rules.ask(question(principal="user:ana", owner="user:ana", roles=frozenset({"team", "\udfff"}), hour="five"))
    named = compiled(EVERYTHING, '@id("ana") forbid(principal in User::"ana", action, resource);')
    with pytest.raises(Failed):
        named.ask(question(principal="user:bo", owner="user:ana"))


def test_hostile_names_decide_nothing_but_themselves() -> None:
    rules = compiled('@id("one") permit(principal, action, resource == Model::"gpt");')
    for name in ('gpt"', "gpt\0", "gpt\n", "GPT", 'Model::"gpt"', "g\u200bpt", "gpt' || true", "*", "", "ｇｐｔ"):
        assert rules.ask(question(resource=name)).verdict is Verdict.DENY, name
    assert clamped("a" * 300) != clamped("a" * 301)
    assert len(clamped("a" * 10_000)) <= 256


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    permits=st.lists(st.sampled_from(PERMITTING), unique=True),
    forbids=st.lists(st.sampled_from(FORBIDDING), unique=True),
    more=st.sampled_from(FORBIDDING),
    asked=QUESTIONS,
)
def test_one_more_forbid_never_allows_more(permits: list[str], forbids: list[str], more: str, asked: Question) -> None:
    texts = sorted({*permits, *forbids})
    if more in texts or not texts:
        return
    before, after = compiled(*texts).ask(asked), compiled(*texts, more).ask(asked)
    if before.verdict is Verdict.DENY and asked.guard is not None:
        assert after.verdict is Verdict.DENY
    if after.verdict is Verdict.ALLOW:
        assert before == after


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    texts=st.lists(st.sampled_from(PERMITTING[:2] + FORBIDDING[:1] + FORBIDDING[5:]), unique=True, min_size=1),
    asked=QUESTIONS,
)
def test_what_is_refused_early_is_refused_at_the_end(texts: list[str], asked: Question) -> None:
    rules = compiled(*sorted(texts))
    early = rules.ask(msgspec.structs.replace(asked, guard=None))
    final = rules.ask(msgspec.structs.replace(asked, guard=asked.guard or GuardFacts()))
    if early.verdict is Verdict.DENY:
        assert final.verdict is Verdict.DENY
    if early.verdict is Verdict.ALLOW:
        assert final == early
    if final.verdict is Verdict.ALLOW:
        assert early.obligations.redact <= final.obligations.redact


def test_an_attribute_that_is_not_known_satisfies_no_comparison() -> None:
    rules = compiled(EVERYTHING, FORBIDDING[4])
    assert rules.ask(question()).verdict is Verdict.ALLOW
    strict = compiled(
        EVERYTHING,
        '@id("s") forbid(principal, action, resource) unless { context has data_class && context.data_class <= 2 };',
    )
    assert strict.ask(question()).verdict is Verdict.DENY
    assert strict.ask(question(data_class=1)).verdict is Verdict.ALLOW


def test_obligations_of_all_permits_hold_together() -> None:
    rules = compiled(
        '@id("a") @redact("cpf, email") @require_approval("2") permit(principal, action, resource);',
        '@id("b") @redact("card") @route("one, two") permit(principal, action, resource);',
        '@id("c") @route("two, three") @require_approval("1") permit(principal, action, resource);',
        '@id("d") @route("nine") permit(principal, action, resource == Model::"other");',
    )
    assert rules.ask(question()).obligations == Obligations(
        redact=frozenset({"cpf", "email", "card"}), route=frozenset({"two"}), approvals=2
    )


@given(
    many=st.lists(
        st.builds(
            Obligations,
            redact=st.frozensets(st.sampled_from(sorted(REDACTABLE))),
            route=st.none() | st.frozensets(st.sampled_from("abc")),
            approvals=st.integers(0, 3),
        )
    ),
    more=st.builds(Obligations, route=st.none() | st.frozensets(st.sampled_from("abc")), approvals=st.integers(0, 3)),
)
def test_one_more_obligation_never_loosens_the_others(many: list[Obligations], more: Obligations) -> None:
    before, after = bound(many), bound([*many, more])
    assert after.redact >= before.redact
    assert after.approvals >= before.approvals
    if before.route is not None:
        assert after.route is not None
        assert after.route <= before.route
    assert bound(reversed([*many, more])) == after


def test_what_can_be_redacted_is_what_the_guard_can_cut_out() -> None:
    assert {kind.value for kind in FindingType} - {"injection"} == REDACTABLE


def test_annotations_say_only_what_we_understand() -> None:
    for annotations, effect in (
        ({"redact": ""}, "permit"),
        ({"redact": "cpf, soul"}, "permit"),
        ({"redact": None}, "permit"),
        ({"redact": "injection"}, "permit"),
        ({"route": " , "}, "permit"),
        ({"route": "a b"}, "permit"),
        ({"require_approval": "0"}, "permit"),
        ({"require_approval": "9"}, "permit"),
        ({"require_approval": "two"}, "permit"),
        ({"require_approval": "٢"}, "permit"),
        ({"require_approval": None}, "permit"),
        ({"redakt": "cpf"}, "permit"),
        ({"redact": "cpf"}, "forbid"),
    ):
        _, wrong = obligations_of(annotations, effect=effect)  # type: ignore[arg-type]
        assert wrong, annotations
    assert obligations_of({"id": "a", "note": "why"}, effect="forbid") == (UNBOUND, ())


def test_scores_are_rounded_up_to_one_of_eight() -> None:
    for score in range(1001):
        seen = guard_facts([("injection", score), ("cpf", 1000)]).injection
        assert seen in INJECTION_STEPS
        assert score <= seen < score + 143
    assert guard_facts([]) == GuardFacts()
    assert guard_facts([("cpf", 1000)]) == GuardFacts(injection=0, findings=frozenset({"cpf"}))


def test_hours_and_weekdays_are_of_utc() -> None:
    assert hour_and_weekday(0) == (0, 4)
    assert hour_and_weekday(1_763_733_599_000_000) == (13, 5)  # Friday, 2025-11-21 13:59:59
    assert hour_and_weekday(1_763_856_000_000_000) == (0, 7)  # Sunday, 2025-11-23


def test_every_action_and_principal_has_a_type_that_the_engine_knows() -> None:
    assert set(RESOURCES) == set(Action)
    for kind in PRINCIPALS:
        compiled(EVERYTHING).ask(question(principal=f"{kind}:1"))


def test_the_engine_is_never_asked_without_the_schema() -> None:
    # Without a schema this very question would be answered with yes.
    alone = PolicySet(EVERYTHING)
    with pytest.raises(Failed):
        alone.ask(msgspec.structs.replace(question(), hour=True))
    assert json.loads(json.dumps(alone.ask(question()).allowed)) is True
