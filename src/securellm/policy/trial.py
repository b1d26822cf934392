"""Try bundles where only this process can be harmed: `python -m securellm.policy.trial`, JSON in, JSON out.

A parser that overflows its stack takes its process with it, so this one parses on a stack much smaller than the
gateway's: what lives here lives there.
"""

import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import cedarpy
import msgspec

from securellm.policy.bundles import Bundle, BundleRefused, Case, checked, hash_of
from securellm.policy.comparing import questions_of
from securellm.policy.engine import CompiledBundle, Failed, Head, PolicyRow
from securellm.policy.model import Effect, Verdict
from securellm.policy.obligations import is_name, obligations_of
from securellm.policy.reports import CaseResult, Report
from securellm.policy.scanning import Segment
from securellm.policy.schema import GUARD, SCHEMA, USE_MODEL, USING, Action

SMALL_STACK = 2 << 20
"""Bytes; a thread of the gateway has 8 MiB."""
LARGE_STACK = 64 << 20
"""Bytes. The validator passes what is too deep for its stack, so it gets one that nothing is too deep for."""
MEMORY = 2 << 30
"""Bytes of address space."""
CPU = 20
"""Seconds."""
REACHED = 4_000
"""Questions of the bundle's own lattice that are asked to see that no policy fails."""

T = TypeVar("T")


def main() -> None:
    """Read bundles from standard input and write a report on each, in order."""
    os.nice(5)  # A bundle that burns its seconds takes them from nobody who waits for an answer.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    bundles = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[Bundle, ...])
    reports = tuple(examine(bundle) for bundle in bundles)
    sys.stdout.buffer.write(msgspec.json.encode(reports))


def examine(bundle: Bundle) -> Report:
    """Everything that can be said of a bundle without putting it in force. May end the process."""
    digest = hash_of(bundle)
    try:
        segments = checked(bundle)
    except BundleRefused as refused:
        return Report(hash=digest, problems=refused.problems)
    texts = tuple(segment.text for segment in segments)
    rows, problems = _on_stack(SMALL_STACK, lambda: described(segments))
    if not problems:
        problems = _on_stack(LARGE_STACK, lambda: _validated("".join(texts)))
    if problems:
        return Report(hash=digest, problems=tuple(problems))
    return _on_stack(SMALL_STACK, lambda: _asked(bundle, digest, texts, rows))


def described(segments: Sequence[Segment]) -> tuple[list[PolicyRow], list[str]]:
    """Each policy as the engine read it, alone and among the others: both must be the same."""
    rows: list[PolicyRow] = []
    problems: list[str] = []
    for number, segment in enumerate(segments, start=1):
        where = f"policy {number}"
        try:
            read = json.loads(cedarpy.policies_to_json_str(segment.text))
        except ValueError as error:
            problems.append(f"{where}: {_said(error)}")
            continue
        parsed = list(read["staticPolicies"].values())
        if read["templates"] or len(parsed) != 1:
            problems.append(f"{where}: a template decides nothing; write the principal or resource that is meant")
            continue
        row, wrong = _row(parsed[0])
        problems += [f"{where} ({row.id}): {problem}" if row.id else f"{where}: {problem}" for problem in wrong]
        rows.append(row)
    if problems:
        return rows, problems
    whole = json.loads(cedarpy.policies_to_json_str("".join(segment.text for segment in segments)))
    ids = [policy["annotations"].get("id") for policy in whole["staticPolicies"].values()]
    if sorted(map(str, ids)) != sorted(row.id for row in rows):
        problems.append("the policies read otherwise together than one by one")
    problems += [f"two policies have the id {name}" for name in sorted({name for name in ids if ids.count(name) > 1})]
    return rows, problems


def _row(parsed: dict[str, Any]) -> tuple[PolicyRow, list[str]]:
    annotations: dict[str, str | None] = parsed.get("annotations", {})
    effect: Effect = "forbid" if parsed["effect"] == "forbid" else "permit"
    obligations, wrong = obligations_of(annotations, effect=effect)
    name = annotations.get("id") or ""
    problems = list(wrong)
    if not is_name(name):
        problems.append('@id("…") is missing or is not at most 64 letters, digits and . _ -')
        name = ""
    row = PolicyRow(
        id=name,
        effect=effect,
        head=_head(parsed),
        names=frozenset(_named(parsed)),
        obligations=obligations,
        # Wherever the name stands, be it in a comparison: asked once too often is asked well.
        mentions_guard=f'"{GUARD}"' in json.dumps(parsed["conditions"]),
        note=(annotations.get("note") or "")[:200],
    )
    return row, problems


