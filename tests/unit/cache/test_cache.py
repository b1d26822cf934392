"""Have we answered this: what is kept, for how long, within which bounds, and for whom."""

import asyncio
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.clocks import ManualClock

from securellm.cache import Cache, Cached, CacheFacts, CacheKey, cache_key, cacheable, deterministic, recallable
from securellm.cache.service import size_of
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage


def answer(body: bytes = b"{}", *, status: int = 200, request_id: str = "req_1") -> Cached:
    return Cached(
        status=status,
        body=body,
        content_type="application/json",
        usage=Usage(input=3, output=2),
        model_served="gpt",
        request_id=request_id,
    )


def key(**changes: object) -> CacheKey:
    parts: dict[str, object] = {
        "tenant": "acme",
        "surface": Surface.CHAT,
        "model": "gpt",
        "body": b'{"messages":[]}',
        "bundle": "lists-1",
        "guard_pack": "pack-1",
        "price_version": "prices-1",
    }
    return cache_key(**{**parts, **changes})  # type: ignore[arg-type]


def cache(clock: ManualClock | None = None, *, max_entries: int = 10, max_bytes: int = 1 << 20) -> Cache:
    return Cache(max_entries=max_entries, max_bytes=max_bytes, ttl=60, clock=clock or ManualClock())


def find(kept: Cache, at: CacheKey) -> Cached | None:
    return asyncio.run(kept.find(at))


def store(kept: Cache, at: CacheKey, cached: Cached, *, ttl: float | None = None) -> None:
    asyncio.run(kept.store(at, cached, ttl=ttl))


def test_an_answer_is_found_under_the_same_request_and_no_other() -> None:
    kept = cache()
    store(kept, key(), answer())
    assert find(kept, key()) == answer()
    for changed in (
        {"tenant": "other"},
        {"surface": Surface.RESPONSES},
        {"model": "claude"},
        {"body": b'{"messages":[1]}'},
        {"bundle": "lists-2"},
        {"guard_pack": "pack-2"},
        {"price_version": "prices-2"},
    ):
        assert find(kept, key(**changed)) is None
    assert (kept.stats.hits, kept.stats.misses) == (1, 7)


@given(st.lists(st.text(max_size=4), min_size=5, max_size=5), st.lists(st.text(max_size=4), min_size=5, max_size=5))
def test_no_two_lists_of_parts_share_a_key(first: list[str], second: list[str]) -> None:
    names = ("tenant", "model", "bundle", "guard_pack", "price_version")
    same = key(**dict(zip(names, first, strict=True))) == key(**dict(zip(names, second, strict=True)))
    assert same is (first == second)


def test_an_answer_is_forgotten_at_the_end_of_its_time() -> None:
    clock = ManualClock()
    kept = cache(clock)
    store(kept, key(), answer())
    store(kept, key(model="short"), answer(), ttl=5)
    clock.advance(5)
    assert find(kept, key(model="short")) is None
    clock.advance(54.999)
    assert find(kept, key()) is not None
    clock.advance(0.001)
    assert find(kept, key()) is None
    assert (kept.stats.entries, kept.stats.bytes) == (0, 0)


def test_the_longest_unused_answer_makes_room() -> None:
    kept = cache(max_entries=2)
    store(kept, key(model="a"), answer())
    store(kept, key(model="b"), answer())
    assert find(kept, key(model="a")) is not None
    store(kept, key(model="c"), answer())
    assert find(kept, key(model="b")) is None
    assert find(kept, key(model="a")) is not None
    assert kept.stats.evictions == 1


def test_only_a_whole_success_that_fits_is_kept() -> None:
    kept = cache(max_bytes=5000)
    store(kept, key(), answer(status=206))
    store(kept, key(model="big"), answer(b"x" * 5000))
    assert kept.stats.entries == 0


def test_a_former_answer_is_gone_even_when_the_new_one_cannot_be_kept() -> None:
    kept = cache(max_bytes=5000)
    store(kept, key(), answer())
    store(kept, key(), answer(b"x" * 5000))
    assert find(kept, key()) is None
    assert kept.stats.bytes == 0


def test_a_cache_of_no_entries_keeps_nothing() -> None:
    kept = cache(max_entries=0)
    store(kept, key(), answer())
    assert find(kept, key()) is None


def test_clearing_forgets_everything() -> None:
    kept = cache()
    store(kept, key(), answer())
    kept.clear()
    assert find(kept, key()) is None
    assert kept.stats.bytes == 0


def test_generation_is_deterministic_only_at_an_explicit_zero_without_tools() -> None:
    for surface in Surface:
        embeds = surface is Surface.EMBEDDINGS
        assert deterministic(surface=surface, temperature=0, tools=False)
        for temperature, tools in ((None, False), (0.1, False), (0.0, True), (float("nan"), False)):
            assert deterministic(surface=surface, temperature=temperature, tools=tools) is embeds


def test_nothing_streamed_redacted_or_undetermined_is_shared() -> None:
    for stream, determined, redacted in product((False, True), repeat=3):
        facts = CacheFacts(stream=stream, deterministic=determined, redacted=redacted)
        due = determined and not stream and not redacted
        assert cacheable(facts) is due
        assert recallable(facts) is due


def test_the_caller_can_opt_out_and_a_misspelt_wish_is_taken_as_the_strictest() -> None:
    wishes = {
        "": (True, True),
        " , ": (True, True),
        "no-cache": (False, True),
        "No-Cache": (False, True),
        "no-store": (False, False),
        "no-cache, no-store": (False, False),
        "nostore": (False, False),
        "max-age=3": (False, False),
    }
    for control, due in wishes.items():
        facts = CacheFacts(stream=False, deterministic=True, redacted=False, control=control)
        assert (recallable(facts), cacheable(facts)) == due, control


class CacheMachine(RuleBasedStateMachine):
    """Against a list of everything stored: bounds hold, bytes add up, and an answer is never another's."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.cache = Cache(max_entries=4, max_bytes=8000, ttl=10, clock=self.clock)
        self.latest: dict[CacheKey, tuple[Cached, int]] = {}

    @rule(name=st.sampled_from("abcdef"), size=st.integers(0, 9000), status=st.sampled_from([200, 200, 500]))
    def store(self, name: str, size: int, status: int) -> None:
        at = key(model=name)
        cached = answer(name.encode() * size, status=status)
        store(self.cache, at, cached)
        self.latest[at] = (cached, self.clock.ticks + 10_000_000)

    @rule(name=st.sampled_from("abcdef"))
    def find(self, name: str) -> None:
        found = find(self.cache, key(model=name))
        if found is not None:
            cached, until = self.latest[key(model=name)]
            assert found == cached
            assert found.status == 200
            assert self.clock.ticks < until

    @rule(micros=st.integers(0, 6_000_000))
    def wait(self, micros: int) -> None:
        self.clock.advance_us(micros)

    @invariant()
    def stays_within_its_bounds(self) -> None:
        stats = self.cache.stats
        assert stats.entries <= 4
        assert stats.bytes <= 8000
        held = self.cache._entries
        assert stats.bytes == sum(size_of(at, cached) for at, (cached, _) in held.items())


TestCacheMachine = CacheMachine.TestCase
