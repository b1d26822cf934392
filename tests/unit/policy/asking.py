"""Bundles and questions for the tests of policy."""

import asyncio
from functools import cache
from typing import Any

import msgspec
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, GatewayError
from securellm.core.surfaces import Surface
from securellm.policy import (
    NO_POLICIES,
    Action,
    Bundle,
    CompiledBundle,
    Declared,
    Facts,
    Permit,
    Policies,
    Policy,
    Question,
    compile_policies,
)
from securellm.policy.bundles import checked
from securellm.policy.trial import examine
from securellm.telemetry.metrics import Metrics

EVERYTHING = '@id("all") permit(principal, action, resource);\n'


def bundle(*policies: str, **members: Any) -> Bundle:
    return Bundle(policies={"main.cedar": "\n".join(policies)}, **members)


@cache
def compiled(*policies: str) -> CompiledBundle:
    """Tried in this process: for texts that the test itself wrote and that harm nothing."""
    made = bundle(*policies)
    report = examine(made)
    assert report.ok, report.problems
    return CompiledBundle(report.hash, [segment.text for segment in checked(made)], report.policies)


def problems(*policies: str, **members: Any) -> str:
    """What a trial in this process finds."""
    return "; ".join(examine(bundle(*policies, **members)).problems)


def question(**members: Any) -> Question:
    return msgspec.structs.replace(
        Question(action=Action.INVOKE, resource="gpt", principal="key:k1", tenant="acme", surface="chat"), **members
    )


def facts(policies: Policies | None = None, **members: Any) -> Facts:
    known = Facts(
        tenant="acme",
        key_id="k1",
        model="gpt",
        surface=Surface.CHAT,
        key_models=("*",),
        tenant_models=("*",),
        known_models=("gpt", "claude"),
        bundle="lists-1",
        policies=policies,
    )
    return msgspec.structs.replace(known, **members)


def in_force(previous: Policies = NO_POLICIES, **scopes: Bundle) -> Policies:
    """Through a real child. `installation`, `acme`, and with `_shadow` behind them what is only tried."""
    rows = []
    for name, made in scopes.items():
        scope, _, shadow = name.partition("_")
        rows.append(
            Declared(
                tenant="" if scope == "installation" else scope,
                state="shadow" if shadow else "enforced",
                bundle=made,
            )
        )
    return compile_policies(rows, previous=previous)


def gate(clock: ManualClock | None = None, **members: Any) -> Policy:
    return Policy(clock or ManualClock(), metrics=Metrics(), **members)


def answered(policy: Policy, asked: Facts) -> Permit | Code:
    try:
        return asyncio.run(policy.permit(asked, decision_id="dec_1"))
    except GatewayError as error:
        return error.code
