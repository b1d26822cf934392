"""What whole replies of every dialect have in common."""

from collections.abc import Callable

import msgspec

from securellm.core.document import Document, Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.kept import Kept
from securellm.core.messages import Path
from securellm.core.usage import Usage
from securellm.providers.dialects.machine import named
from securellm.providers.dialects.shape import Finder
from securellm.providers.failures import told
from securellm.providers.model import ReplyFacts


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a reply's facts that each dialect finds in its own places."""

    text: str = ""
    finish: str | None = None
    usage: Usage | None = None
    server_tool_uses: tuple[tuple[str, int], ...] = ()
    service_tier: str | None = None
    kept: tuple[Kept, ...] = ()
    failure: UpstreamFailure | None = None


def facts(
    document: Document,
    finder: Finder,
    read: Callable[[dict[str, Value]], Said | None],
    *,
    model: str = "model",
    identity: str = "id",
) -> ReplyFacts:
    """The facts of a reply. `read` finds the dialect's own; None: the body is no reply of the dialect.

    `model` and `identity` are the members that name the model and the answer.
    """
    members = document.root
    if not isinstance(members, dict):
        return ReplyFacts(failure=UpstreamFailure(Code.BAD_REPLY, "the reply is no JSON object"))
    said = read(members)
    if said is None:
        if members.get("error"):
            return ReplyFacts(failure=told(members["error"]))
        return ReplyFacts(failure=UpstreamFailure(Code.BAD_REPLY, "the reply lacks what its dialect requires"))
    texts = finder.find(document)
    return ReplyFacts(
        id=named(members.get(identity)),
        model=named(members.get(model)),
        model_path=(model,) if model in members else None,
        finish=said.finish,
        usage=said.usage,
        text=said.text,
        leaves=tuple(texts.leaves),
        mirrors=tuple(texts.mirrors),
        server_tool_uses=said.server_tool_uses,
        kept=said.kept,
        service_tier=said.service_tier or named(members.get("service_tier")),
        failure=said.failure,
    )


def at(value: Value, path: Path) -> Value:
    """What stands at `path` in `value`; None where nothing does."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
