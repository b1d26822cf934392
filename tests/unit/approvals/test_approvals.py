"""Approvals: exact arguments, another person, once, in time; whatever the order, and however many at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.clocks import ManualClock

from securellm.approvals import (
    EYES,
    HOST,
    LIFETIME_US,
    MOST_OPEN,
    Approvals,
    Proposal,
    State,
    Verdict,
    decide,
    demand_alone,
    digest_of,
    is_person,
    missing_eyes,
)
from securellm.approvals.store import PROPOSALS
from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.storage import ControlStore, Session

ANN, BOB, CARL = "user:ann", "user:bob", "user:carl"
SERVICE = "service:robot"
EVERYBODY = (ANN, BOB, CARL, SERVICE, HOST, "user:", "key:k", "")


class Desk:
    """Approvals over a real control database."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = ControlStore.open(folder / "control.db", migrate=True)
        self.approvals = Approvals(self.clock, SystemRandomness())
        self.done: list[str] = []
        self.executing: Callable[[Proposal], str] = self.execute

    def propose(self, *, by: str = ANN, tenant: str | None = "acme", role: str = "developer") -> Proposal:
        return self.store.write(
            lambda session: self.approvals.propose(
                session,
                action="create_grant",
                tenant=tenant,
                permission="grants:approve",
                arguments={"role": role},
                requester=by,
            )
        )

    def decide(self, proposal: Proposal, verdict: Verdict, *, by: str, digest: str | None = None) -> Proposal:
        def work(session: Session) -> Proposal:
            return self.approvals.decide(
                session,
                proposal.id,
                verdict,
                by=by,
                digest=proposal.digest if digest is None else digest,
                execute=self.executing,
            )

        return self.store.write(work)

    def execute(self, proposal: Proposal) -> str:
        self.done.append(proposal.id)
        return "grt_1"

    def now(self, proposal: Proposal) -> Proposal:
        return self.store.read(lambda session: self.approvals.get(session, proposal.id))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.store.close()


def refused(code: Code, act: Any) -> None:
    with pytest.raises(Refusal) as refusal:
        act()
    assert refusal.value.code is code


@pytest.mark.requirement("AP-1")
def test_a_second_person_approves_and_it_is_executed_once(desk: Desk) -> None:
    proposal = desk.propose()
    done = desk.decide(proposal, Verdict.APPROVE, by=BOB)
    assert (done.state, done.decided_by, done.result) == (State.EXECUTED, BOB, "grt_1")
    for verdict in Verdict:
        refused(Code.CONFLICT, lambda verdict=verdict: desk.decide(proposal, verdict, by=CARL))
    assert desk.done == [proposal.id]


@pytest.mark.requirement("AP-1")
def test_nobody_approves_their_own_and_no_service_approves_anything(desk: Desk) -> None:
    proposal = desk.propose()
    for by in (ANN, SERVICE, HOST, "user:", ""):
        refused(Code.FORBIDDEN, lambda by=by: desk.decide(proposal, Verdict.APPROVE, by=by))
    for by in (BOB, SERVICE, HOST):
        refused(Code.FORBIDDEN, lambda by=by: desk.decide(proposal, Verdict.WITHDRAW, by=by))
    assert desk.now(proposal) == proposal
    assert desk.done == []


@pytest.mark.requirement("AP-1")
def test_time_runs_out_as_a_no(desk: Desk) -> None:
    proposal = desk.propose()
    desk.clock.advance(LIFETIME_US / 1_000_000 - 1)
    assert desk.now(proposal).state is State.PENDING
    desk.clock.advance(1)
    assert desk.now(proposal).state is State.EXPIRED
    refused(Code.CONFLICT, lambda: desk.decide(proposal, Verdict.APPROVE, by=BOB))
    page = desk.store.read(lambda session: desk.approvals.page(session, after=None, limit=10, pending=True))
    assert page == ()


@pytest.mark.requirement("AP-1")
def test_an_approval_binds_the_exact_arguments(desk: Desk) -> None:
    proposal = desk.propose()
    other = digest_of(action="create_grant", tenant="acme", arguments={"role": "owner"}, requester=ANN)
    for digest in (other, "", "0" * 64, proposal.digest[:-1]):
        refused(Code.PRECONDITION_FAILED, lambda d=digest: desk.decide(proposal, Verdict.APPROVE, by=BOB, digest=d))
    changed = msgspec.structs.replace(proposal, arguments={"role": "owner"})
    desk.store.write(
        lambda session: session.run(PROPOSALS.update().where(PROPOSALS.c.id == proposal.id).values(document=changed))
    )
    refused(Code.PRECONDITION_FAILED, lambda: desk.decide(proposal, Verdict.APPROVE, by=BOB))
    assert desk.done == []


@given(
    action=st.sampled_from(["create_grant", "delete_grant"]),
    tenant=st.sampled_from([None, "", "acme", "globex"]),
    arguments=st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=2),
    requester=st.sampled_from([ANN, BOB]),
)
def test_the_digest_changes_with_whatever_it_binds(
    action: str, tenant: str | None, arguments: dict[str, Any], requester: str
) -> None:
    bound: dict[str, Any] = {"action": action, "tenant": tenant, "arguments": arguments, "requester": requester}
    digest = digest_of(**bound)
    assert digest == digest_of(**bound)
    for other in (
        {**bound, "action": action + "x"},
        {**bound, "tenant": "other"},
        {**bound, "arguments": {**arguments, "zzzz": 1}},
        {**bound, "requester": CARL},
    ):
        assert digest_of(**other) != digest


