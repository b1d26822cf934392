"""A changed table is the one a full build would make, and shares what stayed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.identity import KeyConflict, KeyTable, VirtualKey
from securellm.identity.table import Shards

IDS = [f"key_{number}" for number in range(12)]


def key(name: str, token: int, *, former: int | None = None, revoked: bool = False) -> VirtualKey:
    return VirtualKey(
        id=name,
        tenant="acme",
        name="",
        prefix="",
        digest=bytes([token]) * 32,
        former_digest=None if former is None else bytes([former]) * 32,
        models=("*",),
        created_us=0,
        revoked_us=1 if revoked else None,
        managed_by="api",
    )


@st.composite
def keys(draw: st.DrawFn) -> dict[str, VirtualKey]:
    """Some keys by id; sometimes two of them are one token, sometimes one has a former token."""
    names = draw(st.lists(st.sampled_from(IDS), unique=True))
    tokens, formers = st.integers(0, 40), st.none() | st.integers(41, 60)
    return {name: key(name, draw(tokens), former=draw(formers), revoked=draw(st.booleans())) for name in names}


def built(keys: dict[str, VirtualKey]) -> KeyTable | None:
    try:
        return KeyTable.of(keys.values())
    except KeyConflict:
        return None


@given(keys(), st.lists(st.tuples(keys(), st.sets(st.sampled_from(IDS))), max_size=5))
def test_a_history_of_changes_ends_in_the_table_that_a_full_build_makes(
    first: dict[str, VirtualKey], steps: list[tuple[dict[str, VirtualKey], set[str]]]
) -> None:
    table, now = built(first), first
    if table is None:
        return
    for changed, gone in steps:
        then = {name: one for name, one in {**now, **changed}.items() if name not in gone}
        expected = built(then)
        changes = {**changed, **dict.fromkeys(gone)}
        before = (dict(table.by_digest), dict(table.by_id))
        if expected is None:
            with pytest.raises(KeyConflict):
                table.changed(changes)
            continue
        following = table.changed(changes)
        assert (following.by_digest, following.by_id) == (expected.by_digest, expected.by_id)
        assert len(following) == len(expected.by_id) == len(dict(following.by_id))
        assert (dict(table.by_digest), dict(table.by_id)) == before
        table, now = following, then


def test_a_change_copies_only_what_it_touches() -> None:
    many = Shards[int, int].empty().changed(put={number: number for number in range(10_000)})
    after = many.changed(without=[5], put={7: 8})
    untouched = sum(one is other for one, other in zip(many._shards, after._shards, strict=True))
    assert untouched >= len(many._shards) - 2
    assert (len(many), len(after)) == (10_000, 9_999)
    assert (many[7], after[7], 5 in many, 5 in after) == (7, 8, True, False)


def test_a_former_token_finds_its_key_and_leaves_with_it() -> None:
    table = KeyTable.of([key("a", 1, former=2)])
    assert table.find(bytes([2]) * 32) is table.get("a")
    rotated = table.changed({"a": key("a", 3, former=1)})
    assert rotated.find(bytes([2]) * 32) is None
    assert rotated.find(bytes([1]) * 32) is rotated.get("a")
    assert len(rotated.changed({"a": None}).by_digest) == 0
