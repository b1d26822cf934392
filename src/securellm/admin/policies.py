"""The resource /admin/v1/policies: bundles of Cedar policies, from a draft through the shadow into force.

A version belongs to one tenant, or without a `tenant` to the installation. Putting one in force, and ending one that
is, takes two people.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from securellm.admin.calls import Call, CurrentCall, demand_tenant, missing, scope_of
from securellm.admin.critical import ANSWERS_PROPOSAL, Arguments, Critical, Criticals, Hands, propose
from securellm.admin.etags import etag_of
from securellm.admin.moments import moment_of
from securellm.admin.pages import page_of
from securellm.admin.permissions import API_ROOT, asks
from securellm.admin.ports import Changed, Ports
from securellm.admin.problems import FieldProblem, Unacceptable
from securellm.admin.replays import add_replays
from securellm.admin.shapes import ID, Id, Input, Listed, Reason, answer, managed_by_file, shown
from securellm.admin.trials import Trials
from securellm.core.errors import Code, Refusal
from securellm.identity import Actor, Permission
from securellm.policy import (
    INSTALLATION,
    Bundle,
    BundleRefused,
    Declared,
    Question,
    Report,
    State,
    Version,
    enforce,
    explain,
    hash_of,
    prove,
    read_bundle,
    to_shadow,
    version,
    versions,
    withdraw,
)
from securellm.policy import propose as draft
from securellm.storage import Session, Shelved

VersionId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="The hash of the bundle.")]
Scope = Annotated[str | None, Query(pattern=ID, description="Left out, the installation's.")]
_MOST_PROBLEMS = 50


class NewPolicy(Input):
    """A bundle that somebody proposes."""

    tenant: Annotated[Id | None, Field(description="Null is the installation: every tenant.")] = None
    bundle: Annotated[
        dict[str, Any], Field(description='`{"policies": {name: Cedar text}, "profiles": […], "tests": […]}`.')
    ]
    reason: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"\S")]


class Candidate(Input):
    """A bundle to be tried and not kept."""

    bundle: dict[str, Any]


class Asked(Input):
    """A question to a version: what it would decide."""

    question: Annotated[
        dict[str, Any], Field(description="`action`, `resource`, `principal`, `tenant`, and what else is known.")
    ]


class Step(Input):
    """Why a version goes on."""

    reason: Reason = ""


class ReportView(BaseModel):
    """Whether a bundle can be put in force, and if not, why."""

    ok: bool
    hash: str
    problems: list[str]
    policies: list[dict[str, Any]]
    tests: list[dict[str, Any]]
    untested: list[str]
    mentions_guard: bool


class PolicyView(BaseModel):
    """A version of a scope's policies."""

    id: str
    tenant: str | None
    state: State
    managed_by: Literal["file", "api"]
    reason: str
    proposed_by: str
    proposed_at: datetime | None
    shadowed_by: str | None
    shadowed_at: datetime | None
    enforced_by: str | None
    enforced_at: datetime | None
    retired_by: str | None
    retired_at: datetime | None
    break_glass: str | None


class WholePolicyView(PolicyView):
    """A version with its texts."""

    bundle: dict[str, Any]


class PolicyList(BaseModel):
    data: list[PolicyView]
    next_cursor: str | None


class ExplanationView(BaseModel):
    """What a version would decide, and which of its policies spoke for and against it."""

    standing: dict[str, Any]
    voices: list[dict[str, Any]]


class ListPolicies(Listed):
    """Which versions to list."""

    tenant: Annotated[str | None, Field(pattern=ID, description="Left out, the installation's.")] = None


