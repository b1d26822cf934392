"""Providers' usage figures taken apart into disjoint buckets, in doubt to the dearer side."""

from collections.abc import Mapping

from securellm.core.document import Value
from securellm.core.usage import Usage

_IMPOSSIBLE = 10**12
_NONE: Mapping[str, Value] = {}


def inclusive(figures: Mapping[str, Value], *, prompt: str, completion: str | None) -> Usage | None:
    """Figures whose prompt includes cached, audio and image tokens and whose completion includes reasoning.

    `prompt` and `completion` name the totals (None: nothing is completed); their parts stand in `<total>_details`.
    None when a total is missing or is no count. A part that cannot be true (more than its total) is not believed
    where believing it would cost less: cached tokens become fresh input. Tokens that only the grand total knows
    (reasoning reported beside the completion, as some servers do) count as output.
    """
    went_in = count(figures.get(prompt))
    came_out = 0 if completion is None else count(figures.get(completion))
    if went_in is None or came_out is None:
        return None
    into, out = _part(figures, f"{prompt}_details"), _part(figures, f"{completion}_details")

    audio_in, image_in = count(into.get("audio_tokens")) or 0, count(into.get("image_tokens")) or 0
    written = count(into.get("cache_write_tokens")) or 0
    long_written = min(written, count(_part(into, "cache_write_tokens_details").get("ttl_12h_tokens")) or 0)
    cached = _first(into.get("cached_tokens"), figures.get("prompt_cache_hit_tokens"))
    if cached + audio_in + image_in + written > went_in:
        cached = 0

    audio_out, reasoning = count(out.get("audio_tokens")) or 0, count(out.get("reasoning_tokens")) or 0
    beside = max(0, (count(figures.get("total_tokens")) or 0) - went_in - came_out)
    if reasoning > came_out or 0 < reasoning <= beside:
        beside = max(beside, reasoning)
    return Usage(
        input=max(0, went_in - cached - audio_in - image_in - written),
        cache_read=cached,
        cache_write_5m=written - long_written,
        cache_write_1h=long_written,
        audio_input=audio_in,
        image_input=image_in,
        output=max(0, came_out + beside - reasoning - audio_out),
        reasoning=reasoning,
        audio_output=audio_out,
    )


def exclusive(figures: Mapping[str, Value]) -> Usage | None:
    """Figures whose input excludes what was read from and written to the cache, and whose output includes thinking.

    None when input or output is missing or is no count. Cache writes without a breakdown by lifetime are those of
    the shorter, default one; what the breakdown leaves out counts as the dearer kind it names. The provider's own
    calls beside the answer (of `iterations`, those the totals leave out) are added.
    """
    whole = _exclusive(figures)
    iterations = figures.get("iterations")
    for each in iterations if isinstance(iterations, list) and whole is not None else ():
        beside = _exclusive(each) if isinstance(each, dict) and each.get("type") in _BESIDE else None
        if beside is not None and whole is not None:
            whole = Usage(**{name: getattr(whole, name) + getattr(beside, name) for name in Usage.__struct_fields__})
    return whole


_BESIDE = ("compaction", "advisor_message")


def _exclusive(figures: Mapping[str, Value]) -> Usage | None:
    went_in, came_out = count(figures.get("input_tokens")), count(figures.get("output_tokens"))
    if went_in is None or came_out is None:
        return None
    split = _part(figures, "cache_creation")
    hour = count(split.get("ephemeral_1h_input_tokens")) or 0
    minutes = count(split.get("ephemeral_5m_input_tokens")) or 0
    rest = max(0, (count(figures.get("cache_creation_input_tokens")) or 0) - hour - minutes)
    if hour:
        hour += rest
    else:
        minutes += rest
    thinking = min(came_out, count(_part(figures, "output_tokens_details").get("thinking_tokens")) or 0)
    return Usage(
        input=went_in,
        cache_read=count(figures.get("cache_read_input_tokens")) or 0,
        cache_write_5m=minutes,
        cache_write_1h=hour,
        output=came_out - thinking,
        reasoning=thinking,
    )


