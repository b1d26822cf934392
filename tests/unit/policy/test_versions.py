"""The life of a bundle: two people, one in force, nothing unsaid."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.policy.asking import EVERYTHING, bundle

from securellm.core.errors import Code, Refusal
from securellm.policy import (
    VERSIONS,
    Profile,
    State,
    Version,
    enforce,
    hash_of,
    propose,
    stored_policies,
    to_shadow,
    version,
    versions,
    withdraw,
)
from securellm.policy.lifecycle import enforced, proposed, recalled, retired, shadowed, withdrawn
from securellm.storage import EVERYWHERE, ControlStore, Scope, Session

pytestmark = pytest.mark.requirement("PO-1")

FIRST, SECOND = bundle(EVERYTHING), bundle(EVERYTHING, profiles=(Profile(action="p", fields=frozenset({"b", "a"})),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControlStore]:
    opened = ControlStore.open(tmp_path / "control.db", migrate=True)
    yield opened
    opened.close()


def refused(code: Code) -> "pytest.RaisesExc[Refusal]":
    return pytest.raises(Refusal, check=lambda error: error.code is code)


def draft(by: str = "user:ana") -> Version:
    return proposed(FIRST, "h1", tenant="acme", by=by, reason="because", now_us=1)


def test_a_proposal_says_why() -> None:
    for reason in ("", " \n", "x" * 2_001):
        with refused(Code.INVALID_REQUEST):
            proposed(FIRST, "h1", tenant="acme", by="user:ana", reason=reason, now_us=1)


def test_nothing_is_enforced_that_was_never_tried_in_the_shadow() -> None:
    with refused(Code.CONFLICT):
        enforced(draft(), by="user:bob", now_us=2)
    with refused(Code.CONFLICT):
        enforced(retired(draft(), by="user:ana", now_us=2), by="user:bob", now_us=3)


def test_who_proposed_it_cannot_put_it_in_force_alone() -> None:
    tried = shadowed(draft(), by="user:bob", now_us=2)
    with refused(Code.APPROVAL_REQUIRED):
        enforced(tried, by="user:ana", now_us=3)
    for empty in ("", "  "):
        with refused(Code.APPROVAL_REQUIRED):
            enforced(tried, by="user:ana", now_us=3, break_glass=empty)
    assert enforced(tried, by="user:bob", now_us=3).enforced_by == "user:bob"
    assert enforced(tried, by="user:ana", now_us=3, break_glass="alone on the host").break_glass == "alone on the host"


def test_who_put_it_in_force_cannot_take_it_out_alone() -> None:
    in_force = enforced(shadowed(draft(), by="user:ana", now_us=2), by="user:bob", now_us=3)
    with refused(Code.APPROVAL_REQUIRED):
        withdrawn(in_force, by="user:bob", now_us=4)
    assert withdrawn(in_force, by="user:ana", now_us=4).state is State.RETIRED
    with refused(Code.CONFLICT):
        withdrawn(withdrawn(in_force, by="user:ana", now_us=4), by="user:ana", now_us=5)


@given(steps=st.lists(st.tuples(st.sampled_from(["shadow", "enforce", "withdraw", "recall"]), st.sampled_from("ab"))))
def test_no_way_leads_into_force_without_two_people(steps: list[tuple[str, str]]) -> None:
    here = draft("a")
    for step, by in steps:
        try:
            if step == "shadow":
                here = shadowed(here, by=by, now_us=2)
            elif step == "enforce":
                here = enforced(here, by=by, now_us=3)
            elif step == "withdraw":
                here = withdrawn(here, by=by, now_us=4)
            elif here.state is State.SHADOW:
                here = recalled(here)
        except Refusal:
            continue
        if here.state is State.ENFORCED:
            assert here.enforced_by != here.proposed_by
            assert here.shadowed_by is not None
    assert here.bundle == FIRST


def test_of_each_scope_one_is_in_force_and_one_in_the_shadow(store: ControlStore) -> None:
    def story(session: Session) -> None:
        for made in (FIRST, SECOND):
            propose(session, made, tenant="acme", by="user:ana", reason="because", now_us=1)
        first, second = hash_of(FIRST), hash_of(SECOND)
        to_shadow(session, first, tenant="acme", by="user:ana", now_us=2)
        to_shadow(session, second, tenant="acme", by="user:ana", now_us=3)
        assert version(session, first, tenant="acme").document.state is State.DRAFT
        enforce(session, second, tenant="acme", by="user:bob", now_us=4)
        to_shadow(session, first, tenant="acme", by="user:ana", now_us=5)
        assert [(row.tenant, row.state, row.bundle) for row in stored_policies(session)] == (
            [("acme", "shadow", FIRST), ("acme", "enforced", SECOND)]
            if first < second
            else [("acme", "enforced", SECOND), ("acme", "shadow", FIRST)]
        )
        enforce(session, first, tenant="acme", by="user:bob", now_us=6)
        assert version(session, second, tenant="acme").document.state is State.RETIRED
        # And back again, which needs no second trial, but again a second person.
        with refused(Code.APPROVAL_REQUIRED):
            enforce(session, second, tenant="acme", by="user:ana", now_us=7)
        enforce(session, second, tenant="acme", by="user:bob", now_us=8)
        assert [row.bundle for row in stored_policies(session)] == [SECOND]
        withdraw(session, second, tenant="acme", by="user:ana", now_us=9)
        assert stored_policies(session) == ()

    store.write(story, scope=EVERYWHERE)
    assert store.changes(0).version > 0


def test_a_version_never_changes_and_is_proposed_once(store: ControlStore) -> None:
    def story(session: Session) -> None:
        kept = propose(session, SECOND, tenant="acme", by="user:ana", reason="because", now_us=1)
        assert kept.document.bundle == SECOND
        assert hash_of(version(session, kept.id, tenant="acme").document.bundle) == kept.id
        with refused(Code.CONFLICT):
            propose(session, SECOND, tenant="acme", by="user:bob", reason="again", now_us=2)
        with refused(Code.PRECONDITION_FAILED):
            to_shadow(session, kept.id, tenant="acme", by="user:ana", now_us=2, etag=kept.etag + 1)

    store.write(story, scope=Scope("acme"))


def test_a_tenant_sees_and_changes_its_own_versions_only(store: ControlStore) -> None:
    for tenant in ("acme", "other"):
        store.write(
            lambda session, tenant=tenant: propose(  # type: ignore[misc]
                session, FIRST, tenant=tenant, by="user:ana", reason="because", now_us=1
            ),
            scope=Scope(tenant),
        )
    store.write(
        lambda session: propose(session, SECOND, tenant="", by="user:ana", reason="for all", now_us=1),
        scope=EVERYWHERE,
    )

    def look(session: Session) -> None:
        assert [row.tenant for row in versions(session, tenant="acme", after=None, limit=10)] == ["acme"]
        assert [row.tenant for row in VERSIONS.page(session, limit=10)] == ["acme"]
        with refused(Code.NOT_FOUND):
            version(session, hash_of(SECOND), tenant="acme")
        with refused(Code.NOT_FOUND):
            to_shadow(session, hash_of(FIRST), tenant="other", by="user:ana", now_us=2)

    store.read(look, scope=Scope("acme"))