def add_policies(app: FastAPI, ports: Ports, criticals: Criticals) -> None:
    """Serve the resource."""
    root = f"{API_ROOT}/policies"
    one = f"{root}/{{version_id}}"
    now_us = ports.clock.now_us
    trials = Trials()
    writes = asks(Permission.POLICIES_WRITE, of="tenant", precondition_optional=True)
    reads = asks(Permission.POLICIES_READ, of="tenant")
    steps = asks(Permission.POLICIES_WRITE, of="tenant", four_eyes=True, precondition_optional=True)

    add_replays(app, ports, trials)

    def of_file(tenant: str | None) -> tuple[Declared, ...]:
        return tuple(item for item in ports.declared_policies() if item.tenant == (tenant or INSTALLATION))

    def demand_ours(tenant: str | None) -> None:
        if of_file(tenant):
            raise managed_by_file("scope's policy")

    async def kept(call: Call, version_id: str, tenant: str | None) -> Shelved[Version]:
        """The version, if its scope is not the file's and it is what the caller has read."""
        demand_ours(tenant)
        found = await call.read(lambda session: _find(session, version_id, tenant), scope=scope_of(tenant))
        call.precondition.demand(_etag(found))
        return found

    def enforcing(session: Session, hands: Hands, arguments: Arguments) -> Changed[Shelved[Version]]:
        return ending(session, hands, arguments, enforce, "proposed_by")

    def withdrawing(session: Session, hands: Hands, arguments: Arguments) -> Changed[Shelved[Version]]:
        return ending(session, hands, arguments, withdraw, "enforced_by")

    def ending(
        session: Session, hands: Hands, arguments: Arguments, act: Callable[..., Shelved[Version]], other: str
    ) -> Changed[Shelved[Version]]:
        tenant, version_id = arguments["tenant"], arguments["id"]
        if not hands.requester.may(Permission.POLICIES_WRITE, tenant=tenant):
            raise Refusal(Code.FORBIDDEN, "who proposed it may not change this policy any more")
        demand_ours(tenant)
        before = _find(session, version_id, tenant)
        after = act(
            session,
            version_id,
            tenant=tenant or INSTALLATION,
            by=hands.other_than(getattr(before.document, other)),
            now_us=now_us(),
            break_glass=hands.break_glass,
            etag=before.etag,
        )
        return Changed(result=after, id=version_id, before=before.document, after=after.document)

    def check(wanted: tuple[State, ...]) -> Callable[[Session, Actor, Arguments], None]:
        def checked(session: Session, actor: Actor, arguments: Arguments) -> None:  # noqa: ARG001 - the seam's shape
            demand_ours(arguments["tenant"])
            found = _find(session, arguments["id"], arguments["tenant"]).document
            if found.state not in wanted:
                raise Refusal(Code.CONFLICT, f"a version that is {found.state.value} is not at this step")

        return checked

    async def tried(call: Call, arguments: Arguments) -> None:
        tenant = arguments["tenant"]
        found = await call.read(lambda session: _find(session, arguments["id"], tenant), scope=scope_of(tenant))
        await _demand_proven(call, trials, found.document.bundle)

    enforcement = criticals.add(
        Critical(
            action="enforce_policy",
            verb="enforce",
            resource="policies",
            approval=Permission.POLICIES_APPROVE,
            check=check((State.SHADOW, State.RETIRED)),
            perform=enforcing,
            prepare=tried,
            answer=lambda done: answer(_view(done), etag=_etag(done)),
        )
    )
    withdrawal = criticals.add(
        Critical(
            action="withdraw_policy",
            verb="withdraw",
            resource="policies",
            approval=Permission.POLICIES_APPROVE,
            check=check((State.ENFORCED,)),
            perform=withdrawing,
            answer=lambda done: answer(_view(done), etag=_etag(done)),
        )
    )

    @app.get(root, operation_id="list_policies", tags=["policies"], openapi_extra=reads)
    async def list_policies(call: CurrentCall, asked: Annotated[ListPolicies, Query()]) -> PolicyList:
        """List the versions of one scope by their hashes, with what the file declares."""
        call.allow(asked.tenant)

        def found(session: Session, after: str | None, most: int) -> tuple[PolicyView, ...]:
            stored = versions(session, tenant=asked.tenant or INSTALLATION, after=after, limit=most)
            file = [_view_of_file(item) for item in of_file(asked.tenant)]
            views = [*map(_view, stored), *(view for view in file if after is None or view.id > after)]
            return tuple(sorted(views, key=lambda view: view.id)[:most])

        views, cursor = await page_of(call, asked, found, key=lambda view: view.id, tenant=asked.tenant)
        return PolicyList(data=list(views), next_cursor=cursor)

    @app.post(
        root,
        status_code=201,
        operation_id="create_policy",
        tags=["policies"],
        openapi_extra=asks(Permission.POLICIES_WRITE, of="tenant"),
        responses=shown(WholePolicyView, status=201),
        response_model=None,
    )
    async def create_policy(call: CurrentCall, asked: NewPolicy) -> Response:
        """Keep a bundle as a draft, once it has been tried."""
        call.allow(asked.tenant)
        await demand_tenant(call, asked.tenant)
        demand_ours(asked.tenant)
        bundle = await _read(asked.bundle)
        await _demand_proven(call, trials, bundle)

        def work(session: Session) -> Changed[Shelved[Version]]:
            made = draft(
                session,
                bundle,
                tenant=asked.tenant or INSTALLATION,
                by=call.actor.principal,
                reason=asked.reason,
                now_us=now_us(),
            )
            return Changed(result=made, id=made.id, after=made.document)

        made = await call.change("create", "policies", work, tenant=asked.tenant, scope=scope_of(asked.tenant))
        return answer(_whole(made), etag=_etag(made), status=201, location=_address(made.id, asked.tenant))

    @app.post(
        f"{API_ROOT}/policy/validate",
        operation_id="validate_policy",
        tags=["policies"],
        openapi_extra=asks(Permission.POLICIES_READ, of="nobody"),
    )
    async def validate_policy(call: CurrentCall, asked: Candidate) -> ReportView:
        """Try a bundle in a process of its own, with its own tests. Nothing is kept."""
        try:
            bundle = await _read(asked.bundle)
        except Unacceptable as refused:
            return _report(Report(hash="", problems=tuple(error.reason for error in refused.errors)))
        return _report((await trials.run(call.actor, lambda: prove((bundle,))))[0])

    @app.get(
        one,
        operation_id="get_policy",
        tags=["policies"],
        openapi_extra=reads,
        responses=shown(WholePolicyView),
        response_model=None,
    )
    async def get_policy(call: CurrentCall, version_id: VersionId, tenant: Scope = None) -> Response:
        """One version with its texts."""
        call.allow(tenant)
        for item in of_file(tenant):
            if hash_of(item.bundle) == version_id:
                view = _view_of_file(item)
                bundle = msgspec.to_builtins(item.bundle)
                return answer(WholePolicyView(**view.model_dump(), bundle=bundle), etag=f'"{version_id[:24]}"')
        found = await call.read(lambda session: _find(session, version_id, tenant), scope=scope_of(tenant))
        return answer(_whole(found), etag=_etag(found))

    @app.post(f"{one}/explain", operation_id="explain_policy", tags=["policies"], openapi_extra=reads)
    async def explain_policy(
        call: CurrentCall, version_id: VersionId, asked: Asked, tenant: Scope = None
    ) -> ExplanationView:
        """What this version would decide on a question, and why."""
        call.allow(tenant)
        found = await call.read(lambda session: _find(session, version_id, tenant), scope=scope_of(tenant))
        try:
            question = msgspec.convert(asked.question, Question)
        except msgspec.ValidationError as error:
            raise Unacceptable([FieldProblem(field="question", reason=str(error))]) from None
        bundle = found.document.bundle
        try:
            told = await trials.run(call.actor, lambda: explain(bundle, prove((bundle,))[0], question))
        except BundleRefused as refused:
            raise _unacceptable(refused.problems) from None
        return ExplanationView(**msgspec.to_builtins(told))

    @app.post(
        f"{one}/shadow",
        operation_id="shadow_policy",
        tags=["policies"],
        openapi_extra=writes,
        responses=shown(PolicyView),
        response_model=None,
    )
    async def shadow_policy(call: CurrentCall, version_id: VersionId, tenant: Scope = None) -> Response:
        """Ask it beside what is in force: it decides nothing, and what it would have decided is counted."""
        call.allow(tenant)
        await _demand_proven(call, trials, (await kept(call, version_id, tenant)).document.bundle)

        def work(session: Session) -> Changed[Shelved[Version]]:
            before = _find(session, version_id, tenant)
            call.precondition.demand(_etag(before))
            scope, by = tenant or INSTALLATION, call.actor.principal
            after = to_shadow(session, version_id, tenant=scope, by=by, now_us=now_us(), etag=before.etag)
            return Changed(result=after, id=version_id, before=before.document, after=after.document)

        done = await call.change("shadow", "policies", work, tenant=tenant, scope=scope_of(tenant))
        return answer(_view(done), etag=_etag(done))

    @app.post(
        f"{one}/enforce",
        status_code=202,
        operation_id="enforce_policy",
        tags=["policies"],
        openapi_extra=steps,
        responses={**ANSWERS_PROPOSAL, **shown(PolicyView)},
        response_model=None,
    )
    async def enforce_policy(call: CurrentCall, version_id: VersionId, asked: Step, tenant: Scope = None) -> Response:
        """Propose that it decides from now on. Another person who holds `policies:approve` there must agree."""
        call.allow(tenant)
        await kept(call, version_id, tenant)
        arguments = {"tenant": tenant, "id": version_id}
        return await propose(call, enforcement, tenant=tenant, arguments=arguments, reason=asked.reason)

    @app.post(
        f"{one}/withdraw",
        operation_id="withdraw_policy",
        tags=["policies"],
        openapi_extra=steps,
        responses={**ANSWERS_PROPOSAL, **shown(PolicyView)},
        response_model=None,
    )
    async def withdraw_policy(call: CurrentCall, version_id: VersionId, asked: Step, tenant: Scope = None) -> Response:
        """End it. What is in force ends only when another person agrees: less policy is a change of policy."""
        call.allow(tenant)
        found = await kept(call, version_id, tenant)
        if found.document.state is State.ENFORCED:
            arguments = {"tenant": tenant, "id": version_id}
            return await propose(call, withdrawal, tenant=tenant, arguments=arguments, reason=asked.reason)
        call.demand_whole_glass()

        def work(session: Session) -> Changed[Shelved[Version]]:
            before = _find(session, version_id, tenant)
            if before.document.state is State.ENFORCED:
                raise Refusal(Code.CONFLICT, "it was put in force meanwhile")
            scope, by = tenant or INSTALLATION, call.actor.principal
            after = withdraw(session, version_id, tenant=scope, by=by, now_us=now_us(), etag=before.etag)
            return Changed(result=after, id=version_id, before=before.document, after=after.document)

        done = await call.change("withdraw", "policies", work, tenant=tenant, scope=scope_of(tenant))
        return answer(_view(done), etag=_etag(done))