def by_modality(figures: Mapping[str, Value]) -> Usage | None:
    """Figures whose prompt includes what was cached, whose candidates exclude thoughts, with a list for modalities.

    None when the prompt's total is missing or is no count. What the provider's tools put into the prompt counts as
    input. As in `inclusive`, cached tokens that cannot be true become fresh input, and tokens that only the grand
    total knows count as output.
    """
    went_in = count(figures.get("promptTokenCount"))
    if went_in is None:
        return None
    tools = count(figures.get("toolUsePromptTokenCount")) or 0
    came_out, thoughts = count(figures.get("candidatesTokenCount")) or 0, count(figures.get("thoughtsTokenCount")) or 0
    cached = count(figures.get("cachedContentTokenCount")) or 0
    beside = max(0, (count(figures.get("totalTokenCount")) or 0) - went_in - tools - came_out - thoughts)

    heard, seen = _fresh(figures, "AUDIO"), _fresh(figures, "IMAGE")
    if cached + heard + seen > went_in:
        cached = 0
    heard += _modal(figures.get("toolUsePromptTokensDetails"), "AUDIO")
    seen += _modal(figures.get("toolUsePromptTokensDetails"), "IMAGE")
    spoken = _modal(figures.get("candidatesTokensDetails"), "AUDIO")
    return Usage(
        input=max(0, went_in + tools - cached - heard - seen),
        cache_read=cached,
        audio_input=heard,
        image_input=seen,
        output=max(0, came_out - spoken) + beside,
        reasoning=thoughts,
        audio_output=spoken,
    )


def _fresh(figures: Mapping[str, Value], modality: str) -> int:
    """The tokens of one modality in the prompt that did not come from the cache."""
    cached = _modal(figures.get("cacheTokensDetails"), modality)
    return max(0, _modal(figures.get("promptTokensDetails"), modality) - cached)


def _modal(details: Value, modality: str) -> int:
    """The tokens of one modality, of `[{modality, tokenCount}]`."""
    rows = details if isinstance(details, list) else []
    counts = [count(row.get("tokenCount")) for row in rows if isinstance(row, dict) and row.get("modality") == modality]
    return sum(counted for counted in counts if counted is not None)


def later(first: dict[str, Value], second: Mapping[str, Value]) -> dict[str, Value]:
    """Cumulative figures brought up to date: the last one given wins, and none falls back to nothing."""
    merged = dict(first)
    for name, value in second.items():
        before = merged.get(name)
        if isinstance(value, dict):
            merged[name] = later(before if isinstance(before, dict) else {}, value)
        elif value or before is None:
            merged[name] = value
    return merged


def larger(first: Usage | None, second: Usage | None) -> Usage | None:
    """Of two whole reports on one call, the one to believe: the last, unless it forgets what was consumed."""
    if first is None or second is None:
        return second if second is not None else first
    return second if second.total_tokens >= first.total_tokens else first


def server_tools(figures: Value) -> tuple[tuple[str, int], ...]:
    """How often the provider's own tools ran: `<tool>_requests`, or `{<tool>: {num_requests}}`.

    A tool that is billed by tokens of its own (`{<tool>: {total_tokens}}`) counts as run once.
    """
    if not isinstance(figures, dict):
        return ()
    uses: list[tuple[str, int]] = []
    for name, value in figures.items():
        times = _times(value) if isinstance(value, dict) else count(value)
        if times:
            uses.append((name.removesuffix("_requests"), times))
    return tuple(uses)


def _times(tool: Mapping[str, Value]) -> int | None:
    asked = count(tool.get("num_requests"))
    return asked if asked is not None else min(1, count(tool.get("total_tokens")) or 0)


def count(value: Value) -> int | None:
    """A number of tokens. None for what is none: a boolean, a fraction, a negative or absurd number."""
    return value if type(value) is int and 0 <= value < _IMPOSSIBLE else None


def _part(figures: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    value = figures.get(name)
    return value if isinstance(value, dict) else _NONE


def _first(*values: Value) -> int:
    return next((counted for counted in map(count, values) if counted is not None), 0)
