"""Batches, whoever runs them: how far one has come, and what each line of its answers says."""

from collections.abc import Callable

import msgspec

from securellm.core.document import Value
from securellm.core.errors import GatewayError
from securellm.core.messages import Path
from securellm.core.usage import Usage
from securellm.providers.dialects.shape import Finder


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch says of itself."""

    id: str
    ended: bool = False
    """Nothing of it will be answered, or billed, any more."""
    free: bool = False
    """Nothing of it was answered, so that it costs nothing."""
    usage: Usage | None = None
    """What all of its answers consumed together, where it says so."""
    model: str | None = None
    """The one model that all of its requests asked, where it says so."""


class Batching(msgspec.Struct, frozen=True, kw_only=True):
    """How the batches of one surface are read, and what is written in the place of an answer."""

    progress: Callable[[dict[str, Value]], Progress | None]
    """What a batch says of itself; None for what is none."""
    is_line: Callable[[dict[str, Value]], bool]
    """Whether an object is one line of answers."""
    reply: Callable[[dict[str, Value]], Path | None]
    """Where in a line the reply of its surface stands; None where the request was not answered."""
    texts: Finder
    """Finds the texts of a line, the reply left out."""
    withheld: Callable[[dict[str, Value], GatewayError], dict[str, Value]]
    """The line that stands in the place of one which may not be given out."""


def without(members: dict[str, Value], path: Path) -> dict[str, Value]:
    """The object without what stands at `path`."""
    step, *rest = path
    assert isinstance(step, str)
    if not rest:
        return {**members, step: None}
    below = members[step]
    assert isinstance(below, dict)
    return {**members, step: without(below, tuple(rest))}


def why(error: GatewayError) -> tuple[str, str]:
    """Code and words of an error, as a line tells them."""
    return error.code.value, f"{error.reason}. {error.remedy}"