def _head(parsed: dict[str, Any]) -> Head:
    """What the engine read in a policy's parentheses. What is not understood takes everything in."""
    actions = [entity["id"] for entity in _entities(parsed["action"])]
    named = {action for name in actions for action in (USING if name == USE_MODEL else (name,))}
    return Head(
        principal=_name(parsed["principal"]),
        actions=frozenset(map(Action, named)) if actions and named <= set(Action) else None,
        resource=_name(parsed["resource"]),
    )


def _name(clause: dict[str, Any]) -> tuple[str, str] | None:
    """The one entity that a clause asks for, with `==`, `in` or `is … in`; a mere `is` names none."""
    named = _entities(clause.get("in", clause))
    return (named[0]["type"], named[0]["id"]) if len(named) == 1 else None


def _entities(clause: dict[str, Any]) -> list[dict[str, str]]:
    return [clause["entity"]] if "entity" in clause else clause.get("entities", [])


def _named(node: Any) -> Iterator[tuple[str, str]]:
    """Every entity that stands anywhere in a policy. Without recursion: a policy may be deep."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += here
        elif isinstance(here, dict):
            kind, name = here.get("type"), here.get("id")
            if isinstance(kind, str) and isinstance(name, str):
                yield kind, name
            waiting += here.values()


def _validated(text: str) -> list[str]:
    result = cedarpy.validate_policies(text, SCHEMA)
    if result.validation_passed and not result.errors:
        return []
    names = result.id_annotations_by_policy_id
    found = [f"{names.get(error.policy_id, 'the bundle')}: {_said(error.error)}" for error in result.errors]
    return list(dict.fromkeys(found)) or ["the bundle does not fit the schema"]


def _said(error: object) -> str:
    """The engine's own words, bounded."""
    return " ".join(str(error).split())[:300]


def _asked(bundle: Bundle, digest: str, texts: Sequence[str], rows: Sequence[PolicyRow]) -> Report:
    """Ask its own tests, and every corner of its own lattice that it can reach."""
    compiled = CompiledBundle(digest, texts, rows)
    tests = tuple(tested(compiled, case) for case in bundle.tests)
    problems = [f"the test {test.name!r}: {test.found}" for test in tests if not test.passed]
    lattice = questions_of((bundle,), most=REACHED)
    failed = [answer for answer in compiled.ask_all(lattice.questions) if isinstance(answer, Failed)]
    if failed:
        problems.append(f"{len(failed)} of {len(lattice.questions)} questions end in an error: {failed[0].reason}")
    return Report(
        hash=digest,
        problems=tuple(problems),
        policies=tuple(rows),
        tests=tests,
        untested=_untested(bundle, digest, texts, rows) if not problems else (),
    )


def tested(compiled: CompiledBundle, case: Case) -> CaseResult:
    """One test of a bundle, asked."""
    try:
        answer = compiled.ask(case.ask)
    except Failed as failure:
        return CaseResult(name=case.name, passed=False, found=failure.reason)
    found = "allow" if answer.verdict is not Verdict.DENY else "deny"
    bound = answer.obligations
    wrong = [
        f"{what} is {_shown(is_)}, not {_shown(due)}"
        for what, is_, due in (
            ("the decision", found, case.expect),
            ("what decides", frozenset(answer.rules), case.rules),
            ("redact", bound.redact, case.redact),
            ("route", bound.route or frozenset(), case.route),
            ("approvals", bound.approvals, case.approvals),
        )
        if due is not None and is_ != due
    ]
    return CaseResult(name=case.name, passed=not wrong, found="; ".join(wrong))


def _shown(value: object) -> str:
    return (", ".join(sorted(value)) or "nothing") if isinstance(value, frozenset) else str(value)


def _untested(bundle: Bundle, digest: str, texts: Sequence[str], rows: Sequence[PolicyRow]) -> tuple[str, ...]:
    """The policies without which every test would pass all the same."""
    unnoticed = []
    for left_out, row in enumerate(rows):
        rest = [index for index in range(len(rows)) if index != left_out]
        compiled = CompiledBundle(digest, [texts[index] for index in rest], [rows[index] for index in rest], sliced=0)
        if all(tested(compiled, case).passed for case in bundle.tests):
            unnoticed.append(row.id)
    return tuple(unnoticed)


def _on_stack(size: int, work: Callable[[], T]) -> T:
    """What `work` returns or raises, in a thread with a stack of `size` bytes."""
    before = threading.stack_size(size)
    try:
        with ThreadPoolExecutor(max_workers=1) as threads:
            return threads.submit(work).result()
    finally:
        threading.stack_size(before)


if __name__ == "__main__":
    main()
