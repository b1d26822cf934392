"""Measure what a policy decision costs: cold, remembered, and beside a gate that has no bundle to ask.

`python -m bench.policy`: CPU of this thread for each decision, in blocks that alternate, so that what disturbs the
machine disturbs all of them. Nothing is asserted.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

from securellm.core.clock import SystemClock
from securellm.core.surfaces import Surface
from securellm.policy import Bundle, Declared, Facts, Policies, Policy, Report, compile_policies, prove
from securellm.policy.bundles import checked
from securellm.policy.engine import CompiledBundle
from securellm.policy.rules import question_of
from securellm.telemetry.metrics import Metrics

COLD = 2_000
"""Decisions of one block, each about another key."""
WARM = 20_000
"""Decisions of one block, all about the same."""


def policies(count: int) -> str:
    """A bundle such as operators write: a permit, and restrictions by tenant, role, hour, capability and provider."""
    texts = ['@id("use") permit(principal, action in Action::"use_model", resource);']
    texts += [_KINDS[number % 3].replace("#", str(number)) for number in range(1, count)]
    return "\n".join(texts)


_FORBID = '@id("m#") forbid(principal'
_KINDS = (
    f'{_FORBID} in Tenant::"t#", action, resource == Model::"m#") when {{ context.surface == "chat" }};',
    f'{_FORBID} in Role::"r#", action, resource) when {{ context.providers.contains("p#") && context.hour >= 6 }};',
    f'{_FORBID}, action == Action::"stream", resource) when {{ context has data_class && context.data_class > 3 }};',
)


def facts(known: Policies | None, number: int = 0) -> Facts:
    return Facts(
        tenant="acme",
        key_id=f"key_{number:08d}",
        model="gpt-4o-mini",
        surface=Surface.CHAT,
        key_models=("*",),
        tenant_models=frozenset({"gpt-4o-mini", "claude"}),
        known_models=("gpt-4o-mini", "claude"),
        bundle="lists-0123456789abcdef0123456789abcdef",
        policies=known,
        stream=True,
        owner="user:ana",
        project="billing",
        roles=frozenset({"developer"}),
        providers=frozenset({"openai", "azure"}),
        needs=frozenset({"tools"}),
    )


def _drive(question: Coroutine[Any, Any, object]) -> None:
    """A gate that never waits needs no loop."""
    try:
        question.send(None)
    except StopIteration:
        return
    raise AssertionError("the gate waited")


def _done(_: object) -> None:
    """What was asked for its cost alone."""


def _each(decide: Callable[[int], None], count: int) -> list[float]:
    """CPU microseconds of each decision."""
    times = []
    for number in range(count):
        began = time.thread_time_ns()
        decide(number)
        times.append((time.thread_time_ns() - began) / 1e3)
    return times


def _mean(decide: Callable[[int], None], count: int) -> float:
    """CPU microseconds of one decision, the loop's own taken off."""
    began = time.thread_time_ns()
    for number in range(count):
        decide(number)
    spent = time.thread_time_ns() - began
    began = time.thread_time_ns()
    for _ in range(count):
        pass
    return (spent - (time.thread_time_ns() - began)) / count / 1e3


def measure(count: int, blocks: int) -> dict[str, Any]:
    """Every figure, in CPU microseconds for one decision."""
    bundle = Bundle(policies={"bench.cedar": policies(count)})
    began = time.perf_counter()
    (report,) = prove((bundle,))
    tried = time.perf_counter() - began
    known = _in_force(bundle, report)
    twice = compile_policies(
        [Declared(tenant=scope, state="enforced", bundle=bundle, report=report) for scope in ("", "acme")]
    )
    compiled = CompiledBundle(report.hash, [segment.text for segment in checked(bundle)], report.policies)
    fresh = Policy(SystemClock(), metrics=Metrics(), remembered=0)
    warm = Policy(SystemClock(), metrics=Metrics())
    question = question_of(facts(known), hour=12, weekday=3)
    deciding = known.of("acme")
    asked, alone, both = facts(known), facts(None), [facts(twice, number) for number in range(COLD)]
    each = [facts(known, number) for number in range(COLD)]
    sides: dict[str, list[float]] = {name: [] for name in ("lists", "remembered", "memo", "engine")}
    cold: list[list[float]] = []
    cold_both: list[list[float]] = []
    _drive(warm.permit(asked, decision_id="dec_1"))
    for block in range(blocks + 1):
        figures = {
            "lists": _mean(lambda _: _drive(warm.permit(alone, decision_id="dec_1")), WARM),
            "remembered": _mean(lambda _: _drive(warm.permit(asked, decision_id="dec_1")), WARM),
            "memo": _mean(lambda _: _done(warm._decided(asked, deciding, None, last=False)), WARM),
            "engine": _mean(lambda _: _done(compiled.ask(question)), COLD) if block else 0.0,
        }
        if block == 0:
            continue  # the first round only warms up
        for name, figure in figures.items():
            sides[name].append(figure)
        cold.append(_each(lambda number: _drive(fresh.permit(each[number], decision_id="dec_1")), COLD))
        cold_both.append(_each(lambda number: _drive(fresh.permit(both[number], decision_id="dec_1")), COLD))
    medians = {name: statistics.median(values) for name, values in sides.items()}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "policies": count,
        "blocks": blocks,
        "cpu_us": medians,
        "cpu_us_each_block": sides,
        "cold_cpu_us": _spread(cold),
        "cold_two_bundles_cpu_us": _spread(cold_both),
        "remembered_over_lists": medians["remembered"] / medians["lists"],
        "cold_over_remembered": _spread(cold)["p50"] / medians["remembered"],
        "trial_seconds": tried,
    }


def _in_force(bundle: Bundle, report: Report) -> Policies:
    return compile_policies([Declared(tenant="", state="enforced", bundle=bundle, report=report)])


def _spread(blocks: list[list[float]]) -> dict[str, float]:
    """Medians over blocks of what each block's own half and 99 of 100 decisions stay within."""
    ordered = [sorted(block) for block in blocks]
    return {
        name: statistics.median(block[int(len(block) * share)] for block in ordered)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


def shown(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    cpu, cold, both = figures["cpu_us"], figures["cold_cpu_us"], figures["cold_two_bundles_cpu_us"]
    return "\n".join(
        [
            f"{figures['machine']}; {figures['policies']} policies, {figures['blocks']} blocks; CPU µs of one decision",
            f"{'cold, one bundle':46}p50 {cold['p50']:7.1f}   p99 {cold['p99']:7.1f}",
            f"{'cold, installation and tenant':46}p50 {both['p50']:7.1f}   p99 {both['p99']:7.1f}",
            f"{'the engine alone':46}{cpu['engine']:11.1f}",
            f"{'remembered: the memo alone':46}{cpu['memo']:11.2f}",
            f"{'remembered: the whole gate':46}{cpu['remembered']:11.2f}",
            f"{'no bundle: the whole gate, allow-lists alone':46}{cpu['lists']:11.2f}",
            f"{'remembered, over the allow-lists alone':46}{figures['remembered_over_lists']:11.1f}",
            f"{'cold, over remembered':46}{figures['cold_over_remembered']:11.1f}",
            f"a bundle's trial in its child process took {figures['trial_seconds']:.2f} s",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.policy", description="CPU of a policy decision.")
    parser.add_argument("--policies", type=int, default=30, help="policies of the bundle")
    parser.add_argument("--blocks", type=int, default=5, help="blocks of each side")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = measure(options.policies, options.blocks)
    print(json.dumps(figures) if options.json else shown(figures))


if __name__ == "__main__":
    main()
