"""What a batch asks for: found when its requests are read, needed again when it is paid for and answered."""

import msgspec

from securellm.core.surfaces import Surface

TRAITS = ("audio_input", "image_input", "audio_output", "cache_writes", "whole_context")
"""What some requests of a load use, beside plain tokens."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one batch that ask one model, added up: all that an upper bound of their cost needs."""

    model: str
    """The name that clients use."""
    upstream_model: str
    requests: int
    input_tokens: int
    """At most, all together."""
    longest_input: int
    """At most, of the longest."""
    output_tokens: int | None
    """At most, all choices together; None: one of them has no bound."""
    traits: tuple[str, ...] = ()
    """Of `TRAITS`."""
    unpriced: tuple[str, ...] = ()
    """Fields that cost money in a way no price covers."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of a batch, by model. There is no text of a caller in it."""

    surface: Surface
    """What its requests speak."""
    loads: tuple[Load, ...]
    batch: str | None = None
    """The id of the batch; None for a file that no batch was made from yet."""
