"""What a model may be able to do: names that configurations hold, each explained to the operator."""

import re
from pathlib import Path

from securellm.core.capabilities import Capability

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "route-models.md"


def test_every_capability_has_its_row_in_the_guide_and_every_row_its_capability() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Declare what a model can do")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE)
    assert rows == [capability.value for capability in Capability]


def test_a_name_is_a_plain_word() -> None:
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", capability) for capability in Capability)
