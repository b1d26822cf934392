"""Plans over two lanes: what a place offers decides, the declared order holds, and every line can be replayed."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.core.capabilities import Capability
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.routing import Candidate, Plan, PlannedAttempt, offered, plan

TOOLS, VISION, REASONING = Capability.TOOLS, Capability.VISION, Capability.REASONING
EVERYTHING = frozenset(Capability)
UNITED = "no single route of this model offers all that is needed"


def candidate(
    provider: str,
    *surfaces: Surface,
    healthy: bool = True,
    offers: frozenset[Capability] | None = None,
    max_output: int | None = None,
) -> Candidate:
    return Candidate(
        provider=provider,
        upstream_model=f"{provider}-model",
        surfaces=frozenset(surfaces or (Surface.CHAT,)),
        healthy=healthy,
        offers=offers,
        max_output=max_output,
    )


def attempt(provider: str, surface: Surface = Surface.CHAT) -> PlannedAttempt:
    return PlannedAttempt(provider=provider, upstream_model=f"{provider}-model", surface=surface)


class Asked(NamedTuple):
    """Everything a plan may depend on."""

    surface: Surface
    candidates: Sequence[Candidate]
    pinned: str | None = None
    needs: frozenset[Capability] = frozenset()
    output_cap: int | None = None
    translatable: Sequence[Surface] = ()
    seed: int = 0

    def plan(self) -> Plan:
        return plan(
            "model",
            self.surface,
            candidates=self.candidates,
            pinned=self.pinned,
            needs=self.needs,
            output_cap=self.output_cap,
            translatable=self.translatable,
            seed=self.seed,
        )

    def answer(self) -> Plan | tuple[Code, str, str | None]:
        try:
            return self.plan()
        except Refusal as refusal:
            return refusal.code, refusal.reason, refusal.param


# Two lanes


@pytest.mark.requirement("GW-7")
def test_a_place_that_speaks_another_dialect_is_spoken_to_in_the_first_translation_it_knows() -> None:
    made = Asked(
        Surface.CHAT,
        [
            candidate("native"),
            candidate("claude", Surface.MESSAGES),
            candidate("both", Surface.RESPONSES, Surface.MESSAGES),
            candidate("far", Surface.GENERATE_CONTENT),
        ],
        translatable=[Surface.RESPONSES, Surface.MESSAGES],
    ).plan()
    assert made.attempts == (
        attempt("native"),
        attempt("claude", Surface.MESSAGES),
        attempt("both", Surface.RESPONSES),
    )
    assert made.explanation == (
        "native/native-model: in order",
        "claude/claude-model: in order, translated to messages",
        "both/both-model: in order, translated to responses",
        "far/far-model: left out, does not speak chat",
    )


@pytest.mark.requirement("GW-7")
def test_the_callers_own_dialect_is_never_translated_and_comes_before_whatever_is() -> None:
    made = Asked(
        Surface.CHAT,
        [candidate("claude", Surface.MESSAGES), candidate("native", Surface.CHAT, Surface.MESSAGES)],
        translatable=[Surface.MESSAGES],
    ).plan()
    assert made.attempts == (attempt("native"), attempt("claude", Surface.MESSAGES))


def test_an_unhealthy_translated_place_says_both() -> None:
    made = Asked(
        Surface.CHAT, [candidate("claude", Surface.MESSAGES, healthy=False)], translatable=[Surface.MESSAGES]
    ).plan()
    assert made.explanation == ("claude/claude-model: last, unhealthy, translated to messages",)


# Capabilities


@pytest.mark.requirement("PR-6")
def test_a_place_that_lacks_a_need_is_left_out_and_one_that_declares_nothing_is_not_checked() -> None:
    made = Asked(
        Surface.CHAT,
        [
            candidate("blind", offers=frozenset({TOOLS})),
            candidate("bare", offers=frozenset()),
            candidate("undeclared"),
            candidate("whole", offers=EVERYTHING),
        ],
        needs=frozenset({TOOLS, VISION}),
    ).plan()
    assert made.attempts == (attempt("undeclared"), attempt("whole"))
    assert made.explanation[:2] == (
        "blind/blind-model: left out, lacks vision",
        "bare/bare-model: left out, lacks tools, vision",
    )


@pytest.mark.requirement("PR-6")
def test_a_place_that_writes_less_than_the_callers_own_cap_is_left_out() -> None:
    made = Asked(Surface.CHAT, [candidate("short", max_output=100), candidate("exact", max_output=101)], output_cap=101)
    assert made.plan().attempts == (attempt("exact"),)
    assert made.plan().explanation[0] == "short/short-model: left out, writes 100 tokens at most"
    assert made._replace(output_cap=None).plan().attempts == (attempt("short"), attempt("exact"))


@pytest.mark.requirement("PR-6")
def test_a_request_that_needs_what_no_route_offers_is_refused_with_the_reason() -> None:
    seeing, calling = candidate("a", offers=frozenset({VISION})), candidate("b", offers=frozenset({TOOLS}))
    short = candidate("c", max_output=50)
    both = frozenset({TOOLS, VISION})
    cases = [
        (Asked(Surface.CHAT, [seeing], needs=both), "no route of this model offers tools"),
        (
            Asked(Surface.CHAT, [seeing, calling], needs=frozenset({REASONING})),
            "no route of this model offers reasoning",
        ),
        (
            Asked(Surface.CHAT, [seeing, calling, short], needs=both, output_cap=51),
            f"{UNITED}: a/a-model lacks tools; b/b-model lacks vision; c/c-model writes 50 tokens at most",
        ),
        (
            Asked(Surface.CHAT, [short, candidate("d", max_output=60)], output_cap=61),
            "no route of this model writes 61 tokens: at most 60",
        ),
        # What is not spoken, or not pinned, could not have served it anyway.
        (
            Asked(Surface.CHAT, [seeing, candidate("far", Surface.MESSAGES)], needs=both),
            "no route of this model offers tools",
        ),
        (Asked(Surface.CHAT, [seeing, calling], needs=both, pinned="b"), "no route of this model offers vision"),
    ]
    for asked, reason in cases:
        assert asked.answer() == (Code.UNSUPPORTED_CAPABILITY, reason, "model")


def test_what_a_model_offers_is_what_some_place_offers_and_unknown_where_one_is_silent() -> None:
    seeing, calling = candidate("a", offers=frozenset({VISION})), candidate("b", offers=frozenset({TOOLS}))
    assert offered([seeing, calling]) == frozenset({TOOLS, VISION})
    assert offered([seeing, candidate("c")]) is None
    assert offered([]) == frozenset()


# Pins


@pytest.mark.requirement("RT-5")
def test_a_pin_that_cannot_be_kept_is_refused_even_where_another_place_could_serve() -> None:
    able, unable = candidate("able", offers=EVERYTHING), candidate("unable", offers=frozenset())
    asked = Asked(Surface.CHAT, [able, unable, candidate("mute", Surface.MESSAGES)], needs=frozenset({TOOLS}))
    assert asked._replace(pinned="unable").answer() == (
        Code.UNSUPPORTED_CAPABILITY,
        "no route of this model offers tools",
        "model",
    )
    assert asked._replace(pinned="mute").answer() == (Code.NO_ROUTE, "no provider of this model speaks chat", "model")
    for absent in ("nobody", "", "ABLE"):
        assert asked._replace(pinned=absent).answer() == (
            Code.NO_ROUTE,
            "the pinned provider does not serve this model",
            "x-provider",
        )


# Properties

SURFACES = st.sampled_from([Surface.CHAT, Surface.RESPONSES, Surface.MESSAGES, Surface.GENERATE_CONTENT])
NEEDS = st.frozensets(st.sampled_from([TOOLS, VISION, REASONING]), max_size=3)
CAPS = st.none() | st.integers(1, 4)
PROVIDERS = st.sampled_from(["a", "b", "c"])
# Names as the configuration allows them: printable, without spaces, with what an explanation itself is made of.
UPSTREAM = st.sampled_from(["m", "org/m", "m:free", "a/m:", "/", "left"])

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        provider=PROVIDERS,
        upstream_model=UPSTREAM,
        surfaces=st.frozensets(SURFACES, max_size=3),
        healthy=st.booleans(),
        offers=st.none() | NEEDS,
        max_output=CAPS,
    ),
    max_size=5,
)
ASKED = st.builds(
    Asked,
    surface=SURFACES,
    candidates=CANDIDATES,
    pinned=st.none() | PROVIDERS,
    needs=NEEDS,
    output_cap=CAPS,
    translatable=st.lists(SURFACES, unique=True),
    seed=st.integers(0, 9),
)


def may_serve(asked: Asked, place: Candidate) -> bool:
    """The rule, said once more and independently."""
    return (
        asked.pinned in (None, place.provider)
        and not place.surfaces.isdisjoint({asked.surface, *asked.translatable})
        and (place.offers is None or asked.needs <= place.offers)
        and (asked.output_cap is None or place.max_output is None or asked.output_cap <= place.max_output)
    )


def dialect(asked: Asked, place: Candidate) -> Surface:
    preferred = (asked.surface, *asked.translatable)
    return min(place.surfaces & set(preferred), key=preferred.index)


@pytest.mark.requirement("PR-6", "RT-5")
@given(ASKED)
def test_exactly_the_places_that_can_serve_are_tried_in_order_the_translated_and_the_unhealthy_last(
    asked: Asked,
) -> None:
    able = [place for place in asked.candidates if may_serve(asked, place)]
    expected = tuple(
        PlannedAttempt(provider=place.provider, upstream_model=place.upstream_model, surface=dialect(asked, place))
        for place in sorted(able, key=lambda place: (not place.healthy, dialect(asked, place) != asked.surface))
    )
    made = asked.answer()
    if isinstance(made, Plan):
        assert made.attempts == expected
        assert len(made.explanation) == len(asked.candidates)
    else:
        assert expected == ()


def replayed(explanation: Sequence[str], surface: Surface) -> tuple[PlannedAttempt, ...]:
    """The attempts, from nothing but what the explanation of a plan says."""
    ranked: list[tuple[bool, bool, PlannedAttempt]] = []
    for line in explanation:
        where, standing = line.split(": ", 1)
        provider, upstream_model = where.split("/", 1)
        placed, _, spoken = standing.partition(", translated to ")
        made = PlannedAttempt(
            provider=provider, upstream_model=upstream_model, surface=Surface(spoken) if spoken else surface
        )
        if placed in ("in order", "last, unhealthy"):
            ranked.append((placed != "in order", bool(spoken), made))
        else:
            assert standing.startswith("left out, ")
    return tuple(made for *_, made in sorted(ranked, key=lambda rank: rank[:2]))


@pytest.mark.requirement("RT-4")
@given(ASKED)
def test_a_plan_can_be_replayed_from_its_explanation_and_from_its_facts(asked: Asked) -> None:
    made = asked.answer()
    assert made == asked.answer()
    if isinstance(made, Plan):
        assert replayed(made.explanation, asked.surface) == made.attempts
        assert made.seed == asked.seed


@pytest.mark.requirement("RT-4")
@given(ASKED)
def test_every_place_left_out_is_left_out_for_the_reason_that_is_given(asked: Asked) -> None:
    made = asked.answer()
    if not isinstance(made, Plan):
        return
    for place, line in zip(asked.candidates, made.explanation, strict=True):
        assert line.startswith(f"{place.provider}/{place.upstream_model}: ")
        standing = line.removeprefix(f"{place.provider}/{place.upstream_model}: ")
        assert standing.startswith("left out") is not may_serve(asked, place)
        if "another provider is pinned" in standing:
            assert place.provider != asked.pinned
        elif "does not speak" in standing:
            assert place.surfaces.isdisjoint({asked.surface, *asked.translatable})
        elif "lacks" in standing:
            named = standing.removeprefix("left out, lacks ").split(" and ")[0].split(", ")
            assert place.offers is not None
            assert {Capability(name) for name in named} == asked.needs - place.offers
        elif "writes" in standing:
            assert f"writes {place.max_output} tokens" in standing


@pytest.mark.requirement("PR-6")
@given(ASKED)
def test_a_refusal_names_only_what_is_missing_and_never_what_some_route_has(asked: Asked) -> None:
    made = asked.answer()
    if isinstance(made, Plan):
        return
    code, reason, param = made
    assert param in ("model", "x-provider")
    spoken = [
        place for place in asked.candidates if may_serve(asked._replace(needs=frozenset(), output_cap=None), place)
    ]
    assert (code is Code.UNSUPPORTED_CAPABILITY) is bool(spoken)
    if reason.startswith("no route of this model offers "):
        named = {Capability(name) for name in reason.removeprefix("no route of this model offers ").split(", ")}
        assert named == {
            need
            for need in asked.needs
            if all(place.offers is not None and need not in place.offers for place in spoken)
        }


@given(ASKED)
def test_a_place_more_never_takes_another_away(asked: Asked) -> None:
    made = asked.answer()
    added = asked._replace(candidates=[*asked.candidates, candidate("new")]).answer()
    if isinstance(made, Plan):
        assert isinstance(added, Plan)
        assert [one for one in added.attempts if one.provider != "new"] == list(made.attempts)
