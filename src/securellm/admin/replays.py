"""The operation /admin/v1/policy/diff: what another bundle would have decided on requests that there really were."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI
from pydantic import AwareDatetime, BaseModel, Field

from securellm.admin.calls import Call, CurrentCall, demand_tenant, missing, scope_of
from securellm.admin.moments import micros_of, moment_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Ports
from securellm.admin.problems import FieldProblem, Unacceptable
from securellm.admin.shapes import Id, Input, refuse
from securellm.admin.trials import Trials
from securellm.audit import Decision, PolicyQuestion, decisions
from securellm.core.errors import Code, Refusal
from securellm.identity import Permission
from securellm.policy import (
    INSTALLATION,
    Bundle,
    BundleRefused,
    Facts,
    GuardFacts,
    Held,
    Lineup,
    Question,
    Replay,
    Traffic,
    hash_of,
    question_of,
    read_bundle,
    stored_policies,
    version,
)

MOST = 50_000
"""Decisions of one replay."""
MOST_LOOKED_AT = 200_000
"""Records that are looked at for them."""
_MOST_PROBLEMS = 50


class Against(Input):
    """What is to be asked, and of how much traffic."""

    tenant: Annotated[Id | None, Field(description="Whose policy and requests; null is the installation's.")] = None
    version: Annotated[
        str | None, Field(pattern=r"^[0-9a-f]{64}$", description="A version of this scope, whatever its state.")
    ] = None
    bundle: Annotated[dict[str, Any] | None, Field(description="Or a bundle that is not kept.")] = None
    last: Annotated[int, Field(ge=1, le=MOST, description="The newest so many decisions.")] = 10_000
    since: Annotated[AwareDatetime | None, Field(description="None older than that.")] = None


class ReplayView(BaseModel):
    """What would have been otherwise, of the requests that were recorded where this gateway runs."""

    bundle: str
    tenant: str | None
    decisions: int
    same: int
    denied: int
    allowed: int
    otherwise_bound: int
    otherwise_refused: int
    changes: list[dict[str, Any]]
    more_changes: int
    not_replayable: dict[str, dict[str, Any]]
    drifted: dict[str, Any]
    elsewhere: dict[str, int]
    other_policies: int
    unknown_callers: int
    oldest: datetime | None
    newest: datetime | None
    complete: bool


class _Window(msgspec.Struct, kw_only=True):
    """How far the log has been read."""

    oldest: int | None = None
    newest: int | None = None
    unknown_callers: int = 0
    complete: bool = False


def add_replays(app: FastAPI, ports: Ports, trials: Trials) -> None:
    """Serve the operation."""

    @app.post(
        f"{API_ROOT}/policy/diff",
        operation_id="diff_policy",
        tags=["policies"],
        openapi_extra=asks(Permission.POLICIES_READ, of="tenant"),
    )
    async def diff_policy(call: CurrentCall, asked: Against) -> ReplayView:
        """Ask a bundle what policy was asked about recorded requests, and compare it with what is in force.

        Of the requests stand ids and facts in the answer, never content, so it takes `decisions:read` as well.
        """
        call.allow(asked.tenant)
        call.allow(asked.tenant, permission=Permission.DECISIONS_READ)
        await demand_tenant(call, asked.tenant)
        candidate = await _candidate(call, ports, asked)
        declared = (*ports.declared_policies(), *await call.read(stored_policies))
        lineup = Lineup(declared, candidate, tenant=asked.tenant or INSTALLATION)
        await call.looked("policy/diff", lineup.candidate, tenant=asked.tenant)
        try:
            replay, window = await trials.run(call.actor, lambda: _replayed(lineup, ports.audit, asked))
        except BundleRefused as refused:
            raise _unacceptable(refused) from None
        return _view(lineup.candidate, asked.tenant, replay, window)


async def _candidate(call: Call, ports: Ports, asked: Against) -> Bundle:
    if (asked.version is None) == (asked.bundle is None):
        raise refuse("version", "name a version, or send a bundle, and not both")
    if asked.bundle is not None:
        body = msgspec.json.encode(asked.bundle)
        try:
            return await asyncio.to_thread(read_bundle, body)
        except BundleRefused as refused:
            raise _unacceptable(refused) from None
    scope, name = asked.tenant or INSTALLATION, asked.version or ""
    for item in ports.declared_policies():
        if item.tenant == scope and hash_of(item.bundle) == name:
            return item.bundle
    try:
        found = await call.read(lambda session: version(session, name, tenant=scope), scope=scope_of(asked.tenant))
    except Refusal:
        raise missing("no policy version has this id") from None
    return found.document.bundle


def _replayed(lineup: Lineup, path: Path, asked: Against) -> tuple[Replay, _Window]:
    """Read what the log holds, and have it asked. Blocks for seconds."""
    traffic = Traffic(lineup)
    window = _read(traffic, path, asked)
    return traffic.replay(), window


def _read(traffic: Traffic, path: Path, asked: Against) -> _Window:
    """Take in what the log holds, until it is enough."""
    since_us = None if asked.since is None else micros_of(asked.since)
    reader, window, looked_at, before = _Reader(traffic), _Window(), 0, None
    while True:
        left = asked.last - traffic.decisions
        step = decisions(path, tenant=asked.tenant, since_us=since_us, before=before, limit=left)
        taken = reader.take(step.decisions)
        traffic.damaged += step.damaged
        if asked.tenant is None:
            window.unknown_callers += step.unknown_callers
        if step.decisions:
            window.newest = window.newest or step.decisions[0].until_us
            window.oldest = step.decisions[-1].until_us
        before, looked_at = step.before, looked_at + step.looked_at
        window.complete = taken and (before is None or traffic.decisions >= asked.last)
        if window.complete or not taken or looked_at >= MOST_LOOKED_AT:
            return window


class _Reader:
    """From records to the questions that policy was asked."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._known: dict[tuple[object, ...], tuple[Question, ...]] = {}

    def take(self, found: tuple[Decision, ...]) -> bool:
        """Whether there was room for all."""
        for decision in found:
            if self._traffic.full:
                return False
            match decision.code:
                case None:
                    self._add(decision, "allow")
                case Code.POLICY_DENIED:
                    self._add(decision, "deny")
                case Code.APPROVAL_REQUIRED:
                    self._add(decision, "approval_required")
                case code:
                    self._traffic.refused(code)
        return True

    def _add(self, decision: Decision, held: Held) -> None:
        self._traffic.add(
            decision.request_id,
            self._questions(decision),
            tenant=decision.tenant,
            held=held,
            rules=decision.rules,
            policy_version=decision.policy_version,
            from_us=decision.from_us,
            until_us=decision.until_us,
        )

    def _questions(self, decision: Decision) -> tuple[Question, ...]:
        """What policy was asked; nothing where the record does not say so in a way that can be asked."""
        key = (
            *(decision.tenant, decision.principal, decision.key_id),
            *(decision.surface, decision.model, decision.errand, decision.asked),
        )
        found = self._known.get(key)
        if found is None:
            asked = tuple(_question(decision, one) for one in decision.asked)
            try:
                found = msgspec.convert(msgspec.to_builtins(asked), tuple[Question, ...])
            except msgspec.ValidationError:
                found = ()
            self._known[key] = found
        return found


