"""Thoughts of other providers in a history that is about to go to its own dialect's provider, unchanged.

A client that was answered through translation sends back what it was told, marks and all. The lossless lane must
take those out: a provider refuses a thought that it did not sign.
"""

from collections.abc import Iterator

from securellm.core.document import Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.providers.translation.model import Members
from securellm.providers.translation.signatures import is_marked


def strays(surface: Surface, members: Members) -> tuple[Path, ...]:
    """Where in a request's body thoughts stand that came from another dialect; none of them inside another."""
    match surface:
        case Surface.MESSAGES:
            return tuple(_in_messages(members.get("messages")))
        case Surface.RESPONSES:
            return tuple(_in_items(members.get("input")))
        case _:
            return ()


def _in_messages(messages: Value) -> Iterator[Path]:
    for at, message in enumerate(messages if isinstance(messages, list) else ()):
        blocks = message.get("content") if isinstance(message, dict) else None
        if not isinstance(blocks, list):
            continue
        found = [place for place, block in enumerate(blocks) if _is_stray(block, "signature", "data")]
        if found and len(found) == len(blocks):
            # A message cannot be empty.
            yield ("messages", at)
        else:
            yield from (("messages", at, "content", place) for place in found)


def _in_items(items: Value) -> Iterator[Path]:
    for at, item in enumerate(items if isinstance(items, list) else ()):
        if _is_stray(item, "encrypted_content"):
            yield ("input", at)


def _is_stray(block: Value, *names: str) -> bool:
    if not isinstance(block, dict) or block.get("type") not in ("thinking", "redacted_thinking", "reasoning"):
        return False
    return any(is_marked(value) for name in names if isinstance(value := block.get(name), str))
