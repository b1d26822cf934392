"""Bundles before they are put in force: hostile texts, wrong ones, and what a good one must prove."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.policy.asking import EVERYTHING, bundle, compiled, in_force, problems, question

from securellm.policy import (
    NO_POLICIES,
    Action,
    Bundle,
    BundleRefused,
    Case,
    Profile,
    bundle_json,
    hash_of,
    open_bundle,
    prove,
    read_bundle,
)
from securellm.policy import proving as proving_module
from securellm.policy.bundles import LONGEST, checked
from securellm.policy.engine import CompiledBundle
from securellm.policy.model import Verdict
from securellm.policy.profiles import cedar_of
from securellm.policy.scanning import DEEPEST, LONGEST_TEXT, MOST_OPERATORS, MOST_POLICIES, ScanRefused, segments
from securellm.policy.trial import examine

pytestmark = pytest.mark.requirement("PO-1")


def when(expression: str) -> str:
    return f'@id("a") permit(principal, action, resource) when {{ {expression} }};'


def chains(length: int) -> dict[str, str]:
    """Texts whose tree is as deep as they are long: what ends the process of the parser."""
    return {
        "parentheses": when("(" * length + "true" + ")" * length),
        "sets": when("[" * length + "1" + "]" * length + " == [1]"),
        "records": when('{"a":' * length + "1" + "}" * length + " == {}"),
        "calls": when("ip(" * length + '"1.1.1.1"' + ")" * length + ".isIpv4()"),
        "and": when(" && ".join(["true"] * length)),
        "or": when(" || ".join(["context.hour == 1"] * length)),
        "sums": when("+".join(["1"] * length) + " > 0"),
        "products": when("*".join(["1"] * length) + " > 0"),
        "else": when("if true then true else " * length + "true"),
        "attributes": when("context" + ".a" * length),
        "indexes": when("context" + '["a"]' * length),
        "has": when("context has a" + ".a" * length),
        "methods": when("[1]" + ".contains(1)" * length),
    }


@pytest.mark.parametrize("kind", list(chains(1)))
def test_what_ends_the_parser_never_reaches_it(kind: str) -> None:
    for length in (2_000, 20_000):
        with pytest.raises(ScanRefused):
            segments(chains(length)[kind])


@pytest.mark.parametrize("kind", list(chains(1)))
def test_the_deepest_text_that_is_scanned_harms_nobody(kind: str) -> None:
    # At the very bounds of the scan the engine must answer one way or the other, on its small stack.
    brackets = kind in ("parentheses", "sets", "records", "calls")
    length = DEEPEST - 3 if brackets else (MOST_OPERATORS - 4) // (6 if kind == "or" else 2)
    segments(chains(length)[kind])
    (report,) = prove((bundle(chains(length)[kind]),))
    assert not any("ended its process" in problem for problem in report.problems)


def test_a_bundle_that_kills_the_child_is_refused_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import json, os, signal, sys\n"
        "bundles = json.load(sys.stdin)\n"
        "if any('deadly' in text for one in bundles for text in one['policies'].values()):\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "from securellm.policy.trial import examine\n"
        "import msgspec\n"
        "from securellm.policy import Bundle\n"
        "reports = [examine(one) for one in msgspec.convert(bundles, list[Bundle])]\n"
        "sys.stdout.buffer.write(msgspec.json.encode(reports))\n"
    )
    monkeypatch.setattr(proving_module, "_COMMAND", (sys.executable, "-I", "-c", program))
    good, deadly = bundle(EVERYTHING), bundle('@id("deadly") permit(principal, action, resource);')
    reports = prove((good, deadly))
    assert [report.ok for report in reports] == [True, False]
    assert "SIGSEGV" in reports[1].problems[0]
    policies = in_force(installation=good, acme=deadly)
    assert policies.of("acme").broken
    assert not policies.of("other").broken


@pytest.mark.parametrize(
    "program", ["import time; time.sleep(60)", "raise SystemExit(3)", "print('{}')", "print('[]')"]
)
def test_a_child_that_hangs_or_babbles_is_a_refusal(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(proving_module, "_COMMAND", (sys.executable, "-I", "-c", program))
    (report,) = prove((bundle(EVERYTHING),), seconds=1.0)
    assert not report.ok
    assert report.hash == hash_of(bundle(EVERYTHING))


def test_a_bundle_that_is_too_much_for_the_child_is_refused_and_no_other() -> None:
    # 500 attributes in a chain of `has` are written out as a tree of a quarter of a million nodes.
    (report,) = prove((bundle(*(chains(500)["has"].replace('"a"', f'"a{n}"') for n in range(40))),))
    assert "trying it failed with" in report.problems[0]
    assert prove((bundle(EVERYTHING),))[0].ok


def test_the_child_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_GATEWAY", "hunter2")
    program = "import os, sys; sys.exit(9 if 'A_SECRET_OF_THE_GATEWAY' in os.environ else 0)"
    monkeypatch.setattr(proving_module, "_COMMAND", (sys.executable, "-I", "-c", program))
    (report,) = prove((bundle(EVERYTHING),))
    assert "exit status 0" in report.problems[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no policies"),
        ("// nothing\n", "no policies"),
        ("permit(principal, action, resource)", "semicolon"),
        ('@id("a") permit(principal, action, resource) when { context.surface == "x };', "string is never closed"),
        ('@id("a") permit(principal, action, resource) when { (true };', "closing bracket"),
        ('@id("a") permit(principal, action, resource;', "never closed"),
        ("permit(principal, action, resource); \x00", "U+0000"),
        ("permit(principal, action, resource); // \u202e", "U+202E"),
        ('@id("a\u200b") permit(principal, action, resource);', "U+200B"),
        ("\ufeffpermit(principal, action, resource);", "U+FEFF"),
        ("permit(principal, action, resource); \ud800", "lone surrogate"),
        ("x" * (LONGEST_TEXT + 1), "longer than"),
        ('@id("a") permit(principal, action, resource);' * (MOST_POLICIES + 1), "policies"),
    ],
)
def test_a_text_is_refused_before_it_is_parsed(text: str, found: str) -> None:
    with pytest.raises(BundleRefused) as refused:
        checked(Bundle(policies={"a": text}))
    assert found in str(refused.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("permit(principal, action, resource);", "@id"),
        ("@id permit(principal, action, resource);", "@id"),
        ('@id("") permit(principal, action, resource);', "@id"),
        ('@id("ação") permit(principal, action, resource);', "@id"),
        (EVERYTHING * 2, "two policies have the id all"),
        ('@id("a") @id("b") permit(principal, action, resource);', "duplicate annotation"),
        ('@id("a") @mode("x") permit(principal, action, resource);', "unknown annotation @mode"),
        ('@id("a") @redact("soul") permit(principal, action, resource);', "@redact"),
        ('@id("a") @route("br") forbid(principal, action, resource);', "only a permit"),
        ('@id("a") permit(principal == ?principal, action, resource);', "template"),
        ('@id("a") permit(principal, action, resource) when { context.colour == "red" };', "colour"),
        ('@id("a") permit(principal, action, resource) when { context.hour == "five" };', "a: "),
        ('@id("a") permit(principal, action, resource) when { context.data_class > 2 };', "data_class"),
        ('@id("a") permit(principal, action, resource) when { 1 };', "Bool"),
        ('@id("a") permit(principal, action == Action::"invok", resource);', "invok"),
        ('@id("a") permit(principal in Team::"x", action, resource);', "Team"),
        ('@id("a") permit(principal, action, resource) when { principal.name == "ana" };', "name"),
        ('@id("a") permit(principal, action, resource) when { [] == [1] };', "set"),
        ("grant everything;", "policy 1"),
        ('@id("a") permit(principal, action, resource) when { decimal("x").lessThan(decimal("1.0")) };', "a: "),
    ],
)
def test_a_bundle_is_refused_with_the_policy_and_the_reason(text: str, found: str) -> None:
    assert found in problems(text)


def test_every_problem_is_told_at_once() -> None:
    told = examine(
        bundle("permit(principal, action, resource);", '@id("b") @x("y") permit(principal, action, resource);')
    )
    assert len(told.problems) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'{"policies": 1}',
        b'{"policies": {"../x": "a"}}',
        b'{"policies": {"a": "b"}, "policies": {}}',
        b'{"policies": {"a": "b"}, "state": "enforced"}',
        b'{"tests": [{"name": "x"}]}',
        b'{"policies": "a", "tests": [{"name": "x", "expect": "maybe", "ask": {}}]}',
        b'{"policies": "a\\ud800"}',
        b"\xff\xfe",
        b'{"policies": ' + b"[" * 50_000,
        b'{"policies": "' + b"a" * LONGEST + b'"}',
        b'{"profiles": [{"action": "a;b", "fields": []}]}',
        b'{"profiles": [{"action": "a", "fields": ["\\") permit(principal, action, resource); //"]}]}',
    ],
)
def test_what_is_no_bundle_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(BundleRefused) as refused:
        read_bundle(data)
    assert refused.value.problems


def test_equal_bundles_have_one_hash_and_any_change_has_another(tmp_path: Path) -> None:
    test = Case(name="t", ask=question(), expect="allow")
    first = bundle(EVERYTHING, tests=(test,), profiles=(Profile(action="p", fields=frozenset({"b", "a"})),))
    assert read_bundle(bundle_json(first)) == first
    assert hash_of(read_bundle(json.dumps(json.loads(bundle_json(first)), indent=3).encode())) == hash_of(first)
    others = [
        bundle(EVERYTHING),
        bundle(EVERYTHING + " "),
        bundle(EVERYTHING, tests=(test,)),
        Bundle(policies={"x": EVERYTHING}),
    ]
    assert len({hash_of(first), *map(hash_of, others)}) == 5
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "main.cedar").write_bytes(EVERYTHING.replace("\n", "\r\n").encode())
    assert hash_of(open_bundle(folder)) == hash_of(bundle(EVERYTHING))
    (folder / "tests.json").write_text("[{}]")
    with pytest.raises(BundleRefused):
        open_bundle(folder)


def test_the_tests_of_a_bundle_must_pass_and_those_that_prove_nothing_are_named() -> None:
    rules = (EVERYTHING, '@id("night") forbid(principal, action, resource) when { context.hour > 21 };')
    night = Case(name="at night", ask=question(hour=23), expect="deny", rules=frozenset({"night"}))
    wrong = Case(name="by day", ask=question(hour=3), expect="deny")
    report = examine(bundle(*rules, tests=(night,)))
    assert report.ok
    assert report.untested == ("all",)
    by_day = Case(name="by day", ask=question(hour=3), expect="allow")
    assert examine(bundle(*rules, tests=(night, by_day))).untested == ()
    refused = examine(bundle(*rules, tests=(night, wrong)))
    assert refused.problems == ("the test 'by day': the decision is allow, not deny",)


MUTANTS = {
    "a bound moved": ("> 21", "> 22"),
    "a comparison turned": ("> 21", "< 21"),
    "a permit made of a forbid": ('@id("night") forbid', '@id("night") permit'),
    "a condition turned": ("when", "unless"),
    "a condition lost": (" when { context.hour > 21 }", ""),
    "a group narrowed": ('action in Action::"use_model"', 'action == Action::"invoke"'),
    "a scope widened": ('principal in Tenant::"acme"', "principal"),
    "an obligation lost": (' @redact("cpf")', ""),
    "an obligation changed": ('"cpf"', '"card"'),
}


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_good_tests_notice_every_mutation(mutant: str) -> None:
    text = (
        '@id("use") @redact("cpf") permit(principal in Tenant::"acme", action in Action::"use_model", resource);\n'
        '@id("night") forbid(principal, action, resource) when { context.hour > 21 };'
    )
    tests = (
        Case(name="day", ask=question(hour=21), expect="allow", redact=frozenset({"cpf"}), rules=frozenset({"use"})),
        Case(name="stream", ask=question(action=Action.STREAM), expect="allow"),
        Case(name="night", ask=question(hour=22), expect="deny", rules=frozenset({"night"})),
        Case(name="others", ask=question(tenant="other"), expect="deny"),
    )
    assert examine(bundle(text, tests=tests)).ok
    assert text.count(MUTANTS[mutant][0]) == 1
    assert not examine(bundle(text.replace(*MUTANTS[mutant]), tests=tests)).ok


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from(list('permitforbd@"\\/(){}[];,.=&|!<>\n aε\u202e\0')), max_size=200))
def test_no_text_makes_the_scan_fail_otherwise_than_by_refusing(text: str) -> None:
    try:
        found = segments(text)
    except ScanRefused:
        return
    assert "".join(segment.text for segment in found) == text[: sum(len(segment.text) for segment in found)]


@pytest.mark.parametrize("trick", ['"; //"', '"a\\"; b"', "// ; (\n", '"//"', '"\\\\"'])
def test_strings_and_comments_are_no_policies(trick: str) -> None:
    body = trick if trick.startswith('"') else f"{trick} 1"
    text = f'@id("a") permit(principal, action, resource) when {{ {body} == {body} }};'
    assert len(segments(text * 2)) == 2


@pytest.mark.requirement("PO-2")
def test_an_action_is_allowed_with_the_fields_of_its_profile_and_no_others() -> None:
    profile = Profile(
        action="summarise",
        fields=frozenset({"text", "language"}),
        required=frozenset({"text"}),
        roles=frozenset({"clerk"}),
        max_data_class=2,
        redact=frozenset({"cpf"}),
        approvals=1,
    )
    made = Bundle(profiles=(profile,), policies={"a": EVERYTHING})
    report = examine(made)
    assert report.ok, report.problems
    rules = CompiledBundle(report.hash, [segment.text for segment in checked(made)], report.policies)
    good = question(
        action=Action.PERFORM,
        resource="summarise",
        fields=frozenset({"text"}),
        roles=frozenset({"clerk"}),
        data_class=1,
        approved_by=1,
    )
    answer = rules.ask(good)
    assert answer.verdict is Verdict.ALLOW
    assert answer.obligations.redact == {"cpf"}
    assert answer.obligations.approvals == 1
    for wrong in (
        {"fields": frozenset({"text", "password"})},
        {"fields": frozenset({"language"})},
        {"fields": frozenset[str]()},
        {"fields": None},
        {"roles": frozenset[str]()},
        {"data_class": 3},
        {"data_class": None},
    ):
        # Whatever else the bundle permits.
        asked = question(**{name: getattr(good, name) for name in good.__struct_fields__} | wrong)
        assert rules.ask(asked).verdict is Verdict.DENY, wrong


@pytest.mark.requirement("PO-2")
def test_an_action_without_a_profile_is_refused() -> None:
    rules = compiled(cedar_of((Profile(action="known", fields=frozenset()),)))
    known = question(action=Action.PERFORM, resource="known", fields=frozenset())
    assert rules.ask(known).verdict is Verdict.ALLOW
    assert rules.ask(question(action=Action.PERFORM, resource="unknown", fields=frozenset())).verdict is Verdict.DENY
    assert rules.ask(question(action=Action.PERFORM, resource="known", fields=frozenset({"x"}))).verdict is Verdict.DENY


@pytest.mark.requirement("PO-2")
def test_a_profile_that_contradicts_itself_is_refused() -> None:
    twice = (Profile(action="a", fields=frozenset()), Profile(action="a", fields=frozenset({"x"})))
    lacking = (Profile(action="a", fields=frozenset({"x"}), required=frozenset({"y"})),)
    for profiles in (twice, lacking):
        with pytest.raises(BundleRefused):
            checked(Bundle(profiles=profiles))


def test_the_same_declarations_give_the_same_policies_again() -> None:
    first = in_force(installation=bundle(EVERYTHING))
    assert first.version
    assert in_force(first, installation=bundle(EVERYTHING)) is first
    second = in_force(first, installation=bundle(EVERYTHING), acme=bundle(EVERYTHING + "\n"))
    assert second.of("acme").scopes[0].enforced is first.of("acme").scopes[0].enforced
    assert second.version != first.version
    assert in_force() is NO_POLICIES
