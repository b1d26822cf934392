"""What a record keeps of a question is all of it: read back, it is the question that policy was asked."""

import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.admin.replays import _question as read_back
from securellm.audit import Decision, PolicyQuestion
from securellm.core.surfaces import Surface
from securellm.gateway.case import _question as written
from securellm.gateway.case import _screened
from securellm.policy import Facts, GuardFacts, Question, guard_facts, question_of

pytestmark = pytest.mark.requirement("PO-1", "AU-1")

NAME = st.text(string.ascii_letters + string.digits + "._- é", min_size=1, max_size=40)
NAMES = st.frozensets(NAME, max_size=4)
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "tenant": NAME,
    "key_id": NAME,
    "model": NAME,
    "surface": st.sampled_from(Surface),
    "errand": st.none() | NAME,
    "stream": st.booleans(),
    "principal": st.sampled_from(("key:k", "service:s", "user:u")),
    "owner": st.none() | st.sampled_from(("user:u", "service:s")),
    "project": st.none() | NAME,
    "roles": NAMES,
    "channel": NAME,
    "providers": NAMES,
    "needs": NAMES,
    "approved_by": st.integers(0, 99),
    "data_class": st.none() | st.integers(0, 4),
    "region": st.none() | NAME,
    "residency": st.none() | NAME,
    "budget_state": st.none() | NAME,
}
LISTS: dict[str, Any] = {"key_models": (), "tenant_models": (), "known_models": (), "bundle": "", "policies": None}
"""The facts that the allow-lists decide by, and no policy sees."""
FOUND = st.none() | st.lists(st.tuples(st.sampled_from(("cpf", "card", "injection")), st.integers(0, 1000)), max_size=4)


def test_every_fact_that_a_policy_can_see_is_tried_here() -> None:
    assert KNOWN.keys() | LISTS.keys() == set(Facts.__struct_fields__)


@given(members=st.fixed_dictionaries(KNOWN), found=FOUND)
def test_a_question_is_read_back_as_it_was_asked(members: dict[str, Any], found: list[tuple[str, int]] | None) -> None:
    asked = Facts(**members, **LISTS)
    kept = written(asked, None if found is None else _screened(found))
    kept = msgspec.convert(msgspec.to_builtins(kept), PolicyQuestion)
    guard: GuardFacts | None = None if found is None else guard_facts(found)
    assert read_back(decision(asked, kept), kept) == question_of(asked, hour=0, weekday=1, guard=guard)


@given(members=st.fixed_dictionaries({**KNOWN, "errand": st.none()}))
def test_the_question_about_a_model_of_a_batch_is_read_back_too(members: dict[str, Any]) -> None:
    inner = Facts(**members, **LISTS)
    kept = msgspec.structs.replace(written(inner, None), model=inner.model, surface=inner.surface)
    batch = msgspec.structs.replace(inner, model="", errand="batches.create", surface=Surface.BATCHES)
    assert read_back(decision(batch, kept), kept) == question_of(inner, hour=0, weekday=1)


def test_what_says_nothing_takes_no_place() -> None:
    facts = Facts(tenant="acme", key_id="k", model="gpt", surface=Surface.CHAT, **LISTS)
    assert msgspec.json.encode(written(facts, None)) == b"{}"
    assert msgspec.json.encode(written(facts, _screened(()))) == b'{"screened":{}}'


def test_no_member_of_a_question_is_forgotten() -> None:
    ours = {"model", "surface", "stream", "screened"}
    beside = {"action", "resource", "principal", "tenant", "hour", "weekday", "guard", "surface"}
    other = {"fields", "tool_risk"}  # Of actions and tools, which no request for a model is.
    assert set(PolicyQuestion.__struct_fields__) - ours == set(Question.__struct_fields__) - beside - other


def decision(asked: Facts, kept: PolicyQuestion) -> Decision:
    return Decision(
        request_id="req_1",
        tenant=asked.tenant,
        principal=asked.principal,
        key_id=asked.key_id,
        surface=asked.surface,
        model=asked.model,
        errand=asked.errand,
        code=None,
        policy_version="",
        rules=(),
        asked=(kept,),
        from_us=None,
        until_us=0,
    )