async def _read(bundle: dict[str, Any]) -> Bundle:
    try:
        return await asyncio.to_thread(lambda: read_bundle(msgspec.json.encode(bundle)))
    except BundleRefused as refused:
        raise _unacceptable(refused.problems) from None


async def _demand_proven(call: Call, trials: Trials, bundle: Bundle) -> None:
    """Raises `Unacceptable` with all that a trial finds."""
    report = (await trials.run(call.actor, lambda: prove((bundle,))))[0]
    if not report.ok:
        raise _unacceptable(report.problems)


def _unacceptable(problems: tuple[str, ...]) -> Unacceptable:
    return Unacceptable([FieldProblem(field="bundle", reason=problem) for problem in problems[:_MOST_PROBLEMS]])


def _find(session: Session, version_id: str, tenant: str | None) -> Shelved[Version]:
    try:
        return version(session, version_id, tenant=tenant or INSTALLATION)
    except Refusal:
        raise missing("no policy version has this id") from None


def _view(kept: Shelved[Version]) -> PolicyView:
    found = kept.document
    return PolicyView(
        id=found.id,
        tenant=found.tenant or None,
        state=found.state,
        managed_by="api",
        reason=found.reason,
        proposed_by=found.proposed_by,
        proposed_at=moment_of(found.proposed_us),
        shadowed_by=found.shadowed_by,
        shadowed_at=moment_of(found.shadowed_us),
        enforced_by=found.enforced_by,
        enforced_at=moment_of(found.enforced_us),
        retired_by=found.retired_by,
        retired_at=moment_of(found.retired_us),
        break_glass=found.break_glass,
    )


def _view_of_file(item: Declared) -> PolicyView:
    return PolicyView(
        id=hash_of(item.bundle),
        tenant=item.tenant or None,
        state=State(item.state),
        managed_by="file",
        reason="",
        proposed_by="file",
        proposed_at=None,
        shadowed_by=None,
        shadowed_at=None,
        enforced_by=None,
        enforced_at=None,
        retired_by=None,
        retired_at=None,
        break_glass=None,
    )


def _whole(kept: Shelved[Version]) -> WholePolicyView:
    bundle: dict[str, Any] = msgspec.to_builtins(kept.document.bundle)
    return WholePolicyView(**_view(kept).model_dump(), bundle=bundle)


def _report(report: Report) -> ReportView:
    return ReportView(ok=report.ok, mentions_guard=report.mentions_guard, **msgspec.to_builtins(report))


def _etag(kept: Shelved[Version]) -> str:
    return etag_of("policy", key=f"{kept.tenant}/{kept.id}", created_us=kept.created_us, revision=kept.etag)


def _address(version_id: str, tenant: str | None) -> str:
    query = "" if tenant is None else f"?tenant={tenant}"
    return f"{API_ROOT}/policies/{version_id}{query}"
