"""Whatever a provider says that it used: a settlement is a sum of amounts, and never gives money back."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.finops.ledger import ManualClock, MemoryJournal, hard, quote, tokens

from securellm.core.usage import Usage
from securellm.finops import Finops, holding, intent_fields, outcome_fields, settling
from securellm.finops.model import MAX_AMOUNT
from securellm.providers.dialects import figures

HOLD = 1_000
COUNTS: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from(
        [0, 1, -1, 10**12, 10**12 - 1, 2**63, 2**63 - 1, True, False, None, "5", 1.5, float("nan"), [], {}]
    ),
)
DETAILS = ("prompt_tokens_details", "completion_tokens_details", "cache_creation", "output_tokens_details")
NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens", "input_tokens", "output_tokens",
    "cache_read_input_tokens", "cache_creation_input_tokens", "promptTokenCount", "candidatesTokenCount",
    "thoughtsTokenCount", "cachedContentTokenCount", "toolUsePromptTokenCount", "totalTokenCount",
)  # fmt: skip
PARTS = (
    "cached_tokens", "audio_tokens", "image_tokens", "reasoning_tokens", "cache_write_tokens", "thinking_tokens",
    "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens",
)  # fmt: skip
ROWS = st.lists(st.fixed_dictionaries({"modality": st.sampled_from(["AUDIO", "IMAGE", 1]), "tokenCount": COUNTS}))
SAID = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(NAMES, COUNTS),
        **dict.fromkeys(DETAILS, st.one_of(COUNTS, st.dictionaries(st.sampled_from(PARTS), COUNTS))),
        "promptTokensDetails": ROWS,
        "candidatesTokensDetails": ROWS,
        "cacheTokensDetails": ROWS,
    },
)


def readings(said: Mapping[str, Any]) -> list[Usage | None]:
    return [
        figures.inclusive(said, prompt="prompt_tokens", completion="completion_tokens"),
        figures.inclusive(said, prompt="input_tokens", completion="output_tokens"),
        figures.exclusive({**said, "iterations": [{**said, "type": "compaction"}]}),
        figures.by_modality(said),
    ]


@pytest.mark.requirement("FN-2")
@settings(max_examples=150, deadline=None)
@given(said=SAID, presumed=st.booleans())
def test_no_lie_makes_money_or_breaks_the_ledger(said: dict[str, Any], presumed: bool) -> None:
    async def scene() -> None:
        service, journal = Finops(clock=ManualClock()), MemoryJournal()
        for number, usage in enumerate(readings(said)):
            made = await service.reserve(
                request_id=f"r{number}",
                tenant=f"tenant{number}",
                budget=hard(10 * HOLD),
                estimate=tokens(HOLD),
                quotes=[quote(route=f"r{number}")],
            )
            journal.commit("INTENT", intent_fields(made), holding(made))
            settlement = service.settle(made, usage, presumed=presumed or usage is None)
            assert 0 <= settlement.settled <= MAX_AMOUNT
            assert 0 <= settlement.presumed <= HOLD
            assert settlement.settled + settlement.presumed == HOLD or settlement.cost_known or settlement.overrun
            journal.commit("OUTCOME", outcome_fields(settlement), settling(settlement))
            service.apply(settlement)
        assert journal.problems() == []
        assert service.snapshot().holds == ()
        moved = "SELECT sum(CASE WHEN debit = ? THEN amount ELSE 0 END - CASE WHEN credit = ? THEN amount ELSE 0 END)"
        held = journal.connection.execute(f"{moved} FROM ledger", ("held", "held")).fetchone()[0]
        assert held == 0, "what goes into an account's holds comes out of it"

    asyncio.run(scene())
