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
    the shorter, default one; what the breakdown leaves out counts as the dearer kind it names.
    """
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
    """How often the provider's own tools ran: `<tool>_requests`, or `{<tool>: {num_requests}}`."""
    if not isinstance(figures, dict):
        return ()
    uses: list[tuple[str, int]] = []
    for name, value in figures.items():
        times = count(value.get("num_requests")) if isinstance(value, dict) else count(value)
        if times:
            uses.append((name.removesuffix("_requests"), times))
    return tuple(uses)


def count(value: Value) -> int | None:
    """A number of tokens. None for what is none: a boolean, a fraction, a negative or absurd number."""
    return value if type(value) is int and 0 <= value < _IMPOSSIBLE else None


def _part(figures: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    value = figures.get(name)
    return value if isinstance(value, dict) else _NONE


def _first(*values: Value) -> int:
    return next((counted for counted in map(count, values) if counted is not None), 0)