def test_what_fails_in_execution_leaves_the_proposal_as_it_was(desk: Desk) -> None:
    proposal = desk.propose()

    def fail(_: Proposal) -> str:
        raise Refusal(Code.CONFLICT, "they hold this role there already")

    desk.executing = fail
    refused(Code.CONFLICT, lambda: desk.decide(proposal, Verdict.APPROVE, by=BOB))
    assert desk.now(proposal) == proposal


@pytest.mark.requirement("AP-1")
def test_what_a_service_proposes_takes_two_people(desk: Desk) -> None:
    proposal = desk.propose(by=SERVICE)
    first = desk.decide(proposal, Verdict.APPROVE, by=ANN)
    assert (first.state, first.approvals) == (State.PENDING, (ANN,))
    refused(Code.CONFLICT, lambda: desk.decide(proposal, Verdict.APPROVE, by=ANN))
    assert desk.decide(proposal, Verdict.APPROVE, by=BOB).state is State.EXECUTED
    assert desk.done == [proposal.id]


def test_one_principal_cannot_fill_the_inbox(desk: Desk) -> None:
    for _ in range(MOST_OPEN):
        desk.propose()
    refused(Code.CONFLICT, desk.propose)
    assert desk.propose(by=BOB).state is State.PENDING


def test_lists_go_by_key_and_by_tenant(desk: Desk) -> None:
    made = [desk.propose(tenant=tenant) for tenant in ("acme", "globex", None, "acme")]
    first = desk.store.read(lambda session: desk.approvals.page(session, after=None, limit=3))
    rest = desk.store.read(lambda session: desk.approvals.page(session, after=first[-1].id, limit=3))
    seen = [proposal.id for proposal in (*first, *rest)]
    assert seen == sorted(proposal.id for proposal in made)
    acme = desk.store.read(lambda session: desk.approvals.page(session, after=None, limit=9, tenant="acme"))
    assert {proposal.tenant for proposal in acme} == {"acme"}


@pytest.mark.requirement("AP-1")
def test_however_many_decide_at_once_it_is_decided_once(desk: Desk) -> None:
    for round_ in range(5):
        proposal = desk.propose(role=str(round_))
        people = [f"user:{number}" for number in range(8)]
        barrier = threading.Barrier(len(people))
        won: list[str] = []

        def act(person: str, proposal: Proposal = proposal, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            verdict = Verdict.APPROVE if int(person[-1]) % 2 else Verdict.REJECT
            with suppress(Refusal):
                desk.decide(proposal, verdict, by=person)
                won.append(person)  # noqa: B023 - of this round

        threads = [threading.Thread(target=act, args=(person,)) for person in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        ended = desk.now(proposal)
        assert len(won) == 1
        assert ended.decided_by == won[0]
        assert desk.done.count(proposal.id) == (ended.state is State.EXECUTED)


@pytest.mark.requirement("AP-1")
def test_the_glass_breaks_for_the_host_with_a_reason_while_too_few_people_are_there() -> None:
    demand_alone(principal=HOST, reason="the first owner", eligible=EYES - 1)
    for principal in EVERYBODY:
        if principal != HOST:
            refused(Code.FORBIDDEN, lambda p=principal: demand_alone(principal=p, reason="because", eligible=0))
    for reason in ("", "  "):
        refused(Code.FORBIDDEN, lambda r=reason: demand_alone(principal=HOST, reason=r, eligible=0))
    for eligible in (EYES, EYES + 5):
        refused(Code.FORBIDDEN, lambda e=eligible: demand_alone(principal=HOST, reason="because", eligible=e))


def test_people_are_users_and_nothing_else() -> None:
    assert [who for who in EVERYBODY if is_person(who)] == [ANN, BOB, CARL]
    assert missing_eyes(ANN, ()) == 1
    assert missing_eyes(ANN, (ANN,)) == 1
    assert missing_eyes(ANN, (BOB,)) == 0
    assert missing_eyes(HOST, (SERVICE,)) == 2


class Machine(RuleBasedStateMachine):
    """Any order of decisions and time: never executed without two people, never after its end, never twice."""

    @initialize(requester=st.sampled_from([ANN, BOB, SERVICE]))
    def begin(self, requester: str) -> None:
        self.now = 0
        self.executed = 0
        arguments = {"role": "developer"}
        self.proposal = Proposal(
            id="prp_1",
            tenant="acme",
            action="create_grant",
            permission="grants:approve",
            arguments=arguments,
            digest=digest_of(action="create_grant", tenant="acme", arguments=arguments, requester=requester),
            requester=requester,
            reason="",
            created_us=0,
            expires_us=100,
        )

    @rule(
        verdict=st.sampled_from(list(Verdict)),
        by=st.sampled_from(EVERYBODY),
        right=st.booleans(),
        alone=st.just(False),
    )
    def decide(self, verdict: Verdict, by: str, right: bool, alone: bool) -> None:
        before = self.proposal
        digest = before.digest if right else "0" * 64
        try:
            after = decide(before, verdict, by=by, digest=digest, note="", now_us=self.now, alone=alone)
        except Refusal:
            return
        assert before.state is State.PENDING
        assert self.now < before.expires_us
        assert after.revision == before.revision + 1
        if verdict is Verdict.WITHDRAW:
            assert by == before.requester
        else:
            assert is_person(by)
            assert by != before.requester
        if after.state is State.EXECUTED:
            assert right
            self.executed += 1
        self.proposal = after

    @rule(step=st.integers(0, 60))
    def wait(self, step: int) -> None:
        self.now += step

    @invariant()
    def two_people_stand_behind_what_was_done(self) -> None:
        proposal = getattr(self, "proposal", None)
        if proposal is None:
            return
        assert self.executed == (proposal.state is State.EXECUTED)
        if proposal.state is State.EXECUTED:
            people = {who for who in (proposal.requester, *proposal.approvals) if is_person(who)}
            assert len(people) >= EYES


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
