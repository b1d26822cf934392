"""How much a model is asked to think, in the words that chat and messages share."""

from typing import Literal, get_args

import msgspec

from securellm.core.errors import Code, Refusal
from securellm.providers.translation.members import Fields
from securellm.providers.translation.model import Ask, Thinking

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_EFFORTS: dict[str, Effort] = {effort: effort for effort in get_args(Effort)}


def read_effort(word: str | None, path: str) -> Effort | None:
    """An effort by its name. Raises Refusal for one that no dialect has."""
    if word is None:
        return None
    if word not in _EFFORTS:
        raise Refusal(Code.INVALID_REQUEST, f"{path} must be an effort of this dialect", param=path)
    return _EFFORTS[word]


def read_thinking(fields: Fields, effort: Effort | None) -> Thinking | None:
    """The `thinking` of a request, as Anthropic's clients send it and DeepSeek's do, and the effort beside it."""
    said = fields.object("thinking")
    if said is None:
        return None if effort is None else Thinking(effort=effort)
    budget: int | None = None
    kind = said.needed("type")
    match kind:
        case "enabled":
            budget = said.whole("budget_tokens")
            if budget is None:
                budget = -1
        case "adaptive" | "auto":
            budget = -1
        case "disabled":
            effort = "none"
        case _:
            raise said.unsaid("type", f"thinking of type {kind[:64]}")
    display = said.text("display")
    said.skip("block_binding", {})
    said.leave()
    return Thinking(effort=effort, budget=budget, show=None if display is None else display != "omitted")


def with_level_alone(ask: Ask) -> Ask:
    """The request with only the level of thought, where one is given: chat has no word for the wish to see it."""
    if ask.thinking is None or ask.thinking.effort is None:
        return ask
    return msgspec.structs.replace(ask, thinking=msgspec.structs.replace(ask.thinking, show=None))
