"""Verdicts: what each mode does, and that one rule more never loosens anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securellm.guard.model import Direction, FindingType, GuardMode, Specificity, Verdict
from securellm.guard.rules import BLOCKING_SCORE, Merger, Sighting, action, order, verdict

ENFORCING = [GuardMode.STANDARD, GuardMode.STRICT]
sightings = st.builds(
    lambda start, length, kind, score: Sighting(start, start + length, kind, f"rule.{kind}", Specificity.SHAPE, score),
    st.integers(0, 30),
    st.integers(1, 12),
    st.sampled_from(FindingType),
    st.integers(0, 1000),
)


def merged(found: list[Sighting], mode: GuardMode) -> Merger:
    merger = Merger(mode, Direction.PROMPT, 0)
    for sighting in sorted(found, key=order):
        merger.add(sighting)
    return merger


def covered(merger: Merger, *, at_least: int) -> set[int]:
    return {at for region in merger.regions if region.severity >= at_least for at in range(region.start, region.end)}


@pytest.mark.requirement("GD-5")
@given(st.lists(sightings, max_size=8), sightings, st.sampled_from(GuardMode))
def test_one_more_sighting_never_loosens_a_verdict_nor_uncovers_a_character(
    found: list[Sighting], more: Sighting, mode: GuardMode
) -> None:
    before, after = merged(found, mode), merged([*found, more], mode)
    assert verdict(after.findings).severity >= verdict(before.findings).severity
    assert covered(after, at_least=1) >= covered(before, at_least=1)


@given(st.lists(sightings, max_size=8), st.sampled_from(ENFORCING))
def test_regions_are_sorted_apart_and_cover_every_sighting_that_asks_for_it(
    found: list[Sighting], mode: GuardMode
) -> None:
    merger = merged(found, mode)
    ends = [0, *(region.end for region in merger.regions)]
    assert all(region.start >= end for region, end in zip(merger.regions, ends, strict=False))
    asked = {
        at
        for sighting in found
        if action(mode, sighting.type, Direction.PROMPT, score=sighting.score) is not Verdict.ALLOW
        for at in range(sighting.start, sighting.end)
    }
    assert asked <= covered(merger, at_least=1)


@pytest.mark.requirement("GD-5")
@given(st.sampled_from(FindingType), st.sampled_from(Direction), st.integers(0, 1000))
def test_a_stricter_mode_is_never_looser(kind: FindingType, direction: Direction, score: int) -> None:
    severities = [action(mode, kind, direction, score=score).severity for mode in GuardMode]
    assert severities == sorted(severities)
    assert severities[:2] == [0, 0]


@pytest.mark.parametrize("mode", ENFORCING)
def test_an_injection_blocks_prompts_from_its_threshold_on_and_never_replies(mode: GuardMode) -> None:
    at = BLOCKING_SCORE[mode]
    assert action(mode, FindingType.INJECTION, Direction.PROMPT, score=at) is Verdict.BLOCK
    assert action(mode, FindingType.INJECTION, Direction.PROMPT, score=at - 1) is Verdict.ALLOW
    assert action(mode, FindingType.INJECTION, Direction.REPLY, score=1000) is Verdict.ALLOW


def test_strict_blocks_secrets_and_redacts_personal_data() -> None:
    assert action(GuardMode.STRICT, FindingType.SECRET, Direction.REPLY) is Verdict.BLOCK
    assert action(GuardMode.STRICT, FindingType.CPF, Direction.PROMPT) is Verdict.REDACT
    assert action(GuardMode.STANDARD, FindingType.SECRET, Direction.PROMPT) is Verdict.REDACT
