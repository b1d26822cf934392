"""Thoughts of other providers in a history that is about to go to its own dialect's provider, unchanged.

A client that was answered through translation sends back what it was told, marks and all. The lossless lane must
take those out: a provider refuses a thought that it did not sign.
"""

from collections.abc import Iterator

from securellm.core.document import Value
from securellm.core.messages import Path
from securellm.core.surfaces import Surface
from securellm.providers.translation.generate_content.spelling import echoed
from securellm.providers.translation.model import Members
from securellm.providers.translation.signatures import MARK, is_marked

_IN_BASE64 = "U0xCM"
"""How Base64 of a mark begins."""
_SIGNATURES = ("thoughtSignature", "thought_signature")


def may_stray(text: str) -> bool:
    """Whether a body may hold what we have marked."""
    return MARK in text or _IN_BASE64 in text


def strays(surface: Surface, members: Members) -> tuple[Path, ...]:
    """Where in a request's body thoughts stand that came from another dialect; none of them inside another."""
    match surface:
        case Surface.MESSAGES:
            return tuple(_in_messages(members.get("messages")))
        case Surface.RESPONSES:
            return tuple(_in_items("input", members.get("input")))
        case Surface.CONVERSATIONS:
            return tuple(_in_items("items", members.get("items")))
        case Surface.GENERATE_CONTENT:
            return tuple(_in_contents(members.get("contents")))
        case _:
            return ()


def foreign_proofs(surface: Surface, members: Members) -> tuple[Path, ...]:
    """Where proofs of tool calls stand that another dialect's provider made, or that none did."""
    if surface is not Surface.GENERATE_CONTENT:
        return ()
    return tuple(
        (*path, name)
        for path, part in _parts(members.get("contents"))
        for name in _SIGNATURES
        if _calls(part) and isinstance(proof := part.get(name), str) and is_marked(echoed(proof))
    )


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


def _in_items(name: str, items: Value) -> Iterator[Path]:
    for at, item in enumerate(items if isinstance(items, list) else ()):
        if _is_stray(item, "encrypted_content"):
            yield (name, at)


def _is_stray(block: Value, *names: str) -> bool:
    if not isinstance(block, dict) or block.get("type") not in ("thinking", "redacted_thinking", "reasoning"):
        return False
    return any(is_marked(value) for name in names if isinstance(value := block.get(name), str))


def _in_contents(contents: Value) -> Iterator[Path]:
    found: dict[Path, list[Path]] = {}
    count: dict[Path, int] = {}
    for path, part in _parts(contents):
        turn = path[:2]
        count[turn] = count.get(turn, 0) + 1
        proofs = [proof for name in _SIGNATURES if isinstance(proof := part.get(name), str)]
        if not _calls(part) and any(is_marked(echoed(proof)) for proof in proofs):
            found.setdefault(turn, []).append(path)
    for turn, paths in found.items():
        # A turn cannot be empty.
        yield from (turn,) if len(paths) == count[turn] else paths


def _parts(contents: Value) -> Iterator[tuple[Path, dict[str, Value]]]:
    for at, content in enumerate(contents if isinstance(contents, list) else ()):
        parts = content.get("parts") if isinstance(content, dict) else None
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict):
                yield ("contents", at, "parts", place), part


def _calls(part: Members) -> bool:
    return "functionCall" in part or "function_call" in part