def _question(decision: Decision, asked: PolicyQuestion) -> Question:
    own = asked.model is None
    screened = asked.screened
    facts = Facts(
        tenant=decision.tenant,
        key_id=decision.key_id,
        model=(decision.model if own else asked.model) or "",
        surface=asked.surface or decision.surface,
        key_models=(),
        tenant_models=(),
        known_models=(),
        bundle="",
        errand=decision.errand if own else None,
        stream=asked.stream,
        principal=decision.principal,
        owner=asked.owner,
        project=asked.project,
        roles=frozenset(asked.roles),
        channel=asked.channel,
        providers=frozenset(asked.providers),
        needs=frozenset(asked.needs),
        approved_by=asked.approved_by,
        data_class=asked.data_class,
        region=asked.region,
        residency=asked.residency,
        budget_state=asked.budget_state,
    )
    guard = (
        None if screened is None else GuardFacts(injection=screened.injection, findings=frozenset(screened.findings))
    )
    return question_of(facts, hour=0, weekday=1, guard=guard)


def _view(bundle: str, tenant: str | None, replay: Replay, window: _Window) -> ReplayView:
    return ReplayView(
        bundle=bundle,
        tenant=tenant,
        unknown_callers=window.unknown_callers,
        oldest=moment_of(window.oldest),
        newest=moment_of(window.newest),
        complete=window.complete,
        **msgspec.to_builtins(replay),
    )


def _unacceptable(refused: BundleRefused) -> Unacceptable:
    return Unacceptable([FieldProblem(field="bundle", reason=problem) for problem in refused.problems[:_MOST_PROBLEMS]])
