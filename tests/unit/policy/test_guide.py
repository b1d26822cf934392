"""The guide's own examples: they are a bundle, and what is said of it is so."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from securellm.policy import Bundle, questions_of
from securellm.policy.bundles import Case
from securellm.policy.comparing import MOST
from securellm.policy.model import INJECTION_STEPS
from securellm.policy.obligations import ANNOTATIONS
from securellm.policy.profiles import Profile
from securellm.policy.scanning import DEEPEST, LONGEST_TEXT, MOST_OPERATORS, MOST_POLICIES
from securellm.policy.trial import examine

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "write-a-policy.md"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.requirement("PO-1", "PO-2", "DC-1")
def test_the_examples_of_the_guide_are_a_bundle_that_passes_its_own_tests() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    found = {
        language: re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for language in ("cedar", "json")
    }
    (policies,) = found["cedar"]
    tests, profiles = map(json.loads, found["json"])
    bundle = Bundle(
        policies={"guide.cedar": policies},
        tests=msgspec.convert(tests, tuple[Case, ...]),
        profiles=msgspec.convert(profiles, tuple[Profile, ...]),
    )
    report = examine(bundle)
    assert report.ok, report.problems
    assert not {row.id for row in report.policies if not row.id.startswith("profile.")} & set(report.untested)
    assert questions_of((bundle,)).size > 0


def test_the_bounds_that_the_guide_names_are_those_of_the_code() -> None:
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    for said in (
        f"{LONGEST_TEXT >> 10} KiB",
        f"deeper than {DEEPEST} brackets",
        f"more than {MOST_OPERATORS} operators",
        f"more than {MOST_POLICIES} policies",
        f"up to {MOST:,}",
        f"{', '.join(map(str, INJECTION_STEPS[:-1]))} and {INJECTION_STEPS[-1]}",
        *(f"@{name}" for name in ANNOTATIONS),
    ):
        assert said in text, said
